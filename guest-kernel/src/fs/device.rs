//! Character devices, by their numbers.

use alloc::sync::Arc;

use super::file::{Io, Object, Opening, Positioning};
use super::terminal;
use crate::error::{Errno, Result};
use crate::mm::user::UserBuffer;
use crate::random;

/// `makedev(major, minor)` for numbers below 256.
#[must_use]
pub const fn number(major: u64, minor: u64) -> u64 {
    major << 8 | minor
}

/// /dev/null.
pub const NULL: u64 = number(1, 3);
/// /dev/zero.
pub const ZERO: u64 = number(1, 5);
/// /dev/full.
pub const FULL: u64 = number(1, 7);
/// /dev/random.
pub const RANDOM: u64 = number(1, 8);
/// /dev/urandom.
pub const URANDOM: u64 = number(1, 9);
/// /dev/tty.
pub const TTY: u64 = number(5, 0);
/// /dev/console.
pub const CONSOLE: u64 = number(5, 1);

/// /dev/pts/0: the terminal by its own name.
pub const TERMINAL: u64 = number(136, 0);

/// Opens a character device.
///
/// # Errors
/// ENXIO if there is none with this number.
pub fn open(rdev: u64, opening: &Opening) -> Result<Arc<dyn Object>> {
    Ok(match rdev {
        NULL => Arc::new(Null),
        ZERO => Arc::new(Zero),
        FULL => Arc::new(Full),
        RANDOM | URANDOM => Arc::new(Random),
        TTY | CONSOLE | TERMINAL => terminal::open(opening)?,
        _ => return Err(Errno::ENXIO),
    })
}

/// Takes all bytes of a write without a look at them.
fn swallow(buffer: &mut UserBuffer<'_>) -> usize {
    let count = buffer.remaining();
    while buffer.next_range(usize::MAX).is_some() {}
    count
}

struct Null;

impl Object for Null {
    fn positioning(&self) -> Positioning {
        Positioning::Ignored
    }

    fn read(&self, _: &Io, _: &mut UserBuffer<'_>) -> Result<usize> {
        Ok(0)
    }

    fn write(&self, _: &Io, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        Ok(swallow(buffer))
    }
}

struct Zero;

impl Object for Zero {
    fn positioning(&self) -> Positioning {
        Positioning::Ignored
    }

    fn read(&self, _: &Io, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        buffer.fill_zero(buffer.remaining())
    }

    fn write(&self, _: &Io, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        Ok(swallow(buffer))
    }
}

struct Full;

impl Object for Full {
    fn positioning(&self) -> Positioning {
        Positioning::Ignored
    }

    fn read(&self, _: &Io, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        buffer.fill_zero(buffer.remaining())
    }

    fn write(&self, _: &Io, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        if buffer.remaining() == 0 { Ok(0) } else { Err(Errno::ENOSPC) }
    }
}

struct Random;

/// What is written is mixed in, in pieces of this size.
const RANDOM_STEP: usize = 256;

impl Object for Random {
    fn positioning(&self) -> Positioning {
        Positioning::Ignored
    }

    fn read(&self, _: &Io, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        random::fill_user(buffer)
    }

    fn write(&self, _: &Io, buffer: &mut UserBuffer<'_>) -> Result<usize> {
        let mut bytes = [0; RANDOM_STEP];
        let mut done = 0;
        while buffer.remaining() > 0 {
            let count = match buffer.drain(&mut bytes) {
                Ok(count) => count,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            };
            random::mix(&bytes[..count]);
            done += count;
        }
        Ok(done)
    }
}
