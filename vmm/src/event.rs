//! The event loop, on event-manager: signals, the time limit, input, and the end of the guest.
//!
//! It runs on the thread that called [`crate::run`], while the virtual CPU has one of its own.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::eventfd::EventFd;
use vmm_sys_util::timerfd::TimerFd;

use crate::device::stdio::{Input, TERMINAL_QUEUE_LEN_MAX};
use crate::irq::IrqLine;
use crate::signal_fd::SignalFd;
use crate::terminal::{EscapeFilter, Terminal, Verdict};

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The virtual CPU has stopped by itself.
    GuestEnded,
    /// A signal asks us to end.
    Signal(i32),
    /// The time limit is over.
    TimedOut,
    /// Ctrl-A x.
    Left,
}

/// The loop's subscriber: everything that can wake it.
pub struct EventLoop {
    ended: EventFd,
    signals: SignalFd,
    timer: TimerFd,
    input: Arc<Input>,
    input_irq: Arc<dyn IrqLine>,
    terminal: Option<Terminal>,
    escape: EscapeFilter,
    watching_input: bool,
    wake: Option<Wake>,
}

const ENDED: u32 = 0;
const SIGNALS: u32 = 1;
const TIMER: u32 = 2;
const ARM: u32 = 3;
const INPUT: u32 = 4;

impl EventLoop {
    /// A loop that ends when `ended` is written, after `timeout`, or on one of `signals`.
    ///
    /// # Errors
    /// When a timer cannot be had.
    pub(crate) fn new(
        ended: EventFd,
        signals: SignalFd,
        timeout: Option<Duration>,
        input: Arc<Input>,
        input_irq: Arc<dyn IrqLine>,
        terminal: Option<Terminal>,
    ) -> io::Result<Self> {
        let mut timer = TimerFd::new()?;
        if let Some(limit) = timeout {
            timer.reset(limit.max(Duration::from_nanos(1)), None)?;
        }
        let escape = EscapeFilter::default();
        let watching_input = false;
        Ok(Self {
            ended,
            signals,
            timer,
            input,
            input_irq,
            terminal,
            escape,
            watching_input,
            wake: None,
        })
    }

    /// Runs it.
    ///
    /// # Errors
    /// When epoll fails.
    pub fn run(self) -> Result<Wake, event_manager::Error> {
        let mut manager = EventManager::new()?;
        let shared = Arc::new(Mutex::new(self));
        manager.add_subscriber(shared.clone());
        loop {
            manager.run()?;
            if let Some(wake) = shared.lock().unwrap_or_else(PoisonError::into_inner).wake {
                return Ok(wake);
            }
        }
    }

    fn on_signal(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                libc::SIGWINCH => {
                    // The guest asks for the size when it is told of input; nothing is lost.
                    let _ = self.input_irq.pulse();
                }
                libc::SIGTSTP => {
                    if let Some(terminal) = &self.terminal {
                        let _ = terminal.stop();
                    }
                }
                libc::SIGCONT => {
                    if let Some(terminal) = &self.terminal {
                        let _ = terminal.resume();
                    }
                }
                _ => self.wake = Some(Wake::Signal(signal)),
            }
        }
    }

    fn watch_input(&mut self, ops: &mut EventOps) {
        if self.watching_input || self.input.ended.load(Ordering::Acquire) {
            return;
        }
        match ops.add(Events::with_data_raw(self.input.fd, INPUT, EventSet::IN)) {
            Ok(()) => self.watching_input = true,
            // A regular file or /dev/null cannot be waited for: it is always ready.
            Err(_) => self.tell_guest(),
        }
    }

    fn unwatch_input(&mut self, ops: &mut EventOps) {
        if std::mem::take(&mut self.watching_input) {
            let _ = ops.remove(Events::with_data_raw(self.input.fd, INPUT, EventSet::IN));
        }
    }

    fn on_input(&mut self, ops: &mut EventOps) {
        let input = self.input.clone();
        let Some(queue) = &input.terminal else {
            self.unwatch_input(ops);
            return self.tell_guest();
        };
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = [0; 1024];
        let room =
            (TERMINAL_QUEUE_LEN_MAX - queue.len().min(TERMINAL_QUEUE_LEN_MAX)).min(bytes.len());
        let mut kept = Vec::new();
        let mut gone = false;
        match crate::poll::read(self.input.fd, &mut bytes[..room]) {
            Ok(count) if count > 0 || room == 0 => {
                if self.escape.feed(&bytes[..count], &mut kept) == Verdict::Leave {
                    self.wake = Some(Wake::Left);
                }
            }
            Err(e)
                if matches!(e.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) =>
            {
                return;
            }
            // The end of file, or a terminal that hung up.
            _ => gone = true,
        }
        queue.extend(kept);
        let full = queue.len() >= TERMINAL_QUEUE_LEN_MAX - 1;
        drop(queue);
        if gone {
            self.input.ended.store(true, Ordering::Release);
        }
        if full || gone {
            self.unwatch_input(ops);
        }
        self.tell_guest();
    }

    fn tell_guest(&self) {
        // A guest that has no interrupt controller any more is ending.
        let _ = self.input_irq.pulse();
    }
}

impl MutEventSubscriber for EventLoop {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match events.data() {
            ENDED => self.wake = self.wake.or(Some(Wake::GuestEnded)),
            SIGNALS => self.on_signal(),
            TIMER => self.wake = self.wake.or(Some(Wake::TimedOut)),
            ARM => {
                let _ = self.input.arm.read();
                self.watch_input(ops);
            }
            INPUT => self.on_input(ops),
            _ => {}
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        let sources: [(RawFd, u32); 4] = [
            (self.ended.as_raw_fd(), ENDED),
            (self.signals.as_raw_fd(), SIGNALS),
            (self.timer.as_raw_fd(), TIMER),
            (self.input.arm.as_raw_fd(), ARM),
        ];
        for (fd, data) in sources {
            // Adding our own fresh descriptors fails only without memory; the loop would then
            // never hear of them, so it ends at once instead.
            if ops.add(Events::with_data_raw(fd, data, EventSet::IN)).is_err() {
                self.wake = Some(Wake::Signal(libc::SIGABRT));
            }
        }
        if self.input.terminal.is_some() {
            self.watch_input(ops);
        }
    }
}
