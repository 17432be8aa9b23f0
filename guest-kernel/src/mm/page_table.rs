//! Page tables of user space (SDM 3A 4.5, 4-level paging).
//!
//! Tables are frames, cleared and written by ordinary stores of ring 0 only, and freed with the space. An entry that maps a frame
//! of RAM holds one reference and says so in [`Rights::COUNTED`]; pages of the root image are not counted.

#![expect(unsafe_code, reason = "page tables are raw memory that the processor reads")]

use bitflags::bitflags;

use super::addr::{PAGE, Phys, UserAddr};
use super::frame::FrameRef;
use crate::arch;
use crate::error::Result;

const ENTRIES: usize = 512;
/// Entries from here on map the kernel's half.
const KERNEL_START: usize = 256;
/// Physical address bits of an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

bitflags! {
    /// An entry's bits.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Rights: u64 {
        /// Mapped.
        const PRESENT = 1 << 0;
        /// Writable.
        const WRITABLE = 1 << 1;
        /// For ring 3.
        const USER = 1 << 2;
        /// The processor has used it.
        const ACCESSED = 1 << 5;
        /// The processor has written to the page.
        const DIRTY = 1 << 6;
        /// Software: the entry holds a reference to a frame.
        const COUNTED = 1 << 9;
        /// Not executable.
        const NO_EXECUTE = 1 << 63;
    }
}

/// A page-table entry that maps a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(u64);

impl Entry {
    /// An entry for the page at `phys`.
    #[must_use]
    pub fn new(phys: Phys, rights: Rights) -> Self {
        Self(phys.0 | rights.bits())
    }

    /// The page.
    #[must_use]
    pub fn phys(self) -> Phys {
        Phys(self.0 & ADDRESS)
    }

    /// The rights.
    #[must_use]
    pub fn rights(self) -> Rights {
        Rights::from_bits_truncate(self.0)
    }

    /// The reference that the entry held, now that it is out of the table.
    fn into_frame(self) -> Option<FrameRef> {
        let counted = self.rights().contains(Rights::COUNTED);
        // SAFETY: the entry was made from `FrameRef::into_phys` and has left the table.
        counted.then(|| unsafe { FrameRef::from_phys(self.phys()) })
    }
}

/// The tables of one address space.
#[derive(Debug)]
pub struct PageTable {
    root: Phys,
}

impl PageTable {
    /// Empty tables with the kernel's half.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn new() -> Result<Self> {
        let root = FrameRef::zeroed()?.into_phys();
        let kernel = Phys(arch::kernel_page_table_root());
        // The direct map and the kernel image: the only entries of the upper half, fixed at boot.
        for index in [KERNEL_START, ENTRIES - 1] {
            write(root, index, read(kernel, index));
        }
        Ok(Self { root })
    }

    /// What CR3 wants.
    #[must_use]
    pub fn root(&self) -> Phys {
        self.root
    }

    /// The entry of `addr`, if it holds a page; one that is not [`Rights::PRESENT`] keeps it out of
    /// everybody's reach (PROT_NONE).
    #[must_use]
    pub fn get(&self, addr: UserAddr) -> Option<Entry> {
        let (table, index) = self.leaf(addr)?;
        let entry = Entry(read(table, index));
        (entry.0 != 0).then_some(entry)
    }

    /// Maps a page; what was there before comes back. The caller flushes before dropping it.
    ///
    /// # Errors
    /// ENOMEM when a table is missing and cannot be had.
    pub fn set(&mut self, addr: UserAddr, entry: Entry) -> Result<Option<FrameRef>> {
        let table = self.leaf_table_for(addr)?;
        let index = index_at(addr, 0);
        let before = Entry(read(table, index));
        write(table, index, entry.0);
        Ok(before.into_frame())
    }

    /// The last-level table of `addr`, made if it is missing.
    fn leaf_table_for(&mut self, addr: UserAddr) -> Result<Phys> {
        let mut table = self.root;
        for level in [3, 2, 1] {
            let index = index_at(addr, level);
            let mut next = read(table, index);
            if next == 0 {
                let rights = Rights::PRESENT | Rights::WRITABLE | Rights::USER | Rights::ACCESSED;
                next = FrameRef::zeroed()?.into_phys().0 | rights.bits();
                write(table, index, next);
            }
            table = Phys(next & ADDRESS);
        }
        Ok(table)
    }

    /// Maps `count` pages that lie one behind the other from `phys` on, and are not counted, where
    /// nothing is mapped yet. One walk for all of them: they must share a last-level table.
    ///
    /// # Errors
    /// ENOMEM when a table is missing and cannot be had.
    pub fn fill(&mut self, start: UserAddr, phys: Phys, count: u64, rights: Rights) -> Result<()> {
        debug_assert!(!rights.contains(Rights::COUNTED), "no reference for each page");
        let first = index_at(start, 0);
        assert!(first as u64 + count <= ENTRIES as u64, "the pages share a table");
        let table = self.leaf_table_for(start)?;
        for (index, page) in (first..first + count as usize).zip(0..) {
            if read(table, index) == 0 {
                write(table, index, Entry::new(Phys(phys.0 + page * PAGE as u64), rights).0);
            }
        }
        Ok(())
    }

    /// Gives each mapped page of `start..end` to `change`, which says what to put in its place.
    pub fn update(
        &mut self,
        start: UserAddr,
        end: UserAddr,
        mut change: impl FnMut(UserAddr, Entry) -> Change,
    ) {
        let mut at = start.page_down().0;
        while at < end.0 {
            let Some(table) = self.leaf_table(UserAddr(at), &mut at) else { continue };
            loop {
                let index = index_at(UserAddr(at), 0);
                let entry = Entry(read(table, index));
                if entry.0 != 0 {
                    match change(UserAddr(at), entry) {
                        Change::Keep => {}
                        Change::Rights(rights) => {
                            write(table, index, Entry::new(entry.phys(), rights).0);
                        }
                        Change::Remove => write(table, index, 0),
                    }
                }
                at += PAGE as u64;
                if at >= end.0 || index == ENTRIES - 1 {
                    break;
                }
            }
        }
    }

    /// Removes the pages of `start..end`. Their frames are given to `release` after the flush.
    pub fn remove(&mut self, start: UserAddr, end: UserAddr) {
        // Frames are dropped in batches, each after a flush: a stale translation must not
        // reach a frame that has a new owner.
        const BATCH: usize = 64;
        let mut batch: [Option<FrameRef>; BATCH] = [const { None }; BATCH];
        let mut count = 0;
        self.update(start, end, |_, entry| {
            if count == BATCH {
                arch::flush_tlb_user();
                batch = [const { None }; BATCH];
                count = 0;
            }
            batch[count] = entry.into_frame();
            count += 1;
            Change::Remove
        });
        if count > 0 {
            arch::flush_tlb_user();
        }
    }

    /// The last-level table of `addr`; without one, `at` is moved to the next address that may have one.
    fn leaf_table(&self, addr: UserAddr, at: &mut u64) -> Option<Phys> {
        let mut table = self.root;
        for level in [3, 2, 1] {
            let next = read(table, index_at(addr, level));
            if next == 0 {
                let span = 1u64 << (12 + 9 * level);
                *at = (addr.0 & !(span - 1)) + span;
                return None;
            }
            table = Phys(next & ADDRESS);
        }
        Some(table)
    }

    fn leaf(&self, addr: UserAddr) -> Option<(Phys, usize)> {
        let mut ignored = 0;
        Some((self.leaf_table(addr, &mut ignored)?, index_at(addr, 0)))
    }
}

/// What [`PageTable::update`] does with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// The same page with other rights.
    Rights(Rights),
    /// The entry is cleared; its reference is the closure's.
    Remove,
}

impl Drop for PageTable {
    fn drop(&mut self) {
        free_below(self.root, 3);
        // SAFETY: the root came from `FrameRef::into_phys`, and no CPU uses these tables any more.
        drop(unsafe { FrameRef::from_phys(self.root) });
    }
}

/// Drops everything that a table of this level leads to.
fn free_below(table: Phys, level: u32) {
    let end = if level == 3 { KERNEL_START } else { ENTRIES };
    for index in 0..end {
        let entry = read(table, index);
        if entry == 0 {
            continue;
        }
        if level == 0 {
            drop(Entry(entry).into_frame());
        } else {
            let next = Phys(entry & ADDRESS);
            free_below(next, level - 1);
            // SAFETY: tables are made from `FrameRef::into_phys` and have one owner.
            drop(unsafe { FrameRef::from_phys(next) });
        }
    }
}

fn index_at(addr: UserAddr, level: u32) -> usize {
    (addr.0 >> (12 + 9 * level)) as usize & (ENTRIES - 1)
}

fn read(table: Phys, index: usize) -> u64 {
    debug_assert!(index < ENTRIES);
    // SAFETY: tables are whole frames; volatile, since the processor writes to them too.
    unsafe { table.as_ptr().cast::<u64>().add(index).read_volatile() }
}

fn write(table: Phys, index: usize, entry: u64) {
    debug_assert!(index < ENTRIES);
    // SAFETY: tables are whole frames that this address space owns, behind `&mut` or still unknown
    // to the processor.
    unsafe { table.as_ptr().cast::<u64>().add(index).write_volatile(entry) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::frame;

    const RIGHTS: Rights = Rights::PRESENT.union(Rights::USER).union(Rights::COUNTED);

    fn counted() -> (Phys, Entry) {
        let frame = FrameRef::zeroed().expect("memory");
        let phys = frame.into_phys();
        (phys, Entry::new(phys, RIGHTS))
    }

    #[test]
    fn what_is_set_is_found_and_nothing_else() {
        frame::initialise_for_tests();
        let mut table = PageTable::new().expect("memory");
        let addresses = [0x1000, 0x20_0000, 0x4000_0000, 0x7fff_ffff_e000, 0x55_5555_5000];
        let mut expected = Vec::new();
        for address in addresses {
            let (phys, entry) = counted();
            assert!(table.set(UserAddr(address), entry).expect("memory").is_none());
            expected.push((address, phys));
        }
        for (address, phys) in expected {
            assert_eq!(table.get(UserAddr(address)).expect("mapped").phys(), phys);
            assert_eq!(table.get(UserAddr(address + 0x1000)), None);
        }
    }

    #[test]
    fn filling_leaves_what_is_mapped_alone() {
        frame::initialise_for_tests();
        let mut table = PageTable::new().expect("memory");
        let start = UserAddr(0x40_0000);
        let (phys, entry) = counted();
        table.set(start.add(0x2000), entry).expect("memory");
        let rights = Rights::PRESENT | Rights::USER;
        table.fill(start, Phys(0x10_0000_0000), 4, rights).expect("memory");
        let found = |page: u64| table.get(start.add(page * 0x1000)).map(Entry::phys);
        let image = |page: u64| Some(Phys(0x10_0000_0000 + page * 0x1000));
        assert_eq!([0, 1, 2, 3, 4].map(found), [image(0), image(1), Some(phys), image(3), None]);
    }

    #[test]
    fn removal_covers_the_range_only() {
        frame::initialise_for_tests();
        let mut table = PageTable::new().expect("memory");
        let pages: Vec<u64> = (0..700).map(|i| 0x1f_0000 + i * 0x1000).collect();
        for &page in &pages {
            table.set(UserAddr(page), counted().1).expect("memory");
        }
        table.remove(UserAddr(pages[10]), UserAddr(pages[650]));
        for (i, &page) in pages.iter().enumerate() {
            assert_eq!(table.get(UserAddr(page)).is_some(), !(10..650).contains(&i), "page {i}");
        }
    }
}
