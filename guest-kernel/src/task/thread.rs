//! What a C library's thread start-up asks for, as far as one thread goes.

use linux_raw_sys::general as linux;

use super::Task;
use crate::error::{Errno, Result};
use crate::mm::addr::UserAddr;
use crate::mm::user::read_value;
use crate::time;

/// `set_tid_address(2)`: the word is cleared when the last thread ends, and nobody is left to see it.
///
/// # Errors
/// None.
pub fn set_tid_address(task: &Task) -> Result<usize> {
    Ok(task.tid as usize)
}

/// `set_robust_list(2)`: the list is for other threads of the same futexes.
///
/// # Errors
/// EINVAL.
pub fn set_robust_list(len: usize) -> Result<usize> {
    const HEAD_LEN: usize = 24;
    if len == HEAD_LEN { Ok(0) } else { Err(Errno::EINVAL) }
}

/// `futex(2)` for one thread: nobody waits, nobody wakes.
///
/// Limits: WAIT and WAKE, with and without bitset; the other operations are ENOSYS.
///
/// # Errors
/// EAGAIN, ETIMEDOUT, EINTR, EINVAL, EFAULT, ENOSYS.
pub fn futex(
    task: &Task,
    addr: UserAddr,
    operation: u32,
    value: u32,
    timeout: UserAddr,
) -> Result<usize> {
    if !addr.0.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let is_realtime = operation & linux::FUTEX_CLOCK_REALTIME != 0;
    match operation & !(linux::FUTEX_PRIVATE_FLAG | linux::FUTEX_CLOCK_REALTIME) {
        linux::FUTEX_WAKE | linux::FUTEX_WAKE_BITSET => {
            read_value::<u32>(addr)?;
            Ok(0)
        }
        wait @ (linux::FUTEX_WAIT | linux::FUTEX_WAIT_BITSET) => {
            if read_value::<u32>(addr)? != value {
                return Err(Errno::EAGAIN);
            }
            let now = time::monotonic_ns();
            let deadline = if timeout.is_null() {
                u64::MAX
            } else {
                let ns = read_value::<time::Timespec>(timeout)?.to_ns()?;
                match wait {
                    linux::FUTEX_WAIT => now.saturating_add(ns),
                    _ if is_realtime => now.saturating_add(ns.saturating_sub(time::realtime_ns())),
                    _ => ns,
                }
            };
            match time::sleep_until(task, deadline) {
                time::Wake::Deadline => Err(Errno::ETIMEDOUT),
                time::Wake::Signal => Err(Errno::EINTR),
            }
        }
        _ => {
            crate::log::line(format_args!("not supported: futex operation {operation:#x}"));
            Err(Errno::ENOSYS)
        }
    }
}
