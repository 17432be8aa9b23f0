//! The frame against Linux's layout, and the way there and back on a stack of this process.

use std::mem::offset_of;

use super::*;
use crate::task::signal::{Action, Fault, Origin, Outcome, SignalInfo, call, deliver};

/// A stack for frames.
#[repr(C, align(64))]
struct Stack([u8; 8192]);

impl Stack {
    fn new() -> Box<Self> {
        Box::new(Self([0xee; 8192]))
    }

    fn start(&mut self) -> u64 {
        (&raw mut self.0).expose_provenance() as u64
    }

    fn end(&mut self) -> u64 {
        self.start() + 8192
    }
}

fn frame_at<T: FromBytes + IntoBytes>(addr: u64) -> T {
    read_value(UserAddr(addr)).expect("our own memory")
}

fn handle(task: &Task, signal: Signal, flags: u32, mask: &[Signal]) {
    let action = Action::for_tests(0x1234_5000, flags, SignalSet::of(mask));
    task.signals.action(signal, Some(action));
}

fn registers(rsp: u64) -> UserFrame {
    UserFrame {
        r15: 15,
        r14: 14,
        r13: 13,
        r12: 12,
        rbp: 6,
        rbx: 3,
        r11: 11,
        rcx: 2,
        rax: 1,
        r9: 9,
        r8: 8,
        r10: 10,
        rdx: 4,
        rsi: 5,
        rdi: 7,
        number: NO_SYSTEM_CALL,
        rip: 0x40_1000,
        cs: 0x33,
        rflags: 0x246 | 1 << 10,
        rsp,
        ss: 0x2b,
    }
}

#[test]
fn the_layout_is_linuxs() {
    const CONTEXT: usize = offset_of!(libc::ucontext_t, uc_mcontext);
    let greg = |register: i32| CONTEXT + 8 * register as usize;
    let ours = |field: usize| offset_of!(UContext, context) + field;
    assert_eq!(offset_of!(UContext, stack), offset_of!(libc::ucontext_t, uc_stack));
    assert_eq!(offset_of!(UContext, context), CONTEXT);
    assert_eq!(offset_of!(UContext, mask), offset_of!(libc::ucontext_t, uc_sigmask));
    assert_eq!(ours(offset_of!(SigContext, r8)), greg(libc::REG_R8));
    assert_eq!(ours(offset_of!(SigContext, r15)), greg(libc::REG_R15));
    assert_eq!(ours(offset_of!(SigContext, rdi)), greg(libc::REG_RDI));
    assert_eq!(ours(offset_of!(SigContext, rsi)), greg(libc::REG_RSI));
    assert_eq!(ours(offset_of!(SigContext, rbp)), greg(libc::REG_RBP));
    assert_eq!(ours(offset_of!(SigContext, rbx)), greg(libc::REG_RBX));
    assert_eq!(ours(offset_of!(SigContext, rdx)), greg(libc::REG_RDX));
    assert_eq!(ours(offset_of!(SigContext, rax)), greg(libc::REG_RAX));
    assert_eq!(ours(offset_of!(SigContext, rcx)), greg(libc::REG_RCX));
    assert_eq!(ours(offset_of!(SigContext, rsp)), greg(libc::REG_RSP));
    assert_eq!(ours(offset_of!(SigContext, rip)), greg(libc::REG_RIP));
    assert_eq!(ours(offset_of!(SigContext, rflags)), greg(libc::REG_EFL));
    assert_eq!(ours(offset_of!(SigContext, cs)), greg(libc::REG_CSGSFS));
    assert_eq!(ours(offset_of!(SigContext, error_code)), greg(libc::REG_ERR));
    assert_eq!(ours(offset_of!(SigContext, trap_number)), greg(libc::REG_TRAPNO));
    assert_eq!(ours(offset_of!(SigContext, old_mask)), greg(libc::REG_OLDMASK));
    assert_eq!(ours(offset_of!(SigContext, cr2)), greg(libc::REG_CR2));
    assert_eq!(
        ours(offset_of!(SigContext, fpstate)),
        CONTEXT + offset_of!(libc::mcontext_t, fpregs)
    );
    assert_eq!(size_of::<SigContext>(), 256);
    assert_eq!(size_of::<UContext>(), 304);
    assert_eq!(size_of::<RtSigFrame>(), 440);
    assert_eq!(size_of::<AltStack>(), size_of::<libc::stack_t>());
    assert_eq!(offset_of!(AltStack, size), offset_of!(libc::stack_t, ss_size));
    assert_eq!(SIGINFO_SIZE, size_of::<libc::siginfo_t>());
    assert_eq!(size_of::<SignalInfo>(), 48);
    assert_eq!(size_of::<Action>(), size_of::<nr::kernel_sigaction>());
    assert_eq!(offset_of!(FxArea, mxcsr), 24);
    assert_eq!(offset_of!(FxArea, st), 32);
    assert_eq!(offset_of!(FxArea, xmm), 160);
}

#[test]
fn a_handler_is_entered_and_left() {
    let (task, mut stack) = (Task::for_tests(), Stack::new());
    let before = registers(stack.end() - 1000);
    let mut fpu = FxArea::INITIAL;
    fpu.xmm[3] = [0x1111, 0x2222];
    arch::fpu_restore(&fpu);
    handle(&task, Signal::SIGSEGV, nr::SA_SIGINFO, &[Signal::SIGUSR1, Signal::SIGKILL]);
    let fault = Fault { vector: 14, error_code: 6, cr2: 0xdead_b000 };
    let addr = UserAddr(0xdead_b008);
    task.force_fault(Signal::SIGSEGV, nr::SEGV_MAPERR as i32, addr, fault);
    assert!(task.signal_pending());

    let mut frame = before;
    assert_eq!(deliver(&task, &mut frame, Origin::Trap), Outcome::Resume);
    assert_eq!((frame.rip, frame.rdi, frame.rax), (0x1234_5000, 11, 0));
    assert_eq!(frame.rsp % 16, 8);
    assert!(frame.rsp + 440 + 512 <= before.rsp - RED_ZONE_SIZE);
    assert_eq!(frame.rflags, 0x246, "DF is clear in a handler");
    assert_eq!((frame.rbx, frame.r12), (before.rbx, before.r12));
    let image: RtSigFrame = frame_at(frame.rsp);
    assert_eq!(image.return_address, 0x40_0000);
    assert_eq!((frame.rsi, frame.rdx), (frame.rsp + 312, frame.rsp + 8));
    let info: SignalInfo = frame_at(frame.rsi);
    assert_eq!((info.signal(), info.code(), info.fields()[0]), (Signal::SIGSEGV, 1, addr.0));
    let context = image.ucontext.context;
    assert_eq!((context.trap_number, context.error_code, context.cr2), (14, 6, 0xdead_b000));
    assert_eq!((context.rip, context.rsp, context.rax), (0x40_1000, before.rsp, 1));
    assert_eq!(context.fpstate % 64, 0);
    let saved: FxArea = frame_at(context.fpstate);
    assert_eq!(saved.xmm[3], [0x1111, 0x2222]);
    let mut in_handler = FxArea::INITIAL;
    arch::fpu_save(&mut in_handler);
    assert_eq!(in_handler, FxArea::INITIAL);
    let blocked = task.signals.summary().blocked;
    assert_eq!(blocked, SignalSet::of(&[Signal::SIGUSR1, Signal::SIGSEGV]));

    // The handler returns: `ret` takes the return address.
    frame.rsp += 8;
    frame.rbx = 999;
    assert_eq!(call::rt_sigreturn(&task, &mut frame), Ok(1));
    assert_eq!(frame, before);
    assert_eq!(task.signals.summary().blocked, SignalSet::EMPTY);
    let mut back = FxArea::INITIAL;
    arch::fpu_save(&mut back);
    assert_eq!(back, fpu);
    assert!(!task.signal_pending());
}

#[test]
fn without_siginfo_none_is_written() {
    let (task, mut stack) = (Task::for_tests(), Stack::new());
    handle(&task, Signal::SIGUSR1, 0, &[]);
    task.post_signal(Signal::SIGUSR1);
    let mut frame = registers(stack.end());
    assert_eq!(deliver(&task, &mut frame, Origin::Trap), Outcome::Resume);
    assert_eq!(frame_at::<u64>(frame.rsi), 0xeeee_eeee_eeee_eeee);
    // Nor is the red zone touched.
    assert_eq!(stack.0[8192 - 128..], [0xee; 128]);
}

/// A handler that has changed its context gets what it may have.
#[test]
fn sigreturn_takes_only_what_a_program_may_set() {
    let (task, mut stack) = (Task::for_tests(), Stack::new());
    handle(&task, Signal::SIGUSR1, nr::SA_SIGINFO, &[]);
    task.post_signal(Signal::SIGUSR1);
    let mut frame = registers(stack.end());
    assert_eq!(deliver(&task, &mut frame, Origin::Trap), Outcome::Resume);
    let at = UserAddr(frame.rsp);
    let mut image: RtSigFrame = frame_at(at.0);
    image.ucontext.context.rflags = u64::MAX;
    image.ucontext.context.cs = 0x10;
    image.ucontext.context.ss = 0x18;
    image.ucontext.context.rip = 0xffff_8000_0000_0000;
    image.ucontext.mask = u64::MAX;
    write_value(at, &image).expect("our own memory");
    let mut fpu: FxArea = frame_at(image.ucontext.context.fpstate);
    fpu.mxcsr = u32::MAX;
    write_value(UserAddr(image.ucontext.context.fpstate), &fpu).expect("our own memory");
    frame.rsp += 8;
    let returned = frame;
    assert_eq!(call::rt_sigreturn(&task, &mut frame), Ok(1));
    assert_eq!((frame.cs, frame.ss), (0x33, 0x2b));
    assert_eq!(frame.rflags, 0x246 | RFLAGS_USER);
    assert_eq!(frame.rflags & (3 << 12 | 1 << 14 | 1 << 17 | 1 << 21), 0, "IOPL NT VM ID");
    assert_eq!(task.signals.summary().blocked, SignalSet(u64::MAX).without(SignalSet::UNBLOCKABLE));
    let mut loaded = FxArea::INITIAL;
    arch::fpu_save(&mut loaded);
    assert_eq!(loaded.mxcsr, FxArea::MXCSR_MASK_DEFAULT);
    assert!(!task.signal_pending());

    // No floating-point state: the initial one.
    frame = returned;
    image.ucontext.context.fpstate = 0;
    image.ucontext.context.rip = 0x8000_0000_0000;
    write_value(at, &image).expect("our own memory");
    assert_eq!(call::rt_sigreturn(&task, &mut frame), Ok(1));
    arch::fpu_save(&mut loaded);
    assert_eq!(loaded, FxArea::INITIAL);
    // And an address that the processor would not return to: SIGSEGV, although it is blocked.
    let killed = Outcome::Kill { signal: Signal::SIGSEGV, core: true };
    assert_eq!(deliver(&task, &mut frame, Origin::SystemCall), killed);
}

#[test]
fn a_handler_that_cannot_be_entered_is_a_fault() {
    let (task, mut stack) = (Task::for_tests(), Stack::new());
    let action = Action::for_tests(0x8000_0000_0000, 0, SignalSet::EMPTY);
    task.signals.action(Signal::SIGUSR1, Some(action));
    task.post_signal(Signal::SIGUSR1);
    let killed = Outcome::Kill { signal: Signal::SIGSEGV, core: true };
    assert_eq!(deliver(&task, &mut registers(stack.end()), Origin::Trap), killed);
}

fn alt_stack(start: u64, size: u64, flags: u32) -> AltStack {
    AltStack { start, flags, padding: 0, size }
}

fn set_alt_stack(task: &Task, frame: &UserFrame, claim: AltStack) -> Result<AltStack> {
    let (mut claim, mut old) = (claim, AltStack::NONE);
    let addr = |stack: &mut AltStack| UserAddr((&raw mut *stack).expose_provenance() as u64);
    call::sigaltstack(task, frame, addr(&mut claim), addr(&mut old))?;
    Ok(old)
}

#[test]
fn handlers_run_on_the_alternate_stack() {
    let (task, mut stack, mut alt) = (Task::for_tests(), Stack::new(), Stack::new());
    let mut frame = registers(stack.end());
    let claim = alt_stack(alt.start(), 8192, 0);
    assert_eq!(set_alt_stack(&task, &frame, claim), Ok(AltStack::NONE));
    assert_eq!(set_alt_stack(&task, &frame, claim), Ok(claim));
    handle(&task, Signal::SIGUSR1, nr::SA_ONSTACK | nr::SA_NODEFER, &[]);
    handle(&task, Signal::SIGUSR2, 0, &[]);
    task.post_signal(Signal::SIGUSR1);
    assert_eq!(deliver(&task, &mut frame, Origin::Trap), Outcome::Resume);
    assert!((alt.start()..alt.end()).contains(&frame.rsp) && frame.rsp + 440 + 512 <= alt.end());
    // In use: it cannot be changed, and a nested handler goes on below.
    assert_eq!(set_alt_stack(&task, &frame, claim), Err(Errno::EPERM));
    let reported = task.signals.alt_stack().reported(frame.rsp);
    assert_eq!(reported, alt_stack(alt.start(), 8192, nr::SS_ONSTACK));
    let outer = frame;
    for signal in [Signal::SIGUSR1, Signal::SIGUSR2] {
        let above = frame.rsp;
        task.post_signal(signal);
        assert_eq!(deliver(&task, &mut frame, Origin::Trap), Outcome::Resume);
        assert!(frame.rsp > alt.start() && frame.rsp + 440 + 512 + RED_ZONE_SIZE <= above);
    }
    frame.rsp += 8;
    let _ = call::rt_sigreturn(&task, &mut frame);
    frame.rsp += 8;
    let _ = call::rt_sigreturn(&task, &mut frame);
    assert_eq!(frame, outer);
    // Down to the end of it: SIGSEGV, and death for want of a place for its handler.
    handle(&task, Signal::SIGSEGV, nr::SA_ONSTACK, &[]);
    frame.rsp = alt.start() + 600;
    task.post_signal(Signal::SIGUSR1);
    let killed = Outcome::Kill { signal: Signal::SIGSEGV, core: true };
    assert_eq!(deliver(&task, &mut frame, Origin::Trap), killed);
}

#[test]
fn an_alternate_stack_that_disarms_comes_back() {
    let (task, mut stack, mut alt) = (Task::for_tests(), Stack::new(), Stack::new());
    let mut frame = registers(stack.end());
    let claim = alt_stack(alt.start(), 8192, nr::SS_AUTODISARM);
    assert_eq!(set_alt_stack(&task, &frame, claim), Ok(AltStack::NONE));
    handle(&task, Signal::SIGUSR1, nr::SA_ONSTACK, &[]);
    task.post_signal(Signal::SIGUSR1);
    assert_eq!(deliver(&task, &mut frame, Origin::Trap), Outcome::Resume);
    assert!((alt.start()..alt.end()).contains(&frame.rsp));
    assert_eq!(task.signals.alt_stack(), AltStack::NONE);
    frame.rsp += 8;
    let _ = call::rt_sigreturn(&task, &mut frame);
    assert_eq!(task.signals.alt_stack(), claim);
}

#[test]
fn alternate_stacks_that_are_refused() {
    let (task, frame) = (Task::for_tests(), registers(0x10_0000));
    let small = alt_stack(0x1000, 2047, 0);
    assert_eq!(set_alt_stack(&task, &frame, small), Err(Errno::ENOMEM));
    assert_eq!(set_alt_stack(&task, &frame, alt_stack(0x1000, 8192, 4)), Err(Errno::EINVAL));
    assert_eq!(set_alt_stack(&task, &frame, alt_stack(0x1000, 8192, 3)), Err(Errno::EINVAL));
    assert_eq!(task.signals.alt_stack(), AltStack::NONE);
    let off = alt_stack(0x1000, 77, nr::SS_DISABLE);
    assert_eq!(set_alt_stack(&task, &frame, off), Ok(AltStack::NONE));
    assert_eq!(task.signals.alt_stack(), AltStack::NONE);
}
