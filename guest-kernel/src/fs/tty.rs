//! The line discipline of a terminal: Linux's N_TTY as a state machine, without I/O.
//!
//! ```text
//! keys --input()--> ring: | read already | complete lines | line being edited | free |
//!                          tail           ^tail            ^canon_head         ^head
//!                    \--> Effects::echo, Effects::signal
//! program --output()--> Effects::echo (the same way to the screen)
//! ```
//! In raw mode there are no lines: all between tail and head can be read.
//!
//! Limits: no parity marks (PARMRK), no delays but tabs, no ECHOPRT.

use linux_raw_sys::general as linux;

use super::abi::Termios;
use super::tty_screen::Erase;

/// Bytes that wait to be read, at most; a line being edited included.
pub const BUFFER_SIZE: usize = 4096;
/// The character that means "none" in the control characters.
const DISABLED: u8 = 0;

/// What the discipline wants done, in order.
pub trait Effects {
    /// Bytes for the screen.
    fn echo(&mut self, bytes: &[u8]);
    /// A key that means a signal was pressed.
    fn signal(&mut self, key: SignalKey);
}

/// Keys that mean signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalKey {
    /// VINTR: SIGINT.
    Interrupt,
    /// VQUIT: SIGQUIT.
    Quit,
    /// VSUSP: SIGTSTP.
    Suspend,
}

/// A piece of what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Bytes in it.
    pub len: usize,
    /// In canonical mode: the line ends with it.
    pub is_end: bool,
}

/// The state machine.
pub struct LineDiscipline {
    pub(super) termios: Termios,
    ring: [u8; BUFFER_SIZE],
    /// A bit for each byte of the ring: it ends a line.
    line_ends: [u64; BUFFER_SIZE / 64],
    /// Counters, taken modulo the size.
    pub(super) head: usize,
    tail: usize,
    pub(super) canon_head: usize,
    /// Where the cursor is, and where the line being edited began.
    pub(super) column: usize,
    pub(super) canon_column: usize,
    literal_next: bool,
    stopped: bool,
    pub(super) is_cooked_by_host: bool,
}

/// As a terminal of Linux starts, with UTF-8.
const INITIAL: Termios = Termios {
    iflag: linux::ICRNL | linux::IXON | linux::IUTF8,
    oflag: linux::OPOST | linux::ONLCR,
    cflag: linux::B38400 | linux::CS8 | linux::CREAD | linux::HUPCL,
    lflag: linux::ISIG
        | linux::ICANON
        | linux::ECHO
        | linux::ECHOE
        | linux::ECHOK
        | linux::ECHOCTL
        | linux::ECHOKE
        | linux::IEXTEN,
    line: 0,
    cc: [3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0],
};

impl LineDiscipline {
    /// A terminal as it starts.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            termios: INITIAL,
            ring: [0; BUFFER_SIZE],
            line_ends: [0; BUFFER_SIZE / 64],
            head: 0,
            tail: 0,
            canon_head: 0,
            column: 0,
            canon_column: 0,
            literal_next: false,
            stopped: false,
            is_cooked_by_host: false,
        }
    }

    /// The settings.
    #[must_use]
    pub fn termios(&self) -> &Termios {
        &self.termios
    }

    /// Changes the settings. What waits stays readable: in canonical mode it counts as a line.
    pub fn set_termios(&mut self, termios: Termios) {
        let was_canonical = self.local(linux::ICANON);
        self.termios = termios;
        if was_canonical != self.local(linux::ICANON) {
            self.line_ends = [0; BUFFER_SIZE / 64];
            self.literal_next = false;
            if self.local(linux::ICANON) && self.head != self.tail {
                self.mark_line_end(self.head.wrapping_sub(1));
            }
            self.canon_head = self.head;
        }
        if !self.input_flag(linux::IXON) {
            self.stopped = false;
        }
    }

    /// Whether output is held up (VSTOP).
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Holds output up, or lets it go on.
    pub fn set_stopped(&mut self, stopped: bool) {
        self.stopped = stopped;
    }

    /// Throws away what waits to be read.
    pub fn flush_input(&mut self) {
        self.tail = self.head;
        self.canon_head = self.head;
        self.line_ends = [0; BUFFER_SIZE / 64];
        self.literal_next = false;
    }

    /// How many more bytes can be taken in. A line that fills the buffer by itself does not stop the
    /// input: its last byte is replaced, so that it can still be ended.
    #[must_use]
    pub fn room(&self) -> usize {
        let room = BUFFER_SIZE - self.used();
        let is_one_line = self.local(linux::ICANON) && self.canon_head == self.tail;
        if room == 0 && is_one_line { 1 } else { room }
    }

    fn used(&self) -> usize {
        self.head.wrapping_sub(self.tail)
    }

    pub(super) fn input_flag(&self, flag: u32) -> bool {
        self.termios.iflag & flag != 0
    }

    pub(super) fn output_flag(&self, flag: u32) -> bool {
        self.termios.oflag & flag != 0
    }

    pub(super) fn local(&self, flag: u32) -> bool {
        self.termios.lflag & flag != 0
    }

    /// Whether `byte` is that control character.
    fn is_control(&self, byte: u8, index: u32) -> bool {
        byte != DISABLED && byte == self.termios.cc[index as usize]
    }

    /// Takes keys in, at most [`Self::room`] of them.
    pub fn input(&mut self, bytes: &[u8], effects: &mut impl Effects) {
        for &byte in bytes {
            self.key(byte, effects);
        }
    }

    fn key(&mut self, byte: u8, effects: &mut impl Effects) {
        let mut byte = byte;
        if self.input_flag(linux::ISTRIP) {
            byte &= 0x7f;
        }
        if self.input_flag(linux::IUCLC) && self.local(linux::IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if self.literal_next {
            self.literal_next = false;
            self.ordinary(byte, effects);
            return;
        }
        if self.input_flag(linux::IXON) {
            if self.is_control(byte, linux::VSTART) {
                self.stopped = false;
                return;
            }
            if self.is_control(byte, linux::VSTOP) {
                self.stopped = true;
                return;
            }
        }
        if self.local(linux::ISIG)
            && let Some(key) = self.signal_key(byte)
        {
            self.signal(key, byte, effects);
            return;
        }
        if self.stopped && self.input_flag(linux::IXON) && self.input_flag(linux::IXANY) {
            self.stopped = false;
        }
        match byte {
            b'\r' if self.input_flag(linux::IGNCR) => return,
            b'\r' if self.input_flag(linux::ICRNL) => byte = b'\n',
            b'\n' if self.input_flag(linux::INLCR) => byte = b'\r',
            _ => {}
        }
        if self.local(linux::ICANON) && self.canonical(byte, effects) {
            return;
        }
        self.ordinary(byte, effects);
    }

    fn signal_key(&self, byte: u8) -> Option<SignalKey> {
        let keys = [
            (linux::VINTR, SignalKey::Interrupt),
            (linux::VQUIT, SignalKey::Quit),
            (linux::VSUSP, SignalKey::Suspend),
        ];
        keys.into_iter().find(|&(index, _)| self.is_control(byte, index)).map(|(_, key)| key)
    }

    fn signal(&mut self, key: SignalKey, byte: u8, effects: &mut impl Effects) {
        if !self.local(linux::NOFLSH) {
            self.flush_input();
        }
        if self.input_flag(linux::IXON) {
            self.stopped = false;
        }
        if self.local(linux::ECHO) {
            self.echo_key(byte, effects);
        }
        effects.signal(key);
    }

    /// Keys with a meaning in canonical mode; whether it was one.
    fn canonical(&mut self, byte: u8, effects: &mut impl Effects) -> bool {
        let extended = self.local(linux::IEXTEN);
        let echoes = self.local(linux::ECHO);
        if self.is_control(byte, linux::VERASE) {
            self.erase(Erase::Character, effects);
        } else if self.is_control(byte, linux::VKILL) {
            self.erase(Erase::Line, effects);
        } else if extended && self.is_control(byte, linux::VWERASE) {
            self.erase(Erase::Word, effects);
        } else if extended && self.is_control(byte, linux::VLNEXT) {
            self.literal_next = true;
            if echoes && self.local(linux::ECHOCTL) {
                effects.echo(b"^\x08");
            }
        } else if extended && echoes && self.is_control(byte, linux::VREPRINT) {
            self.reprint(byte, effects);
        } else if byte == b'\n' {
            if echoes || self.local(linux::ECHONL) {
                self.echo_raw(b'\n', effects);
            }
            self.end_line(byte);
        } else if self.is_control(byte, linux::VEOF) {
            self.end_line(DISABLED);
        } else if self.is_control(byte, linux::VEOL)
            || extended && self.is_control(byte, linux::VEOL2)
        {
            if echoes {
                self.begin_line();
                self.echo_key(byte, effects);
            }
            self.end_line(byte);
        } else {
            return false;
        }
        true
    }

    /// A key that is just a byte.
    fn ordinary(&mut self, byte: u8, effects: &mut impl Effects) {
        if self.local(linux::ECHO) {
            if byte == b'\n' {
                self.echo_raw(byte, effects);
            } else {
                self.begin_line();
                self.echo_key(byte, effects);
            }
        }
        self.put(byte);
    }

    /// Notes where on the screen a line begins.
    fn begin_line(&mut self) {
        if self.canon_head == self.head {
            self.canon_column = self.column;
        }
    }

    fn put(&mut self, byte: u8) {
        if self.used() == BUFFER_SIZE {
            // Full. A line that fills it all loses its last byte; in raw mode nothing comes here.
            if !self.local(linux::ICANON) || self.canon_head == self.head {
                return;
            }
            self.head = self.head.wrapping_sub(1);
        }
        self.ring[self.head % BUFFER_SIZE] = byte;
        self.head = self.head.wrapping_add(1);
        if !self.local(linux::ICANON) {
            self.canon_head = self.head;
        }
    }

    fn end_line(&mut self, byte: u8) {
        self.put(byte);
        self.mark_line_end(self.head.wrapping_sub(1));
        self.canon_head = self.head;
    }

    fn mark_line_end(&mut self, at: usize) {
        let index = at % BUFFER_SIZE;
        self.line_ends[index / 64] |= 1 << (index % 64);
    }

    fn is_line_end(&self, at: usize) -> bool {
        let index = at % BUFFER_SIZE;
        self.line_ends[index / 64] & 1 << (index % 64) != 0
    }

    pub(super) fn byte_at(&self, at: usize) -> u8 {
        self.ring[at % BUFFER_SIZE]
    }

    /// Bytes that can be read now, and whether a read would give any (an end of file counts).
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.canon_head != self.tail
    }

    /// Bytes in raw mode.
    #[must_use]
    pub fn available(&self) -> usize {
        self.canon_head.wrapping_sub(self.tail)
    }

    /// What FIONREAD says: ends of file do not count.
    #[must_use]
    pub fn readable_bytes(&self) -> usize {
        let all = self.available();
        if !self.local(linux::ICANON) {
            return all;
        }
        let is_eof = |at: usize| self.is_line_end(at) && self.byte_at(at) == DISABLED;
        all - (0..all).filter(|&i| is_eof(self.tail.wrapping_add(i))).count()
    }

    /// Reads: in canonical mode up to the end of a line.
    pub fn read(&mut self, dst: &mut [u8]) -> Piece {
        let is_canonical = self.local(linux::ICANON);
        let mut len = 0;
        while self.tail != self.canon_head {
            let byte = self.byte_at(self.tail);
            let is_end = is_canonical && self.is_line_end(self.tail);
            let is_eof = is_end && byte == DISABLED;
            if len == dst.len() && !is_eof {
                break;
            }
            let index = self.tail % BUFFER_SIZE;
            self.line_ends[index / 64] &= !(1 << (index % 64));
            self.tail = self.tail.wrapping_add(1);
            if !is_eof {
                dst[len] = byte;
                len += 1;
            }
            if is_end {
                return Piece { len, is_end };
            }
        }
        Piece { len, is_end: false }
    }
}

impl Default for LineDiscipline {
    fn default() -> Self {
        Self::new()
    }
}
