//! The system calls of clocks and sleeping.

use linux_raw_sys::general::{
    CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_MONOTONIC_RAW,
    CLOCK_PROCESS_CPUTIME_ID, CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_TAI,
    CLOCK_THREAD_CPUTIME_ID, TIMER_ABSTIME,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{
    COARSE_CLOCKS, COARSE_RESOLUTION_NS, DATA, SECOND_NS, TSC_CLOCKS, Wake, monotonic_ns,
    realtime_ns, sleep_until,
};
use crate::arch;
use crate::error::{Errno, Result};
use crate::mm::addr::UserAddr;
use crate::mm::user::{read_value, write_value};
use crate::task::Task;

/// Ticks of `times` in a second (USER_HZ).
const USER_HZ: u64 = 100;

/// `struct __kernel_timespec`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Timespec {
    /// Seconds.
    pub seconds: i64,
    /// Nanoseconds.
    pub nanoseconds: i64,
}

impl Timespec {
    /// The same time in two words.
    #[must_use]
    pub const fn from_ns(ns: u64) -> Self {
        Self { seconds: (ns / SECOND_NS) as i64, nanoseconds: (ns % SECOND_NS) as i64 }
    }

    /// The same time in one word; what does not fit is the far future.
    ///
    /// # Errors
    /// EINVAL if it is negative or has too many nanoseconds.
    pub fn to_ns(self) -> Result<u64> {
        let seconds = u64::try_from(self.seconds).map_err(|_| Errno::EINVAL)?;
        let nanoseconds = u64::try_from(self.nanoseconds).map_err(|_| Errno::EINVAL)?;
        if nanoseconds >= SECOND_NS {
            return Err(Errno::EINVAL);
        }
        Ok(seconds.saturating_mul(SECOND_NS).saturating_add(nanoseconds))
    }
}

/// `struct timeval`.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
struct Timeval {
    seconds: u64,
    microseconds: u64,
}

/// `struct timezone`: always Greenwich.
#[repr(C)]
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
struct Timezone {
    minutes_west: i32,
    dst_time: i32,
}

/// `struct tms`.
#[repr(C)]
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable)]
struct Tms {
    user: u64,
    system: u64,
    children_user: u64,
    children_system: u64,
}

/// What a clock number names.
enum Clock {
    /// The TSC and a base.
    Tsc(u32),
    /// CPU time of this process.
    Process,
    /// CPU time of this thread.
    Thread,
}

impl Clock {
    fn decode(task: &Task, clock: i32) -> Result<Self> {
        if clock < 0 {
            return Self::decode_cpu_clock(task, clock);
        }
        let number = clock.cast_unsigned();
        match number {
            CLOCK_PROCESS_CPUTIME_ID => Ok(Self::Process),
            CLOCK_THREAD_CPUTIME_ID => Ok(Self::Thread),
            0..32 if TSC_CLOCKS & (1 << number) != 0 => Ok(Self::Tsc(number)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The numbers of clock_getcpuclockid(3): `~pid << 3 | thread << 2 | kind`, where kind 3 is not
    /// a CPU clock but a descriptor.
    ///
    /// Limits: the CPU clocks of other processes and of descriptors are EINVAL.
    fn decode_cpu_clock(task: &Task, clock: i32) -> Result<Self> {
        const THREAD: i32 = 1 << 2;
        const KIND: i32 = 3;
        let id = (!(clock >> 3)).cast_unsigned();
        let thread = clock & THREAD != 0;
        let own = id == 0 || id == if thread { task.tid } else { task.pid };
        match (own && clock & KIND != KIND, thread) {
            (true, true) => Ok(Self::Thread),
            (true, false) => Ok(Self::Process),
            (false, _) => Err(Errno::EINVAL),
        }
    }

    fn now_ns(&self) -> u64 {
        match *self {
            Self::Tsc(number) => DATA.clock_ns(number, arch::time_stamp_counter()),
            Self::Process | Self::Thread => cpu_time_ns(),
        }
    }
}

/// CPU time of the only task.
///
/// Limits: counted as if it had run since the start, sleeps included.
fn cpu_time_ns() -> u64 {
    monotonic_ns()
}

/// clock_gettime(2).
///
/// # Errors
/// EINVAL for an unknown clock, EFAULT.
pub fn clock_gettime(task: &Task, clock: i32, ts: UserAddr) -> Result<usize> {
    let clock = Clock::decode(task, clock)?;
    write_value(ts, &Timespec::from_ns(clock.now_ns()))?;
    Ok(0)
}

/// clock_getres(2).
///
/// # Errors
/// EINVAL for an unknown clock, EFAULT.
pub fn clock_getres(task: &Task, clock: i32, resolution: UserAddr) -> Result<usize> {
    let resolution_ns = match Clock::decode(task, clock)? {
        Clock::Tsc(number) if COARSE_CLOCKS & (1 << number) != 0 => COARSE_RESOLUTION_NS,
        Clock::Tsc(_) | Clock::Process | Clock::Thread => 1,
    };
    if !resolution.is_null() {
        write_value(resolution, &Timespec::from_ns(resolution_ns))?;
    }
    Ok(0)
}

/// gettimeofday(2).
///
/// # Errors
/// EFAULT.
pub fn gettimeofday(_task: &Task, tv: UserAddr, tz: UserAddr) -> Result<usize> {
    if !tv.is_null() {
        let now_ns = realtime_ns();
        let microseconds = now_ns % SECOND_NS / 1000;
        write_value(tv, &Timeval { seconds: now_ns / SECOND_NS, microseconds })?;
    }
    if !tz.is_null() {
        write_value(tz, &Timezone::default())?;
    }
    Ok(0)
}

/// time(2).
///
/// # Errors
/// EFAULT.
pub fn time(_task: &Task, seconds: UserAddr) -> Result<usize> {
    let now = realtime_ns() / SECOND_NS;
    if !seconds.is_null() {
        write_value(seconds, &now)?;
    }
    Ok(now as usize)
}

/// times(2).
///
/// # Errors
/// EFAULT.
pub fn times(_task: &Task, buffer: UserAddr) -> Result<usize> {
    let tick_ns = SECOND_NS / USER_HZ;
    if !buffer.is_null() {
        write_value(buffer, &Tms { user: cpu_time_ns() / tick_ns, ..Tms::default() })?;
    }
    Ok((monotonic_ns() / tick_ns) as usize)
}

/// nanosleep(2).
///
/// # Errors
/// EINVAL for a time that is none, EFAULT, EINTR (by way of a restart) when a handler ran.
pub fn nanosleep(task: &Task, request: UserAddr, remaining: UserAddr) -> Result<usize> {
    let ns = read_value::<Timespec>(request)?.to_ns()?;
    sleep_relative(task, monotonic_ns().saturating_add(ns), remaining)
}

/// clock_nanosleep(2).
///
/// # Errors
/// As [`nanosleep`], and EOPNOTSUPP for the clocks that nobody can sleep on.
pub fn clock_nanosleep(
    task: &Task,
    clock: i32,
    flags: u32,
    request: UserAddr,
    remaining: UserAddr,
) -> Result<usize> {
    let clock = match Clock::decode(task, clock)? {
        Clock::Tsc(CLOCK_REALTIME_COARSE | CLOCK_MONOTONIC_COARSE | CLOCK_MONOTONIC_RAW) => {
            return Err(Errno::EOPNOTSUPP);
        }
        // As on Linux: by its own number there is no such call, by clock_getcpuclockid's no sense.
        Clock::Thread if clock >= 0 => return Err(Errno::EOPNOTSUPP),
        Clock::Thread => return Err(Errno::EINVAL),
        clock @ (Clock::Tsc(CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_BOOTTIME | CLOCK_TAI)
        | Clock::Process) => clock,
        Clock::Tsc(_) => return Err(Errno::EINVAL),
    };
    let ns = read_value::<Timespec>(request)?.to_ns()?;
    let now_ns = monotonic_ns();
    if flags & TIMER_ABSTIME == 0 {
        return sleep_relative(task, now_ns.saturating_add(ns), remaining);
    }
    let deadline_ns = now_ns.saturating_add(ns.saturating_sub(clock.now_ns()));
    match sleep_until(task, deadline_ns) {
        Wake::Deadline => Ok(0),
        Wake::Signal => Err(Errno::ERESTARTNOHAND),
    }
}

/// restart_syscall(2) after a sleep that a signal without a handler broke: sleeps on.
///
/// # Errors
/// As [`nanosleep`]; EINTR if there is nothing to go on with.
pub fn restart_sleep(task: &Task) -> Result<usize> {
    let sleep = task.interrupted_sleep.lock().take().ok_or(Errno::EINTR)?;
    sleep_relative(task, sleep.deadline_ns, sleep.remaining)
}

/// A relative sleep that a signal broke, kept for restart_syscall.
#[derive(Clone, Copy, Debug)]
pub struct InterruptedSleep {
    deadline_ns: u64,
    remaining: UserAddr,
}

fn sleep_relative(task: &Task, deadline_ns: u64, remaining: UserAddr) -> Result<usize> {
    match sleep_until(task, deadline_ns) {
        Wake::Deadline => Ok(0),
        Wake::Signal => {
            if !remaining.is_null() {
                let left_ns = deadline_ns.saturating_sub(monotonic_ns());
                write_value(remaining, &Timespec::from_ns(left_ns))?;
            }
            *task.interrupted_sleep.lock() = Some(InterruptedSleep { deadline_ns, remaining });
            Err(Errno::ERESTART_RESTARTBLOCK)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user<T>(value: &mut T) -> UserAddr {
        UserAddr((&raw mut *value).expose_provenance() as u64)
    }

    #[test]
    fn unknown_clocks_are_einval() {
        let (task, mut ts) = (Task::for_tests(), Timespec::default());
        for clock in [8, 9, 10, 12, 31, 32, i32::MAX, i32::MIN, !7 << 3, (!1 << 3) | 3] {
            assert_eq!(clock_gettime(&task, clock, user(&mut ts)), Err(Errno::EINVAL), "{clock}");
            assert_eq!(clock_getres(&task, clock, UserAddr(0)), Err(Errno::EINVAL), "{clock}");
        }
        for clock in [0, 1, 2, 3, 4, 5, 6, 7, 11, (!1 << 3) | 2, (!0 << 3) | 6] {
            assert_eq!(clock_gettime(&task, clock, user(&mut ts)), Ok(0), "{clock}");
            assert_eq!(clock_getres(&task, clock, user(&mut ts)), Ok(0), "{clock}");
            assert!(ts.nanoseconds == if [5, 6].contains(&clock) { 4_000_000 } else { 1 });
        }
    }

    #[test]
    fn times_that_are_none_are_einval() {
        let task = Task::for_tests();
        for (seconds, nanoseconds) in [(-1, 0), (0, -1), (0, 1_000_000_000), (i64::MIN, 0)] {
            let mut ts = Timespec { seconds, nanoseconds };
            assert_eq!(nanosleep(&task, user(&mut ts), UserAddr(0)), Err(Errno::EINVAL));
        }
        assert_eq!(Timespec { seconds: i64::MAX, nanoseconds: 0 }.to_ns(), Ok(u64::MAX));
        assert_eq!(Timespec { seconds: 1, nanoseconds: 5 }.to_ns(), Ok(1_000_000_005));
    }

    #[test]
    fn sleeps_that_are_over_do_not_block() {
        let (task, mut ts) = (Task::for_tests(), Timespec::default());
        assert_eq!(nanosleep(&task, user(&mut ts), UserAddr(0)), Ok(0));
        for clock in [0, 1, 2, 7, 11] {
            for flags in [0, TIMER_ABSTIME] {
                let request = user(&mut ts);
                assert_eq!(clock_nanosleep(&task, clock, flags, request, UserAddr(0)), Ok(0));
            }
        }
        for (clock, errno) in [
            (3, Errno::EOPNOTSUPP),
            (-2, Errno::EINVAL),
            (9, Errno::EINVAL),
            (4, Errno::EOPNOTSUPP),
        ] {
            let request = user(&mut ts);
            assert_eq!(clock_nanosleep(&task, clock, 0, request, UserAddr(0)), Err(errno));
        }
    }

    #[test]
    fn null_pointers_are_left_out() {
        let (task, mut tz, mut tms) = (Task::for_tests(), [7_i32; 2], [7_u64; 4]);
        assert_eq!(gettimeofday(&task, UserAddr(0), UserAddr(0)), Ok(0));
        assert_eq!(gettimeofday(&task, UserAddr(0), user(&mut tz)), Ok(0));
        assert_eq!(tz, [0; 2]);
        assert_eq!(times(&task, UserAddr(0)), times(&task, user(&mut tms)));
        assert_eq!(tms[1..], [0; 3]);
    }
}
