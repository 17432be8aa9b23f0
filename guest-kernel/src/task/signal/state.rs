//! The signals of a process: what is pending, blocked, and to be done.

use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicU64, Ordering};

use linux_raw_sys::general as nr;

use super::frame::AltStack;
use super::{Action, DefaultAction, Fault, SIGNAL_COUNT, Signal, SignalInfo, SignalSet};
use crate::arch;
use crate::error::{Errno, Result};
use crate::sync::IrqSpinLock;

/// The most real-time signals that wait (RLIMIT_SIGPENDING; Linux's own default depends on its
/// memory). Senders of more get EAGAIN.
pub(crate) const QUEUE_LEN_MAX: usize = 1024;
/// Standard signals have one slot each.
const STANDARD_COUNT: usize = 31;

/// The signals of a task.
pub struct SignalState {
    /// `pending & !blocked`: written under the lock, read without.
    deliverable: AtomicU64,
    inner: IrqSpinLock<Inner>,
}

struct Inner {
    pending: SignalSet,
    blocked: SignalSet,
    /// The mask to go back to when the call that changed it for its own time (sigsuspend) is over.
    saved_mask: Option<SignalSet>,
    /// What sigtimedwait waits for: it comes although nobody handles it.
    waited_for: SignalSet,
    actions: [Action; SIGNAL_COUNT],
    /// Why each pending standard signal was sent first.
    standard: [SignalInfo; STANDARD_COUNT],
    /// The pending real-time signals, in the order in which they were sent.
    queue: VecDeque<SignalInfo>,
    alt_stack: AltStack,
    /// The last exception that became a signal.
    fault: Fault,
}

/// The words of /proc/self/status: SigPnd, SigBlk, SigIgn, SigCgt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many real-time signals wait.
    pub queue_len: usize,
    /// What is pending.
    pub pending: SignalSet,
    /// What is blocked.
    pub blocked: SignalSet,
    /// What the program ignores.
    pub ignored: SignalSet,
    /// What has a handler.
    pub caught: SignalSet,
}

/// What is next on the way to user mode.
pub(super) enum Next {
    /// Nothing.
    None,
    /// The process ends.
    Kill(Signal, DefaultAction),
    /// A handler runs.
    Handle(Delivery),
}

/// A signal on its way to a handler.
pub(super) struct Delivery {
    pub(super) info: SignalInfo,
    pub(super) action: Action,
    pub(super) handler: crate::mm::addr::UserAddr,
    /// The mask that comes back when the handler returns.
    pub(super) mask: SignalSet,
    pub(super) alt_stack: AltStack,
    pub(super) fault: Fault,
}

impl Default for SignalState {
    fn default() -> Self {
        Self::new()
    }
}

impl SignalState {
    /// Nothing pending, nothing blocked, every action the default.
    #[must_use]
    pub const fn new() -> Self {
        let action: Action = zerocopy::transmute!([0_u64; 4]);
        let info: SignalInfo = zerocopy::transmute!([0_u64; 6]);
        Self {
            deliverable: AtomicU64::new(0),
            inner: IrqSpinLock::new(Inner {
                pending: SignalSet::EMPTY,
                blocked: SignalSet::EMPTY,
                saved_mask: None,
                waited_for: SignalSet::EMPTY,
                actions: [action; SIGNAL_COUNT],
                standard: [info; STANDARD_COUNT],
                queue: VecDeque::new(),
                alt_stack: AltStack::NONE,
                fault: Fault { vector: 0, error_code: 0, cr2: 0 },
            }),
        }
    }

    /// Whether something is to be delivered.
    #[must_use]
    pub fn is_deliverable(&self) -> bool {
        self.deliverable.load(Ordering::Relaxed) != 0
    }

    /// What /proc shows.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let inner = self.inner.lock();
        let (mut ignored, mut caught) = (0, 0);
        for (i, action) in inner.actions.iter().enumerate() {
            ignored |= u64::from(action.is_ignore()) << i;
            caught |= u64::from(action.handler().is_some()) << i;
        }
        Summary {
            queue_len: inner.queue.len(),
            pending: inner.pending,
            blocked: inner.blocked,
            ignored: SignalSet(ignored),
            caught: SignalSet(caught),
        }
    }

    /// What exec does: handlers become the default, the alternate stack is gone. What is pending,
    /// blocked and ignored stays.
    pub fn reset_for_exec(&self) {
        self.update(|inner| {
            for action in &mut inner.actions {
                *action = action.after_exec();
            }
            inner.alt_stack = AltStack::NONE;
        });
    }

    /// Sends a signal. Drops it if it would do nothing, or if it is a standard one that is pending
    /// already.
    ///
    /// # Errors
    /// EAGAIN if too many real-time signals wait.
    pub fn post(&self, info: SignalInfo) -> Result<()> {
        self.update(|inner| inner.post(info))
    }

    /// See [`crate::task::Task::force_signal`].
    pub(super) fn force(&self, info: SignalInfo, fault: Option<Fault>) {
        self.update(|inner| {
            if let Some(fault) = fault {
                inner.fault = fault;
            }
            let signal = info.signal();
            let action = &mut inner.actions[signal.index()];
            if inner.blocked.has(signal) || action.is_ignore() {
                *action = Action::default();
                inner.blocked = inner.blocked.without(SignalSet::of(&[signal]));
            }
            // A standard signal always has its slot.
            let _ = inner.post(info);
        });
    }

    /// The process is to be killed by `signal`, whatever it has arranged.
    pub(super) fn force_fatal(&self, signal: Signal) {
        self.update(|inner| inner.actions[signal.index()] = Action::default());
        self.force(SignalInfo::from_kernel(signal), None);
    }

    /// The action of `signal`, after replacing it if `new` is given.
    pub(super) fn action(&self, signal: Signal, new: Option<Action>) -> Action {
        self.update(|inner| {
            let old = inner.actions[signal.index()];
            if let Some(new) = new {
                inner.actions[signal.index()] = new;
                if new.ignores(signal) {
                    inner.discard(SignalSet::of(&[signal]));
                }
            }
            old
        })
    }

    /// The blocked signals, after replacing them by what `change` makes of them.
    pub(super) fn mask(&self, change: impl FnOnce(SignalSet) -> SignalSet) -> SignalSet {
        self.update(|inner| {
            let old = inner.blocked;
            inner.blocked = change(old).without(SignalSet::UNBLOCKABLE);
            old
        })
    }

    /// Blocks `mask` until the call that asks for it is over and its signal has been handled.
    pub(super) fn mask_for_this_call(&self, mask: SignalSet) {
        self.update(|inner| {
            inner.saved_mask.get_or_insert(inner.blocked);
            inner.blocked = mask.without(SignalSet::UNBLOCKABLE);
        });
    }

    /// Undoes [`Self::mask_for_this_call`], if no handler's return does it.
    pub(super) fn restore_mask(&self) {
        self.update(|inner| {
            if let Some(mask) = inner.saved_mask.take() {
                inner.blocked = mask;
            }
        });
    }

    /// The pending signals that are blocked.
    pub(super) fn pending_blocked(&self) -> SignalSet {
        let inner = self.inner.lock();
        inner.pending.intersection(inner.blocked)
    }

    /// Takes the first pending signal of `set`; if there is none, signals of `set` count as wanted
    /// from now on. [`Self::wait_over`] ends that.
    pub(super) fn take_or_wait(&self, set: SignalSet) -> Option<SignalInfo> {
        self.update(|inner| {
            let taken = inner.take(set);
            inner.waited_for = if taken.is_none() { set } else { SignalSet::EMPTY };
            taken
        })
    }

    /// Ends what [`Self::take_or_wait`] began.
    pub(super) fn wait_over(&self) {
        self.update(|inner| inner.waited_for = SignalSet::EMPTY);
    }

    /// The alternate stack.
    pub(super) fn alt_stack(&self) -> AltStack {
        self.inner.lock().alt_stack
    }

    /// Replaces the alternate stack.
    pub(super) fn set_alt_stack(&self, alt_stack: AltStack) {
        self.inner.lock().alt_stack = alt_stack;
    }

    /// Takes the next signal that does something.
    pub(super) fn next(&self) -> Next {
        self.update(|inner| {
            loop {
                let wanted = SignalSet(u64::MAX).without(inner.blocked);
                let Some(info) = inner.take(wanted) else { return Next::None };
                let signal = info.signal();
                let action = inner.actions[signal.index()];
                if action.ignores(signal) {
                    continue;
                }
                let Some(handler) = action.handler() else {
                    return Next::Kill(signal, DefaultAction::of(signal));
                };
                if action.has(nr::SA_RESETHAND) {
                    inner.actions[signal.index()] = action.after_reset();
                }
                return Next::Handle(Delivery {
                    info,
                    action,
                    handler,
                    mask: inner.saved_mask.unwrap_or(inner.blocked),
                    alt_stack: inner.alt_stack,
                    fault: inner.fault,
                });
            }
        })
    }

    /// The handler's frame is on the stack: from now on its mask holds.
    pub(super) fn handler_entered(&self, delivery: &Delivery) {
        self.update(|inner| {
            let signal = delivery.info.signal();
            let more = delivery.action.blocked_in_handler(signal);
            inner.blocked = inner.blocked.union(more).without(SignalSet::UNBLOCKABLE);
            inner.saved_mask = None;
            if inner.alt_stack.disarms() {
                inner.alt_stack = AltStack::NONE;
            }
        });
    }

    /// Runs `change` under the lock, and sees to it that what can be delivered then will be.
    fn update<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock();
        let result = change(&mut inner);
        let deliverable = inner.pending.without(inner.blocked);
        self.deliverable.store(deliverable.0, Ordering::Relaxed);
        if !deliverable.is_empty() {
            arch::set_work_pending();
        }
        result
    }
}

impl Inner {
    fn post(&mut self, info: SignalInfo) -> Result<()> {
        let signal = info.signal();
        // Stopping and going on cancel each other, even where nothing stops.
        if signal == Signal::SIGCONT {
            self.discard(SignalSet::STOP);
        } else if SignalSet::STOP.has(signal) {
            self.discard(SignalSet::of(&[Signal::SIGCONT]));
        }
        let wanted = self.blocked.union(self.waited_for).has(signal);
        if !wanted && self.actions[signal.index()].ignores(signal) {
            return Ok(());
        }
        if signal.is_real_time() {
            self.enqueue(info)?;
        } else if !self.pending.has(signal) {
            self.standard[signal.index()] = info;
        }
        self.pending = self.pending.with(signal);
        Ok(())
    }

    /// Real-time signals: each is kept. Without room, kill still sends the number (as Linux does).
    fn enqueue(&mut self, info: SignalInfo) -> Result<()> {
        let room = self.queue.len() < QUEUE_LEN_MAX && self.queue.try_reserve(1).is_ok();
        if room {
            self.queue.push_back(info);
        }
        let number_is_enough = info.code() == nr::SI_USER as i32;
        if room || number_is_enough { Ok(()) } else { Err(Errno::EAGAIN) }
    }

    fn discard(&mut self, set: SignalSet) {
        self.pending = self.pending.without(set);
        self.queue.retain(|info| !set.has(info.signal()));
    }

    fn take(&mut self, set: SignalSet) -> Option<SignalInfo> {
        let signal = self.pending.intersection(set).first()?;
        let only = SignalSet::of(&[signal]);
        if !signal.is_real_time() {
            self.pending = self.pending.without(only);
            return Some(self.standard[signal.index()]);
        }
        let oldest = self.queue.iter().position(|info| info.signal() == signal);
        let info = oldest.and_then(|index| self.queue.remove(index));
        if !self.queue.iter().any(|info| info.signal() == signal) {
            self.pending = self.pending.without(only);
        }
        Some(info.unwrap_or_else(|| SignalInfo::lost(signal)))
    }
}
