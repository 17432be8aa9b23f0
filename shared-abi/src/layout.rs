//! The memory map, guest-physical and guest-virtual.
//!
//! ```text
//! guest-physical                                   guest-virtual
//! 0x0000_0000_0000  (left empty: null)             0x0000_0000_0000  user, ends below 128 TiB
//! 0x0000_0000_1000  BootInfo            1 page     0xffff_8000_0000_0000  direct map: all of RAM and
//! 0x0000_0000_2000  Report              4 pages      the root image, 2 MiB pages, never executable
//! 0x0000_0000_6000  page tables of the VMM         0xffff_ffff_8000_0000  the kernel image, 4 KiB
//!   up to 0x0a_0000                                  pages with the rights of its ELF segments
//! 0x0000_0010_0000  kernel image, then the
//!   boot strings, then free memory
//! 0x0000_c000_0000  end of low RAM at the latest
//! 0x0000_d000_0000  kept free for virtio-mmio
//! 0x0000_fec0_0000  IOAPIC; 0xfee0_0000 LAPIC
//! 0x0001_0000_0000  the rest of RAM
//! 0x0010_0000_0000  the root: an EROFS image in a read-only slot of its own
//! ```
//! All addresses stay below 2^39: every KVM this runs on can reach them (some offer 40 physical bits).

/// Size of a page and of a frame, in bytes.
pub const PAGE_SIZE: u64 = 4096;
/// Size of a large page, in bytes.
pub const LARGE_PAGE_SIZE: u64 = 2 << 20;

/// Where [`crate::boot_info::BootInfo`] lies.
pub const BOOT_INFO_GPA: u64 = 0x1000;
/// Where [`crate::report::Report`] lies.
pub const REPORT_GPA: u64 = 0x2000;
/// The first page of the page tables that the VMM builds; the first is the PML4.
pub const PAGE_TABLES_GPA: u64 = 0x6000;
/// End (exclusive) of the space for those page tables.
pub const PAGE_TABLES_END_GPA: u64 = 0xa_0000;
/// The kernel's table of frames, right behind what the VMM loads, has one byte for so many of the addresses
/// from 0 to the end of RAM. It is touched here and there, as is a small program's memory behind it: not the place for large pages.
pub const RAM_PER_FRAME_TABLE_BYTE: u64 = 256;
/// Where the kernel image is linked and loaded.
pub const KERNEL_GPA: u64 = 0x10_0000;
/// RAM below 4 GiB ends here at the latest; the rest of it begins at [`HIGH_RAM_GPA`].
pub const LOW_RAM_END_GPA: u64 = 0xc000_0000;
/// Where RAM goes on above the hole for devices.
pub const HIGH_RAM_GPA: u64 = 0x1_0000_0000;
/// Where the root image lies.
pub const ROOT_GPA: u64 = 0x10_0000_0000;
/// End (exclusive) of the space for the root image: 128 GiB.
pub const ROOT_END_GPA: u64 = 0x30_0000_0000;

/// The direct map: guest-physical address `p` is at `DIRECT_MAP + p`.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// The kernel image: guest-physical address `p` of the image is at `KERNEL_BASE + p`.
pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;

/// Kernel code segment, ring 0, 64-bit. The selectors are those of Linux.
pub const KERNEL_CS: u16 = 0x10;
/// Kernel data segment.
pub const KERNEL_DS: u16 = 0x18;
/// User code segment, 32-bit: no code runs in it; `sysret` counts from it.
pub const USER32_CS: u16 = 0x23;
/// User data segment.
pub const USER_DS: u16 = 0x2b;
/// User code segment, 64-bit.
pub const USER_CS: u16 = 0x33;
/// Task state segment.
pub const TSS: u16 = 0x40;

const _: () = assert!(PAGE_TABLES_GPA >= REPORT_GPA + size_of::<crate::report::Report>() as u64);
const _: () = assert!(size_of::<crate::boot_info::BootInfo>() as u64 <= PAGE_SIZE);
