//! The system calls of signals.

use linux_raw_sys::general as nr;
use zerocopy::IntoBytes;

use super::frame::{self, AltStack};
use super::{Action, Signal, SignalInfo, SignalSet};
use crate::arch::frame::UserFrame;
use crate::error::{Errno, Result};
use crate::mm::addr::UserAddr;
use crate::mm::user::{UserSlice, read_value, write_value};
use crate::task::Task;
use crate::time::{self, Timespec, Wake};

/// The only size of a signal set that there is.
const SET_SIZE: usize = size_of::<u64>();

fn check_set_size(size: usize) -> Result<()> {
    if size == SET_SIZE { Ok(()) } else { Err(Errno::EINVAL) }
}

fn read_set(addr: UserAddr) -> Result<SignalSet> {
    read_value::<u64>(addr).map(SignalSet)
}

/// rt_sigaction(2).
///
/// # Errors
/// EINVAL for no signal, for SIGKILL and SIGSTOP, for another size of a set; EFAULT.
pub fn rt_sigaction(
    task: &Task,
    signo: i32,
    new: UserAddr,
    old: UserAddr,
    set_size: usize,
) -> Result<usize> {
    check_set_size(set_size)?;
    let signal = Signal::new(signo)?;
    let action = if new.is_null() { None } else { Some(read_value::<Action>(new)?.sanitised()) };
    if action.is_some() && SignalSet::UNBLOCKABLE.has(signal) {
        return Err(Errno::EINVAL);
    }
    let before = task.signals.action(signal, action);
    if !old.is_null() {
        write_value(old, &before)?;
    }
    Ok(0)
}

/// rt_sigprocmask(2).
///
/// # Errors
/// EINVAL for an unknown `how` or another size of a set; EFAULT.
pub fn rt_sigprocmask(
    task: &Task,
    how: i32,
    set: UserAddr,
    old: UserAddr,
    set_size: usize,
) -> Result<usize> {
    check_set_size(set_size)?;
    let before = if set.is_null() {
        task.signals.mask(|blocked| blocked)
    } else {
        let set = read_set(set)?;
        match how.cast_unsigned() {
            nr::SIG_BLOCK => task.signals.mask(|blocked| blocked.union(set)),
            nr::SIG_UNBLOCK => task.signals.mask(|blocked| blocked.without(set)),
            nr::SIG_SETMASK => task.signals.mask(|_| set),
            _ => return Err(Errno::EINVAL),
        }
    };
    if !old.is_null() {
        write_value(old, &before.0)?;
    }
    Ok(0)
}

/// rt_sigpending(2).
///
/// # Errors
/// EINVAL for a larger set, EFAULT.
pub fn rt_sigpending(task: &Task, set: UserAddr, set_size: usize) -> Result<usize> {
    if set_size > SET_SIZE {
        return Err(Errno::EINVAL);
    }
    let pending = task.signals.pending_blocked();
    UserSlice::new(set, set_size)?.write(&pending.0.as_bytes()[..set_size])?;
    Ok(0)
}

/// sigaltstack(2).
///
/// # Errors
/// EPERM while a handler runs on it, EINVAL for unknown flags, ENOMEM if it is too small, EFAULT.
pub fn sigaltstack(task: &Task, frame: &UserFrame, new: UserAddr, old: UserAddr) -> Result<usize> {
    let before = task.signals.alt_stack();
    if !new.is_null() {
        let claim = read_value::<AltStack>(new)?;
        if before.is_in_use(frame.rsp) {
            return Err(Errno::EPERM);
        }
        task.signals.set_alt_stack(claim.sanitised()?);
    }
    if !old.is_null() {
        write_value(old, &before.reported(frame.rsp))?;
    }
    Ok(0)
}

/// rt_sigsuspend(2).
///
/// # Errors
/// EINVAL for another size of a set, EFAULT; otherwise EINTR (by way of a restart).
pub fn rt_sigsuspend(task: &Task, set: UserAddr, set_size: usize) -> Result<usize> {
    check_set_size(set_size)?;
    task.signals.mask_for_this_call(read_set(set)?);
    pause(task)
}

/// Waits under another signal mask (ppoll, pselect6), which ends with the call: by its return, or,
/// if a signal ended it, when that has been delivered. Without a `set` the mask stays.
///
/// # Errors
/// EINVAL for another size of a set, EFAULT, and what `wait` says.
pub fn with_mask(
    task: &Task,
    set: UserAddr,
    set_size: usize,
    wait: impl FnOnce() -> Result<usize>,
) -> Result<usize> {
    if set.is_null() {
        return wait();
    }
    check_set_size(set_size)?;
    task.signals.mask_for_this_call(read_set(set)?);
    let outcome = wait();
    if outcome != Err(Errno::ERESTARTNOHAND) {
        task.signals.restore_mask();
    }
    outcome
}

/// pause(2).
///
/// # Errors
/// EINTR (by way of a restart).
pub fn pause(task: &Task) -> Result<usize> {
    time::sleep_until(task, u64::MAX);
    Err(Errno::ERESTARTNOHAND)
}

/// rt_sigtimedwait(2).
///
/// # Errors
/// EAGAIN when the time is over, EINTR for another signal, EINVAL for a time that is none or another
/// size of a set, EFAULT.
pub fn rt_sigtimedwait(
    task: &Task,
    set: UserAddr,
    info: UserAddr,
    timeout: UserAddr,
    set_size: usize,
) -> Result<usize> {
    check_set_size(set_size)?;
    let set = read_set(set)?.without(SignalSet::UNBLOCKABLE);
    let deadline_ns = if timeout.is_null() {
        u64::MAX
    } else {
        time::monotonic_ns().saturating_add(read_value::<Timespec>(timeout)?.to_ns()?)
    };
    let taken = wait_for_one_of(task, set, deadline_ns)?;
    if !info.is_null() {
        let bytes = taken.to_user();
        UserSlice::new(info, bytes.len())?.write(&bytes)?;
    }
    Ok(taken.signal().number() as usize)
}

fn wait_for_one_of(task: &Task, set: SignalSet, deadline_ns: u64) -> Result<SignalInfo> {
    // While it waits, the set is not blocked: what comes breaks the sleep, and is taken here.
    if let Some(info) = task.signals.take_or_wait(set) {
        return Ok(info);
    }
    let blocked = task.signals.mask(|blocked| blocked.without(set));
    let wake = time::sleep_until(task, deadline_ns);
    task.signals.mask(|_| blocked);
    let taken = task.signals.take_or_wait(set);
    task.signals.wait_over();
    match (taken, wake) {
        (Some(info), _) => Ok(info),
        (None, Wake::Signal) => Err(Errno::EINTR),
        (None, Wake::Deadline) => Err(Errno::EAGAIN),
    }
}

/// kill(2). Limits: the process is the only one, and alone in its group.
///
/// # Errors
/// EINVAL for no signal, ESRCH for other processes. -1 means all others, of which there are none.
pub fn kill(task: &Task, pid: i32, signo: i32) -> Result<usize> {
    let own = pid == 0 || pid != -1 && pid.unsigned_abs() == task.pid;
    send(task, own, signo, SignalInfo::from_kill)
}

/// tkill(2).
///
/// # Errors
/// EINVAL for no signal or no thread number, ESRCH for other threads.
pub fn tkill(task: &Task, tid: i32, signo: i32) -> Result<usize> {
    check_id(tid)?;
    send(task, tid.cast_unsigned() == task.tid, signo, SignalInfo::from_tkill)
}

/// tgkill(2).
///
/// # Errors
/// EINVAL for no signal or no process or thread number, ESRCH for other threads.
pub fn tgkill(task: &Task, pid: i32, tid: i32, signo: i32) -> Result<usize> {
    check_id(pid)?;
    check_id(tid)?;
    let own = pid.cast_unsigned() == task.pid && tid.cast_unsigned() == task.tid;
    send(task, own, signo, SignalInfo::from_tkill)
}

/// rt_sigqueueinfo(2).
///
/// # Errors
/// EINVAL for no signal, ESRCH for other processes, EAGAIN if too many wait, EFAULT.
pub fn rt_sigqueueinfo(task: &Task, pid: i32, signo: i32, info: UserAddr) -> Result<usize> {
    queue(task, pid.cast_unsigned() == task.pid, signo, info)
}

/// rt_tgsigqueueinfo(2).
///
/// # Errors
/// As [`rt_sigqueueinfo`], and EINVAL for no process or thread number.
pub fn rt_tgsigqueueinfo(
    task: &Task,
    pid: i32,
    tid: i32,
    signo: i32,
    info: UserAddr,
) -> Result<usize> {
    check_id(pid)?;
    check_id(tid)?;
    let own = pid.cast_unsigned() == task.pid && tid.cast_unsigned() == task.tid;
    queue(task, own, signo, info)
}

fn check_id(id: i32) -> Result<()> {
    if id > 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

/// The signal of a call that sends one; `None` for 0, which only asks whether the target is there.
fn decode(own: bool, signo: i32) -> Result<Option<Signal>> {
    let signal = if signo == 0 { None } else { Some(Signal::new(signo)?) };
    if own { Ok(signal) } else { Err(Errno::ESRCH) }
}

fn send(
    task: &Task,
    own: bool,
    signo: i32,
    describe: fn(Signal, &Task) -> SignalInfo,
) -> Result<usize> {
    if let Some(signal) = decode(own, signo)? {
        task.signals.post(describe(signal, task))?;
    }
    Ok(0)
}

fn queue(task: &Task, own: bool, signo: i32, info: UserAddr) -> Result<usize> {
    // Linux reads the information first.
    let described = SignalInfo::read(info)?;
    if let Some(signal) = decode(own, signo)? {
        task.signals.post(described.about(signal))?;
    }
    Ok(0)
}

/// rt_sigreturn(2): the end of a handler. The result is rax, which it restores like every other
/// register; the frame has to be loaded completely, by `iret`.
///
/// # Errors
/// None: SIGSEGV if there is no frame.
pub fn rt_sigreturn(task: &Task, frame: &mut UserFrame) -> Result<usize> {
    *task.interrupted_sleep.lock() = None;
    if frame::pop(task, frame).is_err() {
        task.force_signal(Signal::SIGSEGV, nr::SI_KERNEL as i32, UserAddr(0));
    }
    Ok(frame.rax as usize)
}
