//! The kernel log: lines on COM1, one gathered write each, only as verbose as the VMM asked.

use core::fmt::{self, Write as _};
use core::sync::atomic::{AtomicBool, Ordering};

use crate::arch;
use crate::sync::IrqSpinLock;

static VERBOSE: AtomicBool = AtomicBool::new(false);

/// Turns the log on.
pub fn set_verbose() {
    VERBOSE.store(true, Ordering::Relaxed);
}

/// Whether anybody listens.
pub fn is_verbose() -> bool {
    VERBOSE.load(Ordering::Relaxed)
}

/// Longest line; the rest is cut off.
const LINE_LEN_MAX: usize = 256;

struct Line {
    bytes: [u8; LINE_LEN_MAX],
    len: usize,
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.len < LINE_LEN_MAX - 1 {
                self.bytes[self.len] = byte;
                self.len += 1;
            }
        }
        Ok(())
    }
}

/// Writes one line, if the log is on.
pub fn line(arguments: fmt::Arguments<'_>) {
    if !is_verbose() {
        return;
    }
    static SERIAL: IrqSpinLock<()> = IrqSpinLock::new(());
    let mut line = Line { bytes: [0; LINE_LEN_MAX], len: 0 };
    let _ = write!(line, "kernel: {arguments}"); // cannot fail: what is too long is cut off
    line.bytes[line.len] = b'\n';
    let _guard = SERIAL.lock();
    arch::serial_write(&line.bytes[..=line.len]);
}

/// Says that something is not supported, by name.
pub fn unsupported(what: &str) {
    line(format_args!("not supported: {what}"));
}
