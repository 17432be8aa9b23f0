//! The bases of FS and GS as the program has them.
//!
//! MSRs, not the FSGSBASE instructions: those are not on every processor, and this is no hot path. In
//! the kernel the program's GS base waits in `IA32_KERNEL_GS_BASE`.

use super::cpu;

const IA32_FS_BASE: u32 = 0xc000_0100;
const IA32_KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Sets FS; the address is a user address.
pub fn set_fs(base: u64) {
    // SAFETY: the register exists in long mode; the kernel does not use FS.
    unsafe { cpu::msr_write(IA32_FS_BASE, base) };
}

/// The program's FS.
pub fn fs() -> u64 {
    // SAFETY: the register exists in long mode.
    unsafe { cpu::msr_read(IA32_FS_BASE) }
}

/// Sets the program's GS; the address is a user address.
pub fn set_user_gs(base: u64) {
    // SAFETY: the register exists in long mode; `swapgs` brings it in on the way out.
    unsafe { cpu::msr_write(IA32_KERNEL_GS_BASE, base) };
}

/// The program's GS.
pub fn user_gs() -> u64 {
    // SAFETY: the register exists in long mode.
    unsafe { cpu::msr_read(IA32_KERNEL_GS_BASE) }
}
