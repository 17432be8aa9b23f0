//! A pseudo-terminal: the test holds the side of the person, the program gets the side of the screen.

use std::cell::Cell;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, OptionalActions, Termios, Winsize};

use crate::limit;
use crate::run::{Collector, contains};

/// A terminal that a program can be started on.
pub struct Terminal {
    master: File,
    slave: OwnedFd,
    screen: Collector,
    seen: Cell<usize>,
}

impl Terminal {
    /// A new terminal of this size.
    pub fn new(rows: u16, columns: u16) -> Terminal {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pty");
        rustix::pty::grantpt(&master).expect("grantpt");
        rustix::pty::unlockpt(&master).expect("unlockpt");
        let name = rustix::pty::ptsname(&master, Vec::new()).expect("ptsname");
        let slave = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())
            .expect("the terminal opens");
        let master = File::from(master);
        let screen = Collector::start(Some(master.try_clone().expect("a second descriptor")));
        let terminal = Terminal { master, slave, screen, seen: Cell::new(0) };
        terminal.resize(rows, columns);
        terminal
    }

    /// For a stream of a program that runs on this terminal.
    pub fn stream(&self) -> Stdio {
        self.slave.try_clone().expect("a second descriptor").into()
    }

    /// Types `text`.
    pub fn send(&self, text: &str) {
        (&self.master).write_all(text.as_bytes()).expect("the terminal takes input");
    }

    /// Waits until `text` has appeared.
    #[track_caller]
    pub fn wait_for(&self, text: &str, until: Instant) {
        if !self.screen.wait_until(until, |bytes| contains(bytes, text.as_bytes())) {
            panic!("{text:?} did not appear; the screen shows {:?}", self.screen_text());
        }
    }

    /// As [`Terminal::wait_for`], for what has appeared since the last call of this.
    #[track_caller]
    pub fn wait_for_next(&self, text: &str, until: Instant) {
        let seen = self.seen.get();
        if !self.screen.wait_until(until, |bytes| contains(&bytes[seen..], text.as_bytes())) {
            panic!("{text:?} did not appear; the screen shows {:?}", self.screen_text());
        }
        self.seen.set(self.screen.bytes().len());
    }

    /// All that has appeared when there are `count` whole lines.
    #[track_caller]
    pub fn wait_for_lines(&self, count: usize) -> String {
        let until = Instant::now() + limit(Duration::from_secs(5));
        let lines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count();
        if !self.screen.wait_until(until, |bytes| lines(bytes) >= count) {
            panic!("{count} lines expected; the screen shows {:?}", self.screen_text());
        }
        self.screen_text()
    }

    /// All that has appeared.
    pub fn screen_text(&self) -> String {
        String::from_utf8_lossy(&self.screen.bytes()).into_owned()
    }

    /// Another size.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&self.slave, size).expect("the terminal takes a size");
    }

    /// Its settings.
    pub fn settings(&self) -> Termios {
        rustix::termios::tcgetattr(&self.slave).expect("a terminal has settings")
    }

    /// Gives it settings.
    pub fn set_settings(&self, settings: &Termios) {
        rustix::termios::tcsetattr(&self.slave, OptionalActions::Now, settings)
            .expect("the terminal takes settings");
    }

    /// Whether it is in raw mode: neither lines nor echo nor signals by key.
    pub fn is_raw(&self) -> bool {
        let cooked = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        !self.settings().local_modes.intersects(cooked)
    }
}
