//! Typed decoding of system call arguments: the only place that looks at raw words.

use crate::arch::frame::UserFrame;
use crate::mm::addr::UserAddr;

/// The six argument words. The first three are still in registers; the rest are in the frame.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    first: [u64; 3],
    frame: &'a UserFrame,
}

impl<'a> Args<'a> {
    /// The words of a call.
    #[inline(always)]
    #[must_use]
    pub fn new(first: [u64; 3], frame: &'a UserFrame) -> Self {
        Self { first, frame }
    }

    /// The registers, for the few calls that look at others than their arguments.
    #[inline(always)]
    #[must_use]
    pub fn frame(self) -> &'a UserFrame {
        self.frame
    }

    /// A 64-bit word.
    ///
    /// # Panics
    /// If there is no such argument: a mistake in the table.
    #[inline(always)]
    #[must_use]
    pub fn u64(self, index: usize) -> u64 {
        match index {
            0..=2 => self.first[index],
            3 => self.frame.r10,
            4 => self.frame.r8,
            5 => self.frame.r9,
            _ => unreachable!("a system call has six arguments"),
        }
    }

    /// A signed 64-bit word: a file offset.
    #[inline(always)]
    #[must_use]
    pub fn i64(self, index: usize) -> i64 {
        self.u64(index).cast_signed()
    }

    /// The lower half of a word: flags, modes.
    #[inline(always)]
    #[must_use]
    pub fn u32(self, index: usize) -> u32 {
        self.u64(index) as u32
    }

    /// The lower half of a word, signed: descriptors, ids.
    #[inline(always)]
    #[must_use]
    pub fn i32(self, index: usize) -> i32 {
        self.u32(index).cast_signed()
    }

    /// A length.
    #[inline(always)]
    #[must_use]
    pub fn len(self, index: usize) -> usize {
        self.u64(index) as usize
    }

    /// An address in user space: a claim.
    #[inline(always)]
    #[must_use]
    pub fn ptr(self, index: usize) -> UserAddr {
        UserAddr(self.u64(index))
    }
}
