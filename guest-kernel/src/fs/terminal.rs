//! The terminal: the line discipline between the program and the host's terminal, which is in raw
//! mode. One for all: streams that are terminals, /dev/tty, /dev/console, /dev/pts/0.
//!
//! The interrupt that announces input drains the host into the discipline at once, so that the keys
//! for signals work while the program computes. What goes to the screen is gathered in one buffer
//! under the same lock, so that echo and output keep their order, and leaves in one exit.
//!
//! Limits: one session with one process group in the foreground; no job control stops.

use alloc::sync::Arc;

use linux_raw_sys::general as linux;
use linux_raw_sys::ioctl;
use shared_abi::stdio::{STDERR, STDIN, STDOUT, WindowSize};

use super::abi::{Termios, Termios2, WinSize};
use super::file::{Io, Object, Opening, Readiness, Wait};
use super::tty::{Effects, LineDiscipline, SignalKey};
use crate::arch;
use crate::driver::stdio;
use crate::error::{Errno, Result};
use crate::mm::addr::UserAddr;
use crate::mm::user::{UserBuffer, read_value, write_value};
use crate::sync::IrqSpinLock;
use crate::task::Task;
use crate::task::signal::Signal;
use crate::task::wait::{Wake, wait_until, wait_until_deadline};
use crate::time;

/// The screen's buffer: what one exit takes.
const SCREEN_SIZE: usize = stdio::KERNEL_BUFFER_SIZE;
/// Bytes go between the discipline and the program in pieces of this size.
const STEP: usize = 256;
/// A tenth of a second: the unit of VTIME.
const VTIME_UNIT_NS: u64 = 100_000_000;
/// The speed that a terminal without a wire has: 38400.
const SPEED: u32 = 38_400;

struct State {
    discipline: LineDiscipline,
    screen: Screen,
    /// Streams that are this terminal: bit by number.
    streams: u8,
    /// What TIOCSWINSZ said, until the host's window changes.
    size: Option<(WinSize, WindowSize)>,
    /// The size when the machine started.
    initial_size: WindowSize,
    /// The process group in the foreground; 0: the one process that there is.
    foreground: i32,
    /// The host's terminal is gone.
    hung_up: bool,
}

/// Bytes on their way to the screen.
struct Screen {
    bytes: [u8; SCREEN_SIZE],
    len: usize,
    /// Where they go.
    stream: u32,
}

static TERMINAL: IrqSpinLock<State> = IrqSpinLock::new(State {
    discipline: LineDiscipline::new(),
    screen: Screen { bytes: [0; SCREEN_SIZE], len: 0, stream: STDOUT },
    streams: 0,
    size: None,
    initial_size: WindowSize { rows: 0, columns: 0 },
    foreground: 0,
    hung_up: false,
});

impl Screen {
    /// Sends what there is; how it went.
    fn flush(&mut self) -> Result<()> {
        let len = core::mem::take(&mut self.len);
        if len == 0 {
            return Ok(());
        }
        stdio::write_kernel(self.stream, &self.bytes[..len]).map(|_| ())
    }
}

impl Effects for Screen {
    fn echo(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(SCREEN_SIZE) {
            if self.len + piece.len() > SCREEN_SIZE {
                // A screen that cannot be written to must not stop the keys.
                let _ = self.flush();
            }
            self.bytes[self.len..self.len + piece.len()].copy_from_slice(piece);
            self.len += piece.len();
        }
    }

    fn signal(&mut self, key: SignalKey) {
        arch::current().post_signal(match key {
            SignalKey::Interrupt => Signal::SIGINT,
            SignalKey::Quit => Signal::SIGQUIT,
            SignalKey::Suspend => Signal::SIGTSTP,
        });
    }
}

impl State {
    /// The stream that keys come from.
    fn input_stream(&self) -> u32 {
        [STDIN, STDOUT, STDERR].into_iter().find(|s| self.streams & 1 << s != 0).unwrap_or(STDIN)
    }

    fn is_attached(&self) -> bool {
        self.streams != 0
    }

    /// Takes in what the host has, as far as there is room. When the host has no more, it announces
    /// the next input by an interrupt.
    fn drain_host(&mut self) {
        let mut keys = [0; STEP];
        while self.is_attached() && !self.hung_up {
            let room = self.discipline.room().min(STEP);
            if room == 0 {
                break;
            }
            match stdio::read_kernel(self.input_stream(), &mut keys[..room]) {
                Ok(0) => {
                    self.hung_up = true;
                    arch::current().post_signal(Signal::SIGHUP);
                }
                Ok(count) => self.discipline.input(&keys[..count], &mut self.screen),
                Err(Errno::EAGAIN) => break,
                Err(_) => self.hung_up = true,
            }
        }
        let _ = self.screen.flush(); // echo only
    }

    /// Whether a read has something to give.
    fn is_readable(&self) -> bool {
        self.discipline.is_readable() || self.hung_up
    }

    fn cc(&self, index: u32) -> u8 {
        self.discipline.termios().cc[index as usize]
    }

    fn is_canonical(&self) -> bool {
        self.discipline.termios().lflag & linux::ICANON != 0
    }
}

/// Notes that a stream is a terminal on the host. No key is read before [`start`].
pub fn attach(stream: u32, size: WindowSize) {
    let mut state = TERMINAL.lock();
    state.streams |= 1 << stream;
    state.initial_size = size;
    let has_keys = state.streams & 1 << STDIN != 0;
    state.discipline.set_cooked_by_host(!has_keys);
    state.screen.stream =
        [STDOUT, STDERR, STDIN].into_iter().find(|s| state.streams & 1 << s != 0).unwrap_or(STDOUT);
}

/// Begins to listen to the keys, once the first task is the current one. Without a terminal it does
/// nothing.
pub fn start() {
    on_input();
}

/// Input was announced: called by the interrupt handler.
pub fn on_input() {
    TERMINAL.lock().drain_host();
}

/// Opens the terminal.
///
/// # Errors
/// ENXIO if there is none.
pub fn open(_: &Opening) -> Result<Arc<dyn Object>> {
    match TERMINAL.lock().is_attached() {
        true => Ok(Arc::new(Terminal)),
        false => Err(Errno::ENXIO),
    }
}

/// An open terminal: all of them are the same one.
struct Terminal;

impl Terminal {
    fn read_canonical(&self, wait: Wait, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        self.wait_for_input(wait)?;
        let mut bytes = [0; STEP];
        let mut done = 0;
        while buffer.remaining() > 0 {
            let len = buffer.remaining().min(STEP);
            let piece = TERMINAL.lock().discipline.read(&mut bytes[..len]);
            match buffer.fill(&bytes[..piece.len]) {
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
            if piece.is_end || piece.len == 0 {
                break;
            }
        }
        Ok(done)
    }

    fn wait_for_input(&self, wait: Wait) -> Result<()> {
        {
            let mut state = TERMINAL.lock();
            if !state.is_readable() {
                state.drain_host();
            }
            if state.is_readable() {
                return Ok(());
            }
        }
        match wait {
            Wait::Never => Err(Errno::EAGAIN),
            Wait::Allowed => wait_until(|| TERMINAL.lock().is_readable()),
        }
    }

    /// VMIN and VTIME: man 3 termios, "Canonical and noncanonical mode".
    fn read_raw(&self, wait: Wait, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        let (min, time) = {
            let state = TERMINAL.lock();
            (usize::from(state.cc(linux::VMIN)), u64::from(state.cc(linux::VTIME)))
        };
        let mut bytes = [0; STEP];
        let mut done = 0;
        loop {
            let len = buffer.remaining().min(STEP);
            let (count, hung_up) = {
                let mut state = TERMINAL.lock();
                if !state.discipline.is_readable() {
                    state.drain_host();
                }
                (state.discipline.read(&mut bytes[..len]).len, state.hung_up)
            };
            match buffer.fill(&bytes[..count]) {
                Ok(count) => done += count,
                Err(_) if done > 0 => return Ok(done),
                Err(errno) => return Err(errno),
            }
            if buffer.remaining() == 0 || count == 0 && (done >= min && done > 0 || hung_up) {
                return Ok(done);
            }
            if count > 0 {
                continue; // there may be more at once
            }
            if min == 0 && time == 0 {
                return Ok(0);
            }
            if wait == Wait::Never {
                return if done > 0 { Ok(done) } else { Err(Errno::EAGAIN) };
            }
            // With VMIN the time runs from byte to byte, without it from the start.
            let is_timed = time > 0 && (min == 0 || done > 0);
            let deadline = is_timed.then(|| time::monotonic_ns() + time * VTIME_UNIT_NS);
            match wait_until_deadline(|| TERMINAL.lock().is_readable(), deadline) {
                Ok(Wake::Ready) => {}
                Ok(Wake::TimedOut) => return Ok(done),
                Err(_) if done > 0 => return Ok(done),
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl Object for Terminal {
    fn read(&self, io: &Io, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        if buffer.remaining() == 0 {
            return Ok(0);
        }
        let is_canonical = TERMINAL.lock().is_canonical();
        match is_canonical {
            true => self.read_canonical(io.wait, buffer),
            false => self.read_raw(io.wait, buffer),
        }
    }

    fn write(&self, io: &Io, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        let mut bytes = [0; STEP];
        let mut done = 0;
        while buffer.remaining() > 0 {
            let is_stopped = || {
                let state = TERMINAL.lock();
                state.discipline.is_stopped() && !state.hung_up
            };
            if is_stopped() {
                let waited = match io.wait {
                    Wait::Never => Err(Errno::EAGAIN),
                    Wait::Allowed => wait_until(|| !is_stopped()),
                };
                match waited {
                    Ok(()) => {}
                    Err(_) if done > 0 => break,
                    Err(errno) => return Err(errno),
                }
            }
            let count = match buffer.drain(&mut bytes) {
                Ok(count) => count,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            };
            let mut state = TERMINAL.lock();
            let State { discipline, screen, .. } = &mut *state;
            discipline.output(&bytes[..count], screen);
            done += count;
        }
        TERMINAL.lock().screen.flush()?;
        Ok(done)
    }

    fn poll(&self) -> Readiness {
        let mut state = TERMINAL.lock();
        if !state.discipline.is_readable() {
            state.drain_host();
        }
        let mut ready = Readiness::empty();
        let min = match state.is_canonical() || state.cc(linux::VTIME) > 0 {
            true => 1,
            false => usize::from(state.cc(linux::VMIN)).max(1),
        };
        ready.set(Readiness::IN, state.discipline.available() >= min || state.hung_up);
        ready.set(Readiness::OUT, !state.discipline.is_stopped());
        ready.set(Readiness::HUP, state.hung_up);
        ready
    }

    fn ioctl(&self, task: &Task, command: u32, argument: UserAddr) -> Result<usize> {
        match command {
            ioctl::TCGETS => {
                let termios = *TERMINAL.lock().discipline.termios();
                write_value(argument, &termios)?;
            }
            ioctl::TCGETS2 => {
                let base = *TERMINAL.lock().discipline.termios();
                write_value(argument, &Termios2 { base, ispeed: SPEED, ospeed: SPEED })?;
            }
            ioctl::TCSETS | ioctl::TCSETSW => set_termios(read_value(argument)?, Flush::Nothing),
            ioctl::TCSETSF => set_termios(read_value(argument)?, Flush::Input),
            ioctl::TCSETS2 | ioctl::TCSETSW2 => {
                set_termios(read_value::<Termios2>(argument)?.base, Flush::Nothing);
            }
            ioctl::TCSETSF2 => set_termios(read_value::<Termios2>(argument)?.base, Flush::Input),
            ioctl::TIOCGWINSZ => write_value(argument, &window_size())?,
            ioctl::TIOCSWINSZ => set_window_size(task, read_value(argument)?),
            ioctl::TIOCGPGRP => {
                let foreground = TERMINAL.lock().foreground;
                let foreground = if foreground == 0 { task.pid as i32 } else { foreground };
                write_value(argument, &foreground)?;
            }
            ioctl::TIOCSPGRP => {
                let group: i32 = read_value(argument)?;
                if group < 0 {
                    return Err(Errno::EINVAL);
                }
                TERMINAL.lock().foreground = group;
            }
            ioctl::TIOCGSID => write_value(argument, &(task.pid as i32))?,
            // The session has it already; what is sent is sent.
            ioctl::TIOCSCTTY | ioctl::TIOCNOTTY | ioctl::TCSBRK | ioctl::TCSBRKP => {}
            ioctl::FIONREAD => {
                let mut state = TERMINAL.lock();
                state.drain_host();
                let count = state.discipline.readable_bytes() as i32;
                drop(state);
                write_value(argument, &count)?;
            }
            ioctl::TIOCOUTQ => write_value(argument, &0i32)?,
            ioctl::TIOCGETD => write_value(argument, &0i32)?, // N_TTY
            ioctl::TCFLSH => match argument.0 as u32 {
                linux::TCIFLUSH | linux::TCIOFLUSH => TERMINAL.lock().discipline.flush_input(),
                linux::TCOFLUSH => {}
                _ => return Err(Errno::EINVAL),
            },
            ioctl::TCXONC => match argument.0 as u32 {
                linux::TCOOFF => TERMINAL.lock().discipline.set_stopped(true),
                linux::TCOON => TERMINAL.lock().discipline.set_stopped(false),
                linux::TCIOFF | linux::TCION => {}
                _ => return Err(Errno::EINVAL),
            },
            ioctl::TIOCGPTN => write_value(argument, &0u32)?,
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }
}

#[derive(PartialEq, Eq)]
enum Flush {
    Nothing,
    Input,
}

fn set_termios(termios: Termios, flush: Flush) {
    let mut state = TERMINAL.lock();
    if flush == Flush::Input {
        state.discipline.flush_input();
    }
    state.discipline.set_termios(termios);
}

/// The host's size, unless the program has set another one since that last changed.
fn window_size() -> WinSize {
    let mut state = TERMINAL.lock();
    let host = stdio::window_size(state.screen.stream).unwrap_or(state.initial_size);
    match state.size {
        Some((size, at_that_time)) if at_that_time == host => size,
        _ => {
            state.size = None;
            WinSize { rows: host.rows, columns: host.columns, ..WinSize::default() }
        }
    }
}

fn set_window_size(task: &Task, size: WinSize) {
    let is_new = window_size() != size;
    {
        let mut state = TERMINAL.lock();
        let host = stdio::window_size(state.screen.stream).unwrap_or(state.initial_size);
        state.size = Some((size, host));
    }
    if is_new {
        task.post_signal(Signal::SIGWINCH);
    }
}
