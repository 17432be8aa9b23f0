//! System calls on attributes: chmod, chown, utimensat, truncate, fallocate, extended attributes.

use linux_raw_sys::general as linux;

use super::abi::{Timespec, Timeval};
use super::inode::{AttributeChange, FileType, InodeRef, Permissions, Timestamp};
use super::path::{self, UserPath, WalkFlags};
use super::permission;
use super::stat::target;
use crate::error::{Errno, Result};
use crate::mm::addr::UserAddr;
use crate::mm::user::{self, read_value};
use crate::task::Task;

/// fchmodat2; fchmodat and chmod without flags.
///
/// # Errors
/// man 2 chmod.
pub fn fchmodat2(task: &Task, dirfd: i32, path: UserAddr, mode: u32, flags: u32) -> Result<usize> {
    if flags & !(linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    set_mode(task, &target(task, dirfd, path, flags)?, mode)
}

/// chmod.
///
/// # Errors
/// man 2 chmod.
pub fn chmod(task: &Task, path: UserAddr, mode: u32) -> Result<usize> {
    fchmodat2(task, linux::AT_FDCWD, path, mode, 0)
}

/// fchmod.
///
/// # Errors
/// man 2 chmod.
pub fn fchmod(task: &Task, fd: i32, mode: u32) -> Result<usize> {
    set_mode(task, task.files.get_usable(fd)?.inode(), mode)
}

fn set_mode(task: &Task, inode: &InodeRef, mode: u32) -> Result<usize> {
    let credentials = *task.credentials.lock();
    permission::check_owner(&credentials, &**inode)?;
    if inode.file_type() == FileType::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    let mut mode = mode & 0o7777;
    if credentials.euid != 0 && inode.permissions().gid != credentials.egid {
        mode &= !linux::S_ISGID;
    }
    inode.set_attributes(&AttributeChange { mode: Some(mode), ..AttributeChange::default() })?;
    Ok(0)
}

/// fchownat; chown and lchown are cases of it.
///
/// # Errors
/// man 2 chown.
pub fn fchownat(
    task: &Task,
    dirfd: i32,
    path: UserAddr,
    uid: u32,
    gid: u32,
    flags: u32,
) -> Result<usize> {
    if flags & !(linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    set_owner(task, &target(task, dirfd, path, flags)?, uid, gid)
}

/// chown.
///
/// # Errors
/// man 2 chown.
pub fn chown(task: &Task, path: UserAddr, uid: u32, gid: u32) -> Result<usize> {
    fchownat(task, linux::AT_FDCWD, path, uid, gid, 0)
}

/// lchown.
///
/// # Errors
/// man 2 chown.
pub fn lchown(task: &Task, path: UserAddr, uid: u32, gid: u32) -> Result<usize> {
    fchownat(task, linux::AT_FDCWD, path, uid, gid, linux::AT_SYMLINK_NOFOLLOW)
}

/// fchown.
///
/// # Errors
/// man 2 chown.
pub fn fchown(task: &Task, fd: i32, uid: u32, gid: u32) -> Result<usize> {
    set_owner(task, task.files.get_usable(fd)?.inode(), uid, gid)
}

fn set_owner(task: &Task, inode: &InodeRef, uid: u32, gid: u32) -> Result<usize> {
    const KEEP: u32 = u32::MAX;
    let credentials = *task.credentials.lock();
    let now: Permissions = inode.permissions();
    let (uid, gid) = ((uid != KEEP).then_some(uid), (gid != KEEP).then_some(gid));
    if credentials.euid != 0 {
        let is_own = credentials.euid == now.uid;
        let uid_allowed = uid.is_none_or(|uid| is_own && uid == now.uid);
        let gid_allowed =
            gid.is_none_or(|gid| is_own && (gid == now.gid || gid == credentials.egid));
        if !uid_allowed || !gid_allowed {
            return Err(Errno::EPERM);
        }
    }
    // A program that changes hands is not set-id any more.
    let is_program = inode.file_type() == FileType::Regular && now.mode & 0o111 != 0;
    let mode = is_program.then(|| {
        let set_group = now.mode & linux::S_IXGRP != 0;
        now.mode & 0o7777 & !(linux::S_ISUID | if set_group { linux::S_ISGID } else { 0 })
    });
    inode.set_attributes(&AttributeChange { mode, uid, gid, ..AttributeChange::default() })?;
    Ok(0)
}

/// utimensat; a null path means the descriptor itself (futimens).
///
/// # Errors
/// man 2 utimensat.
pub fn utimensat(
    task: &Task,
    dirfd: i32,
    path: UserAddr,
    times: UserAddr,
    flags: u32,
) -> Result<usize> {
    if flags & !(linux::AT_SYMLINK_NOFOLLOW | linux::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let times = match times.is_null() {
        true => None,
        false => Some(read_value::<[Timespec; 2]>(times)?),
    };
    let inode = match path.is_null() {
        true => task.files.get_usable(dirfd)?.inode().clone(),
        false => target(task, dirfd, path, flags)?,
    };
    set_times(task, &inode, times)
}

/// utimes and futimesat, with microseconds.
///
/// # Errors
/// man 2 utimes.
pub fn futimesat(task: &Task, dirfd: i32, path: UserAddr, times: UserAddr) -> Result<usize> {
    let times = match times.is_null() {
        true => None,
        false => {
            let pair = read_value::<[Timeval; 2]>(times)?;
            if pair.iter().any(|time| !(0..1_000_000).contains(&time.microseconds)) {
                return Err(Errno::EINVAL);
            }
            Some(pair.map(|time| Timespec {
                seconds: time.seconds,
                nanoseconds: time.microseconds * 1000,
            }))
        }
    };
    let inode = match path.is_null() {
        true => task.files.get_usable(dirfd)?.inode().clone(),
        false => target(task, dirfd, path, 0)?,
    };
    set_times(task, &inode, times)
}

/// utime, with seconds.
///
/// # Errors
/// man 2 utime.
pub fn utime(task: &Task, path: UserAddr, times: UserAddr) -> Result<usize> {
    let times = match times.is_null() {
        true => None,
        false => {
            Some(read_value::<[i64; 2]>(times)?.map(|seconds| Timespec { seconds, nanoseconds: 0 }))
        }
    };
    let inode = target(task, linux::AT_FDCWD, path, 0)?;
    set_times(task, &inode, times)
}

fn set_times(task: &Task, inode: &InodeRef, times: Option<[Timespec; 2]>) -> Result<usize> {
    const NOW: i64 = 0x3fff_ffff;
    const OMIT: i64 = 0x3fff_fffe;
    let now = Timestamp::now();
    let decode = |time: Timespec| match time.nanoseconds {
        NOW => Ok(Some(now)),
        OMIT => Ok(None),
        0..1_000_000_000 => {
            Ok(Some(Timestamp { seconds: time.seconds, nanoseconds: time.nanoseconds as u32 }))
        }
        _ => Err(Errno::EINVAL),
    };
    let (atime, mtime) = match times {
        None => (Some(now), Some(now)),
        Some([atime, mtime]) => (decode(atime)?, decode(mtime)?),
    };
    if atime.is_none() && mtime.is_none() {
        return Ok(0);
    }
    let credentials = *task.credentials.lock();
    let is_now = times.is_none_or(|times| times.iter().all(|time| time.nanoseconds == NOW));
    // Who may write may say "now"; the owner may say anything.
    if permission::check_owner(&credentials, &**inode).is_err() {
        if !is_now {
            return Err(Errno::EPERM);
        }
        permission::check(&credentials, &**inode, permission::WRITE)?;
    }
    inode.set_attributes(&AttributeChange { atime, mtime, ..AttributeChange::default() })?;
    Ok(0)
}

/// truncate.
///
/// # Errors
/// man 2 truncate.
pub fn truncate(task: &Task, path: UserAddr, size: i64) -> Result<usize> {
    let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    let path = UserPath::read(path)?;
    let inode = path::lookup(task, linux::AT_FDCWD, path.as_bytes(), WalkFlags::FOLLOW)?;
    if inode.file_type() == FileType::Directory {
        return Err(Errno::EISDIR);
    }
    let credentials = *task.credentials.lock();
    permission::check(&credentials, &*inode, permission::WRITE)?;
    inode.truncate(size).map(|()| 0)
}

/// ftruncate.
///
/// # Errors
/// EBADF, EINVAL, EFBIG.
pub fn ftruncate(task: &Task, fd: i32, size: i64) -> Result<usize> {
    let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    let file = task.files.get_usable(fd)?;
    if !file.is_writable() || file.inode().file_type() != FileType::Regular {
        return Err(Errno::EINVAL);
    }
    file.inode().truncate(size).map(|()| 0)
}

/// fallocate.
///
/// # Errors
/// man 2 fallocate. Limits: no collapse, insert, zero and unshare range.
pub fn fallocate(task: &Task, fd: i32, mode: u32, offset: i64, len: i64) -> Result<usize> {
    let file = task.files.get(fd)?;
    let (Ok(offset), Ok(len)) = (u64::try_from(offset), u64::try_from(len)) else {
        return Err(Errno::EINVAL);
    };
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    if !file.is_writable() {
        return Err(Errno::EBADF);
    }
    let inode = file.inode();
    match inode.file_type() {
        FileType::Regular => {}
        FileType::Fifo => return Err(Errno::ESPIPE),
        FileType::Directory => return Err(Errno::EISDIR),
        _ => return Err(Errno::ENODEV),
    }
    const PUNCH: u32 = linux::FALLOC_FL_PUNCH_HOLE | linux::FALLOC_FL_KEEP_SIZE;
    match mode {
        0 | linux::FALLOC_FL_KEEP_SIZE => {
            let end = offset.checked_add(len).filter(|&end| end <= i64::MAX as u64);
            let end = end.ok_or(Errno::EFBIG)?;
            inode.allocate(offset, len)?;
            if mode == 0 && end > inode.size() {
                inode.truncate(end)?;
            }
        }
        PUNCH => inode.punch_hole(offset, len)?,
        _ => return Err(Errno::EOPNOTSUPP),
    }
    Ok(0)
}

/// What a call does with a symbolic link at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    /// It is about what the link leads to.
    Follow,
    /// It is about the link.
    Leave,
}

impl Links {
    fn flags(self) -> u32 {
        match self {
            Self::Follow => 0,
            Self::Leave => linux::AT_SYMLINK_NOFOLLOW,
        }
    }
}

/// getxattr, setxattr, removexattr and the `l` ones: no file system here has extended attributes.
///
/// # Errors
/// EOPNOTSUPP; EFAULT and what the path walk says before that.
pub fn getxattr(task: &Task, path: UserAddr, name: UserAddr, links: Links) -> Result<usize> {
    target(task, linux::AT_FDCWD, path, links.flags())?;
    read_xattr_name(name)?;
    Err(Errno::EOPNOTSUPP)
}

/// fgetxattr, fsetxattr, fremovexattr.
///
/// # Errors
/// EOPNOTSUPP; EBADF, EFAULT before that.
pub fn fgetxattr(task: &Task, fd: i32, name: UserAddr) -> Result<usize> {
    task.files.get_usable(fd)?;
    read_xattr_name(name)?;
    Err(Errno::EOPNOTSUPP)
}

fn read_xattr_name(name: UserAddr) -> Result<()> {
    match user::read_c_string(name, path::NAME_MAX) {
        Ok(name) if name.is_empty() => Err(Errno::ERANGE),
        Ok(_) => Ok(()),
        Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        Err(errno) => Err(errno),
    }
}

/// listxattr, llistxattr: there are none.
///
/// # Errors
/// What the path walk says.
pub fn listxattr(task: &Task, path: UserAddr, links: Links) -> Result<usize> {
    target(task, linux::AT_FDCWD, path, links.flags()).map(|_| 0)
}

/// flistxattr: there are none.
///
/// # Errors
/// EBADF.
pub fn flistxattr(task: &Task, fd: i32) -> Result<usize> {
    task.files.get_usable(fd).map(|_| 0)
}
