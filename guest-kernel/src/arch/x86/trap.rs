//! What the vectors mean.
//!
//! From ring 3 a trap is a page to bring in, a signal, or an interrupt. From ring 0 it is a fault in
//! a user copy, which has a fix-up, an interrupt, or a bug: then the kernel panics.

use linux_raw_sys::general::{BUS_ADRERR, SEGV_ACCERR, SEGV_MAPERR};
use shared_abi::report::FaultKind;

use super::percpu::{self, WORK_SIGNAL, WORK_WHOLE_FRAME};
use super::{apic, cpu, uaccess};
use crate::arch::frame::UserFrame;
use crate::mm::addr::{USER_END, UserAddr};
use crate::mm::space::{Access, Denied};
use crate::mm::user;
use crate::task::signal::{self, Fault, Origin, Outcome, Signal};
use crate::{report, syscall, task};

/// Interrupt vectors (SDM 3A table 6-1), and ours.
pub(super) mod vector {
    pub(crate) const DIVIDE_ERROR: u8 = 0;
    pub(crate) const DEBUG: u8 = 1;
    pub(crate) const NMI: u8 = 2;
    pub(crate) const BREAKPOINT: u8 = 3;
    pub(crate) const OVERFLOW: u8 = 4;
    pub(crate) const BOUND_RANGE: u8 = 5;
    pub(crate) const INVALID_OPCODE: u8 = 6;
    pub(crate) const DEVICE_NOT_AVAILABLE: u8 = 7;
    pub(crate) const DOUBLE_FAULT: u8 = 8;
    pub(crate) const INVALID_TSS: u8 = 10;
    pub(crate) const SEGMENT_NOT_PRESENT: u8 = 11;
    pub(crate) const STACK_FAULT: u8 = 12;
    pub(crate) const GENERAL_PROTECTION: u8 = 13;
    pub(crate) const PAGE_FAULT: u8 = 14;
    pub(crate) const FLOATING_POINT: u8 = 16;
    pub(crate) const ALIGNMENT_CHECK: u8 = 17;
    pub(crate) const MACHINE_CHECK: u8 = 18;
    pub(crate) const SIMD: u8 = 19;
    /// The local APIC's timer.
    pub(crate) const TIMER: u8 = 0x30;
    /// Input is ready.
    pub(crate) const STDIO: u8 = shared_abi::ports::STDIO_VECTOR;
    /// An interrupt that went away.
    pub(crate) const SPURIOUS: u8 = 0x3f;
}

/// Vectors that the table has room for.
pub(super) const VECTOR_COUNT: usize = 0x40;

const ERROR_WRITE: u64 = 1 << 1;
const ERROR_FETCH: u64 = 1 << 4;

/// Every trap and interrupt arrives here with interrupts off.
pub(super) extern "C" fn on_trap(number: u64, frame: &mut UserFrame) {
    let from_user = frame.cs & 3 != 0;
    match number as u8 {
        vector::TIMER => {
            apic::end_of_interrupt();
            crate::time::on_timer();
        }
        vector::STDIO => {
            apic::end_of_interrupt();
            crate::driver::stdio::on_input_interrupt();
        }
        vector::SPURIOUS => {}
        vector::PAGE_FAULT => on_page_fault(frame, from_user),
        vector if from_user && !is_fatal(vector) => {
            let mut fault = Fault { vector: number, error_code: frame.number, cr2: 0 };
            if let Some(error_code) = refused_interrupt(vector, frame) {
                fault = Fault { vector: u64::from(vector::GENERAL_PROTECTION), error_code, cr2: 0 };
            }
            signal::exception(percpu::current(), frame, fault);
        }
        _ => match uaccess::fixup_for(frame.rip) {
            Some(fixup) if !from_user => frame.rip = fixup,
            _ => crate::panic::on_exception(number, frame),
        },
    }
    if from_user {
        run_exit_work(frame, Origin::Trap);
    }
}

fn is_fatal(vector: u8) -> bool {
    matches!(
        vector,
        vector::NMI | vector::DOUBLE_FAULT | vector::MACHINE_CHECK | vector::INVALID_TSS
    )
}

/// The error code of the general protection fault that `int n` would have raised at a gate that is
/// not ring 3's: a KVM that emulates traps without hardware support reports an invalid opcode instead.
fn refused_interrupt(vector: u8, frame: &UserFrame) -> Option<u64> {
    const INT_N: u8 = 0xcd;
    const ERROR_IDT: u64 = 1 << 1;
    if vector != vector::INVALID_OPCODE {
        return None;
    }
    // Another fault here means that the code is gone: it was an invalid opcode, then.
    match user::read_value::<[u8; 2]>(UserAddr(frame.rip)) {
        Ok([INT_N, number]) => Some(u64::from(number) << 3 | ERROR_IDT),
        _ => None,
    }
}

fn on_page_fault(frame: &mut UserFrame, from_user: bool) {
    let address = cpu::fault_address();
    let error = frame.number;
    if !from_user && (address >= USER_END || uaccess::fixup_for(frame.rip).is_none()) {
        crate::panic::on_exception(u64::from(vector::PAGE_FAULT), frame);
    }
    // A fault in a user copy under a spin lock would be a bug as well; interrupts come back on as
    // they were in the code that faulted.
    if from_user || frame.rflags & (1 << 9) != 0 {
        cpu::interrupts_enable();
    }
    let access = match error {
        e if e & ERROR_FETCH != 0 => Access::Execute,
        e if e & ERROR_WRITE != 0 => Access::Write,
        _ => Access::Read,
    };
    let task = percpu::current();
    match task.space.fault(UserAddr(address), access) {
        Ok(()) => {}
        Err(_) if !from_user => {
            report::count_fault(FaultKind::Kernel);
            if let Some(fixup) = uaccess::fixup_for(frame.rip) {
                frame.rip = fixup;
            }
        }
        Err(denied) => {
            report::count_fault(FaultKind::Signal);
            let (signal, code) = match denied {
                Denied::NotMapped => (Signal::SIGSEGV, SEGV_MAPERR),
                Denied::Protected => (Signal::SIGSEGV, SEGV_ACCERR),
                Denied::NoFile => (Signal::SIGBUS, BUS_ADRERR),
                Denied::NoMemory => (Signal::SIGKILL, 0),
            };
            report::mark_fatal_fault(address, frame.rip);
            let fault =
                Fault { vector: u64::from(vector::PAGE_FAULT), error_code: error, cr2: address };
            task.force_fault(signal, code as i32, UserAddr(address), fault);
        }
    }
    cpu::interrupts_disable();
}

/// The slow way out of a system call: the frame is whole, RAX is the call's result, interrupts are off.
pub(super) extern "C" fn on_syscall_exit_work(frame: &mut UserFrame) {
    run_exit_work(frame, Origin::SystemCall);
}

/// Does what is to be done before ring 3 runs again. Interrupts are off before and after.
fn run_exit_work(frame: &mut UserFrame, origin: Origin) {
    loop {
        let work = percpu::take_exit_work();
        if work == 0 {
            return;
        }
        cpu::interrupts_enable();
        if work & WORK_WHOLE_FRAME != 0 {
            syscall::dispatch_whole_frame(frame);
        }
        if work & WORK_SIGNAL != 0 {
            match signal::deliver(percpu::current(), frame, origin) {
                Outcome::Resume => {}
                Outcome::Kill { signal, core } => task::exit::killed(signal, core),
            }
        }
        cpu::interrupts_disable();
    }
}
