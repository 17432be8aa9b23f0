//! What a signal does: the program's choice, and the default.

use linux_raw_sys::general as nr;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Signal, SignalSet};
use crate::mm::addr::UserAddr;

/// Handler: the default action.
const SIG_DFL: u64 = 0;
/// Handler: ignore.
const SIG_IGN: u64 = 1;

/// The flags that the kernel knows. A program that sets others finds them gone (sigaction(2),
/// "Dynamically probing for flag bit support").
const FLAGS_KNOWN: u64 = nr::SA_NOCLDSTOP as u64
    | nr::SA_NOCLDWAIT as u64
    | nr::SA_SIGINFO as u64
    | nr::SA_EXPOSE_TAGBITS as u64
    | nr::SA_RESTORER as u64
    | nr::SA_ONSTACK as u64
    | nr::SA_RESTART as u64
    | nr::SA_NODEFER as u64
    | nr::SA_RESETHAND as u64;

/// `struct kernel_sigaction`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
pub struct Action {
    handler: u64,
    flags: u64,
    restorer: u64,
    mask: u64,
}

/// What is done without a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    /// Nothing.
    Ignore,
    /// The process goes on, if it is stopped.
    Continue,
    /// The process stops.
    Stop,
    /// The process is killed.
    Terminate,
    /// The process is killed; its status says that it would have left a core file.
    Core,
}

impl DefaultAction {
    /// man 7 signal, "Standard signals".
    #[must_use]
    pub fn of(signal: Signal) -> Self {
        match signal {
            Signal::SIGCHLD | Signal::SIGURG | Signal::SIGWINCH => Self::Ignore,
            Signal::SIGCONT => Self::Continue,
            Signal::SIGSTOP | Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU => Self::Stop,
            Signal::SIGQUIT
            | Signal::SIGILL
            | Signal::SIGTRAP
            | Signal::SIGABRT
            | Signal::SIGBUS
            | Signal::SIGFPE
            | Signal::SIGSEGV
            | Signal::SIGXCPU
            | Signal::SIGXFSZ
            | Signal::SIGSYS => Self::Core,
            _ => Self::Terminate,
        }
    }

    /// Whether nothing happens. Limits: nothing stops, so that stopping is nothing.
    fn is_nothing(self) -> bool {
        match self {
            Self::Ignore | Self::Continue | Self::Stop => true,
            Self::Terminate | Self::Core => false,
        }
    }
}

impl Action {
    /// A program's claim, cleaned of what it cannot have.
    #[must_use]
    pub fn sanitised(self) -> Self {
        let mask = SignalSet(self.mask).without(SignalSet::UNBLOCKABLE).0;
        Self { flags: self.flags & FLAGS_KNOWN, mask, ..self }
    }

    /// What exec leaves of it: only that the signal is ignored.
    #[must_use]
    pub fn after_exec(self) -> Self {
        Self { handler: if self.is_ignore() { SIG_IGN } else { SIG_DFL }, ..Self::default() }
    }

    /// What SA_RESETHAND leaves of it.
    #[must_use]
    pub fn after_reset(self) -> Self {
        Self { handler: SIG_DFL, ..self }
    }

    /// Whether `signal` does nothing.
    #[must_use]
    pub fn ignores(&self, signal: Signal) -> bool {
        match self.handler {
            SIG_IGN => true,
            SIG_DFL => DefaultAction::of(signal).is_nothing(),
            _ => false,
        }
    }

    /// Whether the program asked for that.
    #[must_use]
    pub const fn is_ignore(&self) -> bool {
        self.handler == SIG_IGN
    }

    /// The program's function, if there is one.
    #[must_use]
    pub const fn handler(&self) -> Option<UserAddr> {
        match self.handler {
            SIG_DFL | SIG_IGN => None,
            handler => Some(UserAddr(handler)),
        }
    }

    /// Where the handler returns to: a `rt_sigreturn` of the C library.
    #[must_use]
    pub const fn restorer(&self) -> Option<UserAddr> {
        if self.has(nr::SA_RESTORER) { Some(UserAddr(self.restorer)) } else { None }
    }

    /// Whether `flag`, one of `SA_*`, is set.
    #[must_use]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag as u64 != 0
    }

    /// What is blocked while the handler of `signal` runs, besides what is anyway.
    #[must_use]
    pub const fn blocked_in_handler(&self, signal: Signal) -> SignalSet {
        let mask = SignalSet(self.mask);
        if self.has(nr::SA_NODEFER) { mask } else { mask.with(signal) }
    }

    #[cfg(test)]
    pub(super) fn for_tests(handler: u64, flags: u32, mask: SignalSet) -> Self {
        let flags = u64::from(flags | nr::SA_RESTORER);
        Self { handler, flags, restorer: 0x40_0000, mask: mask.0 }
    }
}
