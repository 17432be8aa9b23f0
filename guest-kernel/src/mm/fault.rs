//! The page fault: what happens when a program touches a page that is not there, or not for that.
//!
//! A page of the root image is mapped where it lies, with its neighbours (fault-around); a private page is
//! copied on the first store; a frame with one reference is taken over instead.

#![expect(unsafe_code, reason = "pages are copied through the direct map")]

use shared_abi::layout::PAGE_SIZE;
use shared_abi::report::FaultKind;

use super::addr::{PAGE, Phys, UserAddr};
use super::frame::{self, FrameRef};
use super::page_table::{Entry, Rights};
use super::space::{Access, Denied, Inner, rights_of};
use super::vma::{Area, Protection, Sharing, Source};
use crate::error::{Errno, Result};
use crate::fs::inode::FilePage;
use crate::{arch, report};

/// Image pages that one fault maps at most, within an aligned window of this many pages.
const FAULT_AROUND_PAGES: u64 = 16;
/// Fresh anonymous pages that one fault maps at most, within an aligned window of this many pages.
const ANONYMOUS_AROUND_PAGES: u64 = 4;

impl Inner {
    /// Makes the page at `addr` accessible, if the program may access it so.
    pub(super) fn fault(
        &mut self,
        addr: UserAddr,
        access: Access,
    ) -> core::result::Result<(), Denied> {
        let page = addr.page_down();
        let (start, area) = match self.areas.find(page) {
            Some((start, area)) => (start, area.clone()),
            None => self.grow_stack(page)?,
        };
        let allowed = match access {
            Access::Read => !area.protection.is_empty(),
            Access::Write => area.protection.contains(Protection::WRITE),
            Access::Execute => area.protection.contains(Protection::EXECUTE),
        };
        if !allowed {
            return Err(Denied::Protected);
        }
        match self.table.get(page) {
            Some(entry) => self.present(page, entry, &area, start, access),
            None => self.absent(page, &area, start, access),
        }
    }

    fn grow_stack(&mut self, page: UserAddr) -> core::result::Result<(UserAddr, Area), Denied> {
        let (start, area) = self.areas.at_or_above(page).ok_or(Denied::NotMapped)?;
        match area.source {
            Source::Stack { limit } if page >= limit => {
                let area = area.clone();
                self.areas.grow_down(start, page);
                Ok((page, area))
            }
            _ => Err(Denied::NotMapped),
        }
    }

    /// The page is mapped, but not for this access: copy-on-write, or the tables have changed since.
    fn present(
        &mut self,
        page: UserAddr,
        entry: Entry,
        area: &Area,
        start: UserAddr,
        access: Access,
    ) -> core::result::Result<(), Denied> {
        let rights = rights_of(area.protection);
        if access != Access::Write || entry.rights().contains(Rights::WRITABLE) {
            // A page that was out of reach under PROT_NONE, or a stale translation.
            if !entry.rights().contains(Rights::USER | Rights::PRESENT) {
                let keep = entry.rights() & Rights::COUNTED;
                let rights = if area.sharing == Sharing::Private {
                    rights - Rights::WRITABLE - Rights::DIRTY
                } else {
                    rights
                };
                self.replace(page, Entry::new(entry.phys(), rights | keep), Old::Kept)?;
            }
            arch::flush_tlb_page(page.0); // a stale translation, if nothing else
            return Ok(());
        }
        report::count_fault(FaultKind::CopyOnWrite);
        if area.sharing == Sharing::Shared {
            if !matches!(area.source, Source::File { .. }) {
                // The page that is there is the only one there is.
                let entry = Entry::new(entry.phys(), rights | (entry.rights() & Rights::COUNTED));
                return self.replace(page, entry, Old::Kept);
            }
            return self.map_shared_for_write(page, area, start);
        }
        if entry.rights().contains(Rights::COUNTED) {
            // SAFETY: the entry holds a reference; this second handle is forgotten below.
            let frame = unsafe { FrameRef::from_phys(entry.phys()) };
            let unique = frame.is_unique();
            core::mem::forget(frame);
            if unique {
                let entry = Entry::new(entry.phys(), rights | Rights::COUNTED);
                return self.replace(page, entry, Old::Kept);
            }
        }
        let copy = copy_of(entry.phys()).map_err(page_error)?;
        let entry = Entry::new(copy.into_phys(), rights | Rights::COUNTED);
        self.replace(page, entry, Old::Released)
    }

    fn absent(
        &mut self,
        page: UserAddr,
        area: &Area,
        start: UserAddr,
        access: Access,
    ) -> core::result::Result<(), Denied> {
        match &area.source {
            Source::Anonymous | Source::Stack { .. } => self.map_anonymous(page, area, start),
            Source::File { inode, page: first } => {
                let index = first + (page.0 - start.0) / PAGE_SIZE;
                match (access, area.sharing) {
                    (Access::Write, Sharing::Shared) => {
                        self.map_shared_for_write(page, area, start)
                    }
                    (Access::Write, Sharing::Private) => {
                        report::count_fault(FaultKind::CopyOnWrite);
                        let copy = match inode.page(index).map_err(page_error)? {
                            FilePage::Image(phys) => copy_of(phys),
                            FilePage::Frame(frame) => copy_of(frame.phys()),
                        };
                        let phys = copy.map_err(page_error)?.into_phys();
                        let rights = rights_of(area.protection) | Rights::COUNTED;
                        self.install(page, Entry::new(phys, rights))
                    }
                    _ => self.map_file_page(page, area, start, index),
                }
            }
            Source::Special(_) => Err(Denied::NoFile),
        }
    }

    fn map_anonymous(
        &mut self,
        page: UserAddr,
        area: &Area,
        start: UserAddr,
    ) -> core::result::Result<(), Denied> {
        report::count_fault(FaultKind::Anonymous);
        let rights = rights_of(area.protection) | Rights::COUNTED;
        let window = match area.source {
            Source::Anonymous => ANONYMOUS_AROUND_PAGES,
            _ => 1,
        };
        // From the page upwards: programs walk their memory that way.
        let window_end = (page.0 / (window * PAGE_SIZE) + 1) * window * PAGE_SIZE;
        let end = window_end.min(area.end.0);
        let _ = start;
        let frame = FrameRef::zeroed().map_err(page_error)?;
        self.install(page, Entry::new(frame.into_phys(), rights))?;
        let mut at = page.add(PAGE_SIZE);
        while at.0 < end && self.table.get(at).is_none() && frame::has_fresh() {
            let Ok(frame) = FrameRef::zeroed() else { break };
            self.install(at, Entry::new(frame.into_phys(), rights))?;
            at = at.add(PAGE_SIZE);
        }
        Ok(())
    }

    fn map_file_page(
        &mut self,
        page: UserAddr,
        area: &Area,
        start: UserAddr,
        index: u64,
    ) -> core::result::Result<(), Denied> {
        let Source::File { inode, page: first } = &area.source else { return Err(Denied::NoFile) };
        let rights = rights_of(area.protection) - Rights::WRITABLE - Rights::DIRTY;
        // The window's part that the area covers.
        let window_start = (page.0 & !(FAULT_AROUND_PAGES * PAGE_SIZE - 1)).max(start.0);
        let window_end = (window_start | (FAULT_AROUND_PAGES * PAGE_SIZE - 1)) + 1;
        let window_end = window_end.min(area.end.0);
        let from = first + (window_start - start.0) / PAGE_SIZE;
        if let Some((phys, run)) = inode.image_run(from)
            && from + run > index
        {
            report::count_fault(FaultKind::Image);
            let count = run.min((window_end - window_start) / PAGE_SIZE);
            let from = UserAddr(window_start);
            self.table.fill(from, phys, count, rights).map_err(page_error)?;
            return Ok(());
        }
        let entry = match inode.page(index).map_err(page_error)? {
            FilePage::Image(phys) => {
                report::count_fault(FaultKind::Image);
                Entry::new(phys, rights)
            }
            FilePage::Frame(frame) => {
                report::count_fault(FaultKind::Memory);
                Entry::new(frame.into_phys(), rights | Rights::COUNTED)
            }
        };
        self.install(page, entry)
    }

    fn map_shared_for_write(
        &mut self,
        page: UserAddr,
        area: &Area,
        start: UserAddr,
    ) -> core::result::Result<(), Denied> {
        report::count_fault(FaultKind::Memory);
        let frame = match &area.source {
            Source::File { inode, page: first } => {
                let index = first + (page.0 - start.0) / PAGE_SIZE;
                inode.page_for_write(index).map_err(page_error)?
            }
            _ => FrameRef::zeroed().map_err(page_error)?,
        };
        let rights = rights_of(area.protection) | Rights::COUNTED;
        self.replace(page, Entry::new(frame.into_phys(), rights), Old::Released)
    }

    /// Maps a page where none was: nothing can be stale.
    fn install(&mut self, page: UserAddr, entry: Entry) -> core::result::Result<(), Denied> {
        let before = self.table.set(page, entry).map_err(page_error)?;
        debug_assert!(before.is_none(), "a page was mapped here");
        Ok(())
    }

    /// Writes another entry over one, flushes, and only then lets the page go that was there.
    fn replace(
        &mut self,
        page: UserAddr,
        entry: Entry,
        old: Old,
    ) -> core::result::Result<(), Denied> {
        let before = self.table.set(page, entry).map_err(page_error)?;
        arch::flush_tlb_page(page.0);
        match old {
            Old::Released => drop(before),
            Old::Kept => core::mem::forget(before), // the new entry has the same reference
        }
        Ok(())
    }
}

fn page_error(error: Errno) -> Denied {
    match error {
        Errno::ENOMEM => Denied::NoMemory,
        _ => Denied::NoFile,
    }
}

/// What becomes of the reference that the old entry held.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Old {
    Released,
    Kept,
}

fn copy_of(phys: Phys) -> Result<FrameRef> {
    let copy = FrameRef::uninitialised()?;
    // SAFETY: both are whole pages of the direct map; the copy is ours alone.
    unsafe { core::ptr::copy_nonoverlapping(phys.as_ptr(), copy.as_ptr(), PAGE) };
    Ok(copy)
}
