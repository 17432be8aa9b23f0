/* faults NAME: does what ends a program. faults list: the names. Should NAME not end it: exit code 0. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ASM(name, text) static void name(void) { __asm__ volatile(text ::: "memory", "rax", "rcx", "rdx", "rdi"); }

#define DIRECT_MAP ((volatile char *)0xffff800000100000)
#define KERNEL_IMAGE ((volatile char *)0xffffffff80100000)
#define NON_CANONICAL ((volatile char *)0x800000000000)

static const char constant[] = "read-only";
static unsigned char data[] = {0xc3};
static volatile int zero, minimum = 0x80000000; /* volatile: or the compiler sees through it */

/* Instructions that ring 3 must not execute. */
ASM(hlt, "hlt")
ASM(cli, "cli")
ASM(sti, "sti")
ASM(out, "mov $0x700, %%dx; out %%eax, %%dx")
ASM(in, "mov $0x3f8, %%dx; in %%dx, %%al")
ASM(mov_cr3, "mov %%cr3, %%rax; mov %%rax, %%cr3")
ASM(mov_cr0, "mov %%cr0, %%rax")
ASM(mov_dr7, "xor %%eax, %%eax; mov %%rax, %%dr7")
ASM(rdmsr, "mov $0xc0000082, %%ecx; rdmsr")
ASM(wrmsr, "mov $0xc0000082, %%ecx; xor %%eax, %%eax; xor %%edx, %%edx; wrmsr")
ASM(swapgs, "swapgs")
ASM(sysretq, "sysretq")
ASM(invlpg, "invlpg (%%rsp)")
ASM(clts, "clts")
ASM(wbinvd, "wbinvd")
ASM(lgdt, "sub $16, %%rsp; lgdt (%%rsp)")
ASM(lidt, "sub $16, %%rsp; lidt (%%rsp)")
ASM(ltr, "mov $0x40, %%eax; ltr %%ax")
ASM(kernel_cs, "mov %%rsp, %%rax; push $0x2b; push %%rax; push $2; push $0x10; push $0; iretq")
ASM(kernel_ds, "mov $0x18, %%eax; mov %%ax, %%ss")
ASM(far_return, "push $0x10; push $0; lretq")
ASM(int_13, "int $0x13")
ASM(ud2, "ud2")
ASM(int3, "int3")
ASM(icebp, ".byte 0xf1")
ASM(single_step, "pushfq; orl $0x100, (%%rsp); popfq; nop; nop")
ASM(unaligned,
    "pushfq; orl $0x40000, (%%rsp); popfq; mov 1(%%rsp), %%rax; pushfq; andl $~0x40000, (%%rsp); popfq")

/* Addresses that are not its own. */
static void read_null(void) { zero = *(volatile char *)8; }
static void jump_null(void) { ((void (*)(void))0)(); }
static void read_direct_map(void) { zero = *DIRECT_MAP; }
static void write_direct_map(void) { *DIRECT_MAP = 1; }
static void jump_direct_map(void) { ((void (*)(void))DIRECT_MAP)(); }
static void read_kernel(void) { zero = *KERNEL_IMAGE; }
static void write_kernel(void) { *KERNEL_IMAGE = 1; }
static void jump_kernel(void) { ((void (*)(void))KERNEL_IMAGE)(); }
static void read_non_canonical(void) { zero = *NON_CANONICAL; }
static void jump_non_canonical(void) { ((void (*)(void))NON_CANONICAL)(); }
static void write_read_only(void) { *(volatile char *)constant = 1; }
static void write_code(void) { *(volatile char *)write_code = 1; }
static void execute_data(void) { ((void (*)(void))data)(); }
static void execute_stack(void)
{
    unsigned char code[] = {0xc3};
    __asm__ volatile("" ::"r"(code) : "memory");
    ((void (*)(void))code)();
}
static void read_protected(void)
{
    zero = *(volatile char *)mmap(0, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
static void read_unmapped(void)
{
    char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *page = 1;
    munmap(page, 4096);
    zero = *(volatile char *)page;
}
static void beyond_file(void)
{
    int fd = open("/proc/self/exe", O_RDONLY);
    long pages = lseek(fd, 0, SEEK_END) / 4096 + 3;
    char *map = mmap(0, pages * 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map != MAP_FAILED)
        zero = *(volatile char *)(map + (pages - 1) * 4096);
}

/* Arithmetic, stack, by request. */
ASM(divide_by_zero, "xor %%ecx, %%ecx; mov $1, %%eax; cltd; idiv %%ecx")
static void divide_overflow(void) { zero = minimum / (zero - 1); }
__attribute__((noinline)) static int deeper(volatile int depth)
{
    volatile char frame[4096];
    frame[0] = depth;
    return depth < 0 ? 0 : deeper(depth + 1) + frame[0];
}
static void overflow_stack(void) { zero = deeper(0); }
static void bad_stack_pointer(void) { __asm__ volatile("mov $0x1000, %rsp; push %rax"); }
static void kernel_stack_pointer(void)
{
    __asm__ volatile("mov $0xffffffff80100000, %rsp; push %rax");
}
static void abort_(void) { abort(); }

#define CASE(name) {#name, name}
static const struct {
    const char *name;
    void (*action)(void);
} cases[] = {
    CASE(hlt), CASE(cli), CASE(sti), CASE(out), CASE(in), CASE(mov_cr3), CASE(mov_cr0), CASE(mov_dr7),
    CASE(rdmsr), CASE(wrmsr), CASE(swapgs), CASE(sysretq), CASE(invlpg), CASE(clts), CASE(wbinvd),
    CASE(lgdt), CASE(lidt), CASE(ltr), CASE(kernel_cs), CASE(kernel_ds), CASE(far_return),
    CASE(int_13), CASE(ud2), CASE(int3), CASE(icebp), CASE(single_step), CASE(unaligned),
    CASE(read_null), CASE(jump_null), CASE(read_direct_map), CASE(write_direct_map),
    CASE(jump_direct_map), CASE(read_kernel), CASE(write_kernel), CASE(jump_kernel),
    CASE(read_non_canonical), CASE(jump_non_canonical), CASE(write_read_only), CASE(write_code),
    CASE(execute_data), CASE(execute_stack), CASE(read_protected), CASE(read_unmapped),
    CASE(beyond_file), CASE(divide_by_zero), CASE(divide_overflow), CASE(overflow_stack),
    CASE(bad_stack_pointer), CASE(kernel_stack_pointer), {"abort", abort_},
};

int main(int argc, char **argv)
{
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(argv[1], "list"))
            puts(cases[i].name);
        else if (!strcmp(argv[1], cases[i].name))
            cases[i].action();
    return 0;
}
