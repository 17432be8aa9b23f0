//! System calls on descriptors: dup, fcntl, ioctl, flock, fsync and alike.

use alloc::sync::Arc;

use linux_raw_sys::general as linux;
use linux_raw_sys::ioctl::{FIOCLEX, FIONBIO, FIONCLEX, FIONREAD};

use super::abi::Flock;
use super::fd::OnExec;
use super::file::{File, Wait};
use super::inode::FileType;
use crate::error::{Errno, Result};
use crate::mm::addr::UserAddr;
use crate::mm::user::{read_value, write_value};
use crate::task::Task;

/// dup.
///
/// # Errors
/// EBADF, EMFILE.
pub fn dup(task: &Task, fd: i32) -> Result<usize> {
    let file = task.files.get(fd)?;
    task.files.insert(file, OnExec::Keep, 0)
}

/// dup2.
///
/// # Errors
/// EBADF.
pub fn dup2(task: &Task, from: i32, to: i32) -> Result<usize> {
    let file = task.files.get(from)?;
    if from == to {
        return Ok(to as usize);
    }
    task.files.replace(to, file, OnExec::Keep).map(|_| to as usize)
}

/// dup3.
///
/// # Errors
/// EBADF, EINVAL.
pub fn dup3(task: &Task, from: i32, to: i32, flags: u32) -> Result<usize> {
    let on_exec = match flags {
        0 => OnExec::Keep,
        linux::O_CLOEXEC => OnExec::Close,
        _ => return Err(Errno::EINVAL),
    };
    if from == to {
        return Err(Errno::EINVAL);
    }
    let file = task.files.get(from)?;
    task.files.replace(to, file, on_exec).map(|_| to as usize)
}

/// fcntl.
///
/// # Errors
/// man 2 fcntl. Limits: record locks always succeed, as nobody else is there; no leases, no
/// notification, no seals.
pub fn fcntl(task: &Task, fd: i32, command: u32, argument: u64) -> Result<usize> {
    let file = task.files.get(fd)?;
    let duplicate = |on_exec| {
        let from = usize::try_from(argument as i32).map_err(|_| Errno::EINVAL)?;
        if from >= task.files.limit() {
            return Err(Errno::EINVAL);
        }
        task.files.insert(file.clone(), on_exec, from)
    };
    match command {
        linux::F_DUPFD => duplicate(OnExec::Keep),
        linux::F_DUPFD_CLOEXEC => duplicate(OnExec::Close),
        linux::F_GETFD => {
            Ok(usize::from(task.files.on_exec(fd)? == OnExec::Close) * linux::FD_CLOEXEC as usize)
        }
        linux::F_SETFD => {
            let is_set = argument as u32 & linux::FD_CLOEXEC != 0;
            task.files.set_on_exec(fd, if is_set { OnExec::Close } else { OnExec::Keep })?;
            Ok(0)
        }
        linux::F_GETFL => Ok(file.flags() as usize),
        _ if file.is_path() => Err(Errno::EBADF),
        linux::F_SETFL => {
            file.set_flags(argument as u32);
            Ok(0)
        }
        linux::F_GETLK | linux::F_OFD_GETLK => {
            let mut lock: Flock = read_value(UserAddr(argument))?;
            lock.kind = linux::F_UNLCK as u16;
            write_value(UserAddr(argument), &lock).map(|()| 0)
        }
        linux::F_SETLK | linux::F_SETLKW | linux::F_OFD_SETLK | linux::F_OFD_SETLKW => {
            lock_records(&file, read_value(UserAddr(argument))?)
        }
        linux::F_SETOWN | linux::F_GETOWN => Ok(0),
        linux::F_GETPIPE_SZ => match file.object().and_then(|object| object.pipe_capacity()) {
            Some(capacity) => Ok(capacity),
            None => Err(Errno::EBADF),
        },
        linux::F_SETPIPE_SZ => match file.object().and_then(|object| object.pipe_capacity()) {
            // Limits: the capacity is fixed; asking for less gives what there is, as Linux rounds up.
            Some(capacity) if argument as usize <= capacity => Ok(capacity),
            Some(_) => Err(Errno::EPERM),
            None => Err(Errno::EBADF),
        },
        _ => Err(Errno::EINVAL),
    }
}

fn lock_records(file: &Arc<File>, lock: Flock) -> Result<usize> {
    match u32::from(lock.kind) {
        linux::F_RDLCK if !file.is_readable() => Err(Errno::EBADF),
        linux::F_WRLCK if !file.is_writable() => Err(Errno::EBADF),
        linux::F_RDLCK | linux::F_WRLCK | linux::F_UNLCK => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// ioctl.
///
/// # Errors
/// ENOTTY for a command that the file does not know.
pub fn ioctl(task: &Task, fd: i32, command: u32, argument: u64) -> Result<usize> {
    let file = task.files.get_usable(fd)?;
    let address = UserAddr(argument);
    match command {
        FIOCLEX => task.files.set_on_exec(fd, OnExec::Close).map(|()| 0),
        FIONCLEX => task.files.set_on_exec(fd, OnExec::Keep).map(|()| 0),
        FIONBIO => {
            let on: i32 = read_value(address)?;
            file.set_nonblocking(if on != 0 { Wait::Never } else { Wait::Allowed });
            Ok(0)
        }
        FIONREAD if file.object().is_none() && file.inode().file_type() == FileType::Regular => {
            let rest = file.inode().size().saturating_sub(file.position());
            write_value(address, &(rest.min(i32::MAX as u64) as i32)).map(|()| 0)
        }
        _ => match file.object() {
            Some(object) => object.ioctl(task, command, address),
            None => Err(Errno::ENOTTY),
        },
    }
}

/// flock.
///
/// # Errors
/// EBADF, EINVAL. Limits: always succeeds, as nobody else is there.
pub fn flock(task: &Task, fd: i32, operation: u32) -> Result<usize> {
    task.files.get_usable(fd)?;
    match operation & !linux::LOCK_NB {
        linux::LOCK_SH | linux::LOCK_EX | linux::LOCK_UN => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// fsync, fdatasync: memory is all there is.
///
/// # Errors
/// EBADF; EINVAL for what cannot be synchronised.
pub fn fsync(task: &Task, fd: i32) -> Result<usize> {
    let file = task.files.get_usable(fd)?;
    match file.inode().file_type() {
        FileType::Regular | FileType::Directory | FileType::BlockDevice => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// syncfs.
///
/// # Errors
/// EBADF.
pub fn syncfs(task: &Task, fd: i32) -> Result<usize> {
    task.files.get_usable(fd).map(|_| 0)
}

/// sync.
///
/// # Errors
/// None.
pub fn sync(_: &Task) -> Result<usize> {
    Ok(0)
}

/// fadvise64: advice that needs no action.
///
/// # Errors
/// EBADF, ESPIPE, EINVAL.
pub fn fadvise64(task: &Task, fd: i32, _offset: i64, len: i64, advice: u32) -> Result<usize> {
    let file = task.files.get_usable(fd)?;
    if file.inode().file_type() == FileType::Fifo {
        return Err(Errno::ESPIPE);
    }
    match advice {
        linux::POSIX_FADV_NORMAL..=linux::POSIX_FADV_NOREUSE if len >= 0 => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// readahead.
///
/// # Errors
/// EBADF, EINVAL.
pub fn readahead(task: &Task, fd: i32) -> Result<usize> {
    let file = task.files.get_usable(fd)?;
    match file.is_readable() {
        false => Err(Errno::EBADF),
        true if file.inode().file_type() != FileType::Regular => Err(Errno::EINVAL),
        true => Ok(0),
    }
}
