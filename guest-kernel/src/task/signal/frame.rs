//! The frame of a signal handler on the user's stack, and back: `struct rt_sigframe` of Linux.
//!
//! ```text
//! rsp of the program
//!   128 bytes red zone (psABI 3.2.2); on an alternate stack: its end
//!   FxArea               512 bytes, 64-byte aligned     <- uc_mcontext.fpstate
//!   RtSigFrame           440 bytes, at 8 modulo 16      <- rsp of the handler
//! ```
//! The kernel stores the legacy `fxsave` image (no UC_FP_XSTATE: there is no XSAVE for programs).

use linux_raw_sys::general as nr;
use shared_abi::layout::{USER_CS, USER_DS};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::info::USER_SIZE as SIGINFO_SIZE;
use super::state::Delivery;
use super::{Signal, SignalSet};
use crate::arch;
use crate::arch::frame::{FxArea, NO_SYSTEM_CALL, UserFrame};
use crate::error::{Errno, Result};
use crate::mm::addr::{USER_END, UserAddr};
use crate::mm::user::{UserSlice, read_value, write_value};
use crate::task::Task;

/// What a leaf function may use below its stack pointer (psABI 3.2.2).
const RED_ZONE_SIZE: u64 = 128;
/// Alignment of the FPU image.
const FPU_ALIGN: u64 = 64;
/// The context's `ss` is the task's, and sigreturn loads it as it is.
const UC_FLAGS: u64 = 2 | 4; // UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS
/// The flags that a handler may change: AC OF DF TF SF ZF AF PF CF RF.
const RFLAGS_USER: u64 = 1 << 18 | 1 << 16 | 1 << 11 | 1 << 10 | 1 << 8 | 0b1101_0101;
/// Not set in a handler: DF (psABI), RF, TF.
const RFLAGS_CLEARED: u64 = 1 << 16 | 1 << 10 | 1 << 8;

/// The stack that a handler's frame needs at most: AT_MINSIGSTKSZ.
pub const MIN_STACK: u64 =
    (size_of::<RtSigFrame>() + size_of::<FxArea>()) as u64 + FPU_ALIGN + 2 * 16;

/// `stack_t`: also how the kernel keeps it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub(super) struct AltStack {
    start: u64,
    flags: u32,
    padding: u32,
    size: u64,
}

impl AltStack {
    /// There is none.
    pub(super) const NONE: Self = Self { start: 0, flags: nr::SS_DISABLE, padding: 0, size: 0 };

    /// A program's claim, checked by sigaltstack(2).
    ///
    /// # Errors
    /// EINVAL for unknown flags, ENOMEM if it is too small.
    pub(super) fn sanitised(self) -> Result<Self> {
        match self.flags & !nr::SS_FLAG_BITS {
            nr::SS_DISABLE => Ok(Self { start: 0, size: 0, padding: 0, ..self }),
            0 | nr::SS_ONSTACK if self.size < u64::from(nr::MINSIGSTKSZ) => Err(Errno::ENOMEM),
            0 | nr::SS_ONSTACK => Ok(Self { padding: 0, ..self }),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Whether handlers run on the alternate stack, and `rsp` is in it.
    pub(super) fn is_in_use(self, rsp: u64) -> bool {
        !self.disarms() && self.contains(rsp)
    }

    /// Whether `rsp` is in it, as a stack pointer: its end is, its start is not.
    fn contains(self, rsp: u64) -> bool {
        rsp > self.start && rsp - self.start <= self.size
    }

    /// Whether it is forgotten while a handler runs on it.
    pub(super) const fn disarms(self) -> bool {
        self.flags & nr::SS_AUTODISARM != 0
    }

    /// What sigaltstack reports while the stack pointer is `rsp`.
    pub(super) fn reported(self, rsp: u64) -> Self {
        let mode = match (self.size, self.is_in_use(rsp)) {
            (0, _) => nr::SS_DISABLE,
            (_, true) => nr::SS_ONSTACK,
            (_, false) => 0,
        };
        Self { flags: mode | self.flags & nr::SS_FLAG_BITS, ..self }
    }
}

/// `struct sigcontext` of x86-64.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
struct SigContext {
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    rdi: u64,
    rsi: u64,
    rbp: u64,
    rbx: u64,
    rdx: u64,
    rax: u64,
    rcx: u64,
    rsp: u64,
    rip: u64,
    rflags: u64,
    cs: u16,
    gs: u16,
    fs: u16,
    ss: u16,
    error_code: u64,
    trap_number: u64,
    old_mask: u64,
    cr2: u64,
    fpstate: u64,
    reserved: [u64; 8],
}

/// `struct ucontext`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
struct UContext {
    flags: u64,
    link: u64,
    stack: AltStack,
    context: SigContext,
    mask: u64,
}

/// `struct rt_sigframe`.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
struct RtSigFrame {
    /// Where the handler returns to.
    return_address: u64,
    ucontext: UContext,
    info: [u8; SIGINFO_SIZE],
}

/// Where the parts of a frame go.
struct Place {
    frame: UserAddr,
    fpu: UserAddr,
}

/// Chooses the stack, and the places on it.
///
/// # Errors
/// EFAULT if the alternate stack has no room.
fn place(rsp: u64, delivery: &Delivery) -> Result<Place> {
    let alt = delivery.alt_stack;
    let mut sp = rsp.wrapping_sub(RED_ZONE_SIZE);
    let mut on_alt = alt.is_in_use(rsp);
    if delivery.action.has(nr::SA_ONSTACK) && alt.size != 0 && !on_alt {
        sp = alt.start.wrapping_add(alt.size);
        on_alt = true;
    }
    let fpu = sp.wrapping_sub(size_of::<FxArea>() as u64) & !(FPU_ALIGN - 1);
    // As after a call from a 16-byte aligned stack: the return address lies just below.
    let frame = (fpu.wrapping_sub(size_of::<RtSigFrame>() as u64) & !15).wrapping_sub(8);
    if on_alt && !alt.contains(frame) {
        return Err(Errno::EFAULT);
    }
    Ok(Place { frame: UserAddr(frame), fpu: UserAddr(fpu) })
}

/// Puts the frame of `delivery` on the user's stack, and makes `frame` enter the handler.
///
/// # Errors
/// EFAULT if there is no stack, or no restorer: nothing has changed in `frame`.
pub(super) fn push(frame: &mut UserFrame, delivery: &Delivery) -> Result<()> {
    let place = place(frame.rsp, delivery)?;
    let restorer = delivery.action.restorer().ok_or(Errno::EFAULT)?;
    let mut fpu = FxArea::INITIAL;
    arch::fpu_save(&mut fpu);
    write_value(place.fpu, &fpu)?;

    let image = RtSigFrame {
        return_address: restorer.0,
        ucontext: UContext {
            flags: UC_FLAGS,
            link: 0,
            stack: delivery.alt_stack,
            context: capture(frame, delivery, place.fpu),
            mask: delivery.mask.0,
        },
        info: delivery.info.to_user(),
    };
    // Without SA_SIGINFO nobody expects the information, and Linux does not write it.
    let len = if delivery.action.has(nr::SA_SIGINFO) {
        size_of::<RtSigFrame>()
    } else {
        core::mem::offset_of!(RtSigFrame, info)
    };
    UserSlice::new(place.frame, len)?.write(&image.as_bytes()[..len])?;

    let base = place.frame.0;
    frame.rdi = u64::from(delivery.info.signal().number());
    frame.rsi = base + core::mem::offset_of!(RtSigFrame, info) as u64;
    frame.rdx = base + core::mem::offset_of!(RtSigFrame, ucontext) as u64;
    frame.rax = 0;
    frame.rip = delivery.handler.0;
    frame.rsp = base;
    frame.cs = u64::from(USER_CS);
    frame.ss = u64::from(USER_DS);
    frame.rflags &= !RFLAGS_CLEARED;
    frame.number = NO_SYSTEM_CALL;
    arch::fpu_restore(&FxArea::INITIAL);
    Ok(())
}

fn capture(frame: &UserFrame, delivery: &Delivery, fpu: UserAddr) -> SigContext {
    SigContext {
        r8: frame.r8,
        r9: frame.r9,
        r10: frame.r10,
        r11: frame.r11,
        r12: frame.r12,
        r13: frame.r13,
        r14: frame.r14,
        r15: frame.r15,
        rdi: frame.rdi,
        rsi: frame.rsi,
        rbp: frame.rbp,
        rbx: frame.rbx,
        rdx: frame.rdx,
        rax: frame.rax,
        rcx: frame.rcx,
        rsp: frame.rsp,
        rip: frame.rip,
        rflags: frame.rflags,
        cs: frame.cs as u16,
        gs: 0,
        fs: 0,
        ss: frame.ss as u16,
        error_code: delivery.fault.error_code,
        trap_number: delivery.fault.vector,
        old_mask: delivery.mask.0,
        cr2: delivery.fault.cr2,
        fpstate: fpu.0,
        reserved: [0; 8],
    }
}

/// rt_sigreturn: the registers, the mask and the alternate stack become what the frame above the
/// stack pointer says, as far as a program may choose them.
///
/// # Errors
/// EFAULT if the frame cannot be read: the caller sends SIGSEGV.
pub(super) fn pop(task: &Task, frame: &mut UserFrame) -> Result<()> {
    // The handler's `ret` has taken the return address.
    let base = UserAddr(frame.rsp.wrapping_sub(8));
    let at = base.add(core::mem::offset_of!(RtSigFrame, ucontext) as u64);
    let ucontext = read_value::<UContext>(at)?;
    let context = &ucontext.context;
    let fpu = match context.fpstate {
        0 => FxArea::INITIAL,
        addr => sanitised_fpu(read_value::<FxArea>(UserAddr(addr))?),
    };
    *frame = restored(frame, context);
    arch::fpu_restore(&fpu);
    task.signals.mask(|_| SignalSet(ucontext.mask));
    // As Linux: what sigaltstack would refuse is left out, without a word.
    if !task.signals.alt_stack().is_in_use(frame.rsp)
        && let Ok(alt_stack) = ucontext.stack.sanitised()
    {
        task.signals.set_alt_stack(alt_stack);
    }
    if !is_canonical(context.rip) {
        task.force_signal(Signal::SIGSEGV, nr::SI_KERNEL as i32, UserAddr(0));
    }
    Ok(())
}

/// Whether `iret` to user mode accepts it. An address of the kernel's half faults over there.
pub(super) const fn is_canonical(rip: u64) -> bool {
    const HIGH_HALF: u64 = 0xffff_8000_0000_0000;
    rip < USER_END + 0x1000 || rip >= HIGH_HALF
}

fn restored(frame: &UserFrame, context: &SigContext) -> UserFrame {
    UserFrame {
        r15: context.r15,
        r14: context.r14,
        r13: context.r13,
        r12: context.r12,
        rbp: context.rbp,
        rbx: context.rbx,
        r11: context.r11,
        rcx: context.rcx,
        rax: context.rax,
        r9: context.r9,
        r8: context.r8,
        r10: context.r10,
        rdx: context.rdx,
        rsi: context.rsi,
        rdi: context.rdi,
        number: NO_SYSTEM_CALL,
        rip: context.rip,
        // Limits: Linux takes the selectors from the frame and sends SIGSEGV for bad ones.
        cs: u64::from(USER_CS),
        rflags: frame.rflags & !RFLAGS_USER | context.rflags & RFLAGS_USER,
        rsp: context.rsp,
        ss: u64::from(USER_DS),
    }
}

/// Clears what `fxrstor` would refuse: reserved bits of mxcsr, by the processor's own mask.
fn sanitised_fpu(mut fpu: FxArea) -> FxArea {
    let mut own = FxArea::INITIAL;
    arch::fpu_save(&mut own);
    fpu.mxcsr &= match own.mxcsr_mask {
        0 => FxArea::MXCSR_MASK_DEFAULT,
        mask => mask,
    };
    fpu
}

#[cfg(test)]
#[path = "frame_test.rs"]
mod tests;
