//! The line discipline's way to the screen: echo, erasing, and what the program writes.

use linux_raw_sys::general as linux;

use super::tty::{Effects, LineDiscipline};

/// How much a key erases.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Erase {
    Character,
    Word,
    Line,
}

impl LineDiscipline {
    /// Whether a byte is not the first one of a character.
    pub(super) fn is_continuation(&self, byte: u8) -> bool {
        self.input_flag(linux::IUTF8) && byte & 0xc0 == 0x80
    }

    pub(super) fn erase(&mut self, what: Erase, effects: &mut impl Effects) {
        if self.head == self.canon_head {
            return;
        }
        let echoes = self.local(linux::ECHO);
        if what == Erase::Line {
            let quietly = linux::ECHOK | linux::ECHOKE | linux::ECHOE;
            if !echoes {
                self.head = self.canon_head;
                return;
            }
            if self.termios.lflag & quietly != quietly {
                self.head = self.canon_head;
                self.echo_key(self.termios.cc[linux::VKILL as usize], effects);
                if self.local(linux::ECHOK) {
                    self.echo_raw(b'\n', effects);
                }
                return;
            }
        }
        let mut seen_word = false;
        while self.head != self.canon_head {
            let mut at = self.head.wrapping_sub(1);
            while self.is_continuation(self.byte_at(at)) && at != self.canon_head {
                at = at.wrapping_sub(1);
            }
            let byte = self.byte_at(at);
            if self.is_continuation(byte) {
                break; // half a character: it stays
            }
            if what == Erase::Word {
                match byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80 {
                    true => seen_word = true,
                    false if seen_word => break,
                    false => {}
                }
            }
            self.head = at;
            if echoes {
                self.echo_erase(what, byte, effects);
            }
            if what == Erase::Character {
                break;
            }
        }
    }

    /// Takes a character that was just erased off the screen.
    fn echo_erase(&mut self, what: Erase, byte: u8, effects: &mut impl Effects) {
        if what == Erase::Character && !self.local(linux::ECHOE) {
            self.echo_key(self.termios.cc[linux::VERASE as usize], effects);
        } else if byte == b'\t' {
            let mut column = 0;
            let mut at = self.head;
            let mut after_tab = false;
            while at != self.canon_head && !after_tab {
                at = at.wrapping_sub(1);
                let byte = self.byte_at(at);
                if byte == b'\t' {
                    after_tab = true;
                } else if byte.is_ascii_control() {
                    column += if self.local(linux::ECHOCTL) { 2 } else { 0 };
                } else if !self.is_continuation(byte) {
                    column += 1;
                }
            }
            if !after_tab {
                column += self.canon_column;
            }
            for _ in 0..8 - column % 8 {
                effects.echo(b"\x08");
                self.column = self.column.saturating_sub(1);
            }
        } else {
            let width = match byte.is_ascii_control() {
                true if self.local(linux::ECHOCTL) => 2,
                true => 0,
                false => 1,
            };
            for _ in 0..width {
                effects.echo(b"\x08 \x08");
                self.column = self.column.saturating_sub(1);
            }
        }
    }

    pub(super) fn reprint(&mut self, byte: u8, effects: &mut impl Effects) {
        self.echo_key(byte, effects);
        self.echo_raw(b'\n', effects);
        let mut at = self.canon_head;
        while at != self.head {
            self.echo_key(self.byte_at(at), effects);
            at = at.wrapping_add(1);
        }
    }

    /// Shows a key: control characters as ^X, if so set.
    pub(super) fn echo_key(&mut self, byte: u8, effects: &mut impl Effects) {
        if self.local(linux::ECHOCTL) && byte.is_ascii_control() && byte != b'\t' {
            effects.echo(&[b'^', byte ^ 0x40]);
            self.column += 2;
        } else {
            self.echo_raw(byte, effects);
        }
    }

    pub(super) fn echo_raw(&mut self, byte: u8, effects: &mut impl Effects) {
        if self.is_output_raw() {
            effects.echo(&[byte]);
        } else {
            self.output_byte(byte, effects);
        }
    }

    /// Whether output goes to the screen as it is.
    #[must_use]
    pub fn is_output_raw(&self) -> bool {
        self.is_cooked_by_host || !self.output_flag(linux::OPOST)
    }

    /// Says that the host's terminal is not in raw mode, and does what OPOST asks for itself: it is
    /// only where keys come from the terminal too that the host leaves all to us.
    pub fn set_cooked_by_host(&mut self, is_cooked: bool) {
        self.is_cooked_by_host = is_cooked;
    }

    /// Shows what the program writes.
    pub fn output(&mut self, bytes: &[u8], effects: &mut impl Effects) {
        if self.is_output_raw() {
            effects.echo(bytes);
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            // Printable text in one piece.
            let is_plain = |b: &u8| !b.is_ascii_control();
            let plain = rest.iter().position(|b| !is_plain(b)).unwrap_or(rest.len());
            if plain > 0 && !self.output_flag(linux::OLCUC) {
                let (text, behind) = rest.split_at(plain);
                effects.echo(text);
                self.column += text.iter().filter(|&&b| !self.is_continuation(b)).count();
                rest = behind;
            } else {
                self.output_byte(rest[0], effects);
                rest = &rest[1..];
            }
        }
    }

    fn output_byte(&mut self, byte: u8, effects: &mut impl Effects) {
        let mut byte = byte;
        match byte {
            b'\n' => {
                if self.output_flag(linux::ONLRET) {
                    self.column = 0;
                }
                if self.output_flag(linux::ONLCR) {
                    self.column = 0;
                    self.canon_column = 0;
                    effects.echo(b"\r\n");
                    return;
                }
                self.canon_column = self.column;
            }
            b'\r' => {
                if self.output_flag(linux::ONOCR) && self.column == 0 {
                    return;
                }
                if self.output_flag(linux::OCRNL) {
                    byte = b'\n';
                    if self.output_flag(linux::ONLRET) {
                        self.column = 0;
                        self.canon_column = 0;
                    }
                } else {
                    self.column = 0;
                    self.canon_column = 0;
                }
            }
            b'\t' => {
                let spaces = 8 - self.column % 8;
                self.column += spaces;
                if self.termios.oflag & linux::TABDLY == linux::XTABS {
                    effects.echo(&b"        "[..spaces]);
                    return;
                }
            }
            8 => self.column = self.column.saturating_sub(1),
            _ if byte.is_ascii_control() => {}
            _ => {
                if self.output_flag(linux::OLCUC) {
                    byte = byte.to_ascii_uppercase();
                }
                self.column += usize::from(!self.is_continuation(byte));
            }
        }
        effects.echo(&[byte]);
    }
}
