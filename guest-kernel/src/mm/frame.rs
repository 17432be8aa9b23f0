//! Physical frames: who owns each, and how often it is mapped.
//!
//! # Rules
//! * Every frame of RAM has a [`FrameInfo`]; the table lies in memory that is zero when the machine
//!   starts, and zero means "never handed out". Nothing is initialised at boot: its cost does not
//!   grow with RAM.
//! * Frames above the *frontier* were never handed out and are zero, because the host gives zeroed
//!   memory. They are not cleared again. Freed frames go to buddy lists by order and count as dirty; so
//!   do those that alignment skips.
//! * A [`FrameRef`] is one reference. A page-table entry that maps a frame holds one, and says so by
//!   its COUNTED bit (`into_phys` when it is written, `from_phys` when it is cleared); entries that map
//!   the root image or the kernel's own pages hold none. An in-memory file holds one per page, a pipe
//!   one per chunk. The frame is freed when the last is dropped; a frame with one reference may be
//!   written to by its owner (copy-on-write takes it over).
//! * Blocks of the heap have one owner and no count (`allocate_block`, `free_block`).
//! * A frame that was reachable through a TLB is dropped only after the flush: `page_table`'s `remove`
//!   flushes before it lets a batch go, and whoever replaces an entry by `set` flushes before dropping
//!   what comes back. With one CPU the flush is a local one.
//! * Page-table pages are filled by stores of ring 0 only, and cleared by them when they are allocated,
//!   unless they are fresh. They are freed with their space and not before, when no CPU uses it.

#![expect(unsafe_code, reason = "frames are raw memory, and so is the table that describes them")]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use shared_abi::layout::{HIGH_RAM_GPA, PAGE_SIZE, RAM_PER_FRAME_TABLE_BYTE};

use super::addr::{PAGE, Phys};
use crate::error::{Errno, Result};
use crate::sync::IrqSpinLock;

/// The largest block: 2^9 frames are 2 MiB.
pub const ORDER_MAX: usize = 9;
const ORDERS: usize = ORDER_MAX + 1;
/// End of a list.
const NONE: u32 = 0;

/// What the kernel knows of one frame. All zero: never handed out.
#[repr(C)]
#[derive(Debug)]
pub struct FrameInfo {
    /// References; 0 while free.
    references: AtomicU32,
    /// Neighbours in a list: of free blocks, or of partly used slabs.
    pub(super) next: u32,
    /// See `next`.
    pub(super) previous: u32,
    /// For a slab of the heap: the first free object, in units of the class's size, plus one.
    pub(super) first_free: u16,
    /// For a slab: objects in use.
    pub(super) used: u8,
    /// `FREE_HEAD` + order for the first frame of a free block; a slab's class or a large
    /// allocation's order otherwise.
    pub(super) tag: u8,
}

const FREE_HEAD: u8 = 0x80;
const _: () = assert!(size_of::<FrameInfo>() as u64 * RAM_PER_FRAME_TABLE_BYTE == PAGE_SIZE);

/// The allocator's state.
struct Frames {
    /// The next frame that was never handed out.
    frontier: u32,
    /// End of RAM below 4 GiB, as a frame number.
    low_end: u32,
    /// End of RAM above 4 GiB, as a frame number.
    high_end: u32,
    /// First free block per order.
    free: [u32; ORDERS],
    /// Frames in free blocks.
    free_count: u64,
    /// Frames handed out.
    used: u64,
    /// The most there ever were.
    used_max: u64,
    /// Frames in all, fixed ones of the VMM and the kernel image excluded.
    total: u64,
}

static FRAMES: IrqSpinLock<Frames> = IrqSpinLock::new(Frames {
    frontier: 0,
    low_end: 0,
    high_end: 0,
    free: [NONE; ORDERS],
    free_count: 0,
    used: 0,
    used_max: 0,
    total: 0,
});

/// How much memory there is, in frames.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// Frames that the allocator manages.
    pub total: u64,
    /// Frames handed out.
    pub used: u64,
    /// The most there ever were.
    pub used_max: u64,
}

/// Takes over the RAM from `free_start` to the ends of both regions. The frame table is placed at
/// `free_start`.
pub fn initialise(free_start: Phys, low_ram_end: Phys, high_ram_end: Phys) {
    let frame_count =
        if high_ram_end.0 > HIGH_RAM_GPA { high_ram_end.0 } else { low_ram_end.0 } / PAGE_SIZE;
    let table_bytes = frame_count * size_of::<FrameInfo>() as u64;
    let start = (free_start.0 + table_bytes).div_ceil(PAGE_SIZE);
    TABLE.store(free_start.0, Ordering::Release);
    let mut frames = FRAMES.lock();
    frames.frontier = start as u32;
    frames.low_end = (low_ram_end.0 / PAGE_SIZE) as u32;
    frames.high_end = (high_ram_end.0 / PAGE_SIZE) as u32;
    frames.total = low_ram_end.0 / PAGE_SIZE - start
        + (high_ram_end.0.saturating_sub(HIGH_RAM_GPA)) / PAGE_SIZE;
}

/// How much is in use.
pub fn usage() -> Usage {
    let frames = FRAMES.lock();
    Usage { total: frames.total, used: frames.used, used_max: frames.used_max }
}

/// Where the table of [`FrameInfo`]s is; set once at boot.
static TABLE: AtomicU64 = AtomicU64::new(0);

/// The information of a frame.
///
/// The pointer is valid for every frame of RAM; who may touch which field is said at the field.
pub(super) fn info(phys: Phys) -> *mut FrameInfo {
    let offset = phys.0 / PAGE_SIZE * size_of::<FrameInfo>() as u64;
    Phys(TABLE.load(Ordering::Relaxed) + offset).as_ptr().cast()
}

/// Whether there are frames that were never handed out: they need no clearing.
pub fn has_fresh() -> bool {
    let frames = FRAMES.lock();
    let high_start = (HIGH_RAM_GPA / PAGE_SIZE) as u32;
    let end = if frames.high_end > high_start { frames.high_end } else { frames.low_end };
    frames.frontier < end
}

/// What a fresh block must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contents {
    /// All zero.
    Zeroed,
    /// Anything: it is overwritten at once.
    Any,
}

impl Frames {
    fn info(&mut self, frame: u32) -> &mut FrameInfo {
        // SAFETY: the table covers all frames of RAM; list fields and tags of frames are only
        // touched under the allocator's lock, which `&mut self` proves.
        unsafe { &mut *info(Phys(u64::from(frame) * PAGE_SIZE)) }
    }

    fn push(&mut self, frame: u32, order: usize) {
        let head = self.free[order];
        let info = self.info(frame);
        info.next = head;
        info.previous = NONE;
        info.tag = FREE_HEAD | order as u8;
        if head != NONE {
            self.info(head).previous = frame;
        }
        self.free[order] = frame;
        self.free_count += 1 << order;
    }

    fn remove(&mut self, frame: u32, order: usize) {
        let info = self.info(frame);
        let (next, previous) = (info.next, info.previous);
        info.tag = 0;
        if previous == NONE {
            self.free[order] = next;
        } else {
            self.info(previous).next = next;
        }
        if next != NONE {
            self.info(next).previous = previous;
        }
        self.free_count -= 1 << order;
    }

    /// A block that was handed out before, split from a larger one if need be.
    fn take_freed(&mut self, order: usize) -> Option<u32> {
        let found = (order..ORDERS).find(|&o| self.free[o] != NONE)?;
        let frame = self.free[found];
        self.remove(frame, found);
        for smaller in (order..found).rev() {
            self.push(frame + (1 << smaller), smaller);
        }
        Some(frame)
    }

    /// A block that was never handed out.
    fn take_fresh(&mut self, order: usize) -> Option<u32> {
        let high_start = (HIGH_RAM_GPA / PAGE_SIZE) as u32;
        let size = 1u32 << order;
        loop {
            let end = if self.frontier < high_start { self.low_end } else { self.high_end };
            let start = self.frontier.next_multiple_of(size);
            if start + size <= end {
                // What alignment skips is given to the lists: dirty by name, zero in fact.
                while self.frontier < start {
                    let skip = self.frontier.trailing_zeros().min(ORDER_MAX as u32) as usize;
                    self.push(self.frontier, skip);
                    self.frontier += 1 << skip;
                }
                self.frontier = start + size;
                return Some(start);
            }
            if self.frontier >= high_start || self.high_end <= high_start {
                return None;
            }
            // The low region is used up but for a rest that is too small for this order.
            while self.frontier < self.low_end {
                let fits =
                    (self.low_end - self.frontier).ilog2().min(self.frontier.trailing_zeros());
                let skip = fits.min(ORDER_MAX as u32) as usize;
                self.push(self.frontier, skip);
                self.frontier += 1 << skip;
            }
            self.frontier = high_start;
        }
    }

    fn free(&mut self, mut frame: u32, mut order: usize) {
        self.used -= 1 << order;
        while order < ORDER_MAX {
            let buddy = frame ^ (1 << order);
            let limit = if buddy < self.low_end { self.low_end } else { self.high_end };
            if buddy + (1 << order) > limit || self.info(buddy).tag != FREE_HEAD | order as u8 {
                break;
            }
            self.remove(buddy, order);
            frame = frame.min(buddy);
            order += 1;
        }
        self.push(frame, order);
    }
}

/// A block of `2^order` frames, aligned to its size, with no reference counted.
pub(super) fn allocate_block(order: usize, contents: Contents) -> Result<Phys> {
    let (frame, fresh) = {
        let mut frames = FRAMES.lock();
        let (freed_first, fresh_first) = (contents == Contents::Any, contents == Contents::Zeroed);
        let mut taken = None;
        if freed_first {
            taken = frames.take_freed(order).map(|f| (f, false));
        }
        if taken.is_none() {
            taken = frames.take_fresh(order).map(|f| (f, true));
        }
        if taken.is_none() && fresh_first {
            taken = frames.take_freed(order).map(|f| (f, false));
        }
        let Some(taken) = taken else { return Err(Errno::ENOMEM) };
        frames.used += 1 << order;
        frames.used_max = frames.used_max.max(frames.used);
        taken
    };
    let phys = Phys(u64::from(frame) * PAGE_SIZE);
    if !fresh && contents == Contents::Zeroed {
        // SAFETY: the block is ours alone, and in the direct map.
        unsafe { core::ptr::write_bytes(phys.as_ptr(), 0, PAGE << order) };
    }
    Ok(phys)
}

/// Gives back a block of [`allocate_block`].
pub(super) fn free_block(phys: Phys, order: usize) {
    FRAMES.lock().free((phys.0 / PAGE_SIZE) as u32, order);
}

/// One reference to one frame. Cloning counts, dropping the last one frees.
#[derive(Debug)]
pub struct FrameRef(Phys);

impl FrameRef {
    /// A zeroed frame.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn zeroed() -> Result<Self> {
        Self::allocate(Contents::Zeroed)
    }

    /// A frame with anything in it, for a caller that overwrites all of it.
    ///
    /// # Errors
    /// ENOMEM.
    pub fn uninitialised() -> Result<Self> {
        Self::allocate(Contents::Any)
    }

    fn allocate(contents: Contents) -> Result<Self> {
        let phys = allocate_block(0, contents)?;
        // SAFETY: the entry is valid, and the frame is ours alone.
        unsafe { (*info(phys)).references = AtomicU32::new(1) };
        Ok(Self(phys))
    }

    /// Its address.
    #[must_use]
    pub fn phys(&self) -> Phys {
        self.0
    }

    /// Gives the reference to a page-table entry.
    #[must_use]
    pub fn into_phys(self) -> Phys {
        let phys = self.0;
        core::mem::forget(self);
        phys
    }

    /// Takes the reference back from a page-table entry.
    ///
    /// # Safety
    /// `phys` must come from [`Self::into_phys`], once.
    #[must_use]
    pub unsafe fn from_phys(phys: Phys) -> Self {
        Self(phys)
    }

    /// Whether this is the only reference.
    #[must_use]
    pub fn is_unique(&self) -> bool {
        self.references().load(Ordering::Acquire) == 1
    }

    fn references(&self) -> &AtomicU32 {
        // SAFETY: the entry is valid while the frame is referenced; the counter is atomic.
        unsafe { &(*info(self.0)).references }
    }

    /// Copies bytes out of the frame, from `offset`.
    ///
    /// # Panics
    /// If the range leaves the frame.
    pub fn read(&self, offset: usize, dst: &mut [u8]) {
        assert!(offset + dst.len() <= PAGE, "a read beyond a frame");
        // SAFETY: in bounds; others may write the same memory (user mappings), so no reference is made.
        unsafe {
            core::ptr::copy_nonoverlapping(
                self.0.as_ptr().add(offset),
                dst.as_mut_ptr(),
                dst.len(),
            );
        }
    }

    /// Copies bytes into the frame, at `offset`.
    ///
    /// # Panics
    /// If the range leaves the frame.
    pub fn write(&self, offset: usize, src: &[u8]) {
        assert!(offset + src.len() <= PAGE, "a write beyond a frame");
        // SAFETY: in bounds; others may read the same memory (user mappings), so no reference is made.
        unsafe {
            core::ptr::copy_nonoverlapping(src.as_ptr(), self.0.as_ptr().add(offset), src.len());
        }
    }

    /// Zeroes a range of the frame.
    ///
    /// # Panics
    /// If the range leaves the frame.
    pub fn zero(&self, offset: usize, len: usize) {
        assert!(offset + len <= PAGE, "a write beyond a frame");
        // SAFETY: in bounds; no reference is made.
        unsafe { core::ptr::write_bytes(self.0.as_ptr().add(offset), 0, len) };
    }

    /// The bytes of the frame by raw pointer, for copies to and from user memory.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.as_ptr()
    }
}

impl Clone for FrameRef {
    fn clone(&self) -> Self {
        self.references().fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl Drop for FrameRef {
    fn drop(&mut self) {
        if self.references().fetch_sub(1, Ordering::AcqRel) == 1 {
            free_block(self.0, 0);
        }
    }
}

/// Sets up the allocator over the arena of the host's unit tests, once per process.
#[cfg(not(target_os = "none"))]
pub fn initialise_for_tests() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let end = Phys(crate::arch::ARENA_SIZE as u64);
        initialise(Phys(0x10_0000), end, Phys(HIGH_RAM_GPA));
    });
}
