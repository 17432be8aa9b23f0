//! x86-64 in ring 0.
//!
//! * [`entry`]: the assembly: system calls, traps, the way back to ring 3.
//! * [`trap`]: what each vector means.
//! * [`cpu`]: single instructions; [`percpu`]: this CPU's data, behind GS; [`gdt`], [`idt`]: tables.
//! * [`uaccess`]: copies to and from user memory; [`apic`]: the local APIC and its timer.

#![expect(unsafe_code, reason = "this is where the processor is told what to do")]

mod apic;
pub mod base;
pub mod cpu;
pub mod entry;
mod fpu;
mod gdt;
mod idt;
pub mod percpu;
mod trap;
mod uaccess;

pub use apic::set_timer;
pub use cpu::{
    InterruptState, exit_machine, flush_tlb_page, flush_tlb_user, interrupts_restore,
    interrupts_save_and_disable, ring_doorbell, serial_write, time_stamp_counter,
    wait_for_interrupt,
};
pub use fpu::{fpu_restore, fpu_save};
pub use percpu::{current, kernel_page_table_root, set_current, set_work_pending};
pub use uaccess::{user_copy, user_zero};

use shared_abi::layout::DIRECT_MAP;

/// Where guest-physical address 0 is mapped.
#[inline]
pub fn direct_map_base() -> *mut u8 {
    DIRECT_MAP as *mut u8
}

/// Makes this CPU ready for traps, system calls and interrupts.
pub fn initialise() {
    percpu::initialise();
    gdt::load();
    idt::load();
    entry::enable_system_calls();
    uaccess::try_smap();
    apic::initialise();
}
