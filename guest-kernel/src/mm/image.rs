//! The memory of the root image: a read-only slot of the VMM, read with bounds checks.
//!
//! The VMM maps host files into it, so that what is read here may change under our eyes when somebody
//! writes to those files. Therefore nothing hands out a reference: everything is copied out.

#![expect(unsafe_code, reason = "the image is raw memory")]

use shared_abi::layout::PAGE_SIZE;
use zerocopy::FromBytes;

use super::addr::{Phys, page_up};
use super::frame::FrameRef;
use super::user::UserBuffer;
use crate::error::{Errno, Result};

/// A range of guest-physical memory that nobody writes to.
#[derive(Clone, Copy, Debug)]
pub struct ImageMemory {
    base: Phys,
    len: u64,
}

impl ImageMemory {
    /// The image at `base`, whole pages.
    ///
    /// # Safety
    /// The range, rounded up to pages, must stay readable through the direct map, and no frame of it
    /// may ever be handed out by the frame allocator.
    #[must_use]
    pub unsafe fn new(base: Phys, len: u64) -> Self {
        Self { base, len: page_up(len).unwrap_or(0) }
    }

    /// An image for the unit tests, in memory that is never freed.
    #[cfg(not(target_os = "none"))]
    #[must_use]
    pub fn leak_for_tests(bytes: &[u8]) -> Self {
        let len = bytes.len().next_multiple_of(PAGE_SIZE as usize).max(PAGE_SIZE as usize);
        let layout =
            std::alloc::Layout::from_size_align(len, PAGE_SIZE as usize).expect("a valid layout");
        // SAFETY: the size is not zero.
        let memory = unsafe { std::alloc::alloc_zeroed(layout) };
        // SAFETY: the memory is new and large enough.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), memory, bytes.len()) };
        let base = (memory as u64).wrapping_sub(Phys(0).as_ptr() as u64);
        Self { base: Phys(base), len: len as u64 }
    }

    /// Changes bytes of an image of the unit tests.
    #[cfg(not(target_os = "none"))]
    pub fn overwrite_for_tests(&self, offset: u64, bytes: &[u8]) {
        let dst = self.at(offset, bytes.len() as u64).expect("inside of the image");
        // SAFETY: in bounds, and the memory of `leak_for_tests` is writable.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), dst.cast_mut(), bytes.len()) };
    }

    /// Bytes in the image.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no image.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn at(&self, offset: u64, len: u64) -> Result<*const u8> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => {
                Ok(Phys(self.base.0.wrapping_add(offset)).as_ptr().cast_const())
            }
            _ => Err(Errno::EIO),
        }
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// EIO beyond the image's end.
    pub fn read(&self, offset: u64, dst: &mut [u8]) -> Result<()> {
        let src = self.at(offset, dst.len() as u64)?;
        // SAFETY: in bounds of the image; the destination is a buffer of ours.
        unsafe { core::ptr::copy_nonoverlapping(src, dst.as_mut_ptr(), dst.len()) };
        Ok(())
    }

    /// Copies a structure out.
    ///
    /// # Errors
    /// EIO beyond the image's end.
    #[inline]
    pub fn value<T: FromBytes>(&self, offset: u64) -> Result<T> {
        let src = self.at(offset, size_of::<T>() as u64)?;
        // SAFETY: in bounds of the image, and any bytes make a `T`.
        Ok(unsafe { src.cast::<T>().read_unaligned() })
    }

    /// The page that holds the byte at `offset`, for many small reads.
    ///
    /// # Errors
    /// EIO beyond the image's end.
    #[inline]
    pub fn page_at(&self, offset: u64) -> Result<ImagePage> {
        self.at(offset & !(PAGE_SIZE - 1), PAGE_SIZE).map(ImagePage)
    }

    /// Copies `len` bytes to the user; how many arrived.
    ///
    /// # Errors
    /// EIO beyond the image's end; EFAULT if not one byte arrived.
    pub fn copy_to_user(
        &self,
        offset: u64,
        len: usize,
        buffer: &mut UserBuffer<'_>,
    ) -> Result<usize> {
        let src = self.at(offset, len as u64)?;
        // SAFETY: in bounds of the image.
        unsafe { buffer.fill_raw(src, len) }
    }

    /// Copies `len` bytes into a frame, from the frame's byte `start` on.
    ///
    /// # Errors
    /// EIO beyond the image's end.
    pub fn copy_to_frame(
        &self,
        offset: u64,
        len: usize,
        frame: &FrameRef,
        start: usize,
    ) -> Result<()> {
        assert!(start + len <= PAGE_SIZE as usize, "a write beyond a frame");
        let src = self.at(offset, len as u64)?;
        let dst = frame.as_ptr().wrapping_add(start);
        // SAFETY: both ranges are in bounds, and a frame is never part of the image.
        unsafe { core::ptr::copy_nonoverlapping(src, dst, len) };
        Ok(())
    }

    /// Where the page at `offset` is, if all of it is in the image and it is aligned.
    #[must_use]
    pub fn phys(&self, offset: u64) -> Option<Phys> {
        let aligned = offset.is_multiple_of(PAGE_SIZE);
        self.at(offset, PAGE_SIZE).ok().filter(|_| aligned)?;
        Some(Phys(self.base.0.wrapping_add(offset)))
    }
}

/// A page of the image. Offsets beyond its end read its last bytes instead: who reads structures of
/// an image that may be nonsense checks what they say in any case.
#[derive(Clone, Copy)]
pub struct ImagePage(*const u8);

/// Bytes in a page.
const PAGE: usize = PAGE_SIZE as usize;

impl ImagePage {
    /// A byte.
    #[inline]
    #[must_use]
    pub fn byte(self, offset: usize) -> u8 {
        // SAFETY: inside of the page.
        unsafe { self.0.add(offset.min(PAGE - 1)).read() }
    }

    /// A 16-bit number.
    #[inline]
    #[must_use]
    pub fn half(self, offset: usize) -> u16 {
        // SAFETY: inside of the page.
        unsafe { self.0.add(offset.min(PAGE - 2)).cast::<u16>().read_unaligned() }
    }

    /// A 64-bit number.
    #[inline]
    #[must_use]
    pub fn word(self, offset: usize) -> u64 {
        // SAFETY: inside of the page.
        unsafe { self.0.add(offset.min(PAGE - 8)).cast::<u64>().read_unaligned() }
    }

    /// The first eight of `len` bytes, as a number that compares as they do; zeroes behind the last.
    #[inline]
    #[must_use]
    pub fn prefix(self, offset: usize, len: usize) -> u64 {
        let beyond = offset.saturating_sub(PAGE - 8).min(7);
        let bytes = self.word(offset).to_be() << (8 * beyond);
        match len {
            0 => 0,
            1..8 => bytes & !(u64::MAX >> (8 * len)),
            _ => bytes,
        }
    }
}
