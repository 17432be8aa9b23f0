//! The host's terminal while the guest has it: raw mode and its end, window size, what each standard
//! stream is, and the keys that leave.
//!
//! In raw mode every key goes to the guest, whose line discipline does the rest. The settings from
//! before come back on every way out: [`Terminal`] dropped, a panic (a hook), a fatal signal (a
//! handler); the event loop calls [`restore`] for SIGTERM and its like, and [`Terminal::stop`] for
//! SIGTSTP.

#![forbid(unsafe_code)]

use std::io;
use std::os::fd::RawFd;
use std::sync::Once;

use shared_abi::boot_info::{STREAM_CLOSED, STREAM_NULL, STREAM_PIPE, STREAM_TERMINAL};
use shared_abi::stdio::WindowSize;

use crate::sys;

/// A terminal in raw mode until it is dropped. One at a time per process.
#[derive(Debug)]
pub struct Terminal(());

impl Terminal {
    /// Saves the settings of the terminal `fd`, which must stay open, and makes it raw. In the
    /// background, where setting it would stop us, that waits for [`Terminal::resume`].
    pub fn enter(fd: RawFd) -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let previous = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                restore();
                previous(panic);
            }));
        });
        sys::restore_on_fatal_signals();
        let terminal = Self(());
        sys::enter_raw(fd)?;
        Ok(terminal)
    }

    /// Raw mode again, if in the foreground: for SIGCONT.
    pub fn resume(&self) -> io::Result<()> {
        sys::reenter_raw()
    }

    /// Restores the settings, stops this process, and goes on in raw mode when it is continued: for
    /// SIGTSTP, SIGTTIN and SIGTTOU.
    pub fn stop(&self) -> io::Result<()> {
        restore();
        sys::stop_process();
        self.resume()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives the terminal its settings back, if one is raw. Safe in panic hooks and signal handlers.
pub fn restore() {
    sys::restore();
}

/// How a line of ours on the terminal ends: raw mode does not return the carriage.
pub fn line_end() -> &'static str {
    if sys::is_raw() { "\r\n" } else { "\n" }
}

/// The size of the terminal `fd`, if it is one.
pub fn window_size(fd: RawFd) -> Option<WindowSize> {
    let (rows, columns) = sys::window_size(fd).ok()?;
    Some(WindowSize { rows, columns })
}

/// What a standard stream is: one of `shared_abi::boot_info::STREAM_*`.
pub fn stream_kind(fd: RawFd) -> u32 {
    let Ok((mode, device)) = sys::stat(fd) else {
        return STREAM_CLOSED;
    };
    if mode & libc::S_IFMT != libc::S_IFCHR {
        return STREAM_PIPE;
    }
    if device == libc::makedev(1, 3) {
        // The runtime's stand-in for a closed stream is /dev/null, open both ways.
        let stand_in = sys::was_closed_at_start(fd) && sys::is_read_write(fd);
        return if stand_in { STREAM_CLOSED } else { STREAM_NULL };
    }
    if sys::window_size(fd).is_ok() { STREAM_TERMINAL } else { STREAM_PIPE }
}

/// What follows from the keys so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Stay,
    /// The user wants to leave; later input does not count.
    Leave,
}

const CTRL_A: u8 = 1;

/// Looks for the escape key, Ctrl-A, in what the user types: `x` after it leaves, `a` sends one Ctrl-A,
/// anything else passes together with it.
#[derive(Clone, Debug, Default)]
pub struct EscapeFilter {
    after_escape: bool,
}

impl EscapeFilter {
    /// Appends to `output` what of `input` is for the guest. An escape may be split between calls.
    pub fn feed(&mut self, input: &[u8], output: &mut Vec<u8>) -> Verdict {
        for &byte in input {
            match (std::mem::take(&mut self.after_escape), byte) {
                (false, CTRL_A) => self.after_escape = true,
                (false, _) => output.push(byte),
                (true, b'x' | b'X') => return Verdict::Leave,
                (true, b'a' | b'A') => output.push(CTRL_A),
                (true, _) => output.extend([CTRL_A, byte]),
            }
        }
        Verdict::Stay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::process::{Command, Stdio};
    use std::sync::Mutex;
    use std::time::{Duration, Instant};

    /// The raw terminal is one per process; tests that use it take turns.
    static TURN: Mutex<()> = Mutex::new(());

    #[test]
    fn raw_mode_ends_with_the_terminal_and_with_a_panic() {
        let _turn = TURN.lock().unwrap();
        let (_user, program) = sys::open_pty().unwrap();
        let fd = program.as_raw_fd();
        let before = sys::terminal_flags(fd);
        assert_ne!(before.0 & libc::ICANON, 0);

        let terminal = Terminal::enter(fd).unwrap();
        let (local, output) = sys::terminal_flags(fd);
        assert_eq!(local & (libc::ICANON | libc::ECHO | libc::ISIG), 0);
        assert_eq!(output & libc::OPOST, 0);
        assert_eq!(line_end(), "\r\n");
        drop(terminal);
        assert_eq!(sys::terminal_flags(fd), before);
        assert_eq!(line_end(), "\n");

        let terminal = Terminal::enter(fd).unwrap();
        restore();
        assert_eq!(sys::terminal_flags(fd), before);
        terminal.resume().unwrap();
        assert_ne!(sys::terminal_flags(fd), before);

        let panicked = std::panic::catch_unwind(|| panic!("on purpose"));
        assert!(panicked.is_err());
        assert_eq!(sys::terminal_flags(fd), before, "the hook comes before the drop");
        drop(terminal);
    }

    #[test]
    fn a_pipe_is_no_terminal() {
        let _turn = TURN.lock().unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        assert!(Terminal::enter(reader.as_raw_fd()).is_err());
        assert_eq!(window_size(reader.as_raw_fd()), None);
    }

    #[test]
    fn streams_are_what_they_are() {
        let (_user, program) = sys::open_pty().unwrap();
        assert_eq!(stream_kind(program.as_raw_fd()), STREAM_TERMINAL);
        assert_eq!(window_size(program.as_raw_fd()), Some(WindowSize { rows: 24, columns: 80 }));
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(stream_kind(reader.as_raw_fd()), STREAM_PIPE);
        for (path, kind) in [
            ("/dev/null", STREAM_NULL),
            ("/dev/zero", STREAM_PIPE),
            ("/proc/self/exe", STREAM_PIPE),
        ] {
            assert_eq!(stream_kind(File::open(path).unwrap().as_raw_fd()), kind, "{path}");
        }
        assert_eq!(stream_kind(-1), STREAM_CLOSED);
    }

    /// Runs this test program again with closed streams: only a fresh process has them.
    #[test]
    fn closed_streams_are_seen_through_the_runtime() {
        const CHILD: &str = "VMM_TEST_CLOSED_STREAMS";
        if std::env::var_os(CHILD).is_some() {
            let kinds = [0, 2].map(stream_kind);
            std::process::exit(if kinds == [STREAM_CLOSED, STREAM_NULL] { 42 } else { 1 });
        }
        let status = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" <&- 2<>/dev/null"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "terminal::tests::closed_streams_are_seen_through_the_runtime"])
            .env(CHILD, "1")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(42));
    }

    /// A fatal signal ends the process as it did before, with the terminal restored.
    #[test]
    fn fatal_signals_restore() {
        const CHILD: &str = "VMM_TEST_FATAL_SIGNAL";
        if std::env::var_os(CHILD).is_some() {
            std::mem::forget(Terminal::enter(0).unwrap());
            assert_eq!(sys::terminal_flags(0).0 & libc::ICANON, 0);
            std::process::abort();
        }
        let (_user, program) = sys::open_pty().unwrap();
        let before = sys::terminal_flags(program.as_raw_fd());
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "terminal::tests::fatal_signals_restore"])
            .env(CHILD, "1")
            .stdin(program.try_clone().unwrap())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGABRT));
        assert_eq!(sys::terminal_flags(program.as_raw_fd()), before);
    }

    /// While the process is stopped its terminal has its settings back; continued, it is raw again.
    #[test]
    fn a_stop_restores_until_the_process_goes_on() {
        const CHILD: &str = "VMM_TEST_STOP";
        if std::env::var_os(CHILD).is_some() {
            let terminal = Terminal::enter(0).unwrap();
            terminal.stop().unwrap();
            std::process::exit(if sys::terminal_flags(0).0 & libc::ICANON == 0 { 42 } else { 1 });
        }
        let (_user, program) = sys::open_pty().unwrap();
        let before = sys::terminal_flags(program.as_raw_fd());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "terminal::tests::a_stop_restores_until_the_process_goes_on"])
            .env(CHILD, "1")
            .stdin(program.try_clone().unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id().to_string();
        let deadline = Instant::now() + Duration::from_secs(30);
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        while !state().contains(") T ") {
            if Instant::now() >= deadline {
                child.kill().unwrap();
                panic!("the child does not stop");
            }
            std::thread::yield_now();
        }
        let stopped = sys::terminal_flags(program.as_raw_fd());
        assert!(Command::new("kill").args(["-CONT", &pid]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(42));
        assert_eq!(stopped, before);
    }

    #[test]
    fn escape_filter() {
        type Case = (&'static [&'static [u8]], &'static [u8], Verdict);
        let cases: [Case; 8] = [
            (&[b"plain\x03\x04"], b"plain\x03\x04", Verdict::Stay),
            (&[b"\x01x"], b"", Verdict::Leave),
            (&[b"ab\x01xcd"], b"ab", Verdict::Leave),
            (&[b"\x01a"], b"\x01", Verdict::Stay),
            (&[b"\x01b"], b"\x01b", Verdict::Stay),
            (&[b"\x01", b"x"], b"", Verdict::Leave),
            (&[b"\x01\x01x"], b"\x01\x01x", Verdict::Stay),
            (&[b"", b"\x01", b"", b"q"], b"\x01q", Verdict::Stay),
        ];
        for (chunks, expected, verdict) in cases {
            let (mut filter, mut output) = (EscapeFilter::default(), Vec::new());
            let verdicts = chunks.iter().map(|chunk| filter.feed(chunk, &mut output));
            assert_eq!(verdicts.last(), Some(verdict), "{chunks:?}");
            assert_eq!(output, expected, "{chunks:?}");
        }
    }
}
