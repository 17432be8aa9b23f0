//! Pipes: a queue of pages of at most 64 KiB, and its two ends.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use linux_raw_sys::general as linux;
use linux_raw_sys::ioctl::FIONREAD;

use super::abi::Statfs;
use super::fd::OnExec;
use super::file::{File, Io, Object, OpenFlags, Opening, Readiness, Wait};
use super::inode::{FileType, Inode, InodeRef, Metadata, Timestamp};
use crate::error::{Errno, Result};
use crate::mm::addr::{PAGE, UserAddr};
use crate::mm::frame::FrameRef;
use crate::mm::user::{UserBuffer, write_value};
use crate::sync::SpinLock;
use crate::task::Task;
use crate::task::wait::wait_until;

/// Pages in a full pipe.
const PAGE_COUNT_MAX: usize = 16;
/// Writes up to this size are not split: PIPE_BUF.
const ATOMIC_MAX: usize = PAGE;
/// Writes up to this size are put into the last page by way of the stack.
const SMALL: usize = 128;
/// `PIPEFS_MAGIC`.
const PIPE_MAGIC: i64 = 0x5049_5045;
/// Device number of unnamed pipes.
const PIPE_DEV: u64 = 0xc;

/// Bytes on their way.
pub struct Pipe {
    state: SpinLock<State>,
}

struct State {
    chunks: VecDeque<Chunk>,
    reader_count: usize,
    writer_count: usize,
    /// Ends ever opened, to see that one came while waiting.
    readers_opened: u64,
    writers_opened: u64,
}

/// A part of a page.
struct Chunk {
    frame: FrameRef,
    start: usize,
    end: usize,
}

impl State {
    /// Whether `len` bytes (at most a page) fit.
    fn has_room(&self, len: usize) -> bool {
        self.chunks.len() < PAGE_COUNT_MAX || self.tail_room() >= len
    }

    fn tail_room(&self) -> usize {
        self.chunks.back().map_or(0, |chunk| PAGE - chunk.end)
    }

    fn append(&mut self, bytes: &[u8]) -> bool {
        match self.chunks.back_mut() {
            Some(chunk) if PAGE - chunk.end >= bytes.len() => {
                chunk.frame.write(chunk.end, bytes);
                chunk.end += bytes.len();
                true
            }
            _ => false,
        }
    }
}

impl Pipe {
    /// An empty pipe without ends.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let state = State {
            chunks: VecDeque::new(),
            reader_count: 0,
            writer_count: 0,
            readers_opened: 0,
            writers_opened: 0,
        };
        Arc::new(Self { state: SpinLock::new(state) })
    }

    fn read(&self, wait: Wait, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        if buffer.remaining() == 0 {
            return Ok(0);
        }
        let mut done = 0;
        loop {
            let (chunk, has_writer) = {
                let mut state = self.state.lock();
                (state.chunks.pop_front(), state.writer_count > 0)
            };
            let Some(mut chunk) = chunk else {
                if done > 0 || !has_writer {
                    return Ok(done);
                }
                if wait == Wait::Never {
                    return Err(Errno::EAGAIN);
                }
                wait_until(|| {
                    let state = self.state.lock();
                    !state.chunks.is_empty() || state.writer_count == 0
                })?;
                continue;
            };
            let len = (chunk.end - chunk.start).min(buffer.remaining());
            let outcome = buffer.fill_from_frame(&chunk.frame, chunk.start, len);
            chunk.start += outcome.unwrap_or(0);
            if chunk.start < chunk.end {
                self.state.lock().chunks.push_front(chunk);
            }
            match outcome {
                Ok(count) => done += count,
                Err(_) if done > 0 => return Ok(done),
                Err(errno) => return Err(errno),
            }
            if buffer.remaining() == 0 || outcome.is_ok_and(|count| count < len) {
                return Ok(done);
            }
        }
    }

    fn write(&self, wait: Wait, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        let mut done = 0;
        let atomic = if buffer.remaining() <= ATOMIC_MAX { buffer.remaining() } else { 1 };
        while buffer.remaining() > 0 {
            let step = match self.room(wait, atomic) {
                Ok(()) => self.write_chunk(buffer),
                Err(errno) => Err(errno),
            };
            match step {
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    /// Waits until `len` bytes fit.
    fn room(&self, wait: Wait, len: usize) -> Result<()> {
        loop {
            {
                let state = self.state.lock();
                if state.reader_count == 0 {
                    return Err(Errno::EPIPE);
                }
                if state.has_room(len) {
                    return Ok(());
                }
            }
            if wait == Wait::Never {
                return Err(Errno::EAGAIN);
            }
            wait_until(|| {
                let state = self.state.lock();
                state.has_room(len) || state.reader_count == 0
            })?;
        }
    }

    /// Moves a page at most into the pipe, which has room. (If another writer was faster, the pipe
    /// gets one page longer than it should.)
    fn write_chunk(&self, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        if buffer.remaining() <= SMALL {
            let mut bytes = [0; SMALL];
            let count = buffer.drain(&mut bytes)?;
            if !self.state.lock().append(&bytes[..count]) {
                let frame = FrameRef::uninitialised()?;
                frame.write(0, &bytes[..count]);
                self.state.lock().chunks.push_back(Chunk { frame, start: 0, end: count });
            }
            return Ok(count);
        }
        let tail_room = self.state.lock().tail_room();
        let is_full = self.state.lock().chunks.len() >= PAGE_COUNT_MAX;
        let len = buffer.remaining().min(if is_full { tail_room.max(1) } else { PAGE });
        let frame = FrameRef::uninitialised()?;
        let count = buffer.drain_to_frame(&frame, 0, len)?;
        let mut state = self.state.lock();
        match state.chunks.back_mut() {
            Some(tail) if PAGE - tail.end >= count => {
                let mut bytes = [0; SMALL];
                let mut at = 0;
                while at < count {
                    let step = SMALL.min(count - at);
                    frame.read(at, &mut bytes[..step]);
                    tail.frame.write(tail.end, &bytes[..step]);
                    tail.end += step;
                    at += step;
                }
            }
            _ => state.chunks.push_back(Chunk { frame, start: 0, end: count }),
        }
        Ok(count)
    }

    fn byte_count(&self) -> usize {
        self.state.lock().chunks.iter().map(|chunk| chunk.end - chunk.start).sum()
    }
}

/// One open end (or both, for a named pipe opened for reading and writing).
struct End {
    pipe: Arc<Pipe>,
    readable: bool,
    writable: bool,
}

impl End {
    fn new(pipe: &Arc<Pipe>, readable: bool, writable: bool) -> Arc<Self> {
        let mut state = pipe.state.lock();
        state.reader_count += usize::from(readable);
        state.writer_count += usize::from(writable);
        state.readers_opened += u64::from(readable);
        state.writers_opened += u64::from(writable);
        drop(state);
        Arc::new(Self { pipe: pipe.clone(), readable, writable })
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.pipe.state.lock();
        state.reader_count -= usize::from(self.readable);
        state.writer_count -= usize::from(self.writable);
        let is_unused = state.reader_count == 0 && state.writer_count == 0;
        let rest = if is_unused { core::mem::take(&mut state.chunks) } else { VecDeque::new() };
        drop(state);
        drop(rest);
    }
}

impl Object for End {
    fn read(&self, io: &Io, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        self.pipe.read(io.wait, buffer)
    }

    fn write(&self, io: &Io, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        self.pipe.write(io.wait, buffer)
    }

    fn poll(&self) -> Readiness {
        let state = self.pipe.state.lock();
        let mut ready = Readiness::empty();
        if self.readable {
            ready.set(Readiness::IN, !state.chunks.is_empty());
            ready.set(Readiness::HUP, state.writer_count == 0);
        }
        if self.writable {
            ready.set(Readiness::OUT, state.chunks.len() < PAGE_COUNT_MAX);
            ready.set(Readiness::ERR, state.reader_count == 0);
        }
        ready
    }

    fn ioctl(&self, _: &Task, command: u32, argument: UserAddr) -> Result<usize> {
        match command {
            FIONREAD => {
                let count = self.pipe.byte_count() as i32;
                write_value(argument, &count).map(|()| 0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn pipe_capacity(&self) -> Option<usize> {
        Some(PAGE_COUNT_MAX * PAGE)
    }
}

/// Opens a named pipe: waits for the other end, as fifo(7) says.
///
/// # Errors
/// ENXIO for a writer that may not wait and has no reader; EINTR.
pub fn open_named(pipe: &Arc<Pipe>, opening: &Opening) -> Result<Arc<dyn Object>> {
    let nonblocking = opening.flags.contains(OpenFlags::NONBLOCK);
    let (readers, writers, has_reader, has_writer) = {
        let state = pipe.state.lock();
        let counts = (state.readers_opened, state.writers_opened);
        (counts.0, counts.1, state.reader_count > 0, state.writer_count > 0)
    };
    let (readable, writable) = (opening.readable, opening.writable);
    if writable && !readable && nonblocking && !has_reader {
        return Err(Errno::ENXIO);
    }
    let end = End::new(pipe, readable, writable);
    if !nonblocking && readable != writable {
        if readable && !has_writer {
            wait_until(|| pipe.state.lock().writers_opened > writers)?;
        }
        if writable && !has_reader {
            wait_until(|| pipe.state.lock().readers_opened > readers)?;
        }
    }
    Ok(end)
}

/// The inode of an unnamed pipe.
struct PipeInode {
    pipe: Arc<Pipe>,
    ino: u64,
    uid: u32,
    gid: u32,
    made: Timestamp,
}

impl Inode for PipeInode {
    fn file_type(&self) -> FileType {
        FileType::Fifo
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            dev: PIPE_DEV,
            ino: self.ino,
            mode: linux::S_IFIFO | 0o600,
            nlink: 1,
            uid: self.uid,
            gid: self.gid,
            atime: self.made,
            mtime: self.made,
            ctime: self.made,
            ..Metadata::default()
        }
    }

    fn statfs(&self) -> Statfs {
        let page = PAGE as i64;
        Statfs { kind: PIPE_MAGIC, bsize: page, frsize: page, namelen: 255, ..Statfs::default() }
    }

    fn open(&self, opening: &Opening) -> Result<Option<Arc<dyn Object>>> {
        open_named(&self.pipe, opening).map(Some)
    }
}

/// pipe2, and pipe with no flags.
///
/// # Errors
/// EINVAL, EMFILE, EFAULT.
pub fn pipe2(task: &Task, fds: UserAddr, flags: u32) -> Result<usize> {
    static NEXT_INO: AtomicU64 = AtomicU64::new(1);
    if flags & !(linux::O_CLOEXEC | linux::O_NONBLOCK | linux::O_DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    // Limits: O_DIRECT (packets) is accepted and does nothing.
    let opening = Opening::from_bits(flags & linux::O_NONBLOCK);
    let on_exec = if flags & linux::O_CLOEXEC != 0 { OnExec::Close } else { OnExec::Keep };
    let credentials = *task.credentials.lock();
    let pipe = Pipe::new();
    let inode: InodeRef = Arc::new(PipeInode {
        pipe: pipe.clone(),
        ino: NEXT_INO.fetch_add(1, Ordering::Relaxed),
        uid: credentials.euid,
        gid: credentials.egid,
        made: Timestamp::now(),
    });
    let end = |readable| {
        let opening = Opening { readable, writable: !readable, ..opening };
        File::with_object(inode.clone(), End::new(&pipe, readable, !readable), opening)
    };
    let reader = task.files.insert(end(true), on_exec, 0)?;
    let undo = |fd: usize, errno| {
        drop(task.files.remove(fd as i32));
        errno
    };
    let writer = task.files.insert(end(false), on_exec, 0).map_err(|e| undo(reader, e))?;
    let pair = [reader as i32, writer as i32];
    write_value(fds, &pair).map_err(|e| undo(reader, undo(writer, e)))?;
    Ok(0)
}
