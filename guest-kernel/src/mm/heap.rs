//! The kernel heap: slabs of equal objects, one page each; larger things take whole blocks of frames.
//!
//! A slab's bookkeeping is in its frame's [`FrameInfo`](super::frame::FrameInfo). Free objects are linked
//! through their first two bytes, where 0 means "the object after this one": a fresh zeroed page is
//! a complete free list without a single store.

#![expect(unsafe_code, reason = "a global allocator hands out raw memory")]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

use super::addr::{PAGE, Phys};
use super::frame::{self, Contents, ORDER_MAX};
use crate::arch;
use crate::sync::IrqSpinLock;

/// The smallest object is 2^5 bytes, the largest in a slab 2^11.
const CLASS_SHIFT_MIN: u32 = 5;
const CLASSES: usize = 7;

/// First partly used slab of each class, as a frame number; 0: none.
static PARTIAL: IrqSpinLock<[u32; CLASSES]> = IrqSpinLock::new([0; CLASSES]);

/// The allocator.
pub struct Heap;

fn class_of(layout: Layout) -> Option<usize> {
    let size = layout.size().max(layout.align()).max(1 << CLASS_SHIFT_MIN);
    let class = (size - 1).ilog2() + 1 - CLASS_SHIFT_MIN;
    ((class as usize) < CLASSES).then_some(class as usize)
}

fn order_of(layout: Layout) -> Option<usize> {
    let pages = layout.size().max(layout.align()).div_ceil(PAGE);
    let order = pages.next_power_of_two().trailing_zeros() as usize;
    (order <= ORDER_MAX).then_some(order)
}

fn frame_number(phys: Phys) -> u32 {
    (phys.0 / PAGE as u64) as u32
}

fn phys_of(pointer: *mut u8) -> Phys {
    Phys((pointer as usize - arch::direct_map_base() as usize) as u64)
}

// SAFETY: slabs and blocks are exclusive to one allocation at a time, sized and aligned as asked.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else {
            let block = order_of(layout).map(|order| frame::allocate_block(order, Contents::Any));
            return block.and_then(Result::ok).map_or(ptr::null_mut(), Phys::as_ptr);
        };
        let mut partial = PARTIAL.lock();
        let mut slab = Phys(u64::from(partial[class]) * PAGE as u64);
        if slab.0 == 0 {
            let Ok(fresh) = frame::allocate_block(0, Contents::Zeroed) else {
                return ptr::null_mut();
            };
            slab = fresh;
            // SAFETY: the frame is ours alone.
            let info = unsafe { &mut *frame::info(slab) };
            (info.first_free, info.used, info.next, info.previous) = (1, 0, 0, 0);
            partial[class] = frame_number(slab);
        }
        // SAFETY: slabs' fields are touched only under this lock.
        let info = unsafe { &mut *frame::info(slab) };
        let shift = class as u32 + CLASS_SHIFT_MIN;
        let index = info.first_free - 1;
        let object = slab.as_ptr().wrapping_add(usize::from(index) << shift);
        // SAFETY: the object lies in the slab and is free; its first bytes are its link.
        let link = unsafe { object.cast::<u16>().read() };
        info.first_free = if link == 0 { index + 2 } else { link - 1 };
        if usize::from(info.first_free) > PAGE >> shift {
            info.first_free = 0; // the one after the last
        }
        info.used += 1;
        if info.first_free == 0 {
            let next = info.next;
            partial[class] = next;
            unlink(next, 0);
        }
        object
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let phys = phys_of(pointer);
        let Some(class) = class_of(layout) else {
            if let Some(order) = order_of(layout) {
                frame::free_block(phys, order);
            }
            return;
        };
        let mut partial = PARTIAL.lock();
        let slab = Phys(phys.0 & !(PAGE as u64 - 1));
        let shift = class as u32 + CLASS_SHIFT_MIN;
        let index = ((phys.0 - slab.0) >> shift) as u16;
        // SAFETY: slabs' fields are touched only under this lock.
        let info = unsafe { &mut *frame::info(slab) };
        // 1 stands for "none", as 0 is "the next one" and links are kept one higher.
        // SAFETY: the object is free again, and large enough.
        unsafe { pointer.cast::<u16>().write(info.first_free + 1) };
        let was_full = info.first_free == 0;
        info.first_free = index + 1;
        info.used -= 1;
        let number = frame_number(slab);
        if was_full {
            let head = partial[class];
            (info.next, info.previous) = (head, 0);
            unlink(head, number);
            partial[class] = number;
        }
        if info.used == 0 {
            let (next, previous) = (info.next, info.previous);
            if previous == 0 {
                partial[class] = next;
            } else {
                // SAFETY: as above.
                unsafe { (*frame::info(Phys(u64::from(previous) * PAGE as u64))).next = next };
            }
            unlink(next, previous);
            frame::free_block(slab, 0);
        }
    }
}

/// Sets the predecessor of a slab, if there is one.
fn unlink(slab: u32, previous: u32) {
    if slab != 0 {
        // SAFETY: the caller holds the lock of the lists.
        unsafe { (*frame::info(Phys(u64::from(slab) * PAGE as u64))).previous = previous };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A xorshift generator: tests repeat.
    fn next(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    #[test]
    fn objects_do_not_overlap_and_all_memory_comes_back() {
        frame::initialise_for_tests();
        let mut seed = 0x1234_5678_9abc_def1;
        let mut live: Vec<(*mut u8, Layout, u8)> = Vec::new();
        for round in 0..20_000u32 {
            if !next(&mut seed).is_multiple_of(3) || live.is_empty() {
                let size =
                    1 + (next(&mut seed) % if round % 50 == 0 { 20_000 } else { 600 }) as usize;
                let layout =
                    Layout::from_size_align(size, 1 << (next(&mut seed) % 6)).expect("valid");
                // SAFETY: the size is not zero.
                let pointer = unsafe { Heap.alloc(layout) };
                assert!(!pointer.is_null() && (pointer as usize).is_multiple_of(layout.align()));
                // SAFETY: freshly allocated with this size.
                unsafe { ptr::write_bytes(pointer, round as u8, size) };
                live.push((pointer, layout, round as u8));
            } else {
                let (pointer, layout, mark) =
                    live.swap_remove(next(&mut seed) as usize % live.len());
                for offset in [0, layout.size() / 2, layout.size() - 1] {
                    // SAFETY: inside the allocation.
                    assert_eq!(unsafe { pointer.add(offset).read() }, mark, "overwritten");
                }
                // SAFETY: allocated above, freed once.
                unsafe { Heap.dealloc(pointer, layout) };
            }
        }
        for (pointer, layout, _) in live.drain(..) {
            // SAFETY: allocated above, freed once.
            unsafe { Heap.dealloc(pointer, layout) };
        }
        assert_eq!(*PARTIAL.lock(), [0; CLASSES], "every slab was given back");
    }
}
