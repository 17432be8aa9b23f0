//! The line discipline, key by key.

use linux_raw_sys::general as linux;

use super::erofs_test::Random;
use super::tty::{BUFFER_SIZE, Effects, LineDiscipline, Piece, SignalKey};

#[derive(Default)]
struct Screen {
    bytes: Vec<u8>,
    signals: Vec<SignalKey>,
}

impl Effects for Screen {
    fn echo(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn signal(&mut self, key: SignalKey) {
        self.signals.push(key);
    }
}

struct Tty {
    discipline: LineDiscipline,
    screen: Screen,
}

impl Tty {
    fn new() -> Self {
        Self { discipline: LineDiscipline::new(), screen: Screen::default() }
    }

    fn with(change: impl FnOnce(&mut super::abi::Termios)) -> Self {
        let mut tty = Self::new();
        tty.change(change);
        tty
    }

    fn change(&mut self, change: impl FnOnce(&mut super::abi::Termios)) {
        let mut termios = *self.discipline.termios();
        change(&mut termios);
        self.discipline.set_termios(termios);
    }

    fn keys(&mut self, bytes: &[u8]) -> &mut Self {
        self.discipline.input(bytes, &mut self.screen);
        self
    }

    fn read(&mut self) -> Vec<u8> {
        let mut bytes = [0; 8192];
        let piece = self.discipline.read(&mut bytes);
        bytes[..piece.len].to_vec()
    }

    fn shown(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.screen.bytes)
    }
}

#[test]
fn line_is_readable_when_it_is_ended() {
    let mut tty = Tty::new();
    tty.keys(b"hel");
    assert!(!tty.discipline.is_readable());
    tty.keys(b"lo\rnext");
    assert!(tty.discipline.is_readable());
    assert_eq!(tty.discipline.readable_bytes(), 6);
    assert_eq!(tty.read(), b"hello\n");
    assert_eq!(tty.shown(), b"hello\r\nnext");
    assert!(!tty.discipline.is_readable());
}

#[test]
fn one_read_gives_one_line() {
    let mut tty = Tty::new();
    tty.keys(b"a\nb\n");
    assert_eq!(tty.read(), b"a\n");
    assert_eq!(tty.read(), b"b\n");
}

#[test]
fn short_reads_share_a_line() {
    let mut tty = Tty::new();
    tty.keys(b"abc\n");
    let mut two = [0; 2];
    assert_eq!(tty.discipline.read(&mut two), Piece { len: 2, is_end: false });
    assert_eq!(tty.discipline.read(&mut two), Piece { len: 2, is_end: true });
    assert_eq!(&two, b"c\n");
}

#[test]
fn erase_takes_a_character_and_its_echo() {
    let mut tty = Tty::new();
    tty.keys(b"ab\x7f\x7f\x7fc\n");
    assert_eq!(tty.shown(), b"ab\x08 \x08\x08 \x08c\r\n");
    assert_eq!(tty.read(), b"c\n");
}

#[test]
fn erase_takes_a_whole_utf8_character() {
    let mut tty = Tty::new();
    tty.keys("a\u{e4}\u{20ac}\x7f\x7f".as_bytes());
    assert!(tty.shown().ends_with("\u{20ac}\x08 \x08\x08 \x08".as_bytes()));
    tty.keys(b"\n");
    assert_eq!(tty.read(), b"a\n");
    let mut bytes = Tty::with(|termios| termios.iflag &= !linux::IUTF8);
    bytes.keys("\u{e4}\x7f\n".as_bytes());
    assert_eq!(bytes.read(), b"\xc3\n");
}

#[test]
fn erase_takes_control_characters_and_tabs_off_the_screen() {
    let mut tty = Tty::new();
    tty.keys(b"\x16\x01");
    assert_eq!(tty.shown(), b"^\x08^A");
    tty.keys(b"\x7f");
    assert_eq!(tty.shown(), b"\x08 \x08\x08 \x08");
    tty.keys(b"abc\t");
    tty.shown();
    tty.keys(b"\x7f");
    assert_eq!(tty.shown(), b"\x08".repeat(5));
}

#[test]
fn word_erase_takes_the_last_word() {
    let mut tty = Tty::new();
    tty.keys(b"one two  \x17three\n");
    assert_eq!(tty.read(), b"one three\n");
}

#[test]
fn kill_takes_the_line() {
    let mut tty = Tty::new();
    tty.keys(b"abc\x15d\n");
    assert_eq!(tty.shown(), b"abc\x08 \x08\x08 \x08\x08 \x08d\r\n");
    assert_eq!(tty.read(), b"d\n");
    let mut plain = Tty::with(|termios| termios.lflag &= !linux::ECHOKE);
    plain.keys(b"abc\x15");
    assert_eq!(plain.shown(), b"abc^U\r\n");
}

#[test]
fn end_of_file_ends_a_line_without_a_byte() {
    let mut tty = Tty::new();
    tty.keys(b"ab\x04");
    assert_eq!(tty.read(), b"ab");
    assert!(!tty.discipline.is_readable());
    tty.keys(b"\x04");
    assert!(tty.discipline.is_readable());
    assert_eq!(tty.discipline.readable_bytes(), 0);
    assert_eq!(tty.read(), b"");
    assert!(!tty.discipline.is_readable());
}

#[test]
fn literal_next_makes_any_key_a_byte() {
    let mut tty = Tty::new();
    tty.keys(b"\x16\x03\x16\x04\x16\n\n");
    assert_eq!(tty.screen.signals, []);
    assert_eq!(tty.read(), b"\x03\x04\n\n");
}

#[test]
fn other_line_ends_count() {
    let mut tty = Tty::with(|termios| termios.cc[linux::VEOL as usize] = b';');
    tty.keys(b"a;b\n");
    assert_eq!(tty.read(), b"a;");
    assert_eq!(tty.read(), b"b\n");
}

#[test]
fn reprint_shows_the_line_again() {
    let mut tty = Tty::new();
    tty.keys(b"abc\x12");
    assert_eq!(tty.shown(), b"abc^R\r\nabc");
}

#[test]
fn signal_keys_post_and_flush() {
    let mut tty = Tty::new();
    tty.keys(b"abc\x03");
    assert_eq!(tty.screen.signals, [SignalKey::Interrupt]);
    assert_eq!(tty.shown(), b"abc^C");
    tty.keys(b"d\n");
    assert_eq!(tty.read(), b"d\n");
    tty.keys(b"\x1c\x1a");
    assert_eq!(tty.screen.signals[1..], [SignalKey::Quit, SignalKey::Suspend]);
    let mut raw = Tty::with(|termios| termios.lflag &= !(linux::ISIG | linux::ICANON));
    raw.keys(b"\x03");
    assert_eq!(raw.screen.signals, []);
    assert_eq!(raw.read(), b"\x03");
}

#[test]
fn raw_mode_gives_bytes_at_once() {
    let mut tty = Tty::with(|termios| {
        termios.lflag &= !(linux::ICANON | linux::ECHO);
        termios.iflag &= !linux::ICRNL;
    });
    tty.keys(b"a\r\x7f\x04");
    assert_eq!(tty.discipline.available(), 4);
    assert_eq!(tty.read(), b"a\r\x7f\x04");
    assert_eq!(tty.shown(), b"");
}

#[test]
fn carriage_returns_and_newlines_are_mapped_as_set() {
    let mut tty = Tty::with(|termios| {
        termios.lflag &= !linux::ICANON;
        termios.iflag = linux::INLCR;
    });
    tty.keys(b"\n");
    assert_eq!(tty.read(), b"\r");
    tty.change(|termios| termios.iflag = linux::IGNCR);
    tty.keys(b"a\rb");
    assert_eq!(tty.read(), b"ab");
}

#[test]
fn output_is_processed_as_set() {
    let mut tty = Tty::new();
    tty.discipline.output(b"a\nb\tc", &mut tty.screen);
    assert_eq!(tty.shown(), b"a\r\nb\tc");
    tty.change(|termios| termios.oflag |= linux::XTABS);
    tty.discipline.output(b"\rab\tc\n", &mut tty.screen);
    assert_eq!(tty.shown(), b"\rab      c\r\n");
    tty.change(|termios| termios.oflag |= linux::OLCUC | linux::ONOCR);
    tty.discipline.output(b"\rxy", &mut tty.screen);
    assert_eq!(tty.shown(), b"XY");
    tty.change(|termios| termios.oflag = 0);
    tty.discipline.output(b"a\nb", &mut tty.screen);
    assert_eq!(tty.shown(), b"a\nb");
}

#[test]
fn stop_and_start_keys_hold_output_up() {
    let mut tty = Tty::new();
    tty.keys(b"\x13");
    assert!(tty.discipline.is_stopped());
    tty.keys(b"\x11");
    assert!(!tty.discipline.is_stopped());
    tty.keys(b"\x13\x03");
    assert!(!tty.discipline.is_stopped());
}

#[test]
fn switch_to_raw_mode_makes_the_unfinished_line_readable() {
    let mut tty = Tty::new();
    tty.keys(b"abc");
    tty.change(|termios| termios.lflag &= !linux::ICANON);
    assert_eq!(tty.read(), b"abc");
    tty.keys(b"def");
    tty.change(|termios| termios.lflag |= linux::ICANON);
    assert_eq!(tty.read(), b"def");
}

#[test]
fn overlong_line_can_still_be_ended() {
    let mut tty = Tty::new();
    tty.keys(&[b'x'; BUFFER_SIZE + 100]);
    assert_eq!(tty.discipline.room(), 1);
    tty.keys(b"\n");
    let line = tty.read();
    assert_eq!(line.len(), BUFFER_SIZE);
    assert_eq!(line.last(), Some(&b'\n'));
}

#[test]
fn any_keys_and_settings_keep_the_buffer_whole() {
    let mut random = Random(99);
    let mut tty = Tty::new();
    for _ in 0..200_000 {
        match random.below(40) {
            0 => {
                let flags = random.next() as u32;
                tty.change(|termios| termios.lflag = flags);
            }
            1 => {
                let flags = random.next() as u32;
                tty.change(|termios| termios.iflag = flags);
            }
            2 => {
                let mut bytes = vec![0; random.below(100) as usize];
                let piece = tty.discipline.read(&mut bytes);
                assert!(piece.len <= bytes.len());
            }
            3 => {
                let bytes = random.bytes(20);
                tty.discipline.output(&bytes, &mut tty.screen);
            }
            _ => {
                let len = random.below(30) as usize;
                let bytes = random.bytes(len.min(tty.discipline.room()));
                tty.keys(&bytes);
            }
        }
        assert!(tty.discipline.available() <= BUFFER_SIZE);
        assert!(tty.discipline.room() <= BUFFER_SIZE);
        assert!(tty.discipline.readable_bytes() <= tty.discipline.available());
    }
}
