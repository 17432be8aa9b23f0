//! System calls: poll, ppoll, select, pselect6.

use alloc::sync::Arc;
use alloc::vec::Vec;

use linux_raw_sys::general as linux;

use super::abi::{PollFd, Timespec, Timeval};
use super::file::{File, Readiness};
use crate::error::{Errno, Result};
use crate::mm::addr::UserAddr;
use crate::mm::user::{UserSlice, read_value, write_value};
use crate::task::Task;
use crate::task::signal;
use crate::task::wait::wait_until_deadline;
use crate::time;

/// poll.
///
/// # Errors
/// EFAULT, EINVAL, EINTR (as ERESTARTNOHAND).
pub fn poll(task: &Task, fds: UserAddr, count: usize, timeout_ms: i32) -> Result<usize> {
    let timeout = u64::try_from(timeout_ms).ok().map(|ms| ms * 1_000_000);
    poll_until(task, fds, count, timeout.map(deadline))
}

/// ppoll. The time that is left is written back.
///
/// # Errors
/// As [`poll`].
pub fn ppoll(
    task: &Task,
    fds: UserAddr,
    count: usize,
    timeout: UserAddr,
    mask: UserAddr,
    mask_size: usize,
) -> Result<usize> {
    let deadline = read_timeout(timeout)?.map(deadline);
    let wait = || poll_until(task, fds, count, deadline);
    let outcome = signal::with_mask(task, mask, mask_size, wait);
    write_rest(timeout, deadline);
    outcome
}

fn deadline(timeout_ns: u64) -> u64 {
    time::monotonic_ns().saturating_add(timeout_ns)
}

fn read_timeout(timeout: UserAddr) -> Result<Option<u64>> {
    if timeout.is_null() {
        return Ok(None);
    }
    let time: Timespec = read_value(timeout)?;
    match (u64::try_from(time.seconds), time.nanoseconds) {
        (Ok(seconds), ns @ 0..1_000_000_000) => {
            Ok(Some(seconds.saturating_mul(1_000_000_000).saturating_add(ns as u64)))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Tells how much time is left. As on Linux, memory that cannot be written to is no error.
fn write_rest(timeout: UserAddr, deadline: Option<u64>) {
    if let Some(deadline) = deadline {
        let rest = deadline.saturating_sub(time::monotonic_ns());
        let rest = Timespec {
            seconds: (rest / 1_000_000_000) as i64,
            nanoseconds: (rest % 1_000_000_000) as i64,
        };
        let _ = write_value(timeout, &rest);
    }
}

/// A descriptor that is asked about.
struct Watch {
    file: Option<Arc<File>>,
    wanted: Readiness,
    found: Readiness,
}

impl Watch {
    fn look(&mut self) -> bool {
        let Some(file) = &self.file else { return false };
        self.found = file.poll() & self.wanted;
        !self.found.is_empty()
    }
}

/// Waits until one of them is ready.
fn wait(watches: &mut [Watch], is_ready: bool, deadline: Option<u64>) -> Result<()> {
    // Each is looked at, so that all that are ready are told.
    let mut look = |is_ready: bool| watches.iter_mut().fold(is_ready, |any, w| w.look() || any);
    if look(is_ready) || deadline.is_some_and(|deadline| deadline <= time::monotonic_ns()) {
        return Ok(());
    }
    match wait_until_deadline(|| look(false), deadline) {
        Err(Errno::ERESTARTSYS) => Err(Errno::ERESTARTNOHAND),
        outcome => outcome.map(|_| ()),
    }
}

fn poll_until(task: &Task, fds: UserAddr, count: usize, deadline: Option<u64>) -> Result<usize> {
    if count > task.files.limit() {
        return Err(Errno::EINVAL);
    }
    let mut entries = Vec::with_capacity(count);
    let mut watches = Vec::with_capacity(count);
    let mut invalid_count = 0;
    for index in 0..count {
        let mut entry: PollFd = read_value(fds.add((index * size_of::<PollFd>()) as u64))?;
        entry.revents = 0;
        let file = match entry.fd {
            ..0 => None,
            fd => match task.files.get_usable(fd) {
                Ok(file) => Some(file),
                Err(_) => {
                    entry.revents = linux::POLLNVAL as u16;
                    invalid_count += 1;
                    None
                }
            },
        };
        let always = Readiness::ERR | Readiness::HUP;
        let wanted = Readiness::from_bits_retain(entry.events) | always;
        entries.push(entry);
        watches.push(Watch { file, wanted, found: Readiness::empty() });
    }
    wait(&mut watches, invalid_count > 0, deadline)?;
    let mut ready_count = 0;
    for (index, (entry, watch)) in entries.iter_mut().zip(&watches).enumerate() {
        entry.revents |= watch.found.bits();
        ready_count += usize::from(entry.revents != 0);
        write_value(fds.add((index * size_of::<PollFd>()) as u64), entry)?;
    }
    Ok(ready_count)
}

/// select. The time that is left is written back.
///
/// # Errors
/// EBADF, EFAULT, EINVAL, EINTR (as ERESTARTNOHAND).
pub fn select(task: &Task, count: i32, sets: [UserAddr; 3], timeout: UserAddr) -> Result<usize> {
    let mut until = None;
    if !timeout.is_null() {
        let time: Timeval = read_value(timeout)?;
        let (Ok(seconds), Ok(us)) = (u64::try_from(time.seconds), u64::try_from(time.microseconds))
        else {
            return Err(Errno::EINVAL);
        };
        let ns = seconds.saturating_mul(1_000_000_000).saturating_add(us.saturating_mul(1000));
        until = Some(deadline(ns));
    }
    let outcome = select_until(task, count, sets, until);
    if let Some(deadline) = until {
        let rest = deadline.saturating_sub(time::monotonic_ns()) / 1000;
        let rest =
            Timeval { seconds: (rest / 1_000_000) as i64, microseconds: (rest % 1_000_000) as i64 };
        let _ = write_value(timeout, &rest); // as on Linux, no error
    }
    outcome
}

/// pselect6. `mask` is the address of a mask's address and size. The time that is left is written
/// back.
///
/// # Errors
/// As [`select`].
pub fn pselect6(
    task: &Task,
    count: i32,
    sets: [UserAddr; 3],
    timeout: UserAddr,
    mask: UserAddr,
) -> Result<usize> {
    let until = read_timeout(timeout)?.map(deadline);
    let [mask, mask_size] = if mask.is_null() { [0; 2] } else { read_value::<[u64; 2]>(mask)? };
    let wait = || select_until(task, count, sets, until);
    let outcome = signal::with_mask(task, UserAddr(mask), mask_size as usize, wait);
    write_rest(timeout, until);
    outcome
}

/// What each of the three sets asks about.
const SET_MEANINGS: [Readiness; 3] = [
    Readiness::IN.union(Readiness::HUP).union(Readiness::ERR),
    Readiness::OUT.union(Readiness::ERR),
    Readiness::empty(), // exceptional conditions: there are none
];

fn select_until(
    task: &Task,
    count: i32,
    sets: [UserAddr; 3],
    deadline: Option<u64>,
) -> Result<usize> {
    // More descriptors than there can be are not looked at, as on Linux.
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?.min(task.files.limit());
    let bytes = count.div_ceil(64) * 8;
    let mut asked: [Vec<u8>; 3] = [const { Vec::new() }; 3];
    for (set, address) in asked.iter_mut().zip(sets) {
        set.resize(bytes, 0);
        if !address.is_null() {
            UserSlice::new(address, bytes)?.read(set)?;
        }
    }
    let mut watches = Vec::new();
    let mut numbers = Vec::new();
    for fd in 0..count {
        let has = |set: &Vec<u8>| set[fd / 8] & 1 << (fd % 8) != 0;
        if !asked.iter().any(has) {
            continue;
        }
        let file = Some(task.files.get_usable(fd as i32)?);
        let mut wanted = Readiness::empty();
        for (set, meaning) in asked.iter().zip(SET_MEANINGS) {
            if has(set) {
                wanted |= meaning;
            }
        }
        numbers.push(fd);
        watches.push(Watch { file, wanted, found: Readiness::empty() });
    }
    wait(&mut watches, false, deadline)?;
    let mut ready_count = 0;
    for ((set, address), meaning) in asked.iter_mut().zip(sets).zip(SET_MEANINGS) {
        let mut ready = alloc::vec![0; bytes];
        for (&fd, watch) in numbers.iter().zip(&watches) {
            let bit = 1 << (fd % 8);
            if set[fd / 8] & bit != 0 && watch.found.intersects(meaning) {
                ready[fd / 8] |= bit;
                ready_count += 1;
            }
        }
        if !address.is_null() {
            UserSlice::new(address, bytes)?.write(&ready)?;
        }
    }
    Ok(ready_count)
}
