//! Random bytes: ChaCha20 keyed by the host's seed, with fast key erasure: each request's first 32
//! bytes of key stream become the next key, so that what was given out cannot be computed from what
//! is in memory later.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use linux_raw_sys::general as linux;

use crate::error::{Errno, Result};
use crate::mm::addr::UserAddr;
use crate::mm::user::{UserBuffer, UserSlice};
use crate::sync::SpinLock;

/// User memory is filled in pieces of this size.
const STEP: usize = 256;
/// The most bytes of one getrandom.
const COUNT_MAX: usize = 0x7fff_f000;

static KEY: SpinLock<[u8; 32]> = SpinLock::new([0; 32]);

/// Sets the key from the host's random bytes, once, at boot.
pub fn seed(bytes: &[u8; 32]) {
    *KEY.lock() = *bytes;
}

/// Mixes bytes of a program (a write to /dev/random) into the key.
pub fn mix(bytes: &[u8]) {
    let mut key = KEY.lock();
    for (byte, index) in bytes.iter().zip((0..32).cycle()) {
        key[index] ^= byte;
    }
    let mut generator = ChaCha20Rng::from_seed(*key);
    generator.fill_bytes(&mut *key);
}

/// getrandom.
///
/// # Errors
/// EINVAL for unknown flags, EFAULT.
pub fn getrandom(address: UserAddr, len: usize, flags: u32) -> Result<usize> {
    const KNOWN: u32 = linux::GRND_NONBLOCK | linux::GRND_RANDOM | linux::GRND_INSECURE;
    const BOTH: u32 = linux::GRND_RANDOM | linux::GRND_INSECURE;
    if flags & !KNOWN != 0 || flags & BOTH == BOTH {
        return Err(Errno::EINVAL);
    }
    let range = [UserSlice::new(address, len.min(COUNT_MAX))?];
    fill_user(&mut UserBuffer::new(&range))
}

/// Fills user memory; how many bytes.
///
/// # Errors
/// EFAULT if not one byte could be written.
pub fn fill_user(buffer: &mut UserBuffer<'_>) -> Result<usize> {
    let mut bytes = [0; STEP];
    let mut done = 0;
    while buffer.remaining() > 0 {
        let step = buffer.remaining().min(STEP);
        fill(&mut bytes[..step]);
        match buffer.fill(&bytes[..step]) {
            Ok(count) => {
                done += count;
                if count < step {
                    break;
                }
            }
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

/// Fills `bytes`.
pub fn fill(bytes: &mut [u8]) {
    let mut generator = {
        let mut key = KEY.lock();
        let mut generator = ChaCha20Rng::from_seed(*key);
        generator.fill_bytes(&mut *key);
        generator
    };
    generator.fill_bytes(bytes);
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn two_requests_differ() {
        let (mut a, mut b) = ([0; 100], [0; 100]);
        fill(&mut a);
        fill(&mut b);
        assert_ne!(a, b);
        assert_ne!(a, [0; 100]);
    }
}
