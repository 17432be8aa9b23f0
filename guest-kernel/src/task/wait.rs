//! Waiting for something that an interrupt (or another task) makes true.

use crate::arch;
use crate::error::{Errno, Result};
use crate::time;

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The condition holds.
    Ready,
    /// The time is over.
    TimedOut,
}

/// Waits until `condition` holds. It is called with interrupts off, so that what makes it true cannot
/// come between the look at it and the sleep; it must be short and must not touch user memory.
///
/// # Errors
/// ERESTARTSYS when a signal is pending.
pub fn wait_until(condition: impl FnMut() -> bool) -> Result<()> {
    wait_until_deadline(condition, None).map(|_| ())
}

/// As [`wait_until`], until `deadline_ns` of the monotonic clock at the latest.
///
/// # Errors
/// ERESTARTSYS when a signal is pending.
pub fn wait_until_deadline(
    mut condition: impl FnMut() -> bool,
    deadline_ns: Option<u64>,
) -> Result<Wake> {
    loop {
        let interrupts = arch::interrupts_save_and_disable();
        let outcome = if condition() {
            Some(Ok(Wake::Ready))
        } else if arch::current().signal_pending() {
            Some(Err(Errno::ERESTARTSYS))
        } else if deadline_ns.is_some_and(|deadline| time::monotonic_ns() >= deadline) {
            Some(Ok(Wake::TimedOut))
        } else {
            if let Some(deadline) = deadline_ns {
                time::wake_at(deadline);
            }
            // Turns interrupts on and halts in one step.
            arch::wait_for_interrupt();
            None
        };
        arch::interrupts_restore(interrupts);
        if let Some(outcome) = outcome {
            return outcome;
        }
    }
}
