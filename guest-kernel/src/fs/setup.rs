//! The tree and the open files that a machine starts with.

use alloc::sync::Arc;

use linux_raw_sys::general as linux;
use shared_abi::boot_info::{STREAM_CLOSED, STREAM_NULL, STREAM_TERMINAL, Stream};

use super::erofs::{Erofs, MountError};
use super::fd::{FdTable, OnExec};
use super::file::{File, Opening};
use super::inode::{AttributeChange, FileType, InodeRef};
use super::memfs::{self, Preset};
use super::mount::{Mount, Mounts};
use super::path::Place;
use super::{devfs, procfs, stream};
use crate::error::Result;
use crate::mm::frame;
use crate::mm::image::ImageMemory;

/// Device number of the root.
pub const ROOT_DEV: u64 = 0x1c;
/// The group that terminals belong to.
const TTY_GROUP: u32 = 5;

const fn directory(name: &'static [u8], permissions: u32) -> Preset {
    let file_type = FileType::Directory;
    Preset { name, file_type, permissions, rdev: 0, target: b"", children: &[] }
}

/// What the root has even if the image has not.
static ROOT_PRESETS: [Preset; 3] =
    [directory(b"dev", 0o755), directory(b"proc", 0o555), directory(b"tmp", 0o1777)];

/// Mounts the root image with the writable layer above it, and /dev and /proc. There is no mount on
/// /tmp: it is a directory of the writable layer, so that what the image has there is seen.
///
/// # Errors
/// Names what is wrong with the image.
pub fn mounts(image: ImageMemory) -> core::result::Result<Mounts, MountError> {
    let image = Erofs::mount(image)?;
    // As tmpfs: half of the memory at most.
    let page_limit = frame::usage().total / 2;
    let root = memfs::mount_over(ROOT_DEV, page_limit, image, &ROOT_PRESETS)
        .map_err(|errno| MountError { errno, what: "the root's inode cannot be read" })?;
    let mut mounts = Mounts::new(root);
    let options = "rw,nosuid,noexec,noatime";
    mounts.add(Mount::new("dev", "devtmpfs", options, devfs::DEV, devfs::make));
    mounts.add(Mount::new("proc", "proc", options, procfs::DEV, procfs::make));
    Ok(mounts)
}

/// The table of open files with the three standard streams, which belong to `owner` (user, group).
///
/// # Errors
/// ENOMEM at most.
pub fn streams(mounts: &Mounts, streams: &[Stream; 3], owner: (u32, u32)) -> Result<FdTable> {
    let files = FdTable::new();
    for (number, stream) in (0..).zip(streams) {
        let file = match stream.kind {
            STREAM_CLOSED => continue,
            STREAM_NULL => open_device(mounts, &[b"null"])?,
            STREAM_TERMINAL => {
                super::terminal::attach(number, stream.winsize);
                let file = open_device(mounts, &[b"pts", b"0"])?;
                let (uid, gid) = (Some(owner.0), Some(TTY_GROUP));
                let change = AttributeChange { uid, gid, ..AttributeChange::default() };
                file.inode().set_attributes(&change)?;
                file
            }
            _ => {
                // A pipe's ends, and what else the host has: one direction each.
                let opening = Opening::from_bits(match number {
                    0 => linux::O_RDONLY,
                    _ => linux::O_WRONLY,
                });
                stream::open(number, opening, owner)
            }
        };
        files.insert(file, OnExec::Keep, number as usize)?;
    }
    Ok(files)
}

fn open_device(mounts: &Mounts, names: &[&[u8]]) -> Result<Arc<File>> {
    let mut directory: Option<InodeRef> = None;
    let mut inode = mounts.at(mounts.root(), b"dev").unwrap_or_else(devfs::make);
    for name in names {
        let found = inode.lookup(name)?;
        directory = Some(core::mem::replace(&mut inode, found));
    }
    let place = directory
        .zip(names.last())
        .map(|(directory, &name)| Place { directory, name: name.into() });
    File::open(inode, place, Opening::from_bits(linux::O_RDWR))
}
