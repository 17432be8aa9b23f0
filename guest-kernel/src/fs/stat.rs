//! System calls: stat and its kin, access, readlink, statfs, getcwd.

use linux_raw_sys::general as linux;

use super::abi::{Stat, Statfs, Statx, StatxTimestamp, Timespec};
use super::inode::{InodeRef, Metadata, Timestamp};
use super::path::{self, UserPath, WalkFlags};
use super::permission;
use crate::error::{Errno, Result};
use crate::mm::addr::{PAGE, UserAddr};
use crate::mm::user::{UserSlice, read_value, write_value};
use crate::task::Task;

/// What a call with a directory, a path and AT_* flags is about: the path's inode, or, with
/// AT_EMPTY_PATH and an empty path, the descriptor's own.
pub(super) fn target(task: &Task, dirfd: i32, path: UserAddr, flags: u32) -> Result<InodeRef> {
    // How glibc says fstat. (NULL is as good as "" since Linux 6.11.)
    if flags & linux::AT_EMPTY_PATH != 0 && (path.is_null() || read_value::<u8>(path)? == 0) {
        return match dirfd {
            linux::AT_FDCWD => Ok(task.context.working()),
            _ => Ok(task.files.get(dirfd)?.inode().clone()),
        };
    }
    let path = UserPath::read(path)?;
    let mut walk = WalkFlags::empty();
    walk.set(WalkFlags::FOLLOW, flags & linux::AT_SYMLINK_NOFOLLOW == 0);
    path::lookup(task, dirfd, path.as_bytes(), walk)
}

/// newfstatat.
///
/// # Errors
/// man 2 stat.
pub fn newfstatat(
    task: &Task,
    dirfd: i32,
    path: UserAddr,
    out: UserAddr,
    flags: u32,
) -> Result<usize> {
    let known = linux::AT_SYMLINK_NOFOLLOW | linux::AT_NO_AUTOMOUNT | linux::AT_EMPTY_PATH;
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    write_stat(out, &target(task, dirfd, path, flags)?.metadata())
}

/// stat.
///
/// # Errors
/// As [`newfstatat`].
pub fn stat(task: &Task, path: UserAddr, out: UserAddr) -> Result<usize> {
    newfstatat(task, linux::AT_FDCWD, path, out, 0)
}

/// lstat.
///
/// # Errors
/// As [`newfstatat`].
pub fn lstat(task: &Task, path: UserAddr, out: UserAddr) -> Result<usize> {
    newfstatat(task, linux::AT_FDCWD, path, out, linux::AT_SYMLINK_NOFOLLOW)
}

/// fstat.
///
/// # Errors
/// EBADF, EFAULT.
pub fn fstat(task: &Task, fd: i32, out: UserAddr) -> Result<usize> {
    write_stat(out, &task.files.get(fd)?.inode().metadata())
}

fn write_stat(out: UserAddr, metadata: &Metadata) -> Result<usize> {
    let stat = Stat {
        dev: metadata.dev,
        ino: metadata.ino,
        nlink: u64::from(metadata.nlink),
        mode: metadata.mode,
        uid: metadata.uid,
        gid: metadata.gid,
        rdev: metadata.rdev,
        size: metadata.size as i64,
        blksize: block_size(metadata),
        blocks: metadata.blocks as i64,
        atime: timespec(metadata.atime),
        mtime: timespec(metadata.mtime),
        ctime: timespec(metadata.ctime),
        ..Stat::default()
    };
    write_value(out, &stat).map(|()| 0)
}

/// Terminals say 1024 on Linux, and stdio sizes its buffers by that.
fn block_size(metadata: &Metadata) -> i64 {
    let is_terminal = metadata.mode & linux::S_IFMT == linux::S_IFCHR && metadata.rdev >> 8 == 136;
    if is_terminal { 1024 } else { PAGE as i64 }
}

fn timespec(time: Timestamp) -> Timespec {
    Timespec { seconds: time.seconds, nanoseconds: i64::from(time.nanoseconds) }
}

/// statx.
///
/// # Errors
/// man 2 statx.
pub fn statx(
    task: &Task,
    dirfd: i32,
    path: UserAddr,
    flags: u32,
    mask: u32,
    out: UserAddr,
) -> Result<usize> {
    let known = linux::AT_SYMLINK_NOFOLLOW
        | linux::AT_NO_AUTOMOUNT
        | linux::AT_EMPTY_PATH
        | linux::AT_STATX_SYNC_TYPE;
    if flags & !known != 0 || mask & linux::STATX__RESERVED != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & linux::AT_STATX_SYNC_TYPE == linux::AT_STATX_SYNC_TYPE {
        return Err(Errno::EINVAL);
    }
    let metadata = target(task, dirfd, path, flags)?.metadata();
    let time = |time: Timestamp| StatxTimestamp {
        seconds: time.seconds,
        nanoseconds: time.nanoseconds,
        reserved: 0,
    };
    let statx = Statx {
        mask: linux::STATX_BASIC_STATS | linux::STATX_MNT_ID,
        blksize: block_size(&metadata) as u32,
        nlink: metadata.nlink,
        uid: metadata.uid,
        gid: metadata.gid,
        mode: metadata.mode as u16,
        ino: metadata.ino,
        size: metadata.size,
        blocks: metadata.blocks,
        atime: time(metadata.atime),
        ctime: time(metadata.ctime),
        mtime: time(metadata.mtime),
        rdev_major: major(metadata.rdev),
        rdev_minor: minor(metadata.rdev),
        dev_major: major(metadata.dev),
        dev_minor: minor(metadata.dev),
        mnt_id: task.context.mounts.number_of_device(metadata.dev),
        ..Statx::default()
    };
    write_value(out, &statx).map(|()| 0)
}

/// The major part of a device number.
pub(super) fn major(dev: u64) -> u32 {
    (dev >> 8 & 0xfff) as u32 | (dev >> 32) as u32 & !0xfff
}

/// The minor part of a device number.
pub(super) fn minor(dev: u64) -> u32 {
    (dev & 0xff) as u32 | (dev >> 12) as u32 & !0xff
}

/// access.
///
/// # Errors
/// As [`faccessat2`].
pub fn access(task: &Task, path: UserAddr, mode: u32) -> Result<usize> {
    faccessat2(task, linux::AT_FDCWD, path, mode, 0)
}

/// faccessat.
///
/// # Errors
/// As [`faccessat2`].
pub fn faccessat(task: &Task, dirfd: i32, path: UserAddr, mode: u32) -> Result<usize> {
    faccessat2(task, dirfd, path, mode, 0)
}

/// faccessat2.
///
/// # Errors
/// man 2 access.
pub fn faccessat2(task: &Task, dirfd: i32, path: UserAddr, mode: u32, flags: u32) -> Result<usize> {
    let known = linux::AT_EACCESS | linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH;
    if mode & !7 != 0 || flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let inode = target(task, dirfd, path, flags)?;
    if mode == linux::F_OK {
        return Ok(0);
    }
    let credentials = *task.credentials.lock();
    let (uid, gid) = match flags & linux::AT_EACCESS {
        0 => (credentials.uid, credentials.gid),
        _ => (credentials.euid, credentials.egid),
    };
    match permission::allows(&inode.permissions(), uid, gid, mode) {
        true => Ok(0),
        false => Err(Errno::EACCES),
    }
}

/// readlink.
///
/// # Errors
/// As [`readlinkat`].
pub fn readlink(task: &Task, path: UserAddr, out: UserAddr, len: i32) -> Result<usize> {
    readlinkat(task, linux::AT_FDCWD, path, out, len)
}

/// readlinkat.
///
/// # Errors
/// man 2 readlink.
pub fn readlinkat(
    task: &Task,
    dirfd: i32,
    path: UserAddr,
    out: UserAddr,
    len: i32,
) -> Result<usize> {
    let len = usize::try_from(len).ok().filter(|&len| len > 0).ok_or(Errno::EINVAL)?;
    let path = UserPath::read(path)?;
    let inode = if path.as_bytes().is_empty() {
        // An O_PATH descriptor of the link itself.
        let file = task.files.get(dirfd).map_err(|_| Errno::ENOENT)?;
        match file.inode().file_type() {
            super::inode::FileType::Symlink => file.inode().clone(),
            _ => return Err(Errno::ENOENT),
        }
    } else {
        path::lookup(task, dirfd, path.as_bytes(), WalkFlags::empty())?
    };
    let target = inode.read_link()?;
    let len = len.min(target.len());
    UserSlice::new(out, len)?.write(&target[..len])?;
    Ok(len)
}

/// getcwd: the length with its NUL.
///
/// # Errors
/// ERANGE, ENOENT if the directory was removed, EFAULT.
pub fn getcwd(task: &Task, out: UserAddr, len: usize) -> Result<usize> {
    let mut path = path::of_directory(&task.context, &task.context.working())?;
    path.push(0);
    if path.len() > len {
        return Err(Errno::ERANGE);
    }
    UserSlice::new(out, path.len())?.write(&path)?;
    Ok(path.len())
}

/// statfs.
///
/// # Errors
/// man 2 statfs.
pub fn statfs(task: &Task, path: UserAddr, out: UserAddr) -> Result<usize> {
    write_statfs(out, &target(task, linux::AT_FDCWD, path, 0)?.statfs())
}

/// fstatfs.
///
/// # Errors
/// EBADF, EFAULT.
pub fn fstatfs(task: &Task, fd: i32, out: UserAddr) -> Result<usize> {
    write_statfs(out, &task.files.get(fd)?.inode().statfs())
}

fn write_statfs(out: UserAddr, statfs: &Statfs) -> Result<usize> {
    write_value(out, statfs).map(|()| 0)
}
