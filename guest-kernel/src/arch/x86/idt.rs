//! The interrupt descriptor table (SDM 3A 6.10).

use core::arch::asm;
use core::mem::size_of;

use shared_abi::layout::KERNEL_CS;

use super::entry;
use super::gdt::{DOUBLE_FAULT_STACK, NMI_STACK, TablePointer};
use super::trap::{VECTOR_COUNT, vector};

#[repr(C)]
#[derive(Clone, Copy)]
struct Gate {
    low: u64,
    high: u64,
}

const PRESENT: u64 = 1 << 47;
const INTERRUPT_GATE: u64 = 0xe << 40;
const FROM_RING_3: u64 = 3 << 45;

#[repr(C, align(16))]
struct Idt([Gate; VECTOR_COUNT]);

static mut IDT: Idt = Idt([Gate { low: 0, high: 0 }; VECTOR_COUNT]);

/// Fills the table and loads it.
pub(super) fn load() {
    // SAFETY: this runs once, before interrupts are on.
    let table: &mut Idt = unsafe { &mut *core::ptr::addr_of_mut!(IDT) };
    for (number, address) in entry::trap_entries() {
        let stack = match number {
            vector::DOUBLE_FAULT => DOUBLE_FAULT_STACK,
            vector::NMI | vector::MACHINE_CHECK => NMI_STACK,
            _ => 0,
        };
        // int3 and into are the program's to use.
        let ring =
            if matches!(number, vector::BREAKPOINT | vector::OVERFLOW) { FROM_RING_3 } else { 0 };
        table.0[number as usize] = Gate {
            low: (address & 0xffff)
                | u64::from(KERNEL_CS) << 16
                | u64::from(stack) << 32
                | INTERRUPT_GATE
                | ring
                | PRESENT
                | (address >> 16 & 0xffff) << 48,
            high: address >> 32,
        };
    }
    let pointer =
        TablePointer { limit: size_of::<Idt>() as u16 - 1, base: &raw const *table as u64 };
    // SAFETY: the table lives for ever, and every present gate leads to an entry point.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(nostack)) };
}
