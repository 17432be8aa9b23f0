//! The standard streams that are not terminals: bytes over the stdio doorbell.

use alloc::sync::Arc;

use linux_raw_sys::general as linux;
use linux_raw_sys::ioctl::FIONREAD;
use shared_abi::stdio::{OP_READ, OP_WRITE};

use super::abi::Statfs;
use super::file::{File, Io, Object, Opening, Readiness, Wait};
use super::inode::{FileType, Inode, Metadata, Timestamp};
use crate::driver::stdio;
use crate::error::{Errno, Result};
use crate::mm::addr::{PAGE, Phys, UserAddr};
use crate::mm::user::{UserBuffer, write_value};
use crate::sync::SpinLock;
use crate::task::Task;
use crate::task::wait::wait_until;

/// Device number of the streams' inodes, that of pipes on Linux.
const STREAM_DEV: u64 = 0xc;

/// One stream: its own inode, and its own object.
struct Stream {
    /// 0, 1 or 2.
    number: u32,
    opened: Timestamp,
    /// User and group.
    owner: (u32, u32),
    /// A byte that poll had to read to know that there is one, or the end of the input.
    peeked: SpinLock<Peeked>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Peeked {
    Nothing,
    Byte(u8),
    End,
}

/// Opens stream `number`.
#[must_use]
pub fn open(number: u32, opening: Opening, owner: (u32, u32)) -> Arc<File> {
    let stream = Arc::new(Stream {
        number,
        opened: Timestamp::now(),
        owner,
        peeked: SpinLock::new(Peeked::Nothing),
    });
    File::with_object(stream.clone(), stream, opening)
}

impl Stream {
    /// Reads what is there.
    fn try_read(&self, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        let peeked = core::mem::replace(&mut *self.peeked.lock(), Peeked::Nothing);
        let first = match peeked {
            Peeked::Nothing => 0,
            Peeked::End => return Ok(0),
            Peeked::Byte(byte) => buffer.fill(&[byte]).inspect_err(|_| {
                *self.peeked.lock() = peeked;
            })?,
        };
        if buffer.remaining() == 0 {
            return Ok(first);
        }
        stdio::clear_input_ready();
        match stdio::transfer(OP_READ, self.number, buffer) {
            Ok(count) => Ok(first + count),
            Err(_) if first > 0 => Ok(first),
            Err(errno) => Err(errno),
        }
    }

    /// Whether a read would not wait.
    fn is_readable(&self) -> bool {
        let mut peeked = self.peeked.lock();
        if *peeked == Peeked::Nothing {
            let mut byte = [0];
            stdio::clear_input_ready();
            match stdio::read_kernel(self.number, &mut byte) {
                Ok(0) => *peeked = Peeked::End,
                Ok(_) => *peeked = Peeked::Byte(byte[0]),
                Err(Errno::EAGAIN) => return false,
                Err(_) => {} // the read will tell
            }
        }
        true
    }
}

impl Object for Stream {
    fn read(&self, io: &Io, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        if buffer.remaining() == 0 {
            return Ok(0);
        }
        loop {
            match self.try_read(buffer) {
                Err(Errno::EAGAIN) if io.wait == Wait::Allowed => {
                    wait_until(stdio::is_input_ready)?;
                }
                outcome => return outcome,
            }
        }
    }

    fn write(&self, _: &Io, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        if buffer.remaining() == 0 {
            return Ok(0);
        }
        stdio::transfer(OP_WRITE, self.number, buffer)
    }

    fn write_physical(&self, start: Phys, len: u64) -> Option<Result<usize>> {
        Some(stdio::write_physical(self.number, start, len))
    }

    fn poll(&self) -> Readiness {
        match self.number {
            0 if !self.is_readable() => Readiness::empty(),
            0 if *self.peeked.lock() == Peeked::End => Readiness::IN | Readiness::HUP,
            0 => Readiness::IN,
            _ => Readiness::OUT,
        }
    }

    fn ioctl(&self, _: &Task, command: u32, argument: UserAddr) -> Result<usize> {
        match command {
            // Limits: how much there is beyond one byte, only the host knows.
            FIONREAD => {
                let is_there = self.is_readable() && matches!(*self.peeked.lock(), Peeked::Byte(_));
                write_value(argument, &i32::from(is_there)).map(|()| 0)
            }
            _ => Err(Errno::ENOTTY),
        }
    }
}

impl Inode for Stream {
    fn file_type(&self) -> FileType {
        FileType::Fifo
    }

    fn metadata(&self) -> Metadata {
        Metadata {
            dev: STREAM_DEV,
            ino: u64::from(self.number) + 1,
            mode: linux::S_IFIFO | 0o600,
            nlink: 1,
            uid: self.owner.0,
            gid: self.owner.1,
            atime: self.opened,
            mtime: self.opened,
            ctime: self.opened,
            ..Metadata::default()
        }
    }

    fn statfs(&self) -> Statfs {
        let page = PAGE as i64;
        Statfs { kind: 0x5049_5045, bsize: page, frsize: page, namelen: 255, ..Statfs::default() }
    }

    fn open(&self, _: &Opening) -> Result<Option<Arc<dyn Object>>> {
        // By way of /dev/stdin or /proc/self/fd: the same stream once more.
        Ok(Some(Arc::new(Self {
            number: self.number,
            opened: self.opened,
            owner: self.owner,
            peeked: SpinLock::new(*self.peeked.lock()),
        })))
    }
}
