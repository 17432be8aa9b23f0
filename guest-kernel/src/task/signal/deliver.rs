//! Delivery, on the way back to user mode.

use linux_raw_sys::general as nr;

use super::frame;
use super::state::{Delivery, Next};
use super::{DefaultAction, Signal};
use crate::arch::frame::{NO_SYSTEM_CALL, UserFrame};
use crate::error::Errno;
use crate::mm::addr::UserAddr;
use crate::task::Task;

/// Length of the `syscall` instruction.
const SYSCALL_LEN: u64 = 2;

/// What the task entered the kernel for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A system call, whose result is in rax: it may have to be made again.
    SystemCall,
    /// An exception or an interrupt: rax is the program's.
    Trap,
}

/// What delivery has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// Go to user mode, with all registers as the frame now has them (by `iret`).
    Resume,
    /// The process is over.
    Kill {
        /// What killed it.
        signal: Signal,
        /// Whether its status says that it left a core file (bit 7).
        core: bool,
    },
}

/// Delivers what is pending. To be called with the complete frame after taking the work flag, which
/// is set whenever a system call returns a restart code ([`Errno::is_restart`]).
pub fn deliver(task: &Task, frame: &mut UserFrame, origin: Origin) -> Outcome {
    let mut call = match origin {
        Origin::SystemCall if frame.number != NO_SYSTEM_CALL => interrupted(frame.rax),
        Origin::SystemCall | Origin::Trap => None,
    };
    loop {
        match task.signals.next() {
            Next::Kill(signal, action) => {
                return Outcome::Kill { signal, core: action == DefaultAction::Core };
            }
            Next::Handle(delivery) => {
                if let Some(why) = call.take() {
                    end_or_restart(frame, why, &delivery);
                }
                enter_handler(task, frame, &delivery);
            }
            Next::None => {
                if let Some(why) = call.take() {
                    restart(frame, why);
                }
                // The mask of before sigsuspend may let more through.
                task.signals.restore_mask();
                if !task.signal_pending() {
                    return Outcome::Resume;
                }
            }
        }
    }
}

/// Why a system call was broken off, if it was.
fn interrupted(result: u64) -> Option<Errno> {
    Errno::from_negative(result.cast_signed()).filter(|errno| errno.is_restart())
}

/// A handler runs: the call ends with EINTR after it, or is made again.
fn end_or_restart(frame: &mut UserFrame, why: Errno, delivery: &Delivery) {
    let again = match why {
        Errno::ERESTARTNOINTR => true,
        Errno::ERESTARTSYS => delivery.action.has(nr::SA_RESTART),
        _ => false,
    };
    if again {
        restart(frame, Errno::ERESTARTNOINTR);
    } else {
        frame.rax = i64::from(-Errno::EINTR.number()).cast_unsigned();
    }
}

/// The call is made again.
fn restart(frame: &mut UserFrame, why: Errno) {
    frame.rax = match why {
        Errno::ERESTART_RESTARTBLOCK => u64::from(nr::__NR_restart_syscall),
        _ => frame.number,
    };
    frame.rip = frame.rip.wrapping_sub(SYSCALL_LEN);
}

fn enter_handler(task: &Task, frame: &mut UserFrame, delivery: &Delivery) {
    match frame::push(frame, delivery) {
        Ok(()) => {
            task.signals.handler_entered(delivery);
            if !frame::is_canonical(delivery.handler.0) {
                // What the return to user mode would fault on.
                task.force_signal(Signal::SIGSEGV, nr::SI_KERNEL as i32, UserAddr(0));
            }
        }
        // No stack for SIGSEGV's own handler: there is no way to go on.
        Err(_) if delivery.info.signal() == Signal::SIGSEGV => {
            task.signals.force_fatal(Signal::SIGSEGV);
        }
        Err(_) => task.force_signal(Signal::SIGSEGV, nr::SI_KERNEL as i32, UserAddr(0)),
    }
}
