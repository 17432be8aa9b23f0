//! The stdio doorbell: moves whole buffers between guest memory and the host's three streams.
//!
//! One write to the port is one request (`shared-abi/src/stdio.rs`). Nothing of a request is believed
//! before it is checked, and a request that makes no sense is answered by an errno.

use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use shared_abi::stdio::{
    OP_READ, OP_WINSIZE, OP_WRITE, SEGMENT_COUNT_MAX, STDERR, STDIN, STDOUT, Segment,
};
use vmm_sys_util::eventfd::EventFd;

use super::Device;
use crate::memory::{Access, Memory};
use crate::poll::{self, Readiness};
use crate::terminal;

/// Bytes of terminal input that wait for the guest; the terminal itself holds the rest back.
pub const TERMINAL_QUEUE_LEN_MAX: usize = 4096;

/// Standard input as the doorbell and the event loop share it.
pub struct Input {
    /// The host's descriptor.
    pub fd: RawFd,
    /// Written when the guest has to be told of the next input.
    pub arm: EventFd,
    /// What the terminal gave and the guest has not read, if input is a terminal: it is read
    /// by the event loop, which must see the escape keys whatever the guest does.
    pub terminal: Option<Mutex<VecDeque<u8>>>,
    /// The terminal is gone.
    pub ended: AtomicBool,
}

impl Input {
    /// Standard input on `fd`.
    ///
    /// # Errors
    /// When no eventfd can be had.
    pub fn new(fd: RawFd, is_terminal: bool) -> io::Result<Self> {
        Ok(Self {
            fd,
            arm: EventFd::new(libc::EFD_NONBLOCK | libc::EFD_CLOEXEC)?,
            terminal: is_terminal.then(|| Mutex::new(VecDeque::new())),
            ended: AtomicBool::new(false),
        })
    }

    fn arm(&self) {
        // The counter cannot overflow: the event loop resets it, and one is enough.
        let _ = self.arm.write(1);
    }
}

/// Bytes that went through each stream.
#[derive(Debug, Default)]
pub struct ByteCounts([AtomicU64; 3]);

impl ByteCounts {
    /// Bytes of stdin, stdout, stderr.
    #[must_use]
    pub fn get(&self) -> [u64; 3] {
        [STDIN, STDOUT, STDERR].map(|stream| self.0[stream as usize].load(Ordering::Relaxed))
    }

    fn add(&self, stream: u32, bytes: usize) {
        if let Some(count) = self.0.get(stream as usize) {
            count.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

/// The doorbell.
pub struct Stdio {
    memory: Arc<Memory>,
    input: Arc<Input>,
    counts: Arc<ByteCounts>,
    /// The host's stdout and stderr.
    outputs: [RawFd; 2],
}

/// The fixed part of a request, as read from guest memory.
struct Header {
    op: u32,
    stream: u32,
    segment_count: usize,
}

const HEADER_LEN: usize = 24;
const RESULT_OFFSET: u64 = 8;
const WINSIZE_OFFSET: u64 = 16;
const SEGMENT_LEN: usize = size_of::<Segment>();

impl Stdio {
    /// The doorbell over guest memory.
    #[must_use]
    pub fn new(memory: Arc<Memory>, input: Arc<Input>, counts: Arc<ByteCounts>) -> Self {
        let outputs = [STDOUT, STDERR].map(|stream| stream as RawFd);
        Self { memory, input, counts, outputs }
    }

    fn ring(&self, gpa: u64) {
        let mut bytes = [0; HEADER_LEN];
        if self.memory.read(gpa, &mut bytes).is_err() {
            return; // not RAM: there is no place for an answer either
        }
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let header = Header { op: word(0), stream: word(4), segment_count: word(20) as usize };
        let result = match self.serve(gpa, &header) {
            Ok(count) => count as i64,
            Err(error) => -i64::from(error.raw_os_error().unwrap_or(libc::EIO)),
        };
        // The header was readable, so it is RAM.
        let _ = self.memory.write(gpa + RESULT_OFFSET, &result.to_le_bytes());
    }

    fn serve(&self, gpa: u64, header: &Header) -> io::Result<usize> {
        match header.op {
            OP_READ if header.stream == STDIN => self.read_input(&self.segments(gpa, header)?),
            OP_WRITE if header.stream == STDOUT || header.stream == STDERR => {
                let count = self.write_output(header.stream, &self.segments(gpa, header)?)?;
                self.counts.add(header.stream, count);
                Ok(count)
            }
            OP_WINSIZE => self.window_size(gpa, header.stream),
            _ => Err(errno(libc::EINVAL)),
        }
    }

    fn segments(&self, gpa: u64, header: &Header) -> io::Result<Vec<Segment>> {
        if header.segment_count > SEGMENT_COUNT_MAX {
            return Err(errno(libc::EINVAL));
        }
        let mut bytes = vec![0; header.segment_count * SEGMENT_LEN];
        self.memory.read(gpa + HEADER_LEN as u64, &mut bytes).map_err(|_| errno(libc::EFAULT))?;
        let word = |chunk: &[u8]| chunk.iter().rev().fold(0u64, |sum, &b| sum << 8 | u64::from(b));
        Ok(bytes
            .chunks_exact(SEGMENT_LEN)
            .map(|c| Segment { gpa: word(&c[..8]), len: word(&c[8..]) })
            .collect())
    }

    fn read_input(&self, segments: &[Segment]) -> io::Result<usize> {
        let vector =
            self.memory.io_vector(segments, Access::Write).map_err(|_| errno(libc::EFAULT))?;
        let count = match &self.input.terminal {
            Some(queue) => {
                let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                let count = vector.fill(queue.make_contiguous());
                queue.drain(..count);
                if count == 0 && !self.input.ended.load(Ordering::Acquire) {
                    self.input.arm();
                    return Err(errno(libc::EAGAIN));
                }
                self.input.arm(); // there is room again
                count
            }
            None => match poll::readable_now(self.input.fd)? {
                Readiness::Ready => vector.read_from(self.input.fd)?,
                Readiness::NotReady => {
                    self.input.arm();
                    return Err(errno(libc::EAGAIN));
                }
            },
        };
        self.counts.add(STDIN, count);
        Ok(count)
    }

    fn write_output(&self, stream: u32, segments: &[Segment]) -> io::Result<usize> {
        let vector =
            self.memory.io_vector(segments, Access::Read).map_err(|_| errno(libc::EFAULT))?;
        let fd = self.outputs[usize::from(stream == STDERR)];
        loop {
            match vector.write_to(fd) {
                // The descriptor is non-blocking because somebody else who shares it made it so.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => poll::wait_writable(fd)?,
                result => return result,
            }
        }
    }

    fn window_size(&self, gpa: u64, stream: u32) -> io::Result<usize> {
        let size = (stream <= STDERR)
            .then(|| terminal::window_size(stream as RawFd))
            .flatten()
            .ok_or_else(|| errno(libc::ENOTTY))?;
        let mut bytes = [0; 4];
        bytes[..2].copy_from_slice(&size.rows.to_le_bytes());
        bytes[2..].copy_from_slice(&size.columns.to_le_bytes());
        self.memory.write(gpa + WINSIZE_OFFSET, &bytes).map_err(|_| errno(libc::EFAULT))?;
        Ok(0)
    }
}

impl Device for Stdio {
    fn read(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0xff); // write-only
    }

    fn write(&mut self, _offset: u64, data: &[u8]) {
        if let Ok(address) = <[u8; 4]>::try_from(data) {
            self.ring(u64::from(u32::from_le_bytes(address)));
        }
    }
}

fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

#[cfg(test)]
mod tests;
