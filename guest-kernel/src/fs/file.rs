//! Open files: what a file descriptor refers to ("open file description" in POSIX).
//!
//! A [`File`] reads and writes its inode by offset, or it has an [`Object`] that does both: a device,
//! a pipe, a standard stream, the text of a /proc file.
//!
//! Limits: the position is not locked over a read; two threads that read one descriptor at the same
//! time may get the same bytes, as Linux did before 3.14.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bitflags::bitflags;
use linux_raw_sys::general as linux;

use super::context::FsContext;
use super::inode::{DirectoryEntry, Feed, FileType, InodeRef, Seek};
use super::path::{self, Place};
use crate::error::{Errno, Result};
use crate::mm::addr::{Phys, UserAddr};
use crate::mm::user::UserBuffer;
use crate::task::Task;

bitflags! {
    /// `O_*`, without the access mode.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// Create it if it is not there.
        const CREAT = linux::O_CREAT;
        /// It must not be there.
        const EXCL = linux::O_EXCL;
        /// Not our controlling terminal.
        const NOCTTY = linux::O_NOCTTY;
        /// Empty it.
        const TRUNC = linux::O_TRUNC;
        /// Every write goes to the end.
        const APPEND = linux::O_APPEND;
        /// EAGAIN instead of waiting.
        const NONBLOCK = linux::O_NONBLOCK;
        /// Accepted, no meaning here.
        const DSYNC = linux::O_DSYNC;
        /// Accepted, no meaning here.
        const ASYNC = linux::FASYNC;
        /// Accepted, no meaning here.
        const DIRECT = linux::O_DIRECT;
        /// Accepted, no meaning here.
        const LARGEFILE = linux::O_LARGEFILE;
        /// It must be a directory.
        const DIRECTORY = linux::O_DIRECTORY;
        /// It must not be a symbolic link.
        const NOFOLLOW = linux::O_NOFOLLOW;
        /// Accepted, no meaning here.
        const NOATIME = linux::O_NOATIME;
        /// Closed by exec.
        const CLOEXEC = linux::O_CLOEXEC;
        /// Accepted, no meaning here.
        const SYNC = linux::O_SYNC;
        /// A place in the tree, not its contents.
        const PATH = linux::O_PATH;
        /// A file without a name; comes with `DIRECTORY`.
        const TMPFILE = linux::O_TMPFILE & !linux::O_DIRECTORY;
    }
}

bitflags! {
    /// What can be done without waiting: `POLL*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Readiness: u16 {
        /// A read.
        const IN = linux::POLLIN as u16 | linux::POLLRDNORM as u16;
        /// A write.
        const OUT = linux::POLLOUT as u16 | linux::POLLWRNORM as u16;
        /// An error is pending: the reading end is closed.
        const ERR = linux::POLLERR as u16;
        /// The other end is closed.
        const HUP = linux::POLLHUP as u16;
    }
}

/// What F_SETFL can change.
const STATUS_CHANGEABLE: OpenFlags = OpenFlags::APPEND
    .union(OpenFlags::NONBLOCK)
    .union(OpenFlags::ASYNC)
    .union(OpenFlags::DIRECT)
    .union(OpenFlags::NOATIME);
/// What is forgotten after open.
const OPEN_ONLY: OpenFlags = OpenFlags::CREAT
    .union(OpenFlags::EXCL)
    .union(OpenFlags::NOCTTY)
    .union(OpenFlags::TRUNC)
    .union(OpenFlags::CLOEXEC);

/// How something is opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// For reading.
    pub readable: bool,
    /// For writing.
    pub writable: bool,
    /// The rest.
    pub flags: OpenFlags,
}

impl Opening {
    /// Decodes open's flags.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        let flags = OpenFlags::from_bits_truncate(bits);
        let access = bits & linux::O_ACCMODE;
        if flags.contains(OpenFlags::PATH) {
            return Self { readable: false, writable: false, flags };
        }
        Self { readable: access != linux::O_WRONLY, writable: access != linux::O_RDONLY, flags }
    }

    fn access_bits(&self) -> u32 {
        match (self.readable, self.writable) {
            (true, true) => linux::O_RDWR,
            (false, true) => linux::O_WRONLY,
            _ => linux::O_RDONLY,
        }
    }
}

/// What a read or write needs to know besides the memory.
#[derive(Clone, Copy, Debug)]
pub struct Io {
    /// Where, for objects with positions.
    pub position: u64,
    /// Whether to wait.
    pub wait: Wait,
}

/// Whether an operation may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until it can be done.
    Allowed,
    /// EAGAIN instead.
    Never,
}

/// What positions mean to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positioning {
    /// Nothing: lseek and pread are ESPIPE.
    Stream,
    /// They are accepted and have no effect: /dev/null.
    Ignored,
    /// What they mean to a file.
    Bytes,
}

/// The behaviour of an open file that is not simply its inode's bytes.
#[expect(unused_variables, reason = "the defaults are for objects without the operation")]
pub trait Object: Send + Sync {
    /// What positions mean.
    fn positioning(&self) -> Positioning {
        Positioning::Stream
    }

    /// Reads.
    ///
    /// # Errors
    /// EAGAIN, EINTR, EFAULT, EIO.
    fn read(&self, io: &Io, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Writes.
    ///
    /// # Errors
    /// EAGAIN, EINTR, EFAULT, EPIPE (the caller sends SIGPIPE), ENOSPC, EIO.
    fn write(&self, io: &Io, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        Err(Errno::EINVAL)
    }

    /// Writes memory that the kernel has in one piece, if the object can do that without a copy.
    fn write_physical(&self, start: Phys, len: u64) -> Option<Result<usize>> {
        None
    }

    /// What can be done without waiting.
    fn poll(&self) -> Readiness {
        Readiness::IN | Readiness::OUT
    }

    /// Device control.
    ///
    /// # Errors
    /// ENOTTY for a command that is not the object's.
    fn ioctl(&self, task: &Task, command: u32, argument: UserAddr) -> Result<usize> {
        Err(Errno::ENOTTY)
    }

    /// Bytes that lseek's SEEK_END counts from.
    fn size(&self) -> u64 {
        0
    }

    /// The capacity of a pipe, for fcntl.
    fn pipe_capacity(&self) -> Option<usize> {
        None
    }
}

/// An open file.
pub struct File {
    inode: InodeRef,
    object: Option<Arc<dyn Object>>,
    /// Where it was found.
    place: Option<Place>,
    opening: Opening,
    positioning: Positioning,
    /// [`OpenFlags`] as F_SETFL left them.
    status: AtomicU32,
    position: AtomicU64,
}

impl File {
    /// Opens an inode: permissions were checked.
    ///
    /// # Errors
    /// What [`Inode::open`](super::inode::Inode::open) says.
    pub fn open(inode: InodeRef, place: Option<Place>, opening: Opening) -> Result<Arc<Self>> {
        let object = match opening.flags.contains(OpenFlags::PATH) {
            true => None,
            false => inode.open(&opening)?,
        };
        Ok(Self::build(inode, object, place, opening))
    }

    /// An open file around an object (a pipe's end).
    #[must_use]
    pub fn with_object(inode: InodeRef, object: Arc<dyn Object>, opening: Opening) -> Arc<Self> {
        Self::build(inode, Some(object), None, opening)
    }

    fn build(
        inode: InodeRef,
        object: Option<Arc<dyn Object>>,
        place: Option<Place>,
        opening: Opening,
    ) -> Arc<Self> {
        let positioning = object.as_ref().map_or(Positioning::Bytes, |o| o.positioning());
        let status = AtomicU32::new(opening.flags.difference(OPEN_ONLY).bits());
        let position = AtomicU64::new(0);
        Arc::new(Self { inode, object, place, opening, positioning, status, position })
    }

    /// What is open.
    #[must_use]
    pub fn inode(&self) -> &InodeRef {
        &self.inode
    }

    /// The object, if it has one.
    #[must_use]
    pub fn object(&self) -> Option<&Arc<dyn Object>> {
        self.object.as_ref()
    }

    /// Where it was found.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Whether it is open for reading.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.opening.readable
    }

    /// Whether it is open for writing.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.opening.writable
    }

    /// Whether it is an O_PATH descriptor, which most calls refuse.
    #[must_use]
    pub fn is_path(&self) -> bool {
        self.opening.flags.contains(OpenFlags::PATH)
    }

    /// The absolute path, as /proc shows it.
    #[must_use]
    pub fn path(&self, context: &FsContext) -> Vec<u8> {
        path::describe(context, &self.inode, self.place.as_ref())
    }

    fn status(&self) -> OpenFlags {
        OpenFlags::from_bits_retain(self.status.load(Ordering::Relaxed))
    }

    /// F_GETFL.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.status().bits() | self.opening.access_bits()
    }

    /// F_SETFL.
    pub fn set_flags(&self, bits: u32) {
        let new = OpenFlags::from_bits_truncate(bits).intersection(STATUS_CHANGEABLE);
        let kept = self.status().difference(STATUS_CHANGEABLE);
        self.status.store(kept.union(new).bits(), Ordering::Relaxed);
    }

    /// FIONBIO.
    pub fn set_nonblocking(&self, wait: Wait) {
        let mut flags = self.status();
        flags.set(OpenFlags::NONBLOCK, wait == Wait::Never);
        self.status.store(flags.bits(), Ordering::Relaxed);
    }

    fn io(&self, position: u64) -> Io {
        let nonblocking = self.status().contains(OpenFlags::NONBLOCK);
        Io { position, wait: if nonblocking { Wait::Never } else { Wait::Allowed } }
    }

    /// Reads at the position and moves it.
    ///
    /// # Errors
    /// EBADF if not open for reading, or what the file says.
    #[inline]
    pub fn read(&self, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        let position = self.position.load(Ordering::Relaxed);
        let count = self.read_from(position, buffer)?;
        if self.positioning == Positioning::Bytes {
            self.position.store(position + count as u64, Ordering::Relaxed);
        }
        Ok(count)
    }

    #[inline]
    fn read_from(&self, position: u64, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        if !self.opening.readable {
            return Err(Errno::EBADF);
        }
        match &self.object {
            Some(object) => object.read(&self.io(position), buffer),
            None => self.inode.read_at(position, buffer),
        }
    }

    /// Writes at the position, or at the end, and moves it.
    ///
    /// # Errors
    /// EBADF if not open for writing, or what the file says.
    #[inline]
    pub fn write(&self, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        let mut position = self.position.load(Ordering::Relaxed);
        if self.object.is_none() && self.status().contains(OpenFlags::APPEND) {
            position = self.inode.size();
        }
        let count = self.write_to(position, buffer)?;
        if self.positioning == Positioning::Bytes {
            self.position.store(position + count as u64, Ordering::Relaxed);
        }
        Ok(count)
    }

    #[inline]
    fn write_to(&self, position: u64, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        if !self.opening.writable {
            return Err(Errno::EBADF);
        }
        match &self.object {
            Some(object) => object.write(&self.io(position), buffer),
            None if buffer.remaining() == 0 => Ok(0),
            None => self.inode.write_at(position, buffer),
        }
    }

    /// Writes kernel memory without a copy, if the file can; moves nothing.
    pub(super) fn write_physical(&self, start: Phys, len: u64) -> Option<Result<usize>> {
        self.object.as_ref()?.write_physical(start, len)
    }

    /// Reads at `offset`; the position stays.
    ///
    /// # Errors
    /// ESPIPE for streams, EINVAL for a negative offset, and as [`Self::read`].
    pub fn read_at(&self, offset: i64, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        self.read_from(self.check_offset(offset)?, buffer)
    }

    /// Writes at `offset`; the position stays. With O_APPEND it writes at the end, as Linux does.
    ///
    /// # Errors
    /// ESPIPE for streams, EINVAL for a negative offset, and as [`Self::write`].
    pub fn write_at(&self, offset: i64, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        let mut position = self.check_offset(offset)?;
        if self.object.is_none() && self.status().contains(OpenFlags::APPEND) {
            position = self.inode.size();
        }
        self.write_to(position, buffer)
    }

    fn check_offset(&self, offset: i64) -> Result<u64> {
        if self.is_path() {
            return Err(Errno::EBADF);
        }
        let offset = u64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        match self.positioning {
            Positioning::Stream => Err(Errno::ESPIPE),
            _ => Ok(offset),
        }
    }

    /// The position.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// Sets the position, for callers that did the checks.
    pub fn set_position(&self, position: u64) {
        self.position.store(position, Ordering::Relaxed);
    }

    /// lseek.
    ///
    /// # Errors
    /// ESPIPE for streams, EINVAL, ENXIO.
    pub fn seek(&self, offset: i64, whence: u32) -> Result<u64> {
        if self.is_path() {
            return Err(Errno::EBADF);
        }
        match self.positioning {
            Positioning::Stream => return Err(Errno::ESPIPE),
            Positioning::Ignored if whence <= linux::SEEK_HOLE => return Ok(0),
            _ => {}
        }
        let size = || self.object.as_ref().map_or_else(|| self.inode.size(), |o| o.size());
        let base = match whence {
            linux::SEEK_SET => 0,
            linux::SEEK_CUR => self.position(),
            linux::SEEK_END => size(),
            linux::SEEK_DATA | linux::SEEK_HOLE => {
                let what = if whence == linux::SEEK_DATA { Seek::Data } else { Seek::Hole };
                let from = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
                if self.object.is_some() || self.inode.file_type() != FileType::Regular {
                    return Err(Errno::EINVAL);
                }
                let found = self.inode.seek(from, what)?;
                self.set_position(found);
                return Ok(found);
            }
            _ => return Err(Errno::EINVAL),
        };
        let target = base.checked_add_signed(offset).filter(|&p| p <= i64::MAX as u64);
        let target = target.ok_or(Errno::EINVAL)?;
        self.set_position(target);
        Ok(target)
    }

    /// What can be done without waiting.
    #[must_use]
    pub fn poll(&self) -> Readiness {
        let able = match &self.object {
            Some(object) => object.poll(),
            None => Readiness::IN | Readiness::OUT,
        };
        let mut wanted = Readiness::ERR | Readiness::HUP;
        wanted.set(Readiness::IN, self.opening.readable);
        wanted.set(Readiness::OUT, self.opening.writable);
        able & wanted
    }

    /// Shows the directory's entries from the position on, and moves it behind each one that `sink`
    /// takes.
    ///
    /// # Errors
    /// ENOTDIR, EBADF, or what the file system says.
    pub fn read_directory(&self, sink: &mut dyn FnMut(&DirectoryEntry<'_>) -> Feed) -> Result<()> {
        if self.is_path() {
            return Err(Errno::EBADF);
        }
        if self.inode.file_type() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let mut position = self.position();
        self.inode.read_directory(position, &mut |entry| {
            let feed = sink(entry);
            if feed == Feed::More {
                position = entry.next;
            }
            feed
        })?;
        self.set_position(position);
        Ok(())
    }
}
