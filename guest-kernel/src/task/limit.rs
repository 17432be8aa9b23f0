//! Resource limits and usage, scheduling parameters: what a process may use and has used.

use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Task;
use crate::error::{Errno, Result};
use crate::mm::addr::UserAddr;
use crate::mm::user::{UserSlice, read_value, write_value};
use crate::sync::SpinLock;
use crate::time;

/// `struct rlimit64`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, PartialEq, Eq)]
pub struct Limit {
    /// What applies.
    pub soft: u64,
    /// What it may be raised to.
    pub hard: u64,
}

const INFINITY: u64 = u64::MAX;
const UNLIMITED: Limit = Limit { soft: INFINITY, hard: INFINITY };
const COUNT: usize = 16;

/// The limits of a process, by RLIMIT_ number.
pub struct Limits(SpinLock<[Limit; COUNT]>);

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

impl Limits {
    /// Linux's defaults.
    #[must_use]
    pub const fn new() -> Self {
        let mut limits = [UNLIMITED; COUNT];
        limits[linux::RLIMIT_STACK as usize] =
            Limit { soft: super::stack::STACK_SIZE, hard: INFINITY };
        limits[linux::RLIMIT_CORE as usize] = Limit { soft: 0, hard: INFINITY };
        limits[linux::RLIMIT_NPROC as usize] = Limit { soft: 1024, hard: 1024 };
        limits[linux::RLIMIT_NOFILE as usize] = Limit { soft: 1024, hard: 1024 };
        limits[linux::RLIMIT_MEMLOCK as usize] = Limit { soft: 8 << 20, hard: 8 << 20 };
        limits[linux::RLIMIT_SIGPENDING as usize] = Limit { soft: 1024, hard: 1024 };
        limits[linux::RLIMIT_MSGQUEUE as usize] = Limit { soft: 819_200, hard: 819_200 };
        limits[linux::RLIMIT_NICE as usize] = Limit { soft: 0, hard: 0 };
        limits[linux::RLIMIT_RTPRIO as usize] = Limit { soft: 0, hard: 0 };
        Self(SpinLock::new(limits))
    }
}

/// `prlimit64(2)`, of oneself.
///
/// Limits: of the limits that are set, RLIMIT_NOFILE bites.
///
/// # Errors
/// EINVAL, EPERM, ESRCH, EFAULT.
pub fn prlimit64(
    task: &Task,
    pid: i32,
    resource: u32,
    new: UserAddr,
    old: UserAddr,
) -> Result<usize> {
    if pid != 0 && pid as u32 != task.pid {
        return Err(Errno::ESRCH);
    }
    let index = resource as usize;
    if index >= COUNT {
        return Err(Errno::EINVAL);
    }
    let wanted = if new.is_null() { None } else { Some(read_value::<Limit>(new)?) };
    let is_root = task.credentials.lock().euid == 0;
    let before = {
        let mut limits = task.limits.0.lock();
        let before = limits[index];
        if let Some(wanted) = wanted {
            if wanted.soft > wanted.hard {
                return Err(Errno::EINVAL);
            }
            if wanted.hard > before.hard && !is_root {
                return Err(Errno::EPERM);
            }
            limits[index] = wanted;
        }
        before
    };
    if let Some(wanted) = wanted
        && resource == linux::RLIMIT_NOFILE
    {
        task.files.set_limit(usize::try_from(wanted.soft).unwrap_or(usize::MAX));
    }
    if !old.is_null() {
        write_value(old, &before)?;
    }
    Ok(0)
}

/// `getrusage(2)`: with one task that never shares its CPU, all time is its own.
///
/// # Errors
/// EINVAL, EFAULT.
pub fn getrusage(who: i32, buffer: UserAddr) -> Result<usize> {
    const WORDS: usize = 18;
    let mut usage = [0u64; WORDS];
    match who {
        linux::RUSAGE_CHILDREN => {}
        0 | 1 => {
            let ns = time::monotonic_ns();
            usage[0] = ns / time::SECOND_NS;
            usage[1] = ns % time::SECOND_NS / 1000;
            usage[4] = crate::mm::frame::usage().used_max * 4; // ru_maxrss, KiB
        }
        _ => return Err(Errno::EINVAL),
    }
    write_value(buffer, &usage)?;
    Ok(0)
}

/// `sched_getaffinity(2)`: one CPU.
///
/// # Errors
/// EINVAL, ESRCH, EFAULT.
pub fn sched_getaffinity(task: &Task, pid: i32, len: usize, mask: UserAddr) -> Result<usize> {
    const MASK_LEN: usize = 8;
    super::identity::getpgid(task, pid)?;
    if len < MASK_LEN || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    write_value(mask, &1u64)?;
    Ok(MASK_LEN)
}

/// `sched_setaffinity(2)`: the one CPU must be among them.
///
/// # Errors
/// EINVAL, ESRCH, EFAULT.
pub fn sched_setaffinity(task: &Task, pid: i32, len: usize, mask: UserAddr) -> Result<usize> {
    super::identity::getpgid(task, pid)?;
    let mut first = [0u8];
    if len > 0 {
        UserSlice::new(mask, 1)?.read(&mut first)?;
    }
    if first[0] & 1 == 0 { Err(Errno::EINVAL) } else { Ok(0) }
}

/// `getpriority(2)`: 20 - nice.
///
/// # Errors
/// EINVAL.
pub fn getpriority(which: u32) -> Result<usize> {
    if which > linux_raw_sys::general::PRIO_USER { Err(Errno::EINVAL) } else { Ok(20) }
}

/// `getcpu(2)`: CPU 0 of node 0.
///
/// # Errors
/// EFAULT.
pub fn getcpu(cpu: UserAddr, node: UserAddr) -> Result<usize> {
    for address in [cpu, node] {
        if !address.is_null() {
            write_value(address, &0u32)?;
        }
    }
    Ok(0)
}
