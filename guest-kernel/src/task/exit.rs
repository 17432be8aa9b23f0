//! The end of a process. With one process, that is the end of the machine.

use shared_abi::ports::{EXIT_SIGNAL, EXIT_STATUS};

use super::signal::Signal;
use crate::{arch, report};

/// `exit_group(2)`.
pub fn exit_group(status: i32) -> ! {
    end(EXIT_STATUS | (status as u32 & 0xff))
}

/// Killed by a signal; `core` if its default action is to dump one.
pub fn killed(signal: Signal, core: bool) -> ! {
    let core = if core { 0x80 } else { 0 };
    end(EXIT_SIGNAL | signal.number() & 0x7f | core)
}

fn end(word: u32) -> ! {
    report::mark_exit(arch::time_stamp_counter());
    arch::exit_machine(word)
}
