//! The way in and the way out: the only code that runs with the user's registers.
//!
//! ```text
//!  ring 3   syscall ──────────────┐        trap, interrupt ─────┐
//!  ─────────────────────────────  │  ─────────────────────────  │  ───────────────
//!  ring 0   syscall_entry: swapgs, kernel stack, push      trap_entry_N: push all
//!                                 │                             │
//!                syscall::dispatch (typed match)          trap::on_trap
//!                                 │                             │
//!               exit work? ─ yes ─┴─> fill the frame, trap::on_exit_work
//!                    │ no                                       │
//!               pop, swapgs, sysretq              pop all, swapgs, iretq
//! ```
//! A system call has two ways in. On most processors `syscall` enters ring 0 at `syscall_entry`. Where
//! KVM emulates ring 0 without hardware support, it jumps there but *stays in ring 3*: the fetch from a
//! supervisor page faults, with the saved RIP equal to the entry point and a user CS. `page_fault_entry`
//! looks for that first, rewrites the saved frame from RCX and R11, which the program may have chosen
//! and which are therefore checked and masked, and goes on as if the call had arrived. A user program
//! that jumps to the entry point by itself looks the same: it makes a system call.
//!
//! The fast way saves what the ABI needs and no more: Rust keeps the callee-saved registers, RCX and
//! R11 are the processor's. Interrupts are on while the call is served.

use core::arch::{asm, global_asm};
use core::mem::{offset_of, size_of};

use shared_abi::layout::{KERNEL_CS, USER_CS, USER_DS, USER32_CS};

use super::cpu;
use super::percpu::PerCpu;
use super::trap::vector;
use crate::arch::frame::UserFrame;

const IA32_STAR: u32 = 0xc000_0081;
const IA32_LSTAR: u32 = 0xc000_0082;
const IA32_FMASK: u32 = 0xc000_0084;

/// Flags that are off when a system call begins: TF, IF, DF, IOPL, NT, AC.
const FLAGS_CLEARED: u64 = 1 << 8 | 1 << 9 | 1 << 10 | 3 << 12 | 1 << 14 | 1 << 18;
/// Flags that a user program may choose: CF PF AF ZF SF TF DF OF NT AC ID.
pub const FLAGS_USER: u64 = 1
    | 1 << 2
    | 1 << 4
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 10
    | 1 << 11
    | 1 << 14
    | 1 << 18
    | 1 << 21;
/// Flags that are always on in user mode: the reserved bit 1, and IF.
pub const FLAGS_ALWAYS: u64 = 1 << 1 | 1 << 9;

/// Registers below the fast part of a [`UserFrame`], and one word that keeps the stack aligned.
const SLOW_BYTES: usize = offset_of!(UserFrame, r9) + 8;

const _: () = assert!((size_of::<UserFrame>() + 8).is_multiple_of(16));

/// Lets `syscall` in.
pub(super) fn enable_system_calls() {
    unsafe extern "C" {
        fn syscall_entry();
    }
    // `sysretq` takes CS from this base + 16 and SS from it + 8; `syscall` CS from the other.
    let star = u64::from(USER32_CS) << 48 | u64::from(KERNEL_CS) << 32;
    // SAFETY: the registers exist in long mode; the entry point is below.
    unsafe {
        cpu::msr_write(IA32_STAR, star);
        cpu::msr_write(IA32_LSTAR, syscall_entry as *const () as u64);
        cpu::msr_write(IA32_FMASK, FLAGS_CLEARED);
    }
}

/// Goes to user mode with these registers. The kernel stack is left empty.
pub fn enter_user(frame: &UserFrame) -> ! {
    // SAFETY: `trap_return` reads the frame, which stays where it is: nothing runs on this stack
    // before it has been read. GS is the kernel's, interrupts are turned off.
    unsafe {
        asm!("cli", "mov rsp, {}", "jmp trap_return", in(reg) frame, options(noreturn));
    }
}

global_asm!(
    r#"
    /* The rest of a UserFrame, once RDI has been pushed. */
    .macro push_registers
    push    rsi
    push    rdx
    push    r10
    push    r8
    push    r9
    push    rax
    push    rcx
    push    r11
    push    rbx
    push    rbp
    push    r12
    push    r13
    push    r14
    push    r15
    .endm

    .section .text.entry, "ax"
    .balign 64
    .global syscall_entry
syscall_entry:
    swapgs
    mov     gs:[{user_rsp}], rsp
    mov     rsp, gs:[{kernel_stack_end}]
    push    {user_ds}
    push    qword ptr gs:[{user_rsp}]
    push    r11
    push    {user_cs}
    push    rcx
syscall_common:
    push    rax
    push    rdi
    push    rsi
    push    rdx
    push    r10
    push    r8
    push    r9
    sub     rsp, {slow_bytes}
    sti
    cmp     dword ptr gs:[{entry_work}], 0
    jne     syscall_entry_work
syscall_dispatch:
    lea     rcx, [rsp + 8]
    mov     r8, rax
    call    {dispatch}
    cli
    cmp     dword ptr gs:[{exit_work}], 0
    jne     syscall_exit_work
    add     rsp, {slow_bytes}
    pop     r9
    pop     r8
    pop     r10
    pop     rdx
    pop     rsi
    pop     rdi
    mov     rcx, [rsp + 8]
    mov     r11, [rsp + 24]
    mov     rsp, [rsp + 32]
    swapgs
    sysretq

syscall_entry_work:
    lea     rdi, [rsp + 8]
    call    {on_entry_work}
    mov     rax, [rsp + 8 + {number}]
    mov     rdi, [rsp + 8 + {rdi}]
    mov     rsi, [rsp + 8 + {rsi}]
    mov     rdx, [rsp + 8 + {rdx}]
    jmp     syscall_dispatch

    /* Something is to be done first: complete the frame and take the slow way. */
syscall_exit_work:
    add     rsp, 8
    mov     [rsp + {rax}], rax
    mov     [rsp + {rbx}], rbx
    mov     [rsp + {rbp}], rbp
    mov     [rsp + {r12}], r12
    mov     [rsp + {r13}], r13
    mov     [rsp + {r14}], r14
    mov     [rsp + {r15}], r15
    mov     rax, [rsp + {rip}]
    mov     [rsp + {rcx}], rax
    mov     rax, [rsp + {rflags}]
    mov     [rsp + {r11}], rax
    mov     rdi, rsp
    sub     rsp, 8
    call    {on_syscall_exit_work}
    add     rsp, 8

    /* Back from a trap or the slow way: RSP is at a whole frame, interrupts are off. */
    .global trap_return
trap_return:
    pop     r15
    pop     r14
    pop     r13
    pop     r12
    pop     rbp
    pop     rbx
    pop     r11
    pop     rcx
    pop     rax
    pop     r9
    pop     r8
    pop     r10
    pop     rdx
    pop     rsi
    pop     rdi
    add     rsp, 8
    test    byte ptr [rsp + 8], 3
    jz      1f
    swapgs
1:  iretq

    /* RDI was pushed and holds the vector; below it lie the error code and the processor's frame. */
trap_common:
    push_registers
    test    byte ptr [rsp + {cs}], 3
    jz      2f
    swapgs
2:  cld
    mov     rsi, rsp
    sub     rsp, 8
    call    {on_trap}
    add     rsp, 8
    jmp     trap_return

    /* A trap on a stack of its own, at any moment: GS may be either's, whatever CS says. */
paranoid_common:
    push_registers
    mov     ebx, edi
    mov     ecx, 0xc0000101
    rdmsr
    test    edx, edx
    js      3f
    swapgs
3:  cld
    mov     edi, ebx
    mov     rsi, rsp
    sub     rsp, 8
    call    {on_trap}
    ud2

page_fault_entry:
    cmp     qword ptr [rsp + 8], offset syscall_entry
    jne     4f
    test    byte ptr [rsp + 16], 3
    jz      4f
    and     r11d, {flags_user}
    or      r11d, {flags_always}
    mov     [rsp + 24], r11
    mov     r11, rcx
    shr     r11, 47
    jnz     4f
    add     rsp, 8
    mov     [rsp], rcx
    swapgs
    jmp     syscall_common
4:  push    rdi
    mov     edi, 14
    jmp     trap_common

    .macro trap_entry vector, error
trap_entry_\vector:
    .ifeq \error
    push    0
    .endif
    push    rdi
    mov     edi, \vector
    jmp     trap_common
    .endm

    .macro paranoid_entry vector, error
trap_entry_\vector:
    .ifeq \error
    push    0
    .endif
    push    rdi
    mov     edi, \vector
    jmp     paranoid_common
    .endm

    trap_entry 0, 0
    trap_entry 1, 0
    paranoid_entry 2, 0
    trap_entry 3, 0
    trap_entry 4, 0
    trap_entry 5, 0
    trap_entry 6, 0
    trap_entry 7, 0
    paranoid_entry 8, 1
    trap_entry 10, 1
    trap_entry 11, 1
    trap_entry 12, 1
    trap_entry 13, 1
    trap_entry 16, 0
    trap_entry 17, 1
    paranoid_entry 18, 0
    trap_entry 19, 0
    trap_entry 48, 0
    trap_entry 49, 0
    trap_entry 63, 0

    .section .rodata.trap_entries, "a"
    .balign 8
    .global trap_entry_table
trap_entry_table:
    .quad trap_entry_0, trap_entry_1, trap_entry_2, trap_entry_3, trap_entry_4, trap_entry_5
    .quad trap_entry_6, trap_entry_7, trap_entry_8, trap_entry_10, trap_entry_11, trap_entry_12
    .quad trap_entry_13, page_fault_entry, trap_entry_16, trap_entry_17, trap_entry_18
    .quad trap_entry_19, trap_entry_48, trap_entry_49, trap_entry_63
    .text
    "#,
    user_rsp = const offset_of!(PerCpu, user_rsp),
    kernel_stack_end = const offset_of!(PerCpu, kernel_stack_end),
    entry_work = const offset_of!(PerCpu, entry_work),
    exit_work = const offset_of!(PerCpu, exit_work),
    user_ds = const USER_DS,
    user_cs = const USER_CS,
    slow_bytes = const SLOW_BYTES,
    number = const offset_of!(UserFrame, number),
    rdi = const offset_of!(UserFrame, rdi),
    rsi = const offset_of!(UserFrame, rsi),
    rdx = const offset_of!(UserFrame, rdx),
    rax = const offset_of!(UserFrame, rax),
    rbx = const offset_of!(UserFrame, rbx),
    rbp = const offset_of!(UserFrame, rbp),
    r12 = const offset_of!(UserFrame, r12),
    r13 = const offset_of!(UserFrame, r13),
    r14 = const offset_of!(UserFrame, r14),
    r15 = const offset_of!(UserFrame, r15),
    rcx = const offset_of!(UserFrame, rcx),
    r11 = const offset_of!(UserFrame, r11),
    rip = const offset_of!(UserFrame, rip),
    cs = const offset_of!(UserFrame, cs),
    rflags = const offset_of!(UserFrame, rflags),
    flags_user = const FLAGS_USER,
    flags_always = const FLAGS_ALWAYS,
    dispatch = sym crate::syscall::dispatch,
    on_entry_work = sym crate::syscall::on_entry_work,
    on_syscall_exit_work = sym super::trap::on_syscall_exit_work,
    on_trap = sym super::trap::on_trap,
);

/// The vectors that have an entry point, in the order of `trap_entry_table`.
const ENTRY_VECTORS: [u8; 21] = [
    vector::DIVIDE_ERROR,
    vector::DEBUG,
    vector::NMI,
    vector::BREAKPOINT,
    vector::OVERFLOW,
    vector::BOUND_RANGE,
    vector::INVALID_OPCODE,
    vector::DEVICE_NOT_AVAILABLE,
    vector::DOUBLE_FAULT,
    vector::INVALID_TSS,
    vector::SEGMENT_NOT_PRESENT,
    vector::STACK_FAULT,
    vector::GENERAL_PROTECTION,
    vector::PAGE_FAULT,
    vector::FLOATING_POINT,
    vector::ALIGNMENT_CHECK,
    vector::MACHINE_CHECK,
    vector::SIMD,
    vector::TIMER,
    vector::STDIO,
    vector::SPURIOUS,
];

/// Vectors and the addresses of their entry points.
pub(super) fn trap_entries() -> impl Iterator<Item = (u8, u64)> {
    unsafe extern "C" {
        static trap_entry_table: [u64; ENTRY_VECTORS.len()];
    }
    // SAFETY: the table is above, in read-only data, with one entry per vector.
    let addresses = unsafe { &trap_entry_table };
    ENTRY_VECTORS.into_iter().zip(addresses.iter().copied())
}
