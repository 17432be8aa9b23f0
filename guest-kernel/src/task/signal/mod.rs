//! Signals of a process.
//!
//! ```text
//! kill, a fault, the terminal --> SignalState::post --> pending & !blocked --> "work pending"
//!                                   (ignored: dropped)                             |
//!                     on the way back to user mode: deliver() <--------------------+
//!                       default action --> Outcome::Kill
//!                       handler --> frame on the user's stack ... handler ... rt_sigreturn
//! ```
//! Rules: a signal may be posted from an interrupt handler (no allocation: only real-time signals,
//! which system calls send, are queued on the heap). User memory is never touched under the lock.
//! A call that waits asks [`Task::signal_pending`] and then returns `ERESTARTSYS` or one of its
//! kin; [`deliver()`] turns that into EINTR or makes the call again. It is always called then: while
//! a signal is deliverable the work flag is set, and only what calls [`deliver()`] takes it.
//!
//! Limits: one thread, so that what is pending for the process and for the thread is the same;
//! nothing stops: the default action of SIGSTOP, SIGTSTP, SIGTTIN and SIGTTOU is to be ignored.

mod action;
mod call;
mod deliver;
mod fault;
mod frame;
mod info;
mod state;

pub use action::{Action, DefaultAction};
pub use call::{
    kill, pause, rt_sigaction, rt_sigpending, rt_sigprocmask, rt_sigqueueinfo, rt_sigreturn,
    rt_sigsuspend, rt_sigtimedwait, rt_tgsigqueueinfo, sigaltstack, tgkill, tkill, with_mask,
};
pub use deliver::{Origin, Outcome, deliver};
pub use fault::{Fault, exception};
pub use frame::MIN_STACK;
pub use info::SignalInfo;
pub use state::{SignalState, Summary};

use linux_raw_sys::general as nr;

use crate::error::{Errno, Result};
use crate::mm::addr::UserAddr;
use crate::task::Task;

/// A signal number, 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(u8);

/// How many signals there are.
pub const SIGNAL_COUNT: usize = 64;

macro_rules! signals {
    ($($name:ident)*) => {
        #[expect(missing_docs, reason = "the names are Linux's; man 7 signal has their meaning")]
        impl Signal {
            $(pub const $name: Self = Self(nr::$name as u8);)*
        }
        impl core::fmt::Debug for Signal {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match *self {
                    $(Self::$name => f.write_str(stringify!($name)),)*
                    Self(n) => write!(f, "signal {n}"),
                }
            }
        }
    };
}

signals! {
    SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGKILL SIGUSR1 SIGSEGV SIGUSR2
    SIGPIPE SIGALRM SIGTERM SIGSTKFLT SIGCHLD SIGCONT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU
    SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO SIGPWR SIGSYS SIGRTMIN
}

impl Signal {
    /// The signal of a number that a program gave.
    ///
    /// # Errors
    /// EINVAL if there is no such signal; 0 is none.
    pub fn new(number: i32) -> Result<Self> {
        match number {
            1..=64 => Ok(Self(number as u8)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0 as u32
    }

    /// Its place in a table.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// Whether each one sent is queued, in order.
    #[must_use]
    pub const fn is_real_time(self) -> bool {
        self.0 >= Self::SIGRTMIN.0
    }
}

/// A set of signals: bit `n - 1` for signal `n`, as in Linux's ABI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// No signal.
    pub const EMPTY: Self = Self(0);
    /// Those that nobody can block, catch or ignore.
    pub const UNBLOCKABLE: Self = Self::of(&[Signal::SIGKILL, Signal::SIGSTOP]);
    /// Those that stop a process by default.
    pub const STOP: Self =
        Self::of(&[Signal::SIGSTOP, Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU]);
    /// Those that an instruction causes: delivered before the others.
    pub const SYNCHRONOUS: Self = Self::of(&[
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGILL,
        Signal::SIGTRAP,
        Signal::SIGFPE,
        Signal::SIGSYS,
    ]);

    /// The set of `signals`.
    #[must_use]
    pub const fn of(signals: &[Signal]) -> Self {
        let (mut set, mut i) = (0, 0);
        while i < signals.len() {
            set |= 1 << signals[i].index();
            i += 1;
        }
        Self(set)
    }

    /// Whether `signal` is in it.
    #[must_use]
    pub const fn has(self, signal: Signal) -> bool {
        self.0 & (1 << signal.index()) != 0
    }

    /// Whether there is none in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// With `signal`.
    #[must_use]
    pub const fn with(self, signal: Signal) -> Self {
        Self(self.0 | 1 << signal.index())
    }

    /// With all of `other`.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Without those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Those in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The one to deliver first: synchronous ones, then the lowest number.
    #[must_use]
    pub fn first(self) -> Option<Signal> {
        let synchronous = self.intersection(Self::SYNCHRONOUS);
        let set = if synchronous.is_empty() { self } else { synchronous };
        (!set.is_empty()).then(|| Signal(set.0.trailing_zeros() as u8 + 1))
    }
}

impl Task {
    /// Whether a signal waits that is not blocked. Cheap: one load.
    #[must_use]
    pub fn signal_pending(&self) -> bool {
        self.signals.is_deliverable()
    }

    /// Sends a signal from the kernel, for example the terminal's. May be called by interrupt
    /// handlers.
    pub fn post_signal(&self, signal: Signal) {
        // Without allocation, which is what could fail, for the standard signals that come here.
        let _ = self.signals.post(SignalInfo::from_kernel(signal));
    }

    /// Sends a signal that cannot be refused, because the program cannot go on without it: if it is
    /// blocked or ignored, its default action is taken.
    pub fn force_signal(&self, signal: Signal, code: i32, addr: UserAddr) {
        self.signals.force(SignalInfo::from_fault(signal, code, addr), None);
    }

    /// As [`Self::force_signal`], with the exception that caused it: a handler sees it in its
    /// context.
    pub fn force_fault(&self, signal: Signal, code: i32, addr: UserAddr, fault: Fault) {
        self.signals.force(SignalInfo::from_fault(signal, code, addr), Some(fault));
    }
}

#[cfg(test)]
mod tests;
