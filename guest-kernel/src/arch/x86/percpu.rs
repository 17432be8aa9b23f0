//! This CPU's data, behind GS.
//!
//! In the kernel, GS points at the [`PerCpu`] of the CPU that runs; in user mode it is the program's,
//! and the kernel's waits in `IA32_KERNEL_GS_BASE`. The entry code swaps them.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::sync::atomic::AtomicU32;

use super::cpu;
use super::gdt::{Gdt, Tss};
use crate::task::Task;

const IA32_GS_BASE: u32 = 0xc000_0101;

/// How many CPUs the kernel is built for.
pub const CPU_COUNT_MAX: usize = 1;

/// Data of one CPU. The entry code knows the offsets by `offset_of!`.
#[repr(C, align(64))]
pub struct PerCpu {
    /// Where the kernel stack of the current task ends: system calls start here.
    pub kernel_stack_end: u64,
    /// The user's stack pointer, for a few instructions of the entry code.
    pub user_rsp: u64,
    /// The task that runs.
    pub current: *const Task,
    /// Not zero: system calls have something to do before they are dispatched (count, trace).
    pub entry_work: AtomicU32,
    /// Not zero: there is something to do before the next return to user mode.
    pub exit_work: AtomicU32,
    /// The page tables that the machine started with.
    pub boot_page_table_root: u64,
    /// Task state segment: stacks for traps.
    pub tss: Tss,
    /// Segments.
    pub gdt: Gdt,
}

/// All CPUs' data.
#[repr(transparent)]
struct AllCpus(UnsafeCell<[PerCpu; CPU_COUNT_MAX]>);

// SAFETY: each CPU touches its own element only, and what others may touch in it is atomic.
unsafe impl Sync for AllCpus {}

static CPUS: AllCpus = AllCpus(UnsafeCell::new(
    [const {
        PerCpu {
            kernel_stack_end: 0,
            user_rsp: 0,
            current: core::ptr::null(),
            entry_work: AtomicU32::new(0),
            exit_work: AtomicU32::new(0),
            boot_page_table_root: 0,
            tss: Tss::new(),
            gdt: Gdt::new(),
        }
    }; CPU_COUNT_MAX],
));

/// Signals may be pending.
pub const WORK_SIGNAL: u32 = 1 << 0;
/// The system call needs all registers: it is dispatched again with the whole frame.
pub const WORK_WHOLE_FRAME: u32 = 1 << 1;

/// Makes GS point at the first CPU's data.
pub(super) fn initialise() {
    let cpu = CPUS.0.get().cast::<PerCpu>();
    // SAFETY: the MSR exists, and the element lives for ever.
    unsafe { cpu::msr_write(IA32_GS_BASE, cpu as u64) };
    // SAFETY: nobody else knows the element yet.
    unsafe { (*cpu).boot_page_table_root = cpu::page_table_root() };
}

/// The data of the first CPU, to fill its tables.
///
/// # Safety
/// Only during the initialisation of that CPU.
pub(super) unsafe fn this_cpu() -> *mut PerCpu {
    CPUS.0.get().cast::<PerCpu>()
}

/// The task that runs on this CPU.
#[inline]
pub fn current() -> &'static Task {
    let task: *const Task;
    // SAFETY: GS points at this CPU's data, where the pointer is set before the first task runs.
    unsafe {
        asm!("mov {}, gs:[{offset}]", out(reg) task, offset = const offset_of!(PerCpu, current),
             options(nostack, readonly, pure));
    }
    // SAFETY: the current task lives as long as it runs.
    unsafe { &*task }
}

/// Makes `task` the one that runs here, on the kernel stack that ends at `kernel_stack_end`.
pub fn set_current(task: &'static Task, kernel_stack_end: u64) {
    // SAFETY: GS points at this CPU's data; interrupts do not look at these fields.
    unsafe {
        asm!("mov gs:[{offset}], {}", in(reg) task, offset = const offset_of!(PerCpu, current),
             options(nostack));
        asm!("mov gs:[{offset}], {}", in(reg) kernel_stack_end,
             offset = const offset_of!(PerCpu, kernel_stack_end), options(nostack));
        asm!("mov gs:[{offset}], {}", in(reg) kernel_stack_end,
             offset = const offset_of!(PerCpu, tss) + offset_of!(Tss, rsp), options(nostack));
    }
}

/// Sets bits in this CPU's exit work word.
#[inline]
pub fn set_exit_work(bits: u32) {
    // SAFETY: GS points at this CPU's data; the operation is atomic towards interrupts.
    unsafe {
        asm!("or dword ptr gs:[{offset}], {:e}", in(reg) bits,
             offset = const offset_of!(PerCpu, exit_work), options(nostack));
    }
}

/// Takes this CPU's exit work word.
pub fn take_exit_work() -> u32 {
    let mut bits = 0u32;
    // SAFETY: GS points at this CPU's data.
    unsafe {
        asm!("xchg dword ptr gs:[{offset}], {:e}", inout(reg) bits,
             offset = const offset_of!(PerCpu, exit_work), options(nostack));
    }
    bits
}

/// Whether there is exit work.
pub fn has_exit_work() -> bool {
    let bits: u32;
    // SAFETY: GS points at this CPU's data.
    unsafe {
        asm!("mov {:e}, dword ptr gs:[{offset}]", out(reg) bits,
             offset = const offset_of!(PerCpu, exit_work), options(nostack, readonly));
    }
    bits != 0
}

/// The next return to user mode looks for signals.
pub fn set_work_pending() {
    set_exit_work(WORK_SIGNAL);
}

/// Every system call goes through `syscall::on_entry_work` first.
pub fn set_entry_work() {
    // SAFETY: GS points at this CPU's data.
    unsafe {
        asm!("mov dword ptr gs:[{offset}], 1", offset = const offset_of!(PerCpu, entry_work),
             options(nostack));
    }
}

/// The page tables that hold the kernel's half.
pub fn kernel_page_table_root() -> u64 {
    let root: u64;
    // SAFETY: GS points at this CPU's data.
    unsafe {
        asm!("mov {}, gs:[{offset}]", out(reg) root,
             offset = const offset_of!(PerCpu, boot_page_table_root), options(nostack, readonly));
    }
    root
}
