//! The tables, walked as a processor does.

use shared_abi::layout::{KERNEL_GPA, LOW_RAM_END_GPA, ROOT_END_GPA};

use super::*;
use crate::loader::elf::Segment;
use crate::root::Image;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// What a walk finds at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leaf {
    gpa: u64,
    writable: bool,
    executable: bool,
    user: bool,
}

fn memory(ram: u64, root: u64) -> Memory {
    Memory::new(ram, &Image { len: root, pieces: Vec::new() }).expect("memory that is not touched")
}

/// Text of three pages, read-only data of one, data of four, with a hole after the text.
fn kernel() -> Kernel {
    let segment = |first: u64, count: u64, writable, executable| Segment {
        start: KERNEL_GPA + first * PAGE_SIZE,
        end: KERNEL_GPA + (first + count) * PAGE_SIZE,
        writable,
        executable,
    };
    let segments =
        vec![segment(0, 3, false, true), segment(4, 1, false, false), segment(5, 4, true, false)];
    Kernel { entry: KERNEL_BASE + KERNEL_GPA, segments }
}

struct Walker<'a> {
    memory: &'a Memory,
    root: u64,
}

impl Walker<'_> {
    fn entry(&self, table: u64, index: usize) -> u64 {
        let mut bytes = [0; 8];
        self.memory.read(table + 8 * index as u64, &mut bytes).expect("a table in RAM");
        u64::from_le_bytes(bytes)
    }

    fn walk(&self, address: u64) -> Option<Leaf> {
        const USER: u64 = 1 << 2;
        let (mut table, mut rights, mut refusals) = (self.root, WRITABLE | USER, 0);
        for level in (0..4).rev() {
            let entry = self.entry(table, index_at(address, level));
            if entry & PRESENT == 0 {
                return None;
            }
            rights &= entry;
            refusals |= entry;
            if level == 0 || entry & LARGE != 0 {
                assert!(level < 2, "a page of 1 GiB at {address:#x}");
                let size = 1 << (12 + 9 * level);
                let base = entry & ADDRESS;
                assert_eq!(base % size, 0, "misaligned at {address:#x}");
                return Some(Leaf {
                    gpa: base + address % size,
                    writable: rights & WRITABLE != 0,
                    executable: refusals & NO_EXECUTE == 0,
                    user: rights & USER != 0,
                });
            }
            table = entry & ADDRESS;
            let tables = PAGE_TABLES_GPA..PAGE_TABLES_END_GPA;
            assert!(tables.contains(&table), "a table at {table:#x}");
        }
        None
    }
}

#[track_caller]
fn with_tables(memory: &Memory, check: impl FnOnce(&Walker<'_>)) {
    let root = build(memory, &kernel()).expect("the tables fit");
    check(&Walker { memory, root });
}

#[test]
fn the_kernel_has_the_rights_of_its_segments() {
    with_tables(&memory(16 * MIB, MIB), |tables| {
        for page in 0..9 {
            let gpa = KERNEL_GPA + page * PAGE_SIZE;
            let expected = match page {
                0..3 => Some((false, true)),
                3 => None,
                4 => Some((false, false)),
                _ => Some((true, false)),
            };
            let expected = expected.map(|(writable, executable)| Leaf {
                gpa,
                writable,
                executable,
                user: false,
            });
            assert_eq!(tables.walk(KERNEL_BASE + gpa), expected, "page {page}");
        }
        for gpa in [0, KERNEL_GPA - 1, KERNEL_GPA + 9 * PAGE_SIZE, GIB] {
            assert_eq!(tables.walk(KERNEL_BASE + gpa), None, "{gpa:#x}");
        }
    });
}

#[test]
fn the_direct_map_shows_all_memory_and_never_executes() {
    let (ram, root) = (4 * GIB + 6 * MIB + 3 * PAGE_SIZE, 5 * MIB + PAGE_SIZE);
    with_tables(&memory(ram, root), |tables| {
        let high_end = HIGH_RAM_GPA + ram - LOW_RAM_END_GPA;
        let ranges = [(0, LOW_RAM_END_GPA), (HIGH_RAM_GPA, high_end), (ROOT_GPA, ROOT_GPA + root)];
        for (start, end) in ranges {
            let mut places = vec![start, start + 5, end - 1, end - PAGE_SIZE, start.midpoint(end)];
            places.extend((start..end).step_by(256 * MIB as usize));
            for gpa in places {
                let leaf = tables.walk(DIRECT_MAP + gpa).unwrap_or_else(|| panic!("no {gpa:#x}"));
                let writable = end <= ROOT_GPA && gpa >> 12 != KERNEL_GPA >> 12;
                assert_eq!(leaf, Leaf { gpa, writable, executable: false, user: false });
            }
            assert_eq!(tables.walk(DIRECT_MAP + end), None, "{end:#x}");
        }
        assert_eq!(tables.walk(DIRECT_MAP + ROOT_GPA - 1), None);
        assert_eq!(tables.walk(DIRECT_MAP + 0xfee0_0000), None);
    });
}

#[test]
fn the_direct_map_is_read_only_where_the_kernel_is() {
    with_tables(&memory(16 * MIB, MIB), |tables| {
        for gpa in (0..16 * MIB).step_by(PAGE_SIZE as usize) {
            let leaf = tables.walk(DIRECT_MAP + gpa).expect("RAM");
            let constant = |s: &Segment| !s.writable && (s.start..s.end).contains(&gpa);
            let writable = !kernel().segments.iter().any(constant);
            assert_eq!(leaf, Leaf { gpa, writable, executable: false, user: false });
        }
    });
}

#[test]
fn nothing_is_in_the_lower_half_and_nothing_is_the_users() {
    with_tables(&memory(64 * MIB, MIB), |tables| {
        for index in 0..ENTRIES {
            let entry = tables.entry(tables.root, index);
            let used = [DIRECT_MAP, KERNEL_BASE].map(|address| index_at(address, 3));
            assert_eq!(entry & PRESENT != 0, used.contains(&index), "PML4 entry {index}");
        }
        for address in [0, 0x1000, 0x40_0000, 0x7fff_ffff_f000] {
            assert_eq!(tables.walk(address), None);
        }
    });
}

#[test]
fn the_most_memory_and_the_largest_root_fit() {
    with_tables(&memory(16 * GIB, ROOT_END_GPA - ROOT_GPA), |tables| {
        for gpa in [HIGH_RAM_GPA + 13 * GIB - 1, ROOT_END_GPA - 1] {
            assert_eq!(tables.walk(DIRECT_MAP + gpa).map(|leaf| leaf.gpa), Some(gpa));
        }
    });
}
