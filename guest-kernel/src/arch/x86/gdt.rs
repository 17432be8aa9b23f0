//! Segments and the task state segment (SDM 3A 3.4, 8.7). The selectors are Linux's.

use core::arch::asm;
use core::mem::size_of;

use shared_abi::layout::{KERNEL_CS, KERNEL_DS, TSS, USER_CS, USER_DS, USER32_CS};

use super::percpu;

/// Index of the interrupt stack for double faults.
pub(super) const DOUBLE_FAULT_STACK: u8 = 1;
/// Index of the interrupt stack for NMIs and machine checks.
pub(super) const NMI_STACK: u8 = 2;

const FAULT_STACK_SIZE: usize = 8192;

/// Stacks of the interrupts that cannot trust the current one. Guard pages surround them all.
#[unsafe(link_section = ".fault_stack")]
static mut FAULT_STACKS: [[u8; FAULT_STACK_SIZE]; 2] = [[0; FAULT_STACK_SIZE]; 2];

/// 64-bit task state segment.
#[repr(C, packed(4))]
pub struct Tss {
    reserved_0: u32,
    /// Stack pointers for rings 0 to 2.
    pub rsp: [u64; 3],
    reserved_1: u64,
    /// Interrupt stacks 1 to 7.
    pub ist: [u64; 7],
    reserved_2: u64,
    reserved_3: u16,
    /// At or beyond the limit: ring 3 has no ports.
    io_map_base: u16,
}

const _: () = assert!(size_of::<Tss>() == 0x68);

impl Tss {
    pub(super) const fn new() -> Self {
        Self {
            reserved_0: 0,
            rsp: [0; 3],
            reserved_1: 0,
            ist: [0; 7],
            reserved_2: 0,
            reserved_3: 0,
            io_map_base: size_of::<Self>() as u16,
        }
    }
}

/// The descriptors, by selector / 8.
#[repr(C, align(16))]
pub struct Gdt([u64; 10]);

impl Gdt {
    pub(super) const fn new() -> Self {
        let mut entries = [0; 10];
        entries[KERNEL_CS as usize / 8] = 0x00af_9b00_0000_ffff;
        entries[KERNEL_DS as usize / 8] = 0x00cf_9300_0000_ffff;
        entries[USER32_CS as usize / 8] = 0x00cf_fb00_0000_ffff;
        entries[USER_DS as usize / 8] = 0x00cf_f300_0000_ffff;
        entries[USER_CS as usize / 8] = 0x00af_fb00_0000_ffff;
        Self(entries)
    }
}

#[repr(C, packed)]
pub(super) struct TablePointer {
    pub(super) limit: u16,
    pub(super) base: u64,
}

/// Fills this CPU's tables and loads them.
pub(super) fn load() {
    // SAFETY: this CPU is being initialised.
    let cpu = unsafe { &mut *percpu::this_cpu() };
    let stacks = (&raw const FAULT_STACKS).cast::<u8>() as u64;
    let mut ist = [0; 7];
    ist[usize::from(DOUBLE_FAULT_STACK) - 1] = stacks + FAULT_STACK_SIZE as u64;
    ist[usize::from(NMI_STACK) - 1] = stacks + 2 * FAULT_STACK_SIZE as u64;
    cpu.tss.ist = ist;
    let base = &raw const cpu.tss as u64;
    let limit = size_of::<Tss>() as u64 - 1;
    // An available 64-bit TSS (type 9), present (SDM 3A figure 8-4).
    cpu.gdt.0[TSS as usize / 8] =
        limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
    cpu.gdt.0[TSS as usize / 8 + 1] = base >> 32;
    let pointer =
        TablePointer { limit: size_of::<Gdt>() as u16 - 1, base: &raw const cpu.gdt as u64 };
    // SAFETY: the table lives for ever. The VMM's segment registers already have the same
    // descriptors, so that none has to be reloaded but the task register; the data segments of
    // ring 3 are loaded here once, since `iretq` does not.
    unsafe {
        asm!(
            "lgdt [{pointer}]",
            "ltr {tss:x}",
            "mov ds, {user:e}",
            "mov es, {user:e}",
            pointer = in(reg) &raw const pointer,
            tss = in(reg) TSS,
            user = in(reg) u32::from(USER_DS),
            options(nostack),
        );
    }
}
