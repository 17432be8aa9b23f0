//! User memory: claims ([`UserSlice`]), checked copies, and the buffers of read and write.
//!
//! Every copy is checked against [`USER_END`] and runs under a fault fix-up: a bad pointer is EFAULT,
//! never a kernel fault. Nothing here hands out a Rust reference into user memory.

#![expect(unsafe_code, reason = "user memory is copied by raw pointer, here only")]

use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::addr::{PAGE, Phys, USER_END, UserAddr};
use super::frame::FrameRef;
use super::space::Access;
use crate::arch;
use crate::error::{Errno, Result};
use crate::task::Task;

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
    owner: Owner,
}

impl<'a> UserBuffer<'a> {
    /// A buffer over `ranges`, in order.
    #[must_use]
    pub fn new(ranges: &'a [UserSlice]) -> Self {
        let remaining = ranges.iter().fold(0, |sum: usize, r| sum.saturating_add(r.len));
        Self { ranges, index: 0, offset: 0, remaining, owner: Owner::User }
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

    /// Where the cursor stands, to go back to.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor { index: self.index, offset: self.offset, remaining: self.remaining }
    }

    /// Goes back to where the cursor stood, and from there `len` bytes on, which were taken since.
    pub fn rewind(&mut self, cursor: Cursor, len: usize) {
        (self.index, self.offset, self.remaining) = (cursor.index, cursor.offset, cursor.remaining);
        let mut left = len;
        while left > 0 {
            let Some(range) = self.next_range(left) else { break };
            left -= range.len;
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
        // SAFETY: a slice is readable.
        unsafe { self.fill_raw(src.as_ptr(), src.len()) }
    }

    /// Writes `len` bytes of a frame, from `offset` on, into the buffer; how many went in.
    ///
    /// # Errors
    /// EFAULT if not one byte could be written.
    pub fn fill_from_frame(
        &mut self,
        frame: &FrameRef,
        offset: usize,
        len: usize,
    ) -> Result<usize> {
        assert!(offset + len <= PAGE, "a read beyond a frame");
        // SAFETY: in bounds of the frame, which the reference keeps.
        unsafe { self.fill_raw(frame.as_ptr().add(offset), len) }
    }

    /// Writes `len` bytes from `src` into the buffer; how many went in.
    ///
    /// # Errors
    /// EFAULT if not one byte could be written.
    ///
    /// # Safety
    /// `src` must be readable for `len` bytes.
    pub(super) unsafe fn fill_raw(&mut self, src: *const u8, len: usize) -> Result<usize> {
        let mut done = 0;
        while done < len {
            let Some(range) = self.next_range(len - done) else { break };
            // SAFETY: the caller vouches for the source; `UserSlice` is checked; faults are fixed up.
            let left = unsafe {
                arch::user_copy(range.addr.0 as *mut u8, src.wrapping_add(done), range.len)
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
        // SAFETY: a mutable slice is writable.
        unsafe { self.drain_raw(dst.as_mut_ptr(), dst.len()) }
    }

    /// Reads `len` bytes out of the buffer into a frame, from its byte `offset` on; how many came
    /// out.
    ///
    /// # Errors
    /// EFAULT if not one byte could be read.
    pub fn drain_to_frame(&mut self, frame: &FrameRef, offset: usize, len: usize) -> Result<usize> {
        assert!(offset + len <= PAGE, "a write beyond a frame");
        // SAFETY: in bounds of the frame, which the reference keeps.
        unsafe { self.drain_raw(frame.as_ptr().add(offset), len) }
    }

    /// Reads `len` bytes out of the buffer to `dst`; how many came out.
    ///
    /// # Safety
    /// `dst` must be writable for `len` bytes.
    unsafe fn drain_raw(&mut self, dst: *mut u8, len: usize) -> Result<usize> {
        let mut done = 0;
        while done < len {
            let Some(range) = self.next_range(len - done) else { break };
            // SAFETY: the caller vouches for the target; `UserSlice` is checked; faults are fixed up.
            let left = unsafe {
                arch::user_copy(dst.wrapping_add(done), range.addr.0 as *const u8, range.len)
            };
            done += range.len - left;
            if left > 0 {
                self.put_back(left);
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
        }
        Ok(done)
    }

    /// Whose memory the ranges are.
    #[must_use]
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// Calls `use_it` with a buffer over kernel memory, so that what moves data from and to the user
    /// can move it from and to the kernel as well (sendfile).
    pub fn with_kernel_memory<R>(
        bytes: &mut [u8],
        use_it: impl FnOnce(&mut UserBuffer<'_>) -> R,
    ) -> R {
        let addr = UserAddr(bytes.as_mut_ptr() as u64);
        let range = [UserSlice { addr, len: bytes.len() }];
        use_it(&mut UserBuffer { owner: Owner::Kernel, ..UserBuffer::new(&range) })
    }
}

/// A place in a [`UserBuffer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    index: usize,
    offset: usize,
    remaining: usize,
}

/// Whose memory a [`UserBuffer`] is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The program's: claims, which may fault.
    User,
    /// The kernel's heap, in the direct map.
    Kernel,
}

/// Translates user memory to runs of physical memory, for a device.
///
/// Pages are faulted in for `access`. Stops at the first page that cannot be; how many bytes were
/// covered. On the host's unit tests "physical" addresses are the test's own.
///
/// # Errors
/// EFAULT if not one byte is there.
pub fn user_segments(
    task: &Task,
    slice: UserSlice,
    access: Access,
    sink: &mut dyn FnMut(Phys, usize),
) -> Result<usize> {
    if !cfg!(target_os = "none") {
        sink(Phys(slice.addr.0), slice.len);
        return Ok(slice.len);
    }
    task.space.segments(slice, access, sink)
}
