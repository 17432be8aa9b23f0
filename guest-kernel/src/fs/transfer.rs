//! System calls that move bytes from file to file: sendfile, copy_file_range.
//!
//! What lies in the root image goes to a stream without a copy; all else goes by way of a buffer.

use linux_raw_sys::general as linux;

use super::file::File;
use super::inode::{FileType, same};
use super::io::signal_broken_pipe;
use crate::error::{Errno, Result};
use crate::mm::addr::{PAGE, Phys, UserAddr};
use crate::mm::user::{UserBuffer, read_value, write_value};
use crate::task::Task;

/// The buffer's size.
const STEP: usize = 64 << 10;
/// The most bytes that one call moves.
const COUNT_MAX: usize = 0x7fff_f000;

/// sendfile.
///
/// # Errors
/// man 2 sendfile.
pub fn sendfile(task: &Task, out: i32, from: i32, offset: UserAddr, len: usize) -> Result<usize> {
    let from = task.files.get(from)?;
    let out = task.files.get(out)?;
    if !from.is_readable() || !out.is_writable() {
        return Err(Errno::EBADF);
    }
    if from.object().is_some() || from.inode().file_type() != FileType::Regular {
        return Err(Errno::EINVAL);
    }
    if out.flags() & linux::O_APPEND != 0 {
        return Err(Errno::EINVAL);
    }
    let mut position = match offset.is_null() {
        true => from.position(),
        false => u64::try_from(read_value::<i64>(offset)?).map_err(|_| Errno::EINVAL)?,
    };
    let outcome = signal_broken_pipe(task, copy(&from, &mut position, &out, None, len));
    match offset.is_null() {
        true => from.set_position(position),
        false => write_value(offset, &(position as i64))?,
    }
    outcome
}

/// copy_file_range.
///
/// # Errors
/// man 2 copy_file_range.
pub fn copy_file_range(
    task: &Task,
    from: i32,
    from_offset: UserAddr,
    to: i32,
    to_offset: UserAddr,
    len: usize,
    flags: u32,
) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let (from, to) = (task.files.get(from)?, task.files.get(to)?);
    if !from.is_readable() || !to.is_writable() || to.flags() & linux::O_APPEND != 0 {
        return Err(Errno::EBADF);
    }
    for file in [&from, &to] {
        match file.inode().file_type() {
            FileType::Regular if file.object().is_none() => {}
            FileType::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
    }
    let read = |offset: UserAddr, file: &File| match offset.is_null() {
        true => Ok(file.position()),
        false => u64::try_from(read_value::<i64>(offset)?).map_err(|_| Errno::EINVAL),
    };
    let (mut from_at, mut to_at) = (read(from_offset, &from)?, read(to_offset, &to)?);
    let len = len.min(COUNT_MAX);
    if same(from.inode(), to.inode()) {
        let (end, other_end) =
            (from_at.saturating_add(len as u64), to_at.saturating_add(len as u64));
        if from_at < other_end && to_at < end {
            return Err(Errno::EINVAL);
        }
    }
    let outcome = copy(&from, &mut from_at, &to, Some(&mut to_at), len);
    for (offset, file, at) in [(from_offset, &from, from_at), (to_offset, &to, to_at)] {
        match offset.is_null() {
            true => file.set_position(at),
            false => write_value(offset, &(at as i64))?,
        }
    }
    outcome
}

/// Copies up to `len` bytes from a regular file to the position of `to`, or to `to_at`. Both
/// positions are moved as far as bytes were.
fn copy(
    from: &File,
    from_at: &mut u64,
    to: &File,
    mut to_at: Option<&mut u64>,
    len: usize,
) -> Result<usize> {
    let len = len.min(COUNT_MAX);
    let mut buffer = alloc::vec::Vec::new();
    let mut done = 0;
    while done < len {
        let step = match send_image(from, *from_at, to, len - done) {
            Some(outcome) => outcome.map(|count| (count, count == 0)),
            None => {
                buffer.resize(STEP.min(len - done).max(buffer.len()), 0);
                let want = buffer.len().min(len - done);
                copy_step(from, *from_at, to, to_at.as_deref_mut(), &mut buffer[..want])
            }
        };
        match step {
            Ok((count, is_end)) => {
                done += count;
                *from_at += count as u64;
                if is_end {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

/// One buffer full: how many bytes arrived, and whether that was the end.
fn copy_step(
    from: &File,
    from_at: u64,
    to: &File,
    to_at: Option<&mut u64>,
    buffer: &mut [u8],
) -> Result<(usize, bool)> {
    let count = from.inode().read_kernel(from_at, buffer)?;
    if count == 0 {
        return Ok((0, true));
    }
    let is_short = count < buffer.len();
    let written = UserBuffer::with_kernel_memory(&mut buffer[..count], |source| match to_at {
        Some(at) => {
            let written = to.write_at(*at as i64, source)?;
            *at += written as u64;
            Ok(written)
        }
        None => to.write(source),
    })?;
    Ok((written, is_short || written < count))
}

/// Sends a piece of the root image as it lies, if `from` is there and `to` can do that.
fn send_image(from: &File, at: u64, to: &File, len: usize) -> Option<Result<usize>> {
    to.object()?;
    let (page, inside) = (at / PAGE as u64, at % PAGE as u64);
    let (start, page_count) = from.inode().image_run(page)?;
    let rest = from.inode().size().checked_sub(at).filter(|&rest| rest > 0)?;
    let run = (page_count * PAGE as u64 - inside).min(rest).min(len as u64);
    to.write_physical(Phys(start.0 + inside), run)
}
