//! The vDSO: a shared object of one page that every program finds through AT_SYSINFO_EHDR.
//!
//! It reads the clocks in ring 3 from the [`VdsoData`] page, which has to be mapped directly below
//! it, and makes the system call for everything else. The image is a complete ELF64 ET_DYN file,
//! laid out here by directives, in a page of its own in the kernel's read-only data: user space maps
//! that page itself (read, execute). It has no relocations, no writable data and no stack use.
//!
//! Names and version are those of Linux (man 7 vdso); C libraries look them up with LINUX_2.6.

#![expect(unsafe_code, reason = "the image is defined in assembly")]

use core::arch::global_asm;
use core::mem::offset_of;

use linux_raw_sys::general as nr;

use crate::mm::addr::PAGE;
use crate::time::{CLOCK_COUNT, COARSE_CLOCKS, COARSE_RESOLUTION_NS, TSC_CLOCKS, VdsoData};

/// The file, and the page to map.
#[must_use]
pub fn image() -> &'static [u8; PAGE] {
    unsafe extern "C" {
        #[link_name = "vdso_image"]
        static IMAGE: [u8; PAGE];
    }
    // SAFETY: the assembly below defines a page of bytes there, which nothing writes.
    unsafe { &IMAGE }
}

/// The exported names, in the order of the symbol table. Each function has the name of Linux's vDSO
/// and, weakly, that of the C library.
const NAMES: [&[u8]; 10] = [
    b"__vdso_clock_gettime",
    b"clock_gettime",
    b"__vdso_gettimeofday",
    b"gettimeofday",
    b"__vdso_time",
    b"time",
    b"__vdso_getcpu",
    b"getcpu",
    b"__vdso_clock_getres",
    b"clock_getres",
];

/// The hash of DT_HASH and of versions (System V ABI, "Hash Table").
const fn sysv_hash(name: &[u8]) -> u32 {
    let mut hash: u32 = 0;
    let mut i = 0;
    while i < name.len() {
        hash = (hash << 4).wrapping_add(name[i] as u32);
        let high = hash & 0xf000_0000;
        hash = (hash ^ (high >> 24)) & !high;
        i += 1;
    }
    hash
}

/// The hash of DT_GNU_HASH.
const fn gnu_hash(name: &[u8]) -> u32 {
    let mut hash: u32 = 5381;
    let mut i = 0;
    while i < name.len() {
        hash = hash.wrapping_mul(33).wrapping_add(name[i] as u32);
        i += 1;
    }
    hash
}

/// Distance of the second bit of a name in the Bloom filter.
const GNU_BLOOM_SHIFT: u32 = 6;

/// The one word of the Bloom filter.
const fn gnu_bloom() -> u64 {
    let mut bloom = 0;
    let mut i = 0;
    while i < NAMES.len() {
        let hash = gnu_hash(NAMES[i]);
        bloom |= 1 << (hash % 64) | 1 << ((hash >> GNU_BLOOM_SHIFT) % 64);
        i += 1;
    }
    bloom
}

/// The word of a symbol in the only chain: bit 0 marks the last.
const fn gnu_chain(index: usize) -> u32 {
    gnu_hash(NAMES[index]) & !1 | (index == NAMES.len() - 1) as u32
}

global_asm!(
    r#"
    .pushsection .rodata.page, "a", @progbits
    .balign 4096
    .globl vdso_image
    .hidden vdso_image
vdso_image:
.Lvdso_image:
    .set .Lvdso_data, .Lvdso_image - 4096

    // ELF header
    .byte 0x7f, 'E', 'L', 'F', 2, 1, 1, 0       // 64-bit, little-endian, version 1, System V
    .quad 0
    .short 3, 62                                // ET_DYN, EM_X86_64
    .long 1
    .quad 0                                     // no entry point
    .quad .Lvdso_segments - .Lvdso_image
    .quad .Lvdso_sections - .Lvdso_image
    .long 0
    .short 64, 56, 3, 64, 12, 11                // sizes and counts of headers; .shstrtab is last

.Lvdso_segments:
    .long 1, 5                                  // PT_LOAD, read and execute: the whole page
    .quad 0, 0, 0, 4096, 4096, 4096
    .long 2, 4                                  // PT_DYNAMIC, read
    .quad .Lvdso_dynamic - .Lvdso_image, .Lvdso_dynamic - .Lvdso_image
    .quad .Lvdso_dynamic - .Lvdso_image
    .quad .Lvdso_dynamic_end - .Lvdso_dynamic, .Lvdso_dynamic_end - .Lvdso_dynamic, 8
    .long 0x6474e550, 4                         // PT_GNU_EH_FRAME, read
    .quad .Lvdso_eh_hdr - .Lvdso_image, .Lvdso_eh_hdr - .Lvdso_image
    .quad .Lvdso_eh_hdr - .Lvdso_image
    .quad .Lvdso_eh_hdr_end - .Lvdso_eh_hdr, .Lvdso_eh_hdr_end - .Lvdso_eh_hdr, 4

    // DT_HASH: one bucket, and a chain through all symbols
    .balign 8
.Lvdso_hash:
    .long 1, 11, 1
    .long 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0
.Lvdso_hash_end:

    // DT_GNU_HASH: one bucket that begins at symbol 1, one word of Bloom filter
    .balign 8
.Lvdso_gnu_hash:
    .long 1, 1, 1, {gnu_bloom_shift}
    .quad {gnu_bloom}
    .long 1
    .long {gnu0}, {gnu1}, {gnu2}, {gnu3}, {gnu4}, {gnu5}, {gnu6}, {gnu7}, {gnu8}, {gnu9}
.Lvdso_gnu_hash_end:

    .macro vdso_symbol name, function, info
    .long .Lvdso_name_\name - .Lvdso_strings
    .byte \info, 0                              // binding and STT_FUNC; default visibility
    .short 10                                   // section .text
    .quad .Lvdso_\function - .Lvdso_image
    .quad .Lvdso_\function\()_end - .Lvdso_\function
    .endm
    .balign 8
.Lvdso_symbols:
    .zero 24
    vdso_symbol __vdso_clock_gettime, clock_gettime, 0x12
    vdso_symbol clock_gettime, clock_gettime, 0x22
    vdso_symbol __vdso_gettimeofday, gettimeofday, 0x12
    vdso_symbol gettimeofday, gettimeofday, 0x22
    vdso_symbol __vdso_time, time, 0x12
    vdso_symbol time, time, 0x22
    vdso_symbol __vdso_getcpu, getcpu, 0x12
    vdso_symbol getcpu, getcpu, 0x22
    vdso_symbol __vdso_clock_getres, clock_getres, 0x12
    vdso_symbol clock_getres, clock_getres, 0x22
.Lvdso_symbols_end:

.Lvdso_strings:
    .byte 0
    // The name of the C library is the end of ours.
    .macro vdso_name name
.Lvdso_name___vdso_\name:
    .ascii "__vdso_"
.Lvdso_name_\name:
    .asciz "\name"
    .endm
    vdso_name clock_gettime
    vdso_name gettimeofday
    vdso_name time
    vdso_name getcpu
    vdso_name clock_getres
.Lvdso_name_soname:
    .asciz "linux-vdso.so.1"
.Lvdso_name_version:
    .asciz "LINUX_2.6"
.Lvdso_strings_end:

    // DT_VERSYM: each symbol has version 2
    .balign 2
.Lvdso_versions:
    .short 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2
.Lvdso_versions_end:

    // DT_VERDEF: 1 is the file itself, 2 is LINUX_2.6
    .balign 8
.Lvdso_version_definitions:
    .short 1, 1, 1, 1
    .long {soname_hash}, 20, 28
    .long .Lvdso_name_soname - .Lvdso_strings, 0
    .short 1, 0, 2, 1
    .long {version_hash}, 20, 0
    .long .Lvdso_name_version - .Lvdso_strings, 0
.Lvdso_version_definitions_end:

    .balign 8
.Lvdso_dynamic:
    .quad 14, .Lvdso_name_soname - .Lvdso_strings               // DT_SONAME
    .quad 4, .Lvdso_hash - .Lvdso_image                         // DT_HASH
    .quad 0x6ffffef5, .Lvdso_gnu_hash - .Lvdso_image            // DT_GNU_HASH
    .quad 5, .Lvdso_strings - .Lvdso_image                      // DT_STRTAB
    .quad 6, .Lvdso_symbols - .Lvdso_image                      // DT_SYMTAB
    .quad 10, .Lvdso_strings_end - .Lvdso_strings               // DT_STRSZ
    .quad 11, 24                                                // DT_SYMENT
    .quad 0x6ffffffc, .Lvdso_version_definitions - .Lvdso_image // DT_VERDEF
    .quad 0x6ffffffd, 2                                         // DT_VERDEFNUM
    .quad 0x6ffffff0, .Lvdso_versions - .Lvdso_image            // DT_VERSYM
    .quad 0, 0
.Lvdso_dynamic_end:

    // Unwinding: no function moves the stack pointer, one rule holds for all of .text
    .balign 4
.Lvdso_eh_hdr:
    .byte 1, 0x1b, 3, 0x3b                      // pcrel|sdata4, udata4, datarel|sdata4
    .long .Lvdso_eh_frame - .
    .long 1
    .long .Lvdso_text - .Lvdso_eh_hdr, .Lvdso_fde - .Lvdso_eh_hdr
.Lvdso_eh_hdr_end:
    .balign 8
.Lvdso_eh_frame:
    .long .Lvdso_fde - .Lvdso_cie
.Lvdso_cie:
    .long 0
    .byte 1
    .asciz "zR"
    .byte 1, 0x78, 16, 1, 0x1b                  // code 1, data -8, return address 16, pcrel|sdata4
    .byte 0x0c, 7, 8                            // DW_CFA_def_cfa: rsp + 8
    .byte 0x90, 1                               // DW_CFA_offset: the return address at CFA - 8
    .balign 8
.Lvdso_fde:
    .long .Lvdso_fde_end - .Lvdso_fde_id
.Lvdso_fde_id:
    .long .Lvdso_fde_id - .Lvdso_eh_frame
    .long .Lvdso_text - .
    .long .Lvdso_text_end - .Lvdso_text
    .byte 0
    .balign 8
.Lvdso_fde_end:
    .long 0
.Lvdso_eh_frame_end:

    // rax = the clock edi, in nanoseconds. Clobbers rcx, rdx, r8, r9.
    .macro vdso_nanoseconds
    mov edi, edi
    lea r8, [rip + .Lvdso_data]
2:  mov r9d, dword ptr [r8 + {sequence}]
    test r9d, 1
    jnz 3f                                      // a write goes on
    lfence                                      // the count is read before the TSC
    rdtsc
    shl rdx, 32
    or rax, rdx
    xor ecx, ecx
    sub rax, qword ptr [r8 + {tsc_base}]
    cmovb rax, rcx                              // a TSC before its base counts as the base
    mul qword ptr [r8 + {mult}]
    mov ecx, dword ptr [r8 + {shift}]
    shrd rax, rdx, cl
    add rax, qword ptr [r8 + {base_ns} + rdi * 8]
    cmp r9d, dword ptr [r8 + {sequence}]        // loads are not reordered with loads
    je 4f
3:  pause
    jmp 2b
4:
    .endm

    // rdx = seconds and r9 = nanoseconds of rax. Clobbers rax, rcx.
    // ns / 10^9 = (ns >> 9) * 0x44b82fa09b5a53 >> 75, exact for every 64-bit ns.
    .macro vdso_split
    mov r9, rax
    shr rax, 9
    movabs rcx, 0x44b82fa09b5a53
    mul rcx
    shr rdx, 11
    imul rax, rdx, 1000000000
    sub r9, rax
    .endm

    .balign 16, 0xcc
.Lvdso_text:
    // int clock_gettime(clockid_t edi, struct timespec *rsi)
.Lvdso_clock_gettime:
    cmp edi, {clock_count}
    jae 5f
    mov eax, {tsc_clocks}
    bt eax, edi
    jnc 5f
    vdso_nanoseconds
    vdso_split
    mov qword ptr [rsi], rdx
    mov qword ptr [rsi + 8], r9
    xor eax, eax
    ret
5:  mov eax, {nr_clock_gettime}
    syscall
    ret
.Lvdso_clock_gettime_end:

    .balign 16, 0xcc
    // int gettimeofday(struct timeval *rdi, struct timezone *rsi)
.Lvdso_gettimeofday:
    test rdi, rdi
    jz 5f
    mov r10, rdi
    xor edi, edi                                // CLOCK_REALTIME
    vdso_nanoseconds
    vdso_split
    imul r9, r9, 274877907                      // / 1000, exact for every 32-bit number
    shr r9, 38
    mov qword ptr [r10], rdx
    mov qword ptr [r10 + 8], r9
5:  test rsi, rsi
    jz 6f
    mov qword ptr [rsi], 0                      // Greenwich, no summer time
6:  xor eax, eax
    ret
.Lvdso_gettimeofday_end:

    .balign 16, 0xcc
    // time_t time(time_t *rdi)
.Lvdso_time:
    mov r10, rdi
    xor edi, edi                                // CLOCK_REALTIME
    vdso_nanoseconds
    vdso_split
    mov rax, rdx
    test r10, r10
    jz 5f
    mov qword ptr [r10], rax
5:  ret
.Lvdso_time_end:

    .balign 16, 0xcc
    // int getcpu(unsigned *rdi, unsigned *rsi, void *)
    // Not by `lsl` of a segment that holds the number: in ring 3 of some KVMs it reads the host's GDT.
.Lvdso_getcpu:
    cmp dword ptr [rip + .Lvdso_data + {cpu_count}], 1
    jne 7f
    xor eax, eax
    test rdi, rdi
    jz 5f
    mov dword ptr [rdi], eax
5:  test rsi, rsi
    jz 6f
    mov dword ptr [rsi], eax
6:  ret
7:  mov eax, {nr_getcpu}
    syscall
    ret
.Lvdso_getcpu_end:

    .balign 16, 0xcc
    // int clock_getres(clockid_t edi, struct timespec *rsi)
.Lvdso_clock_getres:
    cmp edi, {clock_count}
    jae 6f
    mov eax, {tsc_clocks}
    bt eax, edi
    jnc 6f
    mov ecx, 1
    mov edx, {coarse_resolution_ns}
    mov eax, {coarse_clocks}
    bt eax, edi
    cmovc ecx, edx
    test rsi, rsi
    jz 5f
    mov qword ptr [rsi], 0
    mov qword ptr [rsi + 8], rcx
5:  xor eax, eax
    ret
6:  mov eax, {nr_clock_getres}
    syscall
    ret
.Lvdso_clock_getres_end:
.Lvdso_text_end:

.Lvdso_section_names:
    .byte 0
.Lvdso_section_name_hash: .asciz ".hash"
.Lvdso_section_name_gnu_hash: .asciz ".gnu.hash"
.Lvdso_section_name_symbols: .asciz ".dynsym"
.Lvdso_section_name_strings: .asciz ".dynstr"
.Lvdso_section_name_versions: .asciz ".gnu.version"
.Lvdso_section_name_version_definitions: .asciz ".gnu.version_d"
.Lvdso_section_name_dynamic: .asciz ".dynamic"
.Lvdso_section_name_eh_hdr: .asciz ".eh_frame_hdr"
.Lvdso_section_name_eh_frame: .asciz ".eh_frame"
.Lvdso_section_name_text: .asciz ".text"
.Lvdso_section_name_section_names: .asciz ".shstrtab"
.Lvdso_section_names_end:

    .macro vdso_section name, kind, flags, link, info, align, entry
    .long .Lvdso_section_name_\name - .Lvdso_section_names, \kind
    .quad \flags
    .if \flags
    .quad .Lvdso_\name - .Lvdso_image           // the address
    .else
    .quad 0
    .endif
    .quad .Lvdso_\name - .Lvdso_image
    .quad .Lvdso_\name\()_end - .Lvdso_\name
    .long \link, \info
    .quad \align, \entry
    .endm
    .balign 8
.Lvdso_sections:
    .zero 64
    vdso_section hash, 5, 2, 3, 0, 8, 4
    vdso_section gnu_hash, 0x6ffffff6, 2, 3, 0, 8, 0
    vdso_section symbols, 11, 2, 4, 1, 8, 24
    vdso_section strings, 3, 2, 0, 0, 1, 0
    vdso_section versions, 0x6fffffff, 2, 3, 0, 2, 2
    vdso_section version_definitions, 0x6ffffffd, 2, 4, 2, 8, 0
    vdso_section dynamic, 6, 2, 4, 0, 8, 16
    vdso_section eh_hdr, 1, 2, 0, 0, 4, 0
    vdso_section eh_frame, 1, 2, 0, 0, 8, 0
    vdso_section text, 1, 6, 0, 0, 16, 0
    vdso_section section_names, 3, 0, 0, 0, 1, 0

    .org .Lvdso_image + 4096
    .popsection
    "#,
    gnu_bloom_shift = const GNU_BLOOM_SHIFT,
    gnu_bloom = const gnu_bloom(),
    gnu0 = const gnu_chain(0),
    gnu1 = const gnu_chain(1),
    gnu2 = const gnu_chain(2),
    gnu3 = const gnu_chain(3),
    gnu4 = const gnu_chain(4),
    gnu5 = const gnu_chain(5),
    gnu6 = const gnu_chain(6),
    gnu7 = const gnu_chain(7),
    gnu8 = const gnu_chain(8),
    gnu9 = const gnu_chain(9),
    soname_hash = const sysv_hash(b"linux-vdso.so.1"),
    version_hash = const sysv_hash(b"LINUX_2.6"),
    sequence = const offset_of!(VdsoData, sequence),
    tsc_base = const offset_of!(VdsoData, tsc_base),
    mult = const offset_of!(VdsoData, mult),
    shift = const offset_of!(VdsoData, shift),
    base_ns = const offset_of!(VdsoData, base_ns),
    cpu_count = const offset_of!(VdsoData, cpu_count),
    clock_count = const CLOCK_COUNT,
    tsc_clocks = const TSC_CLOCKS,
    coarse_clocks = const COARSE_CLOCKS,
    coarse_resolution_ns = const COARSE_RESOLUTION_NS,
    nr_clock_gettime = const nr::__NR_clock_gettime,
    nr_clock_getres = const nr::__NR_clock_getres,
    nr_getcpu = const nr::__NR_getcpu,
);

#[cfg(test)]
#[path = "vdso_test.rs"]
mod tests;
