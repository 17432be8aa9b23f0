//! User memory: claims ([`UserSlice`]), checked copies, and the buffers of read and write.
//!
//! Every copy is checked against [`USER_END`] and runs under a fault fix-up: a bad pointer is EFAULT,
//! never a kernel fault. Nothing here hands out a Rust reference into user memory.

#![expect(unsafe_code, reason = "user memory is copied by raw pointer, here only")]

use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::addr::{PAGE, USER_END, UserAddr};
use crate::arch;
use crate::error::{Errno, Result};

/// A range of user memory that the program claims to own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserSlice {
    /// First byte.
    pub addr: UserAddr,
    /// Length in bytes.
    pub len: usize,
}

impl UserSlice {
    /// Accepts the claim as far as it lies below [`USER_END`]; whether it is mapped, the copy tells.
    ///
    /// # Errors
    /// EFAULT if any byte lies in kernel space.
    #[inline]
    pub fn new(addr: UserAddr, len: usize) -> Result<Self> {
        if cfg!(target_os = "none") {
            let end = addr.0.checked_add(len as u64).ok_or(Errno::EFAULT)?;
            if end > USER_END {
                return Err(Errno::EFAULT);
            }
        }
        Ok(Self { addr, len })
    }

    /// Copies the whole slice into `dst`, which has the same length.
    ///
    /// # Errors
    /// EFAULT if a byte cannot be read.
    pub fn read(self, dst: &mut [u8]) -> Result<()> {
        assert_eq!(self.len, dst.len(), "lengths of a user copy differ");
        // SAFETY: the range was checked to be user memory, and faults are fixed up.
        let left = unsafe { arch::user_copy(dst.as_mut_ptr(), self.addr.0 as *const u8, self.len) };
        if left == 0 { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Copies `src`, which has the same length, over the whole slice.
    ///
    /// # Errors
    /// EFAULT if a byte cannot be written.
    pub fn write(self, src: &[u8]) -> Result<()> {
        assert_eq!(self.len, src.len(), "lengths of a user copy differ");
        // SAFETY: the range was checked to be user memory, and faults are fixed up.
        let left = unsafe { arch::user_copy(self.addr.0 as *mut u8, src.as_ptr(), self.len) };
        if left == 0 { Ok(()) } else { Err(Errno::EFAULT) }
    }
}

/// Reads a structure from user memory.
///
/// # Errors
/// EFAULT.
pub fn read_value<T: FromBytes + IntoBytes>(addr: UserAddr) -> Result<T> {
    let mut value = T::new_zeroed();
    UserSlice::new(addr, size_of::<T>())?.read(value.as_mut_bytes())?;
    Ok(value)
}

/// Writes a structure to user memory.
///
/// # Errors
/// EFAULT.
pub fn write_value<T: IntoBytes + Immutable>(addr: UserAddr, value: &T) -> Result<()> {
    UserSlice::new(addr, size_of::<T>())?.write(value.as_bytes())
}

/// Reads a NUL-terminated string of at most `len_max` bytes (the NUL not counted).
///
/// # Errors
/// EFAULT; ENAMETOOLONG if there is no NUL within `len_max + 1` bytes.
pub fn read_c_string(addr: UserAddr, len_max: usize) -> Result<Vec<u8>> {
    let mut string = Vec::new();
    let mut at = addr;
    loop {
        // Up to the end of the page: the next one may not be there.
        let chunk = (PAGE - at.page_offset()).min(64).min(len_max + 1 - string.len());
        let start = string.len();
        string.resize(start + chunk, 0);
        UserSlice::new(at, chunk)?.read(&mut string[start..])?;
        if let Some(end) = string[start..].iter().position(|&b| b == 0) {
            string.truncate(start + end);
            return Ok(string);
        }
        if string.len() > len_max {
            return Err(Errno::ENAMETOOLONG);
        }
        at = at.add(chunk as u64);
    }
}

/// The user memory of one read or write: one range, or the vector of readv and writev; a cursor in it.
///
/// Both directions stop at the first byte that faults: what was moved before counts, as on Linux;
/// EFAULT is reported only if nothing was moved.
pub struct UserBuffer<'a> {
    ranges: &'a [UserSlice],
    index: usize,
    offset: usize,
    remaining: usize,
}

impl<'a> UserBuffer<'a> {
    /// A buffer over `ranges`, in order.
    #[must_use]
    pub fn new(ranges: &'a [UserSlice]) -> Self {
        let remaining = ranges.iter().fold(0, |sum: usize, r| sum.saturating_add(r.len));
        Self { ranges, index: 0, offset: 0, remaining }
    }

    /// Bytes left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Takes the next contiguous range of at most `len_max` bytes out of the buffer.
    pub fn next_range(&mut self, len_max: usize) -> Option<UserSlice> {
        loop {
            let range = self.ranges.get(self.index)?;
            if self.offset < range.len {
                let len = (range.len - self.offset).min(len_max);
                let piece = UserSlice { addr: range.addr.add(self.offset as u64), len };
                self.offset += len;
                self.remaining -= len;
                return (len > 0).then_some(piece);
            }
            self.index += 1;
            self.offset = 0;
        }
    }

    /// Puts back the last `len` bytes of the range that [`Self::next_range`] gave last.
    pub fn put_back(&mut self, len: usize) {
        self.offset -= len;
        self.remaining += len;
    }

    /// Writes bytes into the buffer (the data of a read); how many went in.
    ///
    /// # Errors
    /// EFAULT if not one byte could be written.
    pub fn fill(&mut self, src: &[u8]) -> Result<usize> {
        let mut done = 0;
        while done < src.len() {
            let Some(range) = self.next_range(src.len() - done) else { break };
            // SAFETY: `UserSlice::new` checked the range; faults are fixed up.
            let left = unsafe {
                arch::user_copy(range.addr.0 as *mut u8, src[done..].as_ptr(), range.len)
            };
            done += range.len - left;
            if left > 0 {
                self.put_back(left);
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
        }
        Ok(done)
    }

    /// Writes `len` zeroes into the buffer; how many went in.
    ///
    /// # Errors
    /// EFAULT if not one byte could be written.
    pub fn fill_zero(&mut self, len: usize) -> Result<usize> {
        let mut done = 0;
        while done < len {
            let Some(range) = self.next_range(len - done) else { break };
            // SAFETY: `UserSlice::new` checked the range; faults are fixed up.
            let left = unsafe { arch::user_zero(range.addr.0 as *mut u8, range.len) };
            done += range.len - left;
            if left > 0 {
                self.put_back(left);
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
        }
        Ok(done)
    }

    /// Reads bytes out of the buffer (the data of a write); how many came out.
    ///
    /// # Errors
    /// EFAULT if not one byte could be read.
    pub fn drain(&mut self, dst: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < dst.len() {
            let Some(range) = self.next_range(dst.len() - done) else { break };
            // SAFETY: `UserSlice::new` checked the range; faults are fixed up.
            let left = unsafe {
                arch::user_copy(dst[done..].as_mut_ptr(), range.addr.0 as *const u8, range.len)
            };
            done += range.len - left;
            if left > 0 {
                self.put_back(left);
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
        }
        Ok(done)
    }
}
