//! What names in directories of an image lead to: a small table of recent answers, "nothing" among
//! them. An image never changes, so that an answer is right for ever.
//!
//! A static table: it costs nothing at boot.

use core::sync::atomic::{AtomicU32, Ordering};

use crate::error::Result;
use crate::sync::SpinLock;

/// Answers that are kept: a power of two.
const SLOT_COUNT: usize = 128;
/// Longer names are looked for each time.
const NAME_LEN_MAX: usize = 24;
const WORD_COUNT: usize = NAME_LEN_MAX / 8;

/// A name of a directory of an image, zero-padded.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    /// The image's [`Owner`], with the name's length.
    owner_and_len: u64,
    directory: u64,
    name: [u64; WORD_COUNT],
}

#[derive(Clone, Copy)]
struct Slot {
    key: Key,
    answer: Option<u64>,
}

const EMPTY: Slot =
    Slot { key: Key { owner_and_len: 0, directory: 0, name: [0; WORD_COUNT] }, answer: None };

static SLOTS: SpinLock<[Slot; SLOT_COUNT]> = SpinLock::new([EMPTY; SLOT_COUNT]);

/// An image's mark in the table.
pub(super) struct Owner(u32);

impl Owner {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number behind a name of a directory: from the table, or what `look` finds.
    #[inline]
    pub(super) fn look_up(
        &self,
        directory: u64,
        name: &[u8],
        look: impl FnOnce() -> Result<Option<u64>>,
    ) -> Result<Option<u64>> {
        let Some(key) = self.key(directory, name) else { return look() };
        let index = key.hash() % SLOT_COUNT;
        // Another CPU has the table: not worth waiting for.
        if let Some(slots) = SLOTS.try_lock()
            && slots[index].key == key
        {
            return Ok(slots[index].answer);
        }
        let answer = look()?;
        if let Some(mut slots) = SLOTS.try_lock() {
            slots[index] = Slot { key, answer };
        }
        Ok(answer)
    }

    fn key(&self, directory: u64, name: &[u8]) -> Option<Key> {
        if name.len() > NAME_LEN_MAX {
            return None;
        }
        let mut words = [0; WORD_COUNT];
        let (whole, rest) = name.as_chunks::<8>();
        for (to, from) in words.iter_mut().zip(whole) {
            *to = u64::from_le_bytes(*from);
        }
        if let Some(last) = words.get_mut(whole.len()) {
            for (shift, &byte) in rest.iter().enumerate() {
                *last |= u64::from(byte) << (8 * shift);
            }
        }
        let owner_and_len = u64::from(self.0) << 8 | name.len() as u64;
        Some(Key { owner_and_len, directory, name: words })
    }
}

impl Key {
    fn hash(&self) -> usize {
        let [a, b, c] = self.name;
        let mixed = a ^ b.rotate_left(21) ^ c.rotate_left(42) ^ self.directory.rotate_left(11);
        // Fibonacci hashing: the upper bits are the good ones.
        (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::Owner;

    #[test]
    fn names_that_differ_get_their_own_answers() {
        let owners = [Owner::new(), Owner::new()];
        let name = |n: u64| "x".repeat(n as usize % 30) + &n.to_string();
        for _ in 0..3 {
            for (number, owner) in (0..).zip(&owners) {
                for n in 0..1000 {
                    let directory = n % 7;
                    let right = (n % 3 > 0).then_some(n * 2 + number);
                    let found = owner.look_up(directory, name(n).as_bytes(), || Ok(right));
                    assert_eq!(found, Ok(right));
                }
            }
        }
    }

    #[test]
    fn an_answer_is_kept() {
        let owner = Owner::new();
        assert_eq!(owner.look_up(1, b"name", || Ok(Some(5))), Ok(Some(5)));
        // Another test may have taken the slot; asked again at once, it is most likely there.
        let mut asked = 0;
        for _ in 0..100 {
            let found = owner.look_up(1, b"name", || {
                asked += 1;
                Ok(Some(5))
            });
            assert_eq!(found, Ok(Some(5)));
        }
        assert!(asked < 50);
    }
}
