//! The processor. `x86` is the real one; on the host a fake with the same names lets everything
//! else be compiled and unit-tested. Both must define what is re-exported here.

#[cfg(target_os = "none")]
mod x86;
#[cfg(target_os = "none")]
pub use x86::{
    InterruptState, current, direct_map_base, exit_machine, flush_tlb_page, flush_tlb_user,
    fpu_restore, fpu_save, initialise, interrupts_restore, interrupts_save_and_disable,
    kernel_page_table_root, ring_doorbell, serial_write, set_current, set_timer, set_work_pending,
    time_stamp_counter, user_copy, user_zero, wait_for_interrupt,
};
#[cfg(target_os = "none")]
pub use x86::{base, cpu, entry, percpu};

pub mod frame;
// Pure data and code of ring 3: the same on the host, where the unit tests run it.
#[path = "x86/vdso.rs"]
pub mod vdso;

#[cfg(not(target_os = "none"))]
mod host;
#[cfg(not(target_os = "none"))]
pub use host::{
    ARENA_SIZE, InterruptState, current, direct_map_base, exit_machine, flush_tlb_page,
    flush_tlb_user, fpu_restore, fpu_save, interrupts_restore, interrupts_save_and_disable,
    kernel_page_table_root, ring_doorbell, serial_write, set_current, set_timer, set_work_pending,
    time_stamp_counter, user_copy, user_zero, wait_for_interrupt,
};
