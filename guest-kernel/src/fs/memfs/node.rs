//! A node: attributes, and the [`Inode`] calls, handed to `directory` and `content`.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::content::Content;
use super::directory::Directory;
use super::lower::LowerInode;
use super::{MemoryFs, Preset, Presets, ThisNode};
use crate::error::{Errno, Result};
use crate::fs::abi::Statfs;
use crate::fs::file::{Object, Opening};
use crate::fs::inode::{
    AttributeChange, DirectoryEntry, Feed, FilePage, FileType, Inode, InodeRef, Metadata, NewInode,
    Permissions, Removal, Replace, Seek, Timestamp,
};
use crate::fs::path::Place;
use crate::fs::{device, pipe};
use crate::mm::addr::{PAGE, Phys};
use crate::mm::frame::FrameRef;
use crate::mm::user::UserBuffer;
use crate::sync::SpinLock;

/// Permission bits with set-id and sticky.
const PERMISSION_MASK: u32 = 0o7777;

/// An inode in memory, or over one of the image.
pub struct Node {
    this: ThisNode,
    pub(super) fs: Arc<MemoryFs>,
    pub(super) ino: u64,
    pub(super) file_type: FileType,
    rdev: u64,
    pub(super) lower: Option<LowerInode>,
    /// What a directory has besides, unless the lower one has it.
    pub(super) presets: Presets,
    pub(super) state: SpinLock<State>,
}

/// What can change.
pub(super) struct State {
    permissions: u32,
    uid: u32,
    gid: u32,
    pub(super) nlink: u32,
    atime: Timestamp,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
    /// Where it is, or was found first: `None` for a root. A directory has no other place.
    pub(super) place: Option<(Arc<Node>, Arc<[u8]>)>,
    /// Whether this differs from the lower inode.
    pub(super) changed: bool,
    pub(super) body: Body,
}

/// What depends on the type.
pub(super) enum Body {
    File(Content),
    Directory(Directory),
    /// `None`: the lower one's target.
    Symlink(Option<Vec<u8>>),
    /// The pipe, once somebody has opened it.
    Fifo(Option<Arc<pipe::Pipe>>),
    Device,
}

impl Node {
    /// A new node without a name.
    pub(super) fn new(fs: &Arc<MemoryFs>, new: &NewInode<'_>, presets: Presets) -> Arc<Self> {
        let ino = fs.next_ino.fetch_add(1, Ordering::Relaxed);
        let now = Timestamp::now();
        let is_directory = |preset: &&Preset| preset.file_type == FileType::Directory;
        let sub_directories = presets.iter().filter(is_directory).count() as u32;
        let body = match new.file_type {
            FileType::Directory => Body::Directory(Directory::new()),
            FileType::Symlink => Body::Symlink(Some(new.target.into())),
            FileType::Regular => Body::file(0),
            FileType::Fifo => Body::Fifo(None),
            _ => Body::Device,
        };
        let state = State {
            permissions: new.permissions & PERMISSION_MASK,
            uid: new.uid,
            gid: new.gid,
            nlink: if new.file_type == FileType::Directory { 2 + sub_directories } else { 1 },
            atime: now,
            mtime: now,
            ctime: now,
            place: None,
            changed: true,
            body,
        };
        Self::build(fs, ino, (new.file_type, new.rdev), None, presets, state)
    }

    /// The node over an inode of the image.
    pub(super) fn over(fs: &Arc<MemoryFs>, lower: LowerInode) -> Arc<Self> {
        let inode = lower.inode;
        let body = match inode.file_type {
            FileType::Directory => Body::Directory(Directory::new()),
            FileType::Symlink => Body::Symlink(None),
            FileType::Regular => Body::file(inode.size),
            FileType::Fifo => Body::Fifo(None),
            _ => Body::Device,
        };
        let state = State {
            permissions: inode.mode & PERMISSION_MASK,
            uid: inode.uid,
            gid: inode.gid,
            nlink: inode.nlink,
            atime: inode.mtime,
            mtime: inode.mtime,
            ctime: inode.mtime,
            place: None,
            changed: false,
            body,
        };
        let rdev = u64::from(inode.rdev);
        let presets = if inode.nid == lower.image.root_nid { fs.presets } else { &[] };
        Self::build(fs, inode.nid, (inode.file_type, rdev), Some(lower), presets, state)
    }

    fn build(
        fs: &Arc<MemoryFs>,
        ino: u64,
        (file_type, rdev): (FileType, u64),
        lower: Option<LowerInode>,
        presets: Presets,
        state: State,
    ) -> Arc<Self> {
        if lower.is_none() {
            fs.node_count.fetch_add(1, Ordering::Relaxed);
        }
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            fs: fs.clone(),
            ino,
            file_type,
            rdev,
            lower,
            presets,
            state: SpinLock::new(state),
        })
    }

    /// A counted reference to this node.
    pub(super) fn reference(&self) -> Result<Arc<Self>> {
        self.this.upgrade().ok_or(Errno::ENOENT)
    }

    /// Whether it says more than the lower inode.
    pub(super) fn is_changed(&self) -> bool {
        self.state.lock().changed
    }

    /// One name less; the last one's end is the end of a node over the image, too.
    pub(super) fn drop_link(&self, count: u32) {
        let nlink = {
            let mut state = self.state.lock();
            state.nlink = state.nlink.saturating_sub(count);
            state.ctime = Timestamp::now();
            state.changed = true;
            state.nlink
        };
        if nlink == 0
            && self.lower.is_some()
            && let Some(lower) = &self.fs.lower
        {
            lower.forget(self.ino);
        }
    }
}

impl Body {
    fn file(lower_size: u64) -> Self {
        Self::File(Content {
            size: lower_size,
            pages: alloc::collections::BTreeMap::new(),
            lower_end: lower_size,
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Body::File(content) = &self.state.get_mut().body {
            self.fs.release_pages(content.pages.len() as u64);
        }
        if self.lower.is_none() {
            self.fs.node_count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Inode for Node {
    fn file_type(&self) -> FileType {
        self.file_type
    }

    fn metadata(&self) -> Metadata {
        let state = self.state.lock();
        let (size, page_count) = match &state.body {
            Body::File(content) => {
                let lower_pages = content.lower_end.div_ceil(PAGE as u64);
                (content.size, lower_pages.max(content.pages.len() as u64))
            }
            Body::Directory(directory) => (self.directory_size(directory), 0),
            Body::Symlink(Some(target)) => (target.len() as u64, 0),
            Body::Symlink(None) => (self.lower.as_ref().map_or(0, |l| l.inode.size), 0),
            Body::Fifo(_) | Body::Device => (0, 0),
        };
        Metadata {
            dev: self.fs.dev,
            ino: self.ino,
            mode: self.file_type.mode() | state.permissions,
            nlink: state.nlink,
            uid: state.uid,
            gid: state.gid,
            rdev: self.rdev,
            size,
            blocks: page_count * (PAGE as u64 / 512),
            atime: state.atime,
            mtime: state.mtime,
            ctime: state.ctime,
        }
    }

    fn permissions(&self) -> Permissions {
        let state = self.state.lock();
        let mode = self.file_type.mode() | state.permissions;
        Permissions { mode, uid: state.uid, gid: state.gid }
    }

    fn size(&self) -> u64 {
        match &self.state.lock().body {
            Body::File(content) => content.size,
            _ => 0,
        }
    }

    fn set_attributes(&self, change: &AttributeChange) -> Result<()> {
        let now = Timestamp::now();
        let mut state = self.state.lock();
        if let Some(mode) = change.mode {
            state.permissions = mode & PERMISSION_MASK;
        }
        state.uid = change.uid.unwrap_or(state.uid);
        state.gid = change.gid.unwrap_or(state.gid);
        state.atime = change.atime.unwrap_or(state.atime);
        state.mtime = change.mtime.unwrap_or(state.mtime);
        state.ctime = now;
        state.changed = true;
        Ok(())
    }

    fn statfs(&self) -> Statfs {
        self.fs.statfs()
    }

    fn lookup(&self, name: &[u8]) -> Result<InodeRef> {
        Ok(self.find(name)?)
    }

    fn place(&self) -> Option<Place> {
        self.known_place()
    }

    fn read_directory(
        &self,
        position: u64,
        sink: &mut dyn FnMut(&DirectoryEntry<'_>) -> Feed,
    ) -> Result<()> {
        self.show_entries(position, sink)
    }

    fn create(&self, name: &[u8], new: &NewInode<'_>) -> Result<InodeRef> {
        Ok(self.create_node(name, new)?)
    }

    fn link(&self, name: &[u8], target: &InodeRef) -> Result<()> {
        let target: &dyn core::any::Any = &**target;
        let target = target.downcast_ref::<Self>().ok_or(Errno::EXDEV)?;
        self.link_node(name, target)
    }

    fn remove(&self, name: &[u8], removal: Removal) -> Result<()> {
        self.remove_name(name, removal)
    }

    fn rename(&self, name: &[u8], directory: &InodeRef, to: &[u8], replace: Replace) -> Result<()> {
        let target: &dyn core::any::Any = &**directory;
        let target = target.downcast_ref::<Self>().ok_or(Errno::EXDEV)?;
        self.rename_node(name, target, to, replace)
    }

    fn read_link(&self) -> Result<Vec<u8>> {
        match &self.state.lock().body {
            Body::Symlink(Some(target)) => return Ok(target.clone()),
            Body::Symlink(None) => {}
            _ => return Err(Errno::EINVAL),
        }
        self.lower.as_ref().ok_or(Errno::EIO)?.read_link()
    }

    fn open(&self, opening: &Opening) -> Result<Option<Arc<dyn Object>>> {
        match self.file_type {
            FileType::Regular | FileType::Directory | FileType::Symlink => Ok(None),
            FileType::CharDevice => device::open(self.rdev, opening).map(Some),
            FileType::BlockDevice | FileType::Socket => Err(Errno::ENXIO),
            FileType::Fifo => {
                let pipe = match &mut self.state.lock().body {
                    Body::Fifo(pipe) => pipe.get_or_insert_with(pipe::Pipe::new).clone(),
                    _ => return Err(Errno::EIO),
                };
                pipe::open_named(&pipe, opening).map(Some)
            }
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        self.read_content(offset, buffer)
    }

    fn read_kernel(&self, offset: u64, dst: &mut [u8]) -> Result<usize> {
        self.read_content_kernel(offset, dst)
    }

    fn write_at(&self, offset: u64, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        self.write_content(offset, buffer)
    }

    fn truncate(&self, size: u64) -> Result<()> {
        match self.file_type {
            FileType::Regular => self.truncate_content(size),
            FileType::Directory => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    fn allocate(&self, offset: u64, len: u64) -> Result<()> {
        self.allocate_content(offset, len)
    }

    fn punch_hole(&self, offset: u64, len: u64) -> Result<()> {
        self.punch_content(offset, len)
    }

    fn seek(&self, offset: u64, what: Seek) -> Result<u64> {
        self.seek_content(offset, what)
    }

    fn page(&self, index: u64) -> Result<FilePage> {
        match self.file_type {
            FileType::Regular => self.content_page(index),
            _ => Err(Errno::ENODEV),
        }
    }

    fn page_for_write(&self, index: u64) -> Result<FrameRef> {
        match self.file_type {
            FileType::Regular => self.content_page_for_write(index),
            _ => Err(Errno::ENODEV),
        }
    }

    fn image_run(&self, index: u64) -> Option<(Phys, u64)> {
        self.content_run(index)
    }
}
