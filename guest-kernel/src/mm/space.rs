//! Address spaces: areas and page tables, and what changes both. What joins them is the page fault
//! (`fault.rs`): pages come when they are touched.
//!
//! The lock of a space is held during a fault; the file that is asked for a page takes its own lock
//! below it, and nobody who holds one touches user memory.

#![expect(unsafe_code, reason = "pages are filled and read through the direct map")]

use shared_abi::layout::PAGE_SIZE;

use super::addr::{PAGE, Phys, USER_END, UserAddr, page_up};
use super::frame::FrameRef;
use super::page_table::{Change, Entry, PageTable, Rights};
use super::user::UserSlice;
use super::vma::{Area, Areas, Protection, Sharing, Source};
use crate::arch;
use crate::error::{Errno, Result};
use crate::sync::{SpinLock, SpinLockGuard};

/// The lowest address that mmap gives or takes: `vm.mmap_min_addr`.
pub const MMAP_MIN: UserAddr = UserAddr(0x1_0000);
/// Where mappings are placed from, downwards: below the stack and its gap.
pub const MMAP_TOP: UserAddr = UserAddr(0x7fff_f7ff_f000);

/// What the program did to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It loaded.
    Read,
    /// It stored.
    Write,
    /// It jumped there.
    Execute,
}

/// Why an access cannot be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Nothing is mapped there: SIGSEGV, SEGV_MAPERR.
    NotMapped,
    /// The area does not allow it: SIGSEGV, SEGV_ACCERR.
    Protected,
    /// Beyond the end of the mapped file, or the file cannot be read: SIGBUS, BUS_ADRERR.
    NoFile,
    /// Memory is used up.
    NoMemory,
}

/// An address space.
pub struct Space {
    inner: SpinLock<Inner>,
}

/// What the lock guards.
pub struct Inner {
    /// What the program asked for.
    pub areas: Areas,
    pub(super) table: PageTable,
    heap_start: UserAddr,
    heap_end: UserAddr,
}

/// Where to put a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Anywhere, there if it is free.
    Hint(UserAddr),
    /// There, in place of what is there.
    Fixed(UserAddr),
    /// There, or not at all.
    FixedNoReplace(UserAddr),
}

impl Space {
    /// An empty one.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new() -> Result<Self> {
        let inner = Inner {
            areas: Areas::default(),
            table: PageTable::new()?,
            heap_start: UserAddr(0),
            heap_end: UserAddr(0),
        };
        Ok(Self { inner: SpinLock::new(inner) })
    }

    /// Looks at it, or changes it.
    pub fn lock(&self) -> SpinLockGuard<'_, Inner> {
        self.inner.lock()
    }

    /// What CR3 wants.
    #[must_use]
    pub fn root(&self) -> Phys {
        self.lock().table.root()
    }

    /// Makes the page at `addr` accessible, if the program may access it so.
    ///
    /// # Errors
    /// Why it may not.
    pub fn fault(&self, addr: UserAddr, access: Access) -> core::result::Result<(), Denied> {
        if addr.0 >= USER_END {
            return Err(Denied::NotMapped);
        }
        self.lock().fault(addr, access)
    }

    /// Writes kernel data into the space, whether it is the current one or not.
    ///
    /// # Errors
    /// EFAULT, ENOMEM.
    pub fn write(&self, addr: UserAddr, src: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < src.len() {
            let at = addr.add(done as u64);
            let len = (PAGE - at.page_offset()).min(src.len() - done);
            let phys = self.page_for(at, Access::Write)?;
            let to = phys.as_ptr().wrapping_add(at.page_offset());
            // SAFETY: the page is mapped in this space, which owns it; the range is inside of it.
            unsafe { core::ptr::copy_nonoverlapping(src[done..].as_ptr(), to, len) };
            done += len;
        }
        Ok(())
    }

    /// The page that holds `addr`, made accessible.
    ///
    /// # Errors
    /// EFAULT, ENOMEM.
    pub fn page_for(&self, addr: UserAddr, access: Access) -> Result<Phys> {
        self.lock().page_for(addr, access)
    }

    /// Gives the memory of `slice` to `sink`, page by page, made accessible: for devices. How many bytes
    /// there were before one that is not accessible. The sink must not touch user memory.
    ///
    /// # Errors
    /// EFAULT or ENOMEM if not one byte is there.
    pub fn segments(
        &self,
        slice: UserSlice,
        access: Access,
        sink: &mut dyn FnMut(Phys, usize),
    ) -> Result<usize> {
        let mut inner = self.lock();
        let mut done = 0;
        while done < slice.len {
            let at = slice.addr.add(done as u64);
            let len = (PAGE - at.page_offset()).min(slice.len - done);
            match inner.page_for(at, access) {
                Ok(page) => sink(Phys(page.0 + at.page_offset() as u64), len),
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
            done += len;
        }
        Ok(done)
    }

    /// Adds a mapping; where it is.
    ///
    /// # Errors
    /// EINVAL, ENOMEM, EEXIST, EPERM.
    pub fn map(
        &self,
        placement: Placement,
        len: u64,
        protection: Protection,
        sharing: Sharing,
        source: Source,
    ) -> Result<UserAddr> {
        let len = page_up(len).filter(|&l| l > 0 && l < USER_END).ok_or(Errno::ENOMEM)?;
        let mut inner = self.lock();
        let start = match placement {
            Placement::Hint(hint) => inner.place(hint.page_down(), len)?,
            Placement::Fixed(at) => {
                check_range(at, len)?;
                inner.unmap(at, at.add(len));
                at
            }
            Placement::FixedNoReplace(at) => {
                check_range(at, len)?;
                let end = at.add(len);
                if inner.areas.overlaps(at, end) {
                    return Err(Errno::EEXIST);
                }
                at
            }
        };
        inner.areas.insert(start, Area { end: start.add(len), protection, sharing, source });
        Ok(start)
    }

    /// Maps one page of the kernel's into the program: the vDSO and its data.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn map_special(
        &self,
        at: UserAddr,
        name: &'static str,
        protection: Protection,
        page: SpecialPage,
    ) -> Result<()> {
        let mut inner = self.lock();
        let area = Area {
            end: at.add(PAGE_SIZE),
            protection,
            sharing: Sharing::Private,
            source: Source::Special(name),
        };
        let entry = match page {
            SpecialPage::Kernel(phys) => Entry::new(phys, rights_of(protection)),
            SpecialPage::Frame(frame) => {
                Entry::new(frame.into_phys(), rights_of(protection) | Rights::COUNTED)
            }
        };
        inner.areas.insert(at, area);
        inner.table.set(at, entry)?;
        Ok(())
    }

    /// `munmap(2)`.
    ///
    /// # Errors
    /// EINVAL.
    pub fn unmap(&self, addr: UserAddr, len: u64) -> Result<()> {
        let len = page_up(len).filter(|&l| l > 0).ok_or(Errno::EINVAL)?;
        if addr.page_offset() != 0 || addr.0.checked_add(len).is_none_or(|end| end > USER_END) {
            return Err(Errno::EINVAL);
        }
        self.lock().unmap(addr, addr.add(len));
        Ok(())
    }

    /// `mprotect(2)`.
    ///
    /// # Errors
    /// EINVAL, ENOMEM where nothing is mapped.
    pub fn protect(&self, addr: UserAddr, len: u64, protection: Protection) -> Result<()> {
        if addr.page_offset() != 0 {
            return Err(Errno::EINVAL);
        }
        let len = page_up(len).ok_or(Errno::ENOMEM)?;
        let end = addr.0.checked_add(len).filter(|&e| e <= USER_END).ok_or(Errno::ENOMEM)?;
        let mut inner = self.lock();
        let covered = inner.areas.covers(addr, UserAddr(end));
        inner.protect(addr, UserAddr(end), protection);
        if covered { Ok(()) } else { Err(Errno::ENOMEM) }
    }

    /// Puts a page in place whose first `len` bytes come from a file and whose rest is zero: the end
    /// of a program's data. The area is there already.
    ///
    /// # Errors
    /// ENOMEM, or the file's.
    ///
    /// # Panics
    /// If `len` is more than a page.
    pub fn fill_page(
        &self,
        at: UserAddr,
        inode: &crate::fs::inode::InodeRef,
        offset: u64,
        len: usize,
    ) -> Result<()> {
        assert!(len <= PAGE, "more than a page");
        let frame = FrameRef::zeroed()?;
        // SAFETY: the frame is fresh and ours alone, and at least `len` long.
        let bytes = unsafe { core::slice::from_raw_parts_mut(frame.as_ptr(), len) };
        if inode.read_kernel(offset, bytes)? != len {
            return Err(Errno::EIO);
        }
        let mut inner = self.lock();
        let (_, area) = inner.areas.find(at).ok_or(Errno::EFAULT)?;
        let rights = rights_of(area.protection) | Rights::COUNTED;
        inner.table.set(at, Entry::new(frame.into_phys(), rights))?;
        Ok(())
    }

    /// Sets where the heap begins: behind the program's data.
    pub fn set_heap_start(&self, addr: UserAddr) {
        let mut inner = self.lock();
        inner.heap_start = addr;
        inner.heap_end = addr;
    }

    /// Where the heap begins and ends.
    #[must_use]
    pub fn heap(&self) -> (UserAddr, UserAddr) {
        let inner = self.lock();
        (inner.heap_start, inner.heap_end)
    }

    /// `brk(2)`: the end of the heap afterwards, moved or not.
    pub fn set_heap_end(&self, addr: UserAddr) -> UserAddr {
        let mut inner = self.lock();
        let (Some(old), Some(new)) = (page_up(inner.heap_end.0), page_up(addr.0)) else {
            return inner.heap_end;
        };
        if addr < inner.heap_start || new > USER_END {
            return inner.heap_end;
        }
        let (old, new) = (UserAddr(old), UserAddr(new));
        if new < old {
            inner.unmap(new, old);
        } else if new > old {
            // One page stays free between the heap and whatever is above.
            let blocked = inner.areas.overlaps(old, new.add(PAGE_SIZE));
            let pages = (new.0 - old.0) / PAGE_SIZE;
            if blocked || pages > super::frame::usage().total {
                return inner.heap_end;
            }
            let area = Area {
                end: new,
                protection: Protection::READ | Protection::WRITE,
                sharing: Sharing::Private,
                source: Source::Anonymous,
            };
            inner.areas.insert(old, area);
        }
        inner.heap_end = addr;
        addr
    }

    /// `MADV_DONTNEED`: private pages are forgotten, and come back zero or from the file.
    ///
    /// # Errors
    /// ENOMEM where nothing is mapped.
    pub fn forget(&self, addr: UserAddr, end: UserAddr) -> Result<()> {
        let mut inner = self.lock();
        let covered = inner.areas.covers(addr, end);
        let mut at = addr;
        while at < end {
            let Some((start, area)) = inner.areas.at_or_above(at) else { break };
            let (from, to) = (start.max(at), area.end.min(end));
            let special = matches!(area.source, Source::Special(_));
            if from < to && !special {
                inner.table.remove(from, to);
            }
            at = to.max(from);
        }
        if covered { Ok(()) } else { Err(Errno::ENOMEM) }
    }
}

/// A page that the kernel gives a program.
#[derive(Debug)]
pub enum SpecialPage {
    /// Part of the kernel image, without secrets.
    Kernel(Phys),
    /// Memory.
    Frame(FrameRef),
}

fn check_range(at: UserAddr, len: u64) -> Result<()> {
    if at.page_offset() != 0 {
        return Err(Errno::EINVAL);
    }
    if at < MMAP_MIN {
        return Err(Errno::EPERM);
    }
    if at.0.checked_add(len).is_none_or(|end| end > USER_END) { Err(Errno::ENOMEM) } else { Ok(()) }
}

/// The rights of a page that an area of this protection maps, but for copy-on-write.
pub(super) fn rights_of(protection: Protection) -> Rights {
    let mut rights = Rights::PRESENT | Rights::USER | Rights::ACCESSED | Rights::NO_EXECUTE;
    if protection.contains(Protection::WRITE) {
        rights |= Rights::WRITABLE | Rights::DIRTY;
    }
    if protection.contains(Protection::EXECUTE) {
        rights -= Rights::NO_EXECUTE;
    }
    rights
}

impl Inner {
    fn page_for(&mut self, addr: UserAddr, access: Access) -> Result<Phys> {
        if addr.0 >= USER_END {
            return Err(Errno::EFAULT);
        }
        let wanted = match access {
            Access::Write => Rights::PRESENT | Rights::USER | Rights::WRITABLE,
            Access::Read | Access::Execute => Rights::PRESENT | Rights::USER,
        };
        if let Some(entry) = self.table.get(addr.page_down())
            && entry.rights().contains(wanted)
        {
            return Ok(entry.phys());
        }
        match self.fault(addr, access) {
            Ok(()) => self.table.get(addr.page_down()).map(Entry::phys).ok_or(Errno::EFAULT),
            Err(Denied::NoMemory) => Err(Errno::ENOMEM),
            Err(_) => Err(Errno::EFAULT),
        }
    }

    fn place(&self, hint: UserAddr, len: u64) -> Result<UserAddr> {
        if !hint.is_null() && check_range(hint, len).is_ok() {
            let end = hint.add(len);
            if !self.areas.overlaps(hint, end) {
                return Ok(hint);
            }
        }
        self.areas.hole_below(MMAP_MIN, MMAP_TOP, len).ok_or(Errno::ENOMEM)
    }

    fn unmap(&mut self, start: UserAddr, end: UserAddr) {
        if self.areas.overlaps(start, end) {
            drop(self.areas.take(start, end));
            self.table.remove(start, end);
        }
    }

    fn protect(&mut self, start: UserAddr, end: UserAddr, protection: Protection) {
        let pieces: alloc::vec::Vec<_> = self.areas.take(start, end).collect();
        for (at, mut area) in pieces {
            area.protection = protection;
            let (stop, sharing) = (area.end, area.sharing);
            self.areas.insert(at, area);
            self.table.update(at, stop, |_, entry| {
                let mut rights = rights_of(protection) | (entry.rights() & Rights::COUNTED);
                // Private pages become writable by a fault, which copies what others use.
                if sharing == Sharing::Private || !entry.rights().contains(Rights::WRITABLE) {
                    rights -= Rights::WRITABLE | Rights::DIRTY;
                }
                // PROT_NONE: the page stays, out of the program's reach.
                if protection.is_empty() {
                    rights -= Rights::USER | Rights::PRESENT;
                }
                Change::Rights(rights)
            });
        }
        arch::flush_tlb_user();
    }
}
