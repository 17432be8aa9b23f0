//! The x87 and SSE registers. The kernel itself never uses them: between entry and exit they hold
//! what the program left in them.

use core::arch::asm;

use crate::arch::frame::FxArea;

/// Stores the registers of the task that runs.
pub fn fpu_save(area: &mut FxArea) {
    // SAFETY: the area has the size and the alignment that fxsave64 needs.
    unsafe {
        asm!("fxsave64 [{}]", in(reg) core::ptr::from_mut(area), options(nostack, preserves_flags));
    }
}

/// Loads the registers of the task that runs.
///
/// # Panics
/// By #GP if `mxcsr` has a bit that the processor does not: see [`FxArea::mxcsr_mask`].
pub fn fpu_restore(area: &FxArea) {
    // SAFETY: the area has the size and the alignment that fxrstor64 needs; the kernel has no use for
    // these registers, so that only the program sees the change.
    unsafe {
        asm!(
            "fxrstor64 [{}]",
            in(reg) core::ptr::from_ref(area),
            options(nostack, preserves_flags, readonly),
        );
    }
}
