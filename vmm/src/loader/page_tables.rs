//! The page tables that the machine starts with (SDM 3A 4.5, 4-level paging).
//!
//! The kernel image is mapped by 4 KiB pages with the rights of its segments, RAM and the root image
//! by 2 MiB pages in the direct map, never executable. Where the kernel's read-only pages lie in
//! RAM, the direct map is read-only too, so that no alias makes the kernel's code writable. The lower
//! half is empty: the machine starts in the upper one.

use shared_abi::layout::{
    DIRECT_MAP, HIGH_RAM_GPA, KERNEL_BASE, LARGE_PAGE_SIZE, PAGE_SIZE, PAGE_TABLES_END_GPA,
    PAGE_TABLES_GPA, ROOT_GPA,
};

use super::Error;
use super::elf::Kernel;
use crate::memory::Memory;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const TABLE: u64 = PRESENT | WRITABLE | ACCESSED;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const ENTRIES: usize = 512;

/// Builds them and returns the address of the PML4.
///
/// # Errors
/// When there is no room: the root image is enormous.
pub fn build(memory: &Memory, kernel: &Kernel) -> Result<u64, Error> {
    let mut tables = Tables::default();
    let root = tables.allocate()?;
    let read_only = |gpa: u64, len: u64| {
        kernel.segments.iter().any(|s| !s.writable && s.start < gpa + len && gpa < s.end)
    };
    let ranges = [
        (0, memory.low_ram_end(), WRITABLE),
        (HIGH_RAM_GPA, memory.high_ram_end(), WRITABLE),
        (ROOT_GPA, ROOT_GPA + memory.root_len(), 0),
    ];
    for (start, end, rights) in ranges {
        let mut gpa = start;
        while gpa < end {
            let whole = end - gpa >= LARGE_PAGE_SIZE && !read_only(gpa, LARGE_PAGE_SIZE);
            if whole {
                tables.map(root, DIRECT_MAP + gpa, gpa | rights | NO_EXECUTE, Size::Large)?;
                gpa += LARGE_PAGE_SIZE;
                continue;
            }
            let stop = end.min(gpa + LARGE_PAGE_SIZE);
            while gpa < stop {
                let rights = if read_only(gpa, PAGE_SIZE) { 0 } else { rights };
                tables.map(root, DIRECT_MAP + gpa, gpa | rights | NO_EXECUTE, Size::Small)?;
                gpa += PAGE_SIZE;
            }
        }
    }
    for segment in &kernel.segments {
        let rights = if segment.writable { WRITABLE } else { 0 }
            | if segment.executable { 0 } else { NO_EXECUTE };
        for gpa in (segment.start..segment.end).step_by(PAGE_SIZE as usize) {
            tables.map(root, KERNEL_BASE + gpa, gpa | rights, Size::Small)?;
        }
    }
    tables.store(memory)?;
    Ok(PAGE_TABLES_GPA)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    Small,
    Large,
}

/// Tables under construction; the index in the vector is the page number from `PAGE_TABLES_GPA`.
#[derive(Default)]
struct Tables(Vec<[u64; ENTRIES]>);

impl Tables {
    fn allocate(&mut self) -> Result<usize, Error> {
        let index = self.0.len();
        if PAGE_TABLES_GPA + (index as u64 + 1) * PAGE_SIZE > PAGE_TABLES_END_GPA {
            return Err(Error::TooSmall { what: "the page tables of this much memory" });
        }
        self.0.push([0; ENTRIES]);
        Ok(index)
    }

    fn map(&mut self, root: usize, address: u64, entry: u64, size: Size) -> Result<(), Error> {
        let leaf_level = if size == Size::Large { 1 } else { 0 };
        let mut table = root;
        for level in (leaf_level + 1..4).rev() {
            let index = index_at(address, level);
            let mut next = self.0[table][index];
            if next == 0 {
                next = (PAGE_TABLES_GPA + self.allocate()? as u64 * PAGE_SIZE) | TABLE;
                self.0[table][index] = next;
            }
            table = (((next & ADDRESS) - PAGE_TABLES_GPA) / PAGE_SIZE) as usize;
        }
        let large = if size == Size::Large { LARGE } else { 0 };
        self.0[table][index_at(address, leaf_level)] = entry | large | PRESENT | ACCESSED | DIRTY;
        Ok(())
    }

    fn store(&self, memory: &Memory) -> Result<(), Error> {
        for (gpa, table) in (PAGE_TABLES_GPA..).step_by(PAGE_SIZE as usize).zip(&self.0) {
            let mut bytes = [0; PAGE_SIZE as usize];
            for (slot, entry) in bytes.chunks_exact_mut(8).zip(table) {
                slot.copy_from_slice(&entry.to_le_bytes());
            }
            memory.write(gpa, &bytes)?;
        }
        Ok(())
    }
}

fn index_at(address: u64, level: u32) -> usize {
    ((address >> (12 + 9 * level)) & 0x1ff) as usize
}

#[cfg(test)]
mod tests;
