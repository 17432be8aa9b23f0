//! Kernel files, good and hostile.

use goblin::elf::program_header::PF_R;
use shared_abi::layout::LARGE_PAGE_SIZE;

use super::*;
use crate::root::Image;

const HEADER_LEN: usize = 64;

/// One program header: flags, guest-physical address, length in the file, length in memory.
#[derive(Clone, Copy)]
struct Load(u32, u64, u64, u64);

const TEXT: Load = Load(PF_R | PF_X, KERNEL_GPA, 0x1800, 0x1800);
const RODATA: Load = Load(PF_R, KERNEL_GPA + 0x2000, 0x100, 0x100);
const DATA: Load = Load(PF_R | PF_W, KERNEL_GPA + 0x3000, 0x100, 0x5000);

/// An ELF file of these segments that begins at its first one; their bytes are 1, 2, 3...
fn file_of(loads: &[Load]) -> Vec<u8> {
    let mut file = Vec::from(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0");
    let entry = KERNEL_BASE + loads.first().map_or(KERNEL_GPA, |load| load.1) + 0x10;
    for word in [entry, HEADER_LEN as u64, 0] {
        file.extend_from_slice(&word.to_le_bytes());
    }
    file.extend_from_slice(&[0, 0, 0, 0, 64, 0, SIZEOF_PHDR as u8, 0]);
    file.extend_from_slice(&[loads.len() as u8, 0, 64, 0, 0, 0, 0, 0]);
    assert_eq!(file.len(), HEADER_LEN);
    let mut offset = (HEADER_LEN + SIZEOF_PHDR * loads.len()) as u64;
    for &Load(flags, gpa, file_len, memory_len) in loads {
        file.extend_from_slice(&PT_LOAD.to_le_bytes());
        file.extend_from_slice(&flags.to_le_bytes());
        let virtual_address = KERNEL_BASE.wrapping_add(gpa);
        for word in [offset, virtual_address, gpa, file_len, memory_len, PAGE_SIZE] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        offset += file_len;
    }
    for (number, load) in (1..).zip(loads) {
        file.resize(file.len() + load.2 as usize, number);
    }
    file
}

fn good() -> Vec<u8> {
    file_of(&[TEXT, RODATA, DATA])
}

/// Where field `at` of program header `index` is.
fn header_field(index: usize, at: usize) -> usize {
    HEADER_LEN + index * SIZEOF_PHDR + at
}

fn put(file: &mut [u8], at: usize, value: u64) {
    file[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[track_caller]
fn refused(file: &[u8], words: &str) {
    match Kernel::parse("k", file) {
        Ok(kernel) => panic!("accepted: {kernel:x?}"),
        Err(error) => {
            let text = error.to_string();
            assert!(text.starts_with("kernel k: ") && text.contains(words), "{text}");
        }
    }
}

fn memory(bytes: u64) -> Memory {
    let image = Image { len: PAGE_SIZE, pieces: Vec::new() };
    Memory::new(bytes, &image).expect("a little memory")
}

#[test]
fn a_good_file_is_loaded_with_its_zeroes() {
    let file = good();
    let kernel = Kernel::parse("k", &file).expect("a kernel");
    let ends: Vec<_> = kernel.segments.iter().map(|s| (s.start, s.end)).collect();
    let base = KERNEL_GPA;
    assert_eq!(
        ends,
        [(base, base + 0x2000), (base + 0x2000, base + 0x3000), (base + 0x3000, base + 0x8000)]
    );
    let rights: Vec<_> = kernel.segments.iter().map(|s| (s.writable, s.executable)).collect();
    assert_eq!(rights, [(false, true), (false, false), (true, false)]);
    assert_eq!((kernel.entry, kernel.end()), (KERNEL_BASE + base + 0x10, base + 0x8000));

    let memory = memory(LARGE_PAGE_SIZE);
    kernel.load("k", &file, &memory).expect("it fits");
    let byte = |gpa: u64| {
        let mut byte = [0xff];
        memory.read(gpa, &mut byte).expect("RAM");
        byte[0]
    };
    let places = [0, 0x17ff, 0x1800, 0x2000, 0x20ff, 0x2100, 0x3000, 0x30ff, 0x3100, 0x7fff];
    assert_eq!(places.map(|at| byte(base + at)), [1, 1, 0, 2, 2, 0, 3, 3, 0, 0]);
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused() {
    let file = good();
    for len in 0..file.len() {
        let result = Kernel::parse("k", &file[..len]);
        assert!(result.is_err(), "accepted with {len} of {} bytes", file.len());
    }
    refused(b"", "not an ELF file");
    refused(&file[..HEADER_LEN + 1], "program headers are cut off");
    refused(&file[..file.len() - 1], "segment is cut off");
}

#[test]
fn other_classes_machines_types_and_byte_orders_are_refused() {
    let with = |at: usize, byte: u8| {
        let mut file = good();
        file[at] = byte;
        file
    };
    refused(&with(0, 0), "not an ELF file");
    assert!(Kernel::parse("k", &with(4, 1)).is_err()); // 32 bits
    assert!(Kernel::parse("k", &with(5, 2)).is_err()); // big endian
    refused(&with(18, 183), "not for 64-bit x86");
    for type_ in [0, 1, 3, 4] {
        refused(&with(16, type_), "not an executable at fixed addresses");
    }
    refused(&with(54, 55), "program headers are cut off");
}

#[test]
fn program_headers_outside_of_the_file_are_refused() {
    for offset in [u64::MAX, u64::MAX - 100, 1 << 40, good().len() as u64] {
        let mut file = good();
        put(&mut file, 32, offset);
        refused(&file, "program headers are cut off");
    }
    let mut file = good();
    file[56..58].copy_from_slice(&u16::MAX.to_le_bytes());
    refused(&file, "program headers are cut off");
}

#[test]
fn segments_that_overlap_or_share_a_page_are_refused() {
    for (gpa, len) in
        [(KERNEL_GPA, 0x100), (KERNEL_GPA + 0x1000, 0x100), (KERNEL_GPA + 0x1900, 0x10)]
    {
        refused(&file_of(&[TEXT, Load(PF_R | PF_W, gpa, len, len)]), "share a page");
    }
    // The zero-filled part counts, and the order in the file does not.
    refused(&file_of(&[DATA, TEXT, Load(PF_R, KERNEL_GPA + 0x7000, 1, 1)]), "share a page");
}

#[test]
fn a_segment_that_is_writable_and_executable_is_refused() {
    let Load(_, gpa, file_len, memory_len) = TEXT;
    refused(
        &file_of(&[Load(PF_R | PF_W | PF_X, gpa, file_len, memory_len)]),
        "writable and executable",
    );
}

#[test]
fn segments_in_other_places_are_refused() {
    for gpa in [0, KERNEL_GPA - PAGE_SIZE, KERNEL_GPA - 1] {
        refused(&file_of(&[TEXT, Load(PF_R, gpa, 1, 1)]), "not where this VMM loads kernels");
    }
    for (gpa, len) in [(1 << 30, 1), ((1 << 30) - PAGE_SIZE, PAGE_SIZE + 1), (KERNEL_GPA, u64::MAX)]
    {
        refused(&file_of(&[TEXT, Load(PF_R, gpa, 1, len)]), "larger than kernels may be");
    }
    let mut file = good(); // virtual address elsewhere
    put(&mut file, header_field(1, 16), 0x40_0000);
    refused(&file, "not where this VMM loads kernels");
}

#[test]
fn lengths_and_offsets_that_wrap_are_refused() {
    for (offset, len) in
        [(u64::MAX, 0x100), (0x1000, u64::MAX), (u64::MAX - 0xff, 0x100), (1 << 62, 1)]
    {
        let mut file = good();
        put(&mut file, header_field(1, 8), offset);
        put(&mut file, header_field(1, 32), len);
        put(&mut file, header_field(1, 40), len);
        refused(&file, "segment is cut off");
    }
    let mut file = good(); // longer in the file than in memory
    put(&mut file, header_field(2, 40), 0x80);
    refused(&file, "segment is cut off");
}

#[test]
fn an_entry_outside_of_the_code_is_refused() {
    let outside = [0, KERNEL_GPA, KERNEL_BASE, KERNEL_BASE + KERNEL_GPA + 0x2000, u64::MAX];
    for entry in outside {
        let mut file = good();
        put(&mut file, 24, entry);
        refused(&file, "is not in its code");
    }
    refused(&file_of(&[]), "is not in its code");
    refused(&file_of(&[RODATA]), "is not in its code");
}

#[test]
fn a_kernel_that_memory_cannot_hold_is_refused() {
    let large = file_of(&[TEXT, Load(PF_R | PF_W, KERNEL_GPA + 0x2000, 1, 1 << 20)]);
    let kernel = Kernel::parse("k", &large).expect("a kernel");
    let error = kernel.load("k", &large, &memory(LARGE_PAGE_SIZE)).expect_err("1 MiB and more");
    assert!(error.to_string().contains("--memory"), "{error}");
}
