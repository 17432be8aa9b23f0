//! The file system in memory: /tmp and /dev, and the writable layer over the EROFS root.
//!
//! One kind of node serves both. A node of a plain memory file system has all its state in memory; a
//! node of the layered one also has a *lower* inode, and only what differs from it is kept:
//!
//! ```text
//! directory   names added, names removed (whiteouts)     the rest: searched in the lower directory
//! file        pages written, bytes cut off               the rest: the image's pages, where they lie
//! attributes  copied when the node is first met          dropped again if nothing was changed
//! ```
//! So there is no copy-up of whole files, and a lower directory is renamed by moving its node: what is
//! below it stays where it is. Inode numbers of lower files are those of the image; hard links in the
//! image are one node, found by its number.
//!
//! # Locks
//! Each node has one lock, and one of them is held at a time: what needs two nodes to stay as they are,
//! as all changes of names do, holds the file system's `namespace` lock. The map of the nodes over the
//! image has a lock between the two. User memory is touched while none is held.
//!
//! Limits: access times are set by utimensat only (the mounts say noatime).

mod content;
mod directory;
mod lower;
mod name_cache;
mod node;

#[cfg(test)]
pub(crate) mod model_test;

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering};

use super::abi::Statfs;
use super::erofs::Erofs;
use super::inode::{FileType, NewInode};
use crate::error::{Errno, Result};
use crate::mm::addr::PAGE;
use crate::sync::SpinLock;
use lower::LowerFs;
pub use node::Node;

/// `TMPFS_MAGIC`.
const TMPFS_MAGIC: i64 = 0x0102_1994;
/// `OVERLAYFS_SUPER_MAGIC`.
const OVERLAY_MAGIC: i64 = 0x794c_7630;

/// A file system in memory.
pub struct MemoryFs {
    dev: u64,
    /// The most pages that files may have.
    page_limit: u64,
    page_count: AtomicU64,
    node_count: AtomicU64,
    next_ino: AtomicU64,
    lower: Option<LowerFs>,
    /// What the root has from the start.
    presets: Presets,
    /// Taken by every change of names, before any node's lock.
    namespace: SpinLock<()>,
}

/// What a directory has from the start: made when it is first looked at, because at boot every
/// instruction counts.
#[derive(Debug)]
pub struct Preset {
    /// The name.
    pub name: &'static [u8],
    /// Kind of file.
    pub file_type: FileType,
    /// Permission bits.
    pub permissions: u32,
    /// Device number.
    pub rdev: u64,
    /// Target of a symbolic link.
    pub target: &'static [u8],
    /// What is in the directory.
    pub children: Presets,
}

/// The presets of a directory.
pub type Presets = &'static [Preset];

/// Makes a file system with its root directory. Files may have `page_limit` pages in all.
#[must_use]
pub fn mount(dev: u64, page_limit: u64, permissions: u32, presets: Presets) -> Arc<Node> {
    let fs = Arc::new(MemoryFs::new(dev, page_limit, None, presets));
    let new = NewInode {
        file_type: FileType::Directory,
        permissions,
        uid: 0,
        gid: 0,
        rdev: 0,
        target: b"",
    };
    Node::new(&fs, &new, presets)
}

/// Makes a writable layer over an image, and gives its root directory. `presets` are there if the
/// image has no such names.
///
/// # Errors
/// What reading the root's inode gives.
pub fn mount_over(dev: u64, page_limit: u64, image: Erofs, presets: Presets) -> Result<Arc<Node>> {
    let lower = LowerFs::new(image);
    let fs = Arc::new(MemoryFs::new(dev, page_limit, Some(lower), presets));
    let root = image.root_nid;
    fs.lower_node(root)
}

impl MemoryFs {
    fn new(dev: u64, page_limit: u64, lower: Option<LowerFs>, presets: Presets) -> Self {
        let first_ino = lower.as_ref().map_or(1, LowerFs::first_free_ino);
        Self {
            dev,
            page_limit,
            page_count: AtomicU64::new(0),
            node_count: AtomicU64::new(0),
            next_ino: AtomicU64::new(first_ino),
            lower,
            presets,
            namespace: SpinLock::new(()),
        }
    }

    /// The node of an inode of the image.
    fn lower_node(self: &Arc<Self>, nid: u64) -> Result<Arc<Node>> {
        let lower = self.lower.as_ref().ok_or(Errno::EIO)?;
        lower.node(nid, |inode| Node::over(self, inode))
    }

    /// Counts a page of a file.
    fn charge_page(&self) -> Result<()> {
        if self.page_count.fetch_add(1, Ordering::Relaxed) >= self.page_limit {
            self.page_count.fetch_sub(1, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    fn release_pages(&self, count: u64) {
        self.page_count.fetch_sub(count, Ordering::Relaxed);
    }

    fn statfs(&self) -> Statfs {
        let (lower_blocks, lower_files) = self.lower.as_ref().map_or((0, 0), LowerFs::figures);
        let used = self.page_count.load(Ordering::Relaxed).min(self.page_limit);
        let files = lower_files + self.node_count.load(Ordering::Relaxed);
        let free = self.page_limit - used;
        Statfs {
            kind: if self.lower.is_some() { OVERLAY_MAGIC } else { TMPFS_MAGIC },
            bsize: PAGE as i64,
            blocks: lower_blocks + self.page_limit,
            bfree: free,
            bavail: free,
            files: files + free,
            ffree: free,
            fsid: [self.dev as i32, 0],
            namelen: 255,
            frsize: PAGE as i64,
            flags: ST_NOATIME | ST_VALID,
            spare: [0; 4],
        }
    }
}

/// `ST_NOATIME` and `ST_VALID` of statfs(2).
const ST_NOATIME: i64 = 0x400;
const ST_VALID: i64 = 0x20;

/// A reference that a node has to itself, to hand out.
type ThisNode = Weak<Node>;
