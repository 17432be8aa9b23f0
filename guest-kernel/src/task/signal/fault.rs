//! Exceptions of user code become signals.

use linux_raw_sys::general as nr;

use super::Signal;
use crate::arch;
use crate::arch::frame::{FxArea, UserFrame};
use crate::mm::addr::UserAddr;
use crate::task::Task;

/// The exception behind a signal, as a handler sees it in its context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Vector of the exception.
    pub vector: u64,
    /// Its error code; 0 if it has none.
    pub error_code: u64,
    /// The address of the last page fault.
    pub cr2: u64,
}

/// Vectors (SDM 3A, 6.15).
const DIVIDE_ERROR: u64 = 0;
const DEBUG: u64 = 1;
const BREAKPOINT: u64 = 3;
const INVALID_OPCODE: u64 = 6;
const NOT_PRESENT: u64 = 11;
const STACK: u64 = 12;
const X87: u64 = 16;
const ALIGNMENT: u64 = 17;
const SIMD: u64 = 19;
/// TF: single step.
const FLAG_TRAP: u64 = 1 << 8;

/// Sends the signal of an exception of user code that is not a page fault (of those, only the
/// address space knows whether they are one; it calls [`Task::force_fault`]). The codes and
/// addresses are those of Linux's arch/x86/kernel/traps.c. Limits: DR6 is not asked; a #DB
/// without TF is taken for `int1`.
pub fn exception(task: &Task, frame: &UserFrame, fault: Fault) {
    let here = UserAddr(frame.rip);
    let nowhere = UserAddr(0);
    let from_kernel = nr::SI_KERNEL as i32;
    let (signal, code, addr) = match fault.vector {
        DIVIDE_ERROR => (Signal::SIGFPE, nr::FPE_INTDIV as i32, here),
        DEBUG if frame.rflags & FLAG_TRAP != 0 => (Signal::SIGTRAP, nr::TRAP_TRACE as i32, here),
        DEBUG => (Signal::SIGTRAP, nr::TRAP_BRKPT as i32, here),
        BREAKPOINT => (Signal::SIGTRAP, from_kernel, nowhere),
        INVALID_OPCODE => (Signal::SIGILL, nr::ILL_ILLOPN as i32, here),
        NOT_PRESENT | STACK => (Signal::SIGBUS, from_kernel, nowhere),
        ALIGNMENT => (Signal::SIGBUS, nr::BUS_ADRALN as i32, nowhere),
        X87 | SIMD => (Signal::SIGFPE, floating_point_code(fault.vector), here),
        // Invalid TSS, general protection, overflow, bound range and what else there may be.
        _ => (Signal::SIGSEGV, from_kernel, nowhere),
    };
    task.force_fault(signal, code, addr, fault);
}

/// `si_code` of the first unmasked exception, in Linux's order.
fn floating_point_code(vector: u64) -> i32 {
    let mut area = FxArea::INITIAL;
    arch::fpu_save(&mut area);
    let raised = if vector == X87 {
        u32::from(area.fsw & !area.fcw)
    } else {
        area.mxcsr & !(area.mxcsr >> 7)
    };
    let code = match raised {
        r if r & 0x01 != 0 => nr::FPE_FLTINV,
        r if r & 0x04 != 0 => nr::FPE_FLTDIV,
        r if r & 0x08 != 0 => nr::FPE_FLTOVF,
        r if r & 0x12 != 0 => nr::FPE_FLTUND, // denormal operands too
        r if r & 0x20 != 0 => nr::FPE_FLTRES,
        _ => nr::SI_KERNEL,
    };
    code as i32
}
