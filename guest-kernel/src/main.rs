//! The kernel binary: the first instruction, the allocator. On the host, where only the library's tests
//! run, it does nothing.

#![cfg_attr(target_os = "none", no_std, no_main)]
#![cfg_attr(target_os = "none", expect(unsafe_code, reason = "the first instruction"))]

#[cfg(target_os = "none")]
mod start {
    use core::arch::global_asm;

    use guest_kernel::mm::heap::Heap;

    /// Size of the first task's kernel stack.
    const STACK_SIZE: usize = 16 << 10;

    #[repr(C, align(16))]
    struct Stack([u8; STACK_SIZE]);

    /// The first task's kernel stack; guard pages surround it (`kernel.ld`).
    #[unsafe(link_section = ".stack")]
    #[unsafe(no_mangle)]
    static mut BOOT_STACK: Stack = Stack([0; STACK_SIZE]);

    #[global_allocator]
    static HEAP: Heap = Heap;

    // RDI is the boot information's address (`shared_abi::boot_info`).
    global_asm!(
        ".section .text.entry, \"ax\"",
        ".global _start",
        "_start:",
        "rdtsc",
        "shl rdx, 32",
        "or rax, rdx",
        "mov rsi, rax",
        "lea rsp, [rip + {stack} + {size}]",
        "mov rdx, rsp",
        "xor ebp, ebp",
        "call {start}",
        "ud2",
        ".text",
        stack = sym BOOT_STACK,
        size = const STACK_SIZE,
        start = sym guest_kernel::boot::start,
    );
}

#[cfg(not(target_os = "none"))]
fn main() {}
