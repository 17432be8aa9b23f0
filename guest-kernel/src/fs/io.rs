//! System calls: read, write and their kin, lseek, getdents64.

use alloc::vec::Vec;

use linux_raw_sys::general as linux;
use zerocopy::IntoBytes;

use super::abi::{DirentHeader, IoVec};
use super::file::File;
use super::inode::Feed;
use crate::error::{Errno, Result};
use crate::mm::addr::UserAddr;
use crate::mm::user::{UserBuffer, UserSlice, read_value};
use crate::task::Task;
use crate::task::signal::Signal;

/// The most bytes that one call moves: Linux's MAX_RW_COUNT.
const COUNT_MAX: usize = 0x7fff_f000;
/// The most ranges of readv and writev.
const IOV_MAX: usize = linux::UIO_MAXIOV as usize;
/// getdents64 gives at most this much at once, whatever the program has room for.
const DIRENTS_MAX: usize = 32 << 10;

/// read.
///
/// # Errors
/// EBADF, EFAULT, EISDIR, EAGAIN, EINTR, EIO.
pub fn read(task: &Task, fd: i32, address: UserAddr, len: usize) -> Result<usize> {
    let file = task.files.get(fd)?;
    let range = [UserSlice::new(address, len.min(COUNT_MAX))?];
    file.read(&mut UserBuffer::new(&range))
}

/// write.
///
/// # Errors
/// EBADF, EFAULT, EPIPE (with SIGPIPE), ENOSPC, EFBIG, EAGAIN, EINTR, EIO.
pub fn write(task: &Task, fd: i32, address: UserAddr, len: usize) -> Result<usize> {
    let file = task.files.get(fd)?;
    let range = [UserSlice::new(address, len.min(COUNT_MAX))?];
    signal_broken_pipe(task, file.write(&mut UserBuffer::new(&range)))
}

/// pread64.
///
/// # Errors
/// As [`read`], and ESPIPE, EINVAL.
pub fn pread64(task: &Task, fd: i32, address: UserAddr, len: usize, offset: i64) -> Result<usize> {
    let file = task.files.get(fd)?;
    let range = [UserSlice::new(address, len.min(COUNT_MAX))?];
    file.read_at(offset, &mut UserBuffer::new(&range))
}

/// pwrite64.
///
/// # Errors
/// As [`write()`], and ESPIPE, EINVAL.
pub fn pwrite64(task: &Task, fd: i32, address: UserAddr, len: usize, offset: i64) -> Result<usize> {
    let file = task.files.get(fd)?;
    let range = [UserSlice::new(address, len.min(COUNT_MAX))?];
    file.write_at(offset, &mut UserBuffer::new(&range))
}

/// readv.
///
/// # Errors
/// As [`read`], and EINVAL.
pub fn readv(task: &Task, fd: i32, vector: UserAddr, count: usize) -> Result<usize> {
    let file = task.files.get(fd)?;
    with_vector(vector, count, |buffer| file.read(buffer))
}

/// writev.
///
/// # Errors
/// As [`write()`], and EINVAL.
pub fn writev(task: &Task, fd: i32, vector: UserAddr, count: usize) -> Result<usize> {
    let file = task.files.get(fd)?;
    signal_broken_pipe(task, with_vector(vector, count, |buffer| file.write(buffer)))
}

/// preadv; preadv2 without flags, whose offset may be -1 for the file's position.
///
/// # Errors
/// As [`pread64`].
pub fn preadv(task: &Task, fd: i32, vector: UserAddr, count: usize, offset: i64) -> Result<usize> {
    let file = task.files.get(fd)?;
    with_vector(vector, count, |buffer| file.read_at(offset, buffer))
}

/// pwritev.
///
/// # Errors
/// As [`pwrite64`].
pub fn pwritev(task: &Task, fd: i32, vector: UserAddr, count: usize, offset: i64) -> Result<usize> {
    let file = task.files.get(fd)?;
    signal_broken_pipe(task, with_vector(vector, count, |buffer| file.write_at(offset, buffer)))
}

/// preadv2.
///
/// # Errors
/// As [`preadv`]; EOPNOTSUPP for flags.
pub fn preadv2(
    task: &Task,
    fd: i32,
    vector: UserAddr,
    count: usize,
    offset: i64,
    flags: u32,
) -> Result<usize> {
    // Limits: no RWF_* flags; all of them are hints or need asynchronous files.
    match (flags, offset) {
        (0, -1) => readv(task, fd, vector, count),
        (0, _) => preadv(task, fd, vector, count, offset),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// pwritev2.
///
/// # Errors
/// As [`pwritev`]; EOPNOTSUPP for flags.
pub fn pwritev2(
    task: &Task,
    fd: i32,
    vector: UserAddr,
    count: usize,
    offset: i64,
    flags: u32,
) -> Result<usize> {
    match (flags, offset) {
        (0, -1) => writev(task, fd, vector, count),
        (0, _) => pwritev(task, fd, vector, count, offset),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// lseek.
///
/// # Errors
/// EBADF, ESPIPE, EINVAL, ENXIO.
pub fn lseek(task: &Task, fd: i32, offset: i64, whence: u32) -> Result<usize> {
    task.files.get(fd)?.seek(offset, whence).map(|position| position as usize)
}

/// getdents64.
///
/// # Errors
/// EBADF, ENOTDIR, EINVAL if not one entry fits, EFAULT.
pub fn getdents64(task: &Task, fd: i32, address: UserAddr, len: usize) -> Result<usize> {
    let file = task.files.get(fd)?;
    let len = len.min(DIRENTS_MAX);
    let mut records: Vec<u8> = Vec::new();
    let mut is_short = false;
    let before = file.position();
    file.read_directory(&mut |entry| {
        let size = (size_of::<DirentHeader>() + entry.name.len() + 1).next_multiple_of(8);
        if records.len() + size > len {
            is_short = true;
            return Feed::Full;
        }
        let header = DirentHeader {
            ino: entry.ino,
            off: entry.next as i64,
            reclen: size as u16,
            kind: entry.file_type.dirent_type(),
        };
        let end = records.len() + size;
        records.extend_from_slice(header.as_bytes());
        records.extend_from_slice(entry.name);
        records.resize(end, 0);
        Feed::More
    })?;
    if records.is_empty() && is_short {
        return Err(Errno::EINVAL);
    }
    let copied = UserSlice::new(address, records.len()).and_then(|slice| slice.write(&records));
    copied.inspect_err(|_| file.set_position(before))?;
    Ok(records.len())
}

/// Reads the vector of readv and writev and uses it.
fn with_vector(
    vector: UserAddr,
    count: usize,
    use_it: impl FnOnce(&mut UserBuffer<'_>) -> Result<usize>,
) -> Result<usize> {
    /// As many fit on the stack: what stdio and most programs use.
    const FEW: usize = 8;
    if count > IOV_MAX {
        return Err(Errno::EINVAL);
    }
    if count <= FEW {
        let mut ranges = [UserSlice::default(); FEW];
        read_vector(vector, &mut ranges[..count])?;
        return use_it(&mut UserBuffer::new(&ranges[..count]));
    }
    let mut ranges = alloc::vec![UserSlice::default(); count];
    read_vector(vector, &mut ranges)?;
    use_it(&mut UserBuffer::new(&ranges))
}

fn read_vector(vector: UserAddr, ranges: &mut [UserSlice]) -> Result<()> {
    let mut room = COUNT_MAX;
    for (index, range) in ranges.iter_mut().enumerate() {
        let at = vector.add((index * size_of::<IoVec>()) as u64);
        let entry: IoVec = read_value(at)?;
        let len = usize::try_from(entry.len).map_err(|_| Errno::EINVAL)?;
        if len > isize::MAX as usize {
            return Err(Errno::EINVAL);
        }
        *range = UserSlice::new(UserAddr(entry.base), len.min(room))?;
        room -= range.len;
    }
    Ok(())
}

/// EPIPE comes with a signal.
pub(super) fn signal_broken_pipe(task: &Task, outcome: Result<usize>) -> Result<usize> {
    if outcome == Err(Errno::EPIPE) {
        task.post_signal(Signal::SIGPIPE);
    }
    outcome
}

/// Reads a whole file from the kernel's side, at most `len_max` bytes: for scripts and tables.
///
/// # Errors
/// What the file says; EFBIG if it is longer.
pub fn read_all(file: &File, len_max: usize) -> Result<Vec<u8>> {
    let size = usize::try_from(file.inode().size()).unwrap_or(usize::MAX);
    if size > len_max {
        return Err(Errno::EFBIG);
    }
    let mut bytes = alloc::vec![0; size];
    let count = file.inode().read_kernel(0, &mut bytes)?;
    bytes.truncate(count);
    Ok(bytes)
}
