//! Posting, masks, order, system calls and restarts, without user code.

use std::ptr;

use linux_raw_sys::general as nr;

use super::state::QUEUE_LEN_MAX;
use super::*;
use crate::arch::frame::{NO_SYSTEM_CALL, UserFrame};
use crate::time::Timespec;

/// What a call reads.
fn user<T>(value: &T) -> UserAddr {
    UserAddr(ptr::from_ref(value).expose_provenance() as u64)
}

/// What a call writes.
fn out<T>(value: &mut T) -> UserAddr {
    UserAddr(ptr::from_mut(value).expose_provenance() as u64)
}

const NULL: UserAddr = UserAddr(0);

fn handle(task: &Task, signal: Signal, flags: u32) {
    task.signals.action(signal, Some(Action::for_tests(0x5000, flags, SignalSet::EMPTY)));
}

fn block(task: &Task, signals: &[Signal]) {
    let set = SignalSet::of(signals).0;
    assert_eq!(rt_sigprocmask(task, 2, user(&set), NULL, 8), Ok(0));
}

/// Takes what is pending with sigtimedwait, without waiting: signal, code, second field.
fn take(task: &Task, signals: &[Signal]) -> Result<(usize, i32, u64)> {
    let (set, now, mut info) = (SignalSet::of(signals).0, Timespec::default(), [0_u64; 16]);
    let signal = rt_sigtimedwait(task, user(&set), out(&mut info), user(&now), 8)?;
    assert_eq!(info[0] as usize, signal);
    Ok((signal, info[1] as i32, info[3]))
}

#[test]
fn default_actions() {
    let of = |number| DefaultAction::of(Signal::new(number).expect("a signal"));
    let mut seen = [0; 5];
    for number in 1..=64 {
        seen[of(number) as usize] += 1;
    }
    // man 7 signal: Ign, Cont, Stop, Term, Core.
    assert_eq!(seen, [3, 1, 4, 46, 10]);
    for number in [3, 4, 5, 6, 7, 8, 11, 24, 25, 31] {
        assert_eq!(of(number), DefaultAction::Core, "{number}");
    }
    for number in [1, 2, 9, 10, 12, 13, 14, 15, 16, 26, 27, 29, 30, 32, 64] {
        assert_eq!(of(number), DefaultAction::Terminate, "{number}");
    }
    for number in [0, -1, 65, i32::MAX] {
        assert_eq!(Signal::new(number), Err(Errno::EINVAL));
    }
}

#[test]
fn unhandled_signals_kill_with_their_number() {
    for (signal, core) in
        [(Signal::SIGTERM, false), (Signal::SIGKILL, false), (Signal::SIGABRT, true)]
    {
        let task = Task::for_tests();
        assert_eq!(kill(&task, 1, signal.number() as i32), Ok(0));
        let outcome = deliver(&task, &mut UserFrame::default(), Origin::SystemCall);
        assert_eq!(outcome, Outcome::Kill { signal, core });
    }
}

#[test]
fn ignored_signals_are_dropped_unless_blocked() {
    let task = Task::for_tests();
    task.post_signal(Signal::SIGCHLD);
    task.post_signal(Signal::SIGTSTP);
    assert!(task.signals.summary().pending.is_empty());
    block(&task, &[Signal::SIGCHLD]);
    task.post_signal(Signal::SIGCHLD);
    assert!(task.signals.summary().pending.has(Signal::SIGCHLD));
    assert!(!task.signal_pending());
    block(&task, &[]);
    assert!(task.signal_pending());
    let mut frame = UserFrame::default();
    assert_eq!(deliver(&task, &mut frame, Origin::Trap), Outcome::Resume);
    assert_eq!(frame, UserFrame::default());
    assert!(!task.signal_pending());
}

#[test]
fn ignoring_discards_what_is_pending() {
    let task = Task::for_tests();
    block(&task, &[Signal::SIGUSR1]);
    task.post_signal(Signal::SIGUSR1);
    let ignore = [1_u64, 0, 0, 0];
    assert_eq!(rt_sigaction(&task, 10, user(&ignore), NULL, 8), Ok(0));
    assert!(task.signals.summary().pending.is_empty());
}

#[test]
fn faults_cannot_be_blocked_or_ignored() {
    let killed = Outcome::Kill { signal: Signal::SIGSEGV, core: true };
    let task = Task::for_tests();
    handle(&task, Signal::SIGSEGV, 0);
    block(&task, &[Signal::SIGSEGV]);
    task.force_signal(Signal::SIGSEGV, 1, NULL);
    assert_eq!(deliver(&task, &mut UserFrame::default(), Origin::Trap), killed);
    let task = Task::for_tests();
    let ignore = [1_u64, 0, 0, 0];
    assert_eq!(rt_sigaction(&task, 11, user(&ignore), NULL, 8), Ok(0));
    task.force_signal(Signal::SIGSEGV, 1, NULL);
    assert_eq!(deliver(&task, &mut UserFrame::default(), Origin::Trap), killed);
}

#[test]
fn exceptions_become_linuxs_signals() {
    let frame = UserFrame { rip: 0x4444, ..UserFrame::default() };
    for (vector, signal, code, addr) in [
        (0, Signal::SIGFPE, nr::FPE_INTDIV as i32, 0x4444),
        (1, Signal::SIGTRAP, nr::TRAP_BRKPT as i32, 0x4444),
        (3, Signal::SIGTRAP, nr::SI_KERNEL as i32, 0),
        (4, Signal::SIGSEGV, nr::SI_KERNEL as i32, 0),
        (6, Signal::SIGILL, nr::ILL_ILLOPN as i32, 0x4444),
        (11, Signal::SIGBUS, nr::SI_KERNEL as i32, 0),
        (12, Signal::SIGBUS, nr::SI_KERNEL as i32, 0),
        (13, Signal::SIGSEGV, nr::SI_KERNEL as i32, 0),
        (17, Signal::SIGBUS, nr::BUS_ADRALN as i32, 0),
    ] {
        let task = Task::for_tests();
        exception(&task, &frame, Fault { vector, error_code: 0, cr2: 0 });
        let info = task.signals.take_or_wait(SignalSet(u64::MAX)).expect("a signal");
        assert_eq!((info.signal(), info.code(), info.fields()[0]), (signal, code, addr));
    }
    let mut area = crate::arch::frame::FxArea::INITIAL;
    for (mxcsr, fsw, vector, code) in [
        (0x1f80 & !0x200 | 4, 0, 19, nr::FPE_FLTDIV),
        (0x1f80 & !0x80 | 1 | 4, 0, 19, nr::FPE_FLTINV),
        (0x1f80, 8, 16, nr::FPE_FLTOVF),
    ] {
        (area.mxcsr, area.fsw, area.fcw) = (mxcsr, fsw, 0x37f & !8);
        crate::arch::fpu_restore(&area);
        let task = Task::for_tests();
        exception(&task, &frame, Fault { vector, error_code: 0, cr2: 0 });
        let info = task.signals.take_or_wait(SignalSet(u64::MAX)).expect("a signal");
        assert_eq!((info.signal(), info.code()), (Signal::SIGFPE, code as i32));
    }
}

#[test]
fn standard_signals_merge_and_keep_the_first_reason() {
    let task = Task::for_tests();
    block(&task, &[Signal::SIGUSR1, Signal::SIGUSR2]);
    assert_eq!(tgkill(&task, 1, 1, 12), Ok(0));
    task.post_signal(Signal::SIGUSR2);
    task.post_signal(Signal::SIGUSR1);
    let both = [Signal::SIGUSR2, Signal::SIGUSR1];
    assert_eq!(take(&task, &both), Ok((10, nr::SI_KERNEL as i32, 0)));
    assert_eq!(take(&task, &both), Ok((12, nr::SI_TKILL, 0)));
    assert_eq!(take(&task, &both), Err(Errno::EAGAIN));
}

#[test]
fn real_time_signals_queue_in_order_and_to_a_bound() {
    let task = Task::for_tests();
    let (low, high) = (Signal(34), Signal(40));
    block(&task, &[low, high]);
    for i in 0..QUEUE_LEN_MAX as u64 / 2 {
        assert_eq!(task.signals.post(SignalInfo::queued(high, i)), Ok(()));
        assert_eq!(task.signals.post(SignalInfo::queued(low, i)), Ok(()));
    }
    assert_eq!(task.signals.summary().queue_len, QUEUE_LEN_MAX);
    assert_eq!(task.signals.post(SignalInfo::queued(low, 0)), Err(Errno::EAGAIN));
    // kill needs no room, and standard signals have theirs.
    assert_eq!(kill(&task, 0, 50), Ok(0));
    block(&task, &[low, high, Signal(50), Signal::SIGUSR1]);
    assert_eq!(kill(&task, 0, 50), Ok(0));
    task.post_signal(Signal::SIGUSR1);
    assert_eq!(take(&task, &[low, Signal::SIGUSR1]), Ok((10, nr::SI_KERNEL as i32, 0)));
    for i in 0..QUEUE_LEN_MAX as u64 / 2 {
        assert_eq!(take(&task, &[high, low]), Ok((34, nr::SI_QUEUE, i)));
    }
    for i in 0..QUEUE_LEN_MAX as u64 / 2 {
        assert_eq!(take(&task, &[high, low]), Ok((40, nr::SI_QUEUE, i)));
    }
    assert_eq!(take(&task, &[high, low]), Err(Errno::EAGAIN));
    assert_eq!(take(&task, &[Signal(50)]), Ok((50, nr::SI_USER as i32, 0)));
    assert_eq!(task.signals.summary().pending, SignalSet::EMPTY);
}

#[test]
fn synchronous_signals_go_first() {
    let set = SignalSet::of(&[Signal::SIGHUP, Signal::SIGSEGV, Signal::SIGSYS, Signal(64)]);
    assert_eq!(set.first(), Some(Signal::SIGSEGV));
    assert_eq!(SignalSet::of(&[Signal(64), Signal::SIGHUP]).first(), Some(Signal::SIGHUP));
    assert_eq!(SignalSet::of(&[Signal(64)]).first(), Some(Signal(64)));
    assert_eq!(SignalSet::EMPTY.first(), None);
}

#[test]
fn stop_and_continue_cancel_each_other() {
    let task = Task::for_tests();
    block(&task, &[Signal::SIGCONT, Signal::SIGTSTP]);
    task.post_signal(Signal::SIGTSTP);
    task.post_signal(Signal::SIGCONT);
    assert_eq!(task.signals.summary().pending, SignalSet::of(&[Signal::SIGCONT]));
    task.post_signal(Signal::SIGTSTP);
    assert_eq!(task.signals.summary().pending, SignalSet::of(&[Signal::SIGTSTP]));
}

#[test]
fn sigaction_checks_and_cleans() {
    let task = Task::for_tests();
    let new = [0x5000_u64, u64::MAX, 0x6000, u64::MAX];
    let mut old = [7_u64; 4];
    assert_eq!(rt_sigaction(&task, 10, user(&new), out(&mut old), 8), Ok(0));
    assert_eq!(old, [0; 4]);
    assert_eq!(rt_sigaction(&task, 10, NULL, out(&mut old), 8), Ok(0));
    assert_eq!(old[1] & u64::from(nr::SA_UNSUPPORTED), 0);
    assert_eq!(old[3], !(1 << 8 | 1 << 18));
    for signo in [0, 9, 19, 65, -1] {
        assert_eq!(rt_sigaction(&task, signo, user(&new), NULL, 8), Err(Errno::EINVAL), "{signo}");
    }
    assert_eq!(rt_sigaction(&task, 9, NULL, out(&mut old), 8), Ok(0));
    assert_eq!(rt_sigaction(&task, 10, NULL, NULL, 16), Err(Errno::EINVAL));
    let summary = task.signals.summary();
    assert_eq!(summary.caught, SignalSet::of(&[Signal::SIGUSR1]));
    task.signals.reset_for_exec();
    assert_eq!(task.signals.summary().caught, SignalSet::EMPTY);
}

#[test]
fn masks() {
    let task = Task::for_tests();
    let (all, one, mut old) = (u64::MAX, 1_u64 << 9, 7_u64);
    assert_eq!(rt_sigprocmask(&task, 0, user(&all), out(&mut old), 8), Ok(0));
    assert_eq!(old, 0);
    assert_eq!(rt_sigprocmask(&task, 1, user(&one), out(&mut old), 8), Ok(0));
    assert_eq!(old, !(1 << 8 | 1 << 18), "SIGKILL and SIGSTOP stay open");
    assert_eq!(rt_sigprocmask(&task, 77, NULL, out(&mut old), 8), Ok(0));
    assert_eq!(old & one, 0);
    assert_eq!(rt_sigprocmask(&task, 3, user(&one), NULL, 8), Err(Errno::EINVAL));
    assert_eq!(rt_sigprocmask(&task, 0, user(&one), NULL, 4), Err(Errno::EINVAL));
    block(&task, &[Signal::SIGUSR1]);
    task.post_signal(Signal::SIGUSR1);
    assert_eq!(rt_sigpending(&task, out(&mut old), 8), Ok(0));
    assert_eq!(old, one);
    assert_eq!(rt_sigpending(&task, out(&mut old), 9), Err(Errno::EINVAL));
}

#[test]
fn targets_of_kill() {
    let task = Task::for_tests();
    assert_eq!(kill(&task, 0, 0), Ok(0));
    assert_eq!(kill(&task, 1, 0), Ok(0));
    for pid in [-1, 2, -2, i32::MIN, i32::MAX] {
        assert_eq!(kill(&task, pid, 10), Err(Errno::ESRCH), "{pid}");
    }
    assert_eq!(kill(&task, 1, 65), Err(Errno::EINVAL));
    assert_eq!(tkill(&task, 0, 10), Err(Errno::EINVAL));
    assert_eq!(tkill(&task, 2, 10), Err(Errno::ESRCH));
    assert_eq!(tgkill(&task, 1, -1, 10), Err(Errno::EINVAL));
    assert_eq!(tgkill(&task, 2, 1, 10), Err(Errno::ESRCH));
    assert!(!task.signal_pending());
    block(&task, &[Signal::SIGUSR1]);
    let info = [77_u64; 16];
    assert_eq!(rt_sigqueueinfo(&task, 1, 10, user(&info)), Ok(0));
    assert_eq!(take(&task, &[Signal::SIGUSR1]), Ok((10, 77, 77)));
    assert_eq!(rt_sigqueueinfo(&task, 2, 10, user(&info)), Err(Errno::ESRCH));
}

#[test]
fn a_wait_ends_by_another_signal() {
    let task = Task::for_tests();
    handle(&task, Signal::SIGUSR1, 0);
    task.post_signal(Signal::SIGUSR1);
    let (set, long) =
        (SignalSet::of(&[Signal::SIGUSR2]).0, Timespec { seconds: 9, nanoseconds: 0 });
    let result = rt_sigtimedwait(&task, user(&set), NULL, user(&long), 8);
    assert_eq!(result, Err(Errno::EINTR));
    assert!(task.signal_pending());
    let bad = Timespec { seconds: 0, nanoseconds: 1_000_000_000 };
    let result = rt_sigtimedwait(&task, user(&set), NULL, user(&bad), 8);
    assert_eq!(result, Err(Errno::EINVAL));
}

const CALL: u64 = 35;

/// Delivers SIGUSR1 after a call that ended with `errno`: the frame, and what sigreturn would load.
fn after_call(task: &Task, stack: &mut [u64], errno: Errno) -> UserFrame {
    let rax = i64::from(-errno.number()).cast_unsigned();
    let rsp = out(stack.last_mut().expect("a stack")).0 & !15;
    let mut frame = UserFrame { number: CALL, rip: 0x1002, rax, rsp, ..UserFrame::default() };
    assert_eq!(deliver(task, &mut frame, Origin::SystemCall), Outcome::Resume);
    if frame.rip == 0x5000 {
        frame.rsp += 8;
        let _ = rt_sigreturn(task, &mut frame);
    }
    frame
}

#[test]
fn interrupted_calls_end_or_are_made_again() {
    let eintr = i64::from(-Errno::EINTR.number()).cast_unsigned();
    let mut stack = vec![0_u64; 1024];
    for (errno, flags, restarted) in [
        (Errno::ERESTARTSYS, 0, false),
        (Errno::ERESTARTSYS, nr::SA_RESTART, true),
        (Errno::ERESTARTNOHAND, nr::SA_RESTART, false),
        (Errno::ERESTART_RESTARTBLOCK, nr::SA_RESTART, false),
        (Errno::ERESTARTNOINTR, 0, true),
    ] {
        let task = Task::for_tests();
        handle(&task, Signal::SIGUSR1, flags);
        task.post_signal(Signal::SIGUSR1);
        let frame = after_call(&task, &mut stack, errno);
        let expected = if restarted { (CALL, 0x1000) } else { (eintr, 0x1002) };
        assert_eq!((frame.rax, frame.rip), expected, "{errno:?}");
    }
    // Without a handler each is made again.
    for (errno, number) in [
        (Errno::ERESTARTSYS, CALL),
        (Errno::ERESTARTNOHAND, CALL),
        (Errno::ERESTARTNOINTR, CALL),
        (Errno::ERESTART_RESTARTBLOCK, u64::from(nr::__NR_restart_syscall)),
    ] {
        let frame = after_call(&Task::for_tests(), &mut stack, errno);
        assert_eq!((frame.rax, frame.rip), (number, 0x1000), "{errno:?}");
    }
    // Other results, and traps, stay as they are.
    let frame = after_call(&Task::for_tests(), &mut stack, Errno::EINTR);
    assert_eq!((frame.rax, frame.rip), (eintr, 0x1002));
    let rax = (-512_i64).cast_unsigned();
    for (origin, number) in [(Origin::Trap, CALL), (Origin::SystemCall, NO_SYSTEM_CALL)] {
        let mut frame = UserFrame { number, rip: 0x1002, rax, ..UserFrame::default() };
        assert_eq!(deliver(&Task::for_tests(), &mut frame, origin), Outcome::Resume);
        assert_eq!((frame.rax, frame.rip), (rax, 0x1002));
    }
}

#[test]
fn sigsuspend_gives_the_mask_back() {
    let (task, mut stack) = (Task::for_tests(), vec![0_u64; 1024]);
    handle(&task, Signal::SIGUSR1, 0);
    block(&task, &[Signal::SIGUSR1, Signal::SIGTERM]);
    task.post_signal(Signal::SIGUSR1);
    let set = SignalSet::of(&[Signal::SIGHUP]).0;
    assert_eq!(rt_sigsuspend(&task, user(&set), 8), Err(Errno::ERESTARTNOHAND));
    assert_eq!(task.signals.summary().blocked, SignalSet(set));
    let frame = after_call(&task, &mut stack, Errno::ERESTARTNOHAND);
    assert_eq!(frame.rax, i64::from(-Errno::EINTR.number()).cast_unsigned());
    let both = SignalSet::of(&[Signal::SIGUSR1, Signal::SIGTERM]);
    assert_eq!(task.signals.summary().blocked, both);
    assert_eq!(rt_sigsuspend(&task, user(&set), 4), Err(Errno::EINVAL));
}

#[test]
fn a_handler_is_reset_or_not_deferred_as_asked() {
    let (task, mut stack) = (Task::for_tests(), vec![0_u64; 1024]);
    handle(&task, Signal::SIGUSR1, nr::SA_RESETHAND | nr::SA_NODEFER);
    task.post_signal(Signal::SIGUSR1);
    let rsp = out(&mut stack[1000]).0;
    let mut frame = UserFrame { rsp, ..UserFrame::default() };
    assert_eq!(deliver(&task, &mut frame, Origin::Trap), Outcome::Resume);
    assert_eq!(task.signals.summary().blocked, SignalSet::EMPTY);
    assert_eq!(task.signals.summary().caught, SignalSet::EMPTY);
    task.post_signal(Signal::SIGUSR1);
    let killed = Outcome::Kill { signal: Signal::SIGUSR1, core: false };
    assert_eq!(deliver(&task, &mut frame, Origin::Trap), killed);
}

/// Handlers of several signals are entered one above the other, the last one first.
#[test]
fn several_signals_nest() {
    let (task, mut stack) = (Task::for_tests(), vec![0_u64; 1024]);
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2] {
        handle(&task, signal, 0);
        task.post_signal(signal);
    }
    let rsp = out(&mut stack[1000]).0;
    let mut frame = UserFrame { rsp, rip: 0x1000, ..UserFrame::default() };
    assert_eq!(deliver(&task, &mut frame, Origin::Trap), Outcome::Resume);
    assert_eq!(frame.rdi, 12);
    frame.rsp += 8;
    let _ = rt_sigreturn(&task, &mut frame);
    assert_eq!((frame.rdi, frame.rip), (10, 0x5000));
    frame.rsp += 8;
    let _ = rt_sigreturn(&task, &mut frame);
    assert_eq!((frame.rip, frame.rsp), (0x1000, rsp));
}

#[test]
fn an_interrupted_sleep_goes_on() {
    let (task, mut left) = (Task::for_tests(), Timespec::default());
    let long = Timespec { seconds: 5, nanoseconds: 0 };
    handle(&task, Signal::SIGUSR1, 0);
    task.post_signal(Signal::SIGUSR1);
    let result = crate::time::nanosleep(&task, user(&long), out(&mut left));
    assert_eq!(result, Err(Errno::ERESTART_RESTARTBLOCK));
    assert_eq!(left, long);
    assert_eq!(crate::time::restart_sleep(&task), Err(Errno::ERESTART_RESTARTBLOCK));
    *task.interrupted_sleep.lock() = None;
    assert_eq!(crate::time::restart_sleep(&task), Err(Errno::EINTR));
}
