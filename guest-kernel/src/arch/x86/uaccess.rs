//! Copies to and from user memory, with a fix-up for faults.
//!
//! The page-fault handler finds the faulting instruction in [`fixup_for`]'s table, tries to bring the
//! page in, and otherwise continues at the fix-up, which gives the number of bytes that are left.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU8, Ordering};

use super::cpu;

/// Not zero: CR4.SMAP is on, and user memory is open only between `stac` and `clac`.
#[unsafe(no_mangle)]
static SMAP_ON: AtomicU8 = AtomicU8::new(0);

const CR4_SMAP: u64 = 1 << 21;

global_asm!(
    r#"
    .section .text
    /* RDI = to, RSI = from, RDX = bytes; RAX = bytes that are left. Whole words first; after a fault
       in them the rest is tried by bytes, so that the count is exact. */
    .global smap_user_copy
smap_user_copy:
    cmp     byte ptr [rip + SMAP_ON], 0
    je      1f
    stac
1:  mov     rcx, rdx
    shr     rcx, 3
    and     edx, 7
.Luser_copy_words:
    rep     movsq
    mov     ecx, edx
.Luser_copy_bytes:
    rep     movsb
.Luser_copy_end:
    mov     rax, rcx
    cmp     byte ptr [rip + SMAP_ON], 0
    je      2f
    clac
2:  ret
.Luser_copy_words_fault:
    lea     rcx, [rcx * 8 + rdx]
    jmp     .Luser_copy_bytes

    /* RDI = to, RSI = bytes; RAX = bytes that are left. */
    .global smap_user_zero
smap_user_zero:
    cmp     byte ptr [rip + SMAP_ON], 0
    je      1f
    stac
1:  xor     eax, eax
    mov     rcx, rsi
    mov     edx, esi
    shr     rcx, 3
    and     edx, 7
.Luser_zero_words:
    rep     stosq
    mov     ecx, edx
.Luser_zero_bytes:
    rep     stosb
    jmp     .Luser_copy_end
.Luser_zero_words_fault:
    lea     rcx, [rcx * 8 + rdx]
    jmp     .Luser_zero_bytes

    /* Tries `stac`: RAX = 1 if it is there. */
    .global try_stac
try_stac:
    mov     eax, 1
.Ltry_stac_here:
    stac
    clac
    ret
.Ltry_stac_fault:
    xor     eax, eax
    ret

    .section .rodata.fixups, "a"
    .balign 8
fixup_table:
    .quad .Luser_copy_words, .Luser_copy_words_fault
    .quad .Luser_copy_bytes, .Luser_copy_end
    .quad .Luser_zero_words, .Luser_zero_words_fault
    .quad .Luser_zero_bytes, .Luser_copy_end
    .quad .Ltry_stac_here, .Ltry_stac_fault
    .text
    "#
);

/// A place that may fault, and where to go on then.
#[repr(C)]
struct Fixup {
    at: u64,
    then: u64,
}

unsafe extern "C" {
    fn smap_user_copy(dst: *mut u8, src: *const u8, len: usize) -> usize;
    fn smap_user_zero(dst: *mut u8, len: usize) -> usize;
    fn try_stac() -> u64;
    static fixup_table: [Fixup; 5];
}

/// Where to go on after a fault at `rip` in kernel mode, if it was expected there.
pub(super) fn fixup_for(rip: u64) -> Option<u64> {
    // SAFETY: the table is above, in read-only data.
    let table = unsafe { &fixup_table };
    table.iter().find(|fixup| fixup.at == rip).map(|fixup| fixup.then)
}

/// Copies between kernel and user memory; how many bytes are left when a fault stopped it.
///
/// # Safety
/// The kernel side must be valid for `len` bytes; the user side must lie below the user's end.
#[inline]
pub unsafe fn user_copy(dst: *mut u8, src: *const u8, len: usize) -> usize {
    // SAFETY: the caller vouches for the kernel side; faults on the other are fixed up.
    unsafe { smap_user_copy(dst, src, len) }
}

/// Zeroes user memory; how many bytes are left when a fault stopped it.
///
/// # Safety
/// The range must lie below the user's end.
#[inline]
pub unsafe fn user_zero(dst: *mut u8, len: usize) -> usize {
    // SAFETY: faults are fixed up.
    unsafe { smap_user_zero(dst, len) }
}

/// Turns SMAP on if the processor offers it and `stac` can be executed: where ring 0 is emulated, CPUID
/// may promise what the emulator cannot do.
pub(super) fn try_smap() {
    const LEAF_7_EBX_SMAP: u32 = 1 << 20;
    if cpu::cpuid(7, 0).ebx & LEAF_7_EBX_SMAP == 0 {
        return;
    }
    // SAFETY: an invalid opcode is fixed up.
    if unsafe { try_stac() } == 1 {
        // SAFETY: the processor has it, and all user copies open the gate from now on.
        unsafe { cpu::cr4_set(CR4_SMAP) };
        SMAP_ON.store(1, Ordering::Relaxed);
    }
}
