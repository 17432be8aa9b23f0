//! System calls: open and close.

use alloc::sync::Arc;

use linux_raw_sys::general as linux;

use super::fd::OnExec;
use super::file::{File, OpenFlags, Opening};
use super::inode::{FileType, InodeRef, NewInode};
use super::path::{self, Place, UserPath, WalkFlags};
use super::permission;
use crate::error::{Errno, Result};
use crate::mm::addr::UserAddr;
use crate::task::Task;

/// openat; open with `dirfd` AT_FDCWD.
///
/// # Errors
/// man 2 open. Limits: O_TMPFILE is EOPNOTSUPP.
pub fn openat(task: &Task, dirfd: i32, path: UserAddr, flags: u32, mode: u32) -> Result<usize> {
    let path = UserPath::read(path)?;
    task.files.check_room()?;
    let file = open_path(task, dirfd, path.as_bytes(), flags, mode)?;
    let on_exec = if flags & linux::O_CLOEXEC != 0 { OnExec::Close } else { OnExec::Keep };
    task.files.insert(file, on_exec, 0)
}

/// open.
///
/// # Errors
/// As [`openat`].
pub fn open(task: &Task, path: UserAddr, flags: u32, mode: u32) -> Result<usize> {
    openat(task, linux::AT_FDCWD, path, flags, mode)
}

/// creat.
///
/// # Errors
/// As [`openat`].
pub fn creat(task: &Task, path: UserAddr, mode: u32) -> Result<usize> {
    open(task, path, linux::O_CREAT | linux::O_WRONLY | linux::O_TRUNC, mode)
}

/// Opens a path as the task would.
///
/// # Errors
/// As [`openat`].
pub fn open_path(task: &Task, dirfd: i32, path: &[u8], flags: u32, mode: u32) -> Result<Arc<File>> {
    let mut opening = Opening::from_bits(flags);
    if opening.flags.contains(OpenFlags::PATH) {
        let kept = OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW;
        opening.flags = opening.flags.intersection(kept | OpenFlags::CLOEXEC);
    }
    let flags = opening.flags;
    if flags.contains(OpenFlags::TMPFILE) {
        return Err(Errno::EOPNOTSUPP);
    }
    let creates = flags.contains(OpenFlags::CREAT);
    let exclusive = flags.contains(OpenFlags::CREAT | OpenFlags::EXCL);
    if creates && flags.contains(OpenFlags::DIRECTORY) {
        return Err(Errno::EINVAL);
    }
    let mut walk = WalkFlags::PLACE;
    walk.set(WalkFlags::FOLLOW, !flags.contains(OpenFlags::NOFOLLOW) && !exclusive);
    walk.set(WalkFlags::MISSING, creates);
    let walked = path::resolve(task, dirfd, path, walk)?;
    let Some(inode) = walked.inode else {
        let place = walked.place.ok_or(Errno::ENOENT)?;
        if walked.trailing_slash {
            return Err(Errno::EISDIR);
        }
        let inode = create(task, &place, FileType::Regular, mode)?;
        return File::open(inode, Some(place), opening);
    };
    if exclusive {
        return Err(Errno::EEXIST);
    }
    check_opening(task, &inode, &opening)?;
    if flags.contains(OpenFlags::TRUNC) && inode.file_type() == FileType::Regular {
        let credentials = *task.credentials.lock();
        permission::check(&credentials, &*inode, permission::WRITE)?;
        inode.truncate(0)?;
    }
    File::open(inode, walked.place, opening)
}

/// Makes a new inode as the task would.
pub(super) fn create(
    task: &Task,
    place: &Place,
    file_type: FileType,
    mode: u32,
) -> Result<InodeRef> {
    create_with(task, place, file_type, mode, b"", 0)
}

/// As [`create`], with a link's target or a device's number.
pub(super) fn create_with(
    task: &Task,
    place: &Place,
    file_type: FileType,
    mode: u32,
    target: &[u8],
    rdev: u64,
) -> Result<InodeRef> {
    let credentials = *task.credentials.lock();
    let directory = &place.directory;
    permission::check(&credentials, &**directory, permission::WRITE | permission::EXECUTE)?;
    let parent = directory.permissions();
    let inherits = parent.mode & linux::S_ISGID != 0;
    let mut permissions = mode & 0o7777 & !task.context.umask();
    if file_type == FileType::Symlink {
        permissions = 0o777;
    }
    if inherits && file_type == FileType::Directory {
        permissions |= linux::S_ISGID;
    }
    let new = NewInode {
        file_type,
        permissions,
        uid: credentials.euid,
        gid: if inherits { parent.gid } else { credentials.egid },
        rdev,
        target,
    };
    directory.create(&place.name, &new)
}

fn check_opening(task: &Task, inode: &InodeRef, opening: &Opening) -> Result<()> {
    let file_type = inode.file_type();
    let is_path = opening.flags.contains(OpenFlags::PATH);
    if opening.flags.contains(OpenFlags::DIRECTORY) && file_type != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    if is_path {
        return Ok(());
    }
    match file_type {
        FileType::Symlink => return Err(Errno::ELOOP),
        FileType::Directory if opening.writable || opening.flags.contains(OpenFlags::CREAT) => {
            return Err(Errno::EISDIR);
        }
        _ => {}
    }
    let mut wanted = 0;
    if opening.readable {
        wanted |= permission::READ;
    }
    if opening.writable {
        wanted |= permission::WRITE;
    }
    let credentials = *task.credentials.lock();
    permission::check(&credentials, &**inode, wanted)
}

/// Opens a program for exec: a regular file that the task may execute.
///
/// # Errors
/// EACCES, and what the path walk says.
pub fn open_program(task: &Task, dirfd: i32, path: &[u8]) -> Result<Arc<File>> {
    let walked = path::resolve(task, dirfd, path, WalkFlags::FOLLOW | WalkFlags::PLACE)?;
    let inode = walked.inode.ok_or(Errno::ENOENT)?;
    if inode.file_type() != FileType::Regular {
        return Err(Errno::EACCES);
    }
    let credentials = *task.credentials.lock();
    permission::check(&credentials, &*inode, permission::EXECUTE)?;
    File::open(inode, walked.place, Opening::from_bits(linux::O_RDONLY))
}

/// close.
///
/// # Errors
/// EBADF.
pub fn close(task: &Task, fd: i32) -> Result<usize> {
    task.files.remove(fd).map(|_| 0)
}

/// close_range.
///
/// # Errors
/// EINVAL.
pub fn close_range(task: &Task, first: u32, last: u32, flags: u32) -> Result<usize> {
    // A table of one's own (CLOSE_RANGE_UNSHARE) is what a process without threads has anyway.
    const UNSHARE: u32 = 1 << 1;
    const CLOEXEC: u32 = 1 << 2;
    if flags & !(UNSHARE | CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    let mut from = first as usize;
    while let Some(fd) = task.files.next_open(from).filter(|&fd| fd <= last as usize) {
        // Another thread may be faster: nothing is lost.
        if flags & CLOEXEC != 0 {
            let _ = task.files.set_on_exec(fd as i32, OnExec::Close);
        } else {
            drop(task.files.remove(fd as i32));
        }
        from = fd + 1;
    }
    Ok(0)
}
