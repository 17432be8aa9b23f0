//! Time: the clocks, which are the TSC since a moment that the VMM told, and sleeping.
//!
//! Nothing ticks. [`initialise`] is called once, before the first user instruction; reading a clock
//! takes no lock. A sleeper arms the CPU's one-shot timer for its deadline and checks the clock
//! after every interrupt, so that a timer that fires early or for somebody else does no harm.

mod call;
mod data;

pub use call::{
    InterruptedSleep, Timespec, clock_getres, clock_gettime, clock_nanosleep, gettimeofday,
    nanosleep, restart_sleep, time, times,
};
pub use data::{CLOCK_COUNT, COARSE_CLOCKS, COARSE_RESOLUTION_NS, TSC_CLOCKS, VdsoData};

use linux_raw_sys::general::CLOCK_REALTIME;

use crate::arch;
use crate::task::Task;

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// The clocks, and the page that every process sees below its vDSO.
static DATA: VdsoData = VdsoData::zeroed();

/// Starts the clocks: at the time-stamp `tsc_base` it was `realtime_ns` since 1970.
pub fn initialise(tsc_khz: u32, tsc_base: u64, realtime_ns: u64) {
    DATA.set(tsc_khz, tsc_base, realtime_ns);
}

/// The data page of the vDSO, to be mapped read-only into user space.
#[must_use]
pub fn vdso_data() -> &'static VdsoData {
    &DATA
}

/// Nanoseconds since 1970.
#[must_use]
pub fn realtime_ns() -> u64 {
    DATA.clock_ns(CLOCK_REALTIME, arch::time_stamp_counter())
}

/// Nanoseconds since the machine's start.
#[must_use]
pub fn monotonic_ns() -> u64 {
    DATA.nanoseconds(arch::time_stamp_counter())
}

/// The timer interrupt: it ended the `hlt` of whoever waits, and that is all it is for.
///
/// Limits: with several CPUs a sleeper is woken by its own CPU's timer only.
pub fn on_timer() {}

/// Sees to it that an interrupt comes when the monotonic clock shows `deadline_ns`.
pub fn wake_at(deadline_ns: u64) {
    arch::set_timer(Some(DATA.tsc_at(deadline_ns)));
}

/// Why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The time has come.
    Deadline,
    /// A signal is pending.
    Signal,
}

/// Waits until the monotonic clock shows `deadline_ns` (all ones: never) or a signal is pending.
pub fn sleep_until(task: &Task, deadline_ns: u64) -> Wake {
    let wake = loop {
        // From the look at the condition to the halt no interrupt may be lost.
        let interrupts = arch::interrupts_save_and_disable();
        let wake = if monotonic_ns() >= deadline_ns {
            Some(Wake::Deadline)
        } else if task.signal_pending() {
            Some(Wake::Signal)
        } else {
            arch::set_timer((deadline_ns != u64::MAX).then(|| DATA.tsc_at(deadline_ns)));
            arch::wait_for_interrupt();
            None
        };
        arch::interrupts_restore(interrupts);
        if let Some(wake) = wake {
            break wake;
        }
    };
    arch::set_timer(None);
    wake
}
