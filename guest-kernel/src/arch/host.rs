//! The fake processor of the unit tests: one arena of "physical" memory, user memory = the process's.

#![expect(unsafe_code, reason = "the fake direct map and fake user memory are raw memory")]

use std::alloc::{Layout, alloc_zeroed};
use std::cell::Cell;
use std::sync::OnceLock;

use super::frame::FxArea;
use crate::task::Task;

/// Whether interrupts were on.
#[derive(Clone, Copy)]
pub struct InterruptState;

/// Nothing to disable.
pub fn interrupts_save_and_disable() -> InterruptState {
    InterruptState
}

/// Nothing to restore.
pub fn interrupts_restore(_: InterruptState) {}

/// Size of the arena that plays guest-physical memory.
pub const ARENA_SIZE: usize = 64 << 20;

/// Where guest-physical address 0 is mapped: a zeroed arena, one per process.
pub fn direct_map_base() -> *mut u8 {
    static ARENA: OnceLock<usize> = OnceLock::new();
    let address = *ARENA.get_or_init(|| {
        let layout = Layout::from_size_align(ARENA_SIZE, 2 << 20).expect("a valid layout");
        // SAFETY: the layout's size is not zero.
        unsafe { alloc_zeroed(layout) as usize }
    });
    address as *mut u8
}

/// The PML4 of the kernel: frame 1 of the arena, never used.
pub fn kernel_page_table_root() -> u64 {
    0x1000
}

/// Copies `len` bytes; user memory is this process's, so that it always succeeds.
///
/// # Safety
/// Both ranges must be valid.
pub unsafe fn user_copy(dst: *mut u8, src: *const u8, len: usize) -> usize {
    // SAFETY: the caller vouches for both ranges.
    unsafe { core::ptr::copy(src, dst, len) };
    0
}

/// Zeroes `len` bytes.
///
/// # Safety
/// The range must be valid.
pub unsafe fn user_zero(dst: *mut u8, len: usize) -> usize {
    // SAFETY: the caller vouches for the range.
    unsafe { core::ptr::write_bytes(dst, 0, len) };
    0
}

/// No TLB here.
pub fn flush_tlb_page(_: u64) {}
/// No TLB here.
pub fn flush_tlb_user() {}
/// No VMM here.
pub fn ring_doorbell(_: u32) {}
/// No VMM here.
pub fn serial_write(_: &[u8]) {}
/// Nothing to wait for: tests must not block.
pub fn wait_for_interrupt() {
    panic!("a unit test would block for ever");
}
/// No machine to end.
pub fn exit_machine(word: u32) -> ! {
    panic!("exit word {word:#x}");
}
/// No timer: nothing sleeps here.
pub fn set_timer(_tsc_deadline: Option<u64>) {}
/// No way back to user mode that could look.
pub fn set_work_pending() {}

thread_local! {
    static FPU: Cell<FxArea> = const { Cell::new(FxArea::INITIAL) };
}

/// Stores the registers that this test thread pretends to have.
pub fn fpu_save(area: &mut FxArea) {
    *area = FPU.get();
}

/// Sets the registers that this test thread pretends to have.
pub fn fpu_restore(area: &FxArea) {
    FPU.set(*area);
}

/// Some time.
pub fn time_stamp_counter() -> u64 {
    0
}

thread_local! {
    static CURRENT: Cell<Option<&'static Task>> = const { Cell::new(None) };
}

/// Makes `task` the current one of this test thread.
pub fn set_current(task: &'static Task) {
    CURRENT.set(Some(task));
}

/// The task that runs on this CPU.
pub fn current() -> &'static Task {
    CURRENT.get().expect("the test called set_current")
}
