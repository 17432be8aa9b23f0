//! The kernel's side of the report page (`shared-abi/src/report.rs`): counters and marks for the VMM.

#![expect(unsafe_code, reason = "the report is raw memory that the VMM reads")]

use shared_abi::layout::REPORT_GPA;
use shared_abi::report::{FaultKind, PanicRecord, Report};

use crate::mm::addr::Phys;

fn report() -> *mut Report {
    Phys(REPORT_GPA).as_ptr().cast()
}

/// Adds one to a counter.
fn count(counter: *mut u64) {
    // SAFETY: the counter is a field of the report; with one CPU nobody else writes to it, and the
    // VMM reads only when this CPU has stopped.
    unsafe { counter.write_volatile(counter.read_volatile() + 1) };
}

/// Counts a page fault.
pub fn count_fault(kind: FaultKind) {
    // SAFETY: an address computation inside the report.
    count(unsafe { (&raw mut (*report()).faults).cast::<u64>().add(kind as usize) });
}

/// Counts a system call.
pub fn count_syscall(number: u64) {
    if let Ok(index) = usize::try_from(number)
        && index < shared_abi::report::SYSCALL_COUNT
    {
        // SAFETY: an address computation inside the report.
        count(unsafe { (&raw mut (*report()).syscalls).cast::<u64>().add(index) });
    }
}

/// Stores the time of the kernel's first instruction.
pub fn mark_kernel_entry(tsc: u64) {
    // SAFETY: a field of the report.
    unsafe { (&raw mut (*report()).tsc_kernel_entry).write_volatile(tsc) };
}

/// Stores the time of the first user instruction.
pub fn mark_user_entry(tsc: u64) {
    // SAFETY: a field of the report.
    unsafe { (&raw mut (*report()).tsc_user_entry).write_volatile(tsc) };
}

/// Stores where the fault was that killed the program.
pub fn mark_fatal_fault(address: u64, rip: u64) {
    // SAFETY: fields of the report.
    unsafe {
        (&raw mut (*report()).fault_address).write_volatile(address);
        (&raw mut (*report()).fault_rip).write_volatile(rip);
    }
}

/// Stores the figures of the end.
pub fn mark_exit(tsc: u64) {
    let usage = crate::mm::frame::usage();
    // SAFETY: fields of the report.
    unsafe {
        (&raw mut (*report()).tsc_exit).write_volatile(tsc);
        (&raw mut (*report()).frames_used).write_volatile(usage.used);
        (&raw mut (*report()).frames_used_max).write_volatile(usage.used_max);
    }
}

/// Where a panic is described.
pub fn panic_record() -> *mut PanicRecord {
    // SAFETY: an address computation inside the report.
    unsafe { &raw mut (*report()).panic }
}
