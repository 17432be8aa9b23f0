//! The table of open files.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::file::File;
use crate::error::{Errno, Result};
use crate::sync::SpinLock;

/// RLIMIT_NOFILE at the start.
pub const FD_COUNT_MAX: usize = 1024;
/// No limit can be higher.
pub const FD_COUNT_CEILING: usize = 1 << 20;

/// Whether exec closes a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExec {
    /// It stays open.
    Keep,
    /// FD_CLOEXEC.
    Close,
}

/// Open files by descriptor. Threads share it.
pub struct FdTable {
    table: SpinLock<Table>,
}

struct Table {
    slots: Vec<Option<Slot>>,
    /// All below this are in use.
    first_free: usize,
    limit: usize,
}

#[derive(Clone)]
struct Slot {
    file: Arc<File>,
    on_exec: OnExec,
}

impl Default for FdTable {
    fn default() -> Self {
        Self::new()
    }
}

impl FdTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        let table = Table { slots: Vec::new(), first_free: 0, limit: FD_COUNT_MAX };
        Self { table: SpinLock::new(table) }
    }

    /// The open file behind a descriptor.
    ///
    /// # Errors
    /// EBADF.
    #[inline]
    pub fn get(&self, fd: i32) -> Result<Arc<File>> {
        match self.table.lock().slots.get(fd as u32 as usize) {
            Some(Some(slot)) => Ok(slot.file.clone()),
            _ => Err(Errno::EBADF),
        }
    }

    /// As [`Self::get`], without O_PATH descriptors.
    ///
    /// # Errors
    /// EBADF.
    pub fn get_usable(&self, fd: i32) -> Result<Arc<File>> {
        self.get(fd).and_then(|file| if file.is_path() { Err(Errno::EBADF) } else { Ok(file) })
    }

    /// Puts a file at the lowest free descriptor from `from` on.
    ///
    /// # Errors
    /// EMFILE.
    pub fn insert(&self, file: Arc<File>, on_exec: OnExec, from: usize) -> Result<usize> {
        let mut table = self.table.lock();
        let fd = table.free_from(from).ok_or(Errno::EMFILE)?;
        table.put(fd, Slot { file, on_exec });
        Ok(fd)
    }

    /// Whether one more descriptor can be had.
    ///
    /// # Errors
    /// EMFILE.
    pub fn check_room(&self) -> Result<()> {
        self.table.lock().free_from(0).map(|_| ()).ok_or(Errno::EMFILE)
    }

    /// Puts a file at a descriptor, and gives what was there.
    ///
    /// # Errors
    /// EBADF for a descriptor beyond the limit.
    pub fn replace(&self, fd: i32, file: Arc<File>, on_exec: OnExec) -> Result<Option<Arc<File>>> {
        let mut table = self.table.lock();
        let fd = usize::try_from(fd).ok().filter(|&fd| fd < table.limit).ok_or(Errno::EBADF)?;
        Ok(table.put(fd, Slot { file, on_exec }).map(|slot| slot.file))
    }

    /// Takes a file out of the table.
    ///
    /// # Errors
    /// EBADF.
    pub fn remove(&self, fd: i32) -> Result<Arc<File>> {
        self.table.lock().take(fd as u32 as usize).ok_or(Errno::EBADF)
    }

    /// Whether exec closes it.
    ///
    /// # Errors
    /// EBADF.
    pub fn on_exec(&self, fd: i32) -> Result<OnExec> {
        match self.table.lock().slots.get(fd as u32 as usize) {
            Some(Some(slot)) => Ok(slot.on_exec),
            _ => Err(Errno::EBADF),
        }
    }

    /// Sets whether exec closes it.
    ///
    /// # Errors
    /// EBADF.
    pub fn set_on_exec(&self, fd: i32, on_exec: OnExec) -> Result<()> {
        match self.table.lock().slots.get_mut(fd as u32 as usize) {
            Some(Some(slot)) => {
                slot.on_exec = on_exec;
                Ok(())
            }
            _ => Err(Errno::EBADF),
        }
    }

    /// The lowest open descriptor from `from` on.
    #[must_use]
    pub fn next_open(&self, from: usize) -> Option<usize> {
        let table = self.table.lock();
        (from..table.slots.len()).find(|&fd| table.slots[fd].is_some())
    }

    /// Closes what exec closes.
    pub fn close_on_exec(&self) {
        let mut from = 0;
        while let Some(fd) = self.next_open(from) {
            let mut table = self.table.lock();
            let is_marked =
                table.slots[fd].as_ref().is_some_and(|slot| slot.on_exec == OnExec::Close);
            let file = if is_marked { table.take(fd) } else { None };
            drop(table);
            drop(file); // not under the lock: closing may do more
            from = fd + 1;
        }
    }

    /// Closes all.
    pub fn close_all(&self) {
        let slots = core::mem::take(&mut self.table.lock().slots);
        self.table.lock().first_free = 0;
        drop(slots);
    }

    /// A copy of its own for a new process: same open files.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        let table = self.table.lock();
        Self {
            table: SpinLock::new(Table {
                slots: table.slots.clone(),
                first_free: table.first_free,
                limit: table.limit,
            }),
        }
    }

    /// RLIMIT_NOFILE.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.table.lock().limit
    }

    /// Sets RLIMIT_NOFILE; open descriptors above it stay.
    pub fn set_limit(&self, limit: usize) {
        self.table.lock().limit = limit.min(FD_COUNT_CEILING);
    }
}

impl Table {
    fn free_from(&self, from: usize) -> Option<usize> {
        let mut fd = from.max(self.first_free);
        while fd < self.slots.len() && self.slots[fd].is_some() {
            fd += 1;
        }
        (fd < self.limit).then_some(fd)
    }

    fn put(&mut self, fd: usize, slot: Slot) -> Option<Slot> {
        if fd >= self.slots.len() {
            self.slots.resize_with(fd + 1, || None);
        }
        let old = self.slots[fd].replace(slot);
        if fd == self.first_free {
            self.first_free += 1;
        }
        old
    }

    fn take(&mut self, fd: usize) -> Option<Arc<File>> {
        let slot = self.slots.get_mut(fd)?.take()?;
        self.first_free = self.first_free.min(fd);
        Some(slot.file)
    }
}
