/* signals NAME: one behaviour of signals; prints "PASS NAME", or says what is wrong and exits with 1.
   signals list: the names. signals all: every one that the process outlives.
   Those whose names end in "_kills" end by a signal instead. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);        \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

static volatile sig_atomic_t count, depth, depth_max, order[8];
static volatile siginfo_t last;
static volatile greg_t last_trap, last_error, last_cr2;
static volatile int *volatile near_null = (int *)8;
static sigjmp_buf back;
static char stack[65536] __attribute__((aligned(64)));

static void handle(int signal, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};
    CHECK(!sigaction(signal, &action, 0));
}

static sigset_t set_of(int signal)
{
    sigset_t set;
    sigemptyset(&set);
    if (signal)
        sigaddset(&set, signal);
    return set;
}

static int is_blocked(int signal)
{
    sigset_t set;
    CHECK(!sigprocmask(SIG_BLOCK, 0, &set));
    return sigismember(&set, signal);
}

static void counting(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    last = *info;
    order[count++ % 8] = info->si_signo;
}

static void raised(void)
{
    handle(SIGUSR1, counting, 0);
    CHECK(!raise(SIGUSR1) && count == 1);
    CHECK(last.si_signo == SIGUSR1 && last.si_code == SI_TKILL && last.si_pid == getpid());
    CHECK(!kill(getpid(), SIGUSR1) && count == 2 && last.si_code == SI_USER);
    CHECK(!is_blocked(SIGUSR1));
    signal(SIGUSR1, SIG_IGN);
    CHECK(!raise(SIGUSR1) && count == 2);
    CHECK(!raise(SIGCHLD) && !raise(SIGWINCH) && !raise(SIGCONT));
}

static void targets(void)
{
    CHECK(!kill(getpid(), 0) && !kill(0, 0));
    CHECK(kill(0x7ffffffe, SIGUSR1) == -1 && errno == ESRCH);
    CHECK(kill(getpid(), 65) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_tgkill, getpid(), 0, SIGUSR1) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_tkill, -1, SIGUSR1) == -1 && errno == EINVAL);
    struct sigaction action = {.sa_handler = SIG_IGN};
    CHECK(sigaction(SIGKILL, &action, 0) == -1 && errno == EINVAL);
    CHECK(sigaction(SIGSTOP, &action, 0) == -1 && errno == EINVAL);
    CHECK(!sigaction(SIGKILL, 0, &action) && action.sa_handler == SIG_DFL);
}

static void jumping(int signal, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    last = *info;
    last_trap = uc->uc_mcontext.gregs[REG_TRAPNO];
    last_error = uc->uc_mcontext.gregs[REG_ERR];
    last_cr2 = uc->uc_mcontext.gregs[REG_CR2];
    siglongjmp(back, signal);
}

static void faults(void)
{
    volatile char *page = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(page != MAP_FAILED && page[0] == 0);
    handle(SIGSEGV, jumping, 0);
    for (int i = 0; i < 3; i++) {
        if (!sigsetjmp(back, 1)) {
            page[5] = 1;
            CHECK(!"a write to a read-only page went through");
        }
        CHECK(last.si_signo == SIGSEGV && last.si_code == SEGV_ACCERR && last.si_addr == page + 5);
        CHECK(last_trap == 14 && last_error == 7 && last_cr2 == (greg_t)(page + 5));
    }
    CHECK(!munmap((void *)page, 4096));
    if (!sigsetjmp(back, 1)) {
        (void)page[9];
        CHECK(!"a read of an unmapped page went through");
    }
    CHECK(last.si_code == SEGV_MAPERR && last.si_addr == page + 9 && last_error == 4);
    if (!sigsetjmp(back, 1))
        __asm__ volatile("mov (%0), %%al" : : "r"(0x800000000000) : "rax");
    CHECK(last.si_code == SI_KERNEL && last.si_addr == 0 && last_trap == 13);
    handle(SIGILL, jumping, 0);
    if (!sigsetjmp(back, 1))
        __asm__ volatile("ud2");
    CHECK(last.si_signo == SIGILL && last.si_code == ILL_ILLOPN && last_trap == 6);
    handle(SIGTRAP, jumping, 0);
    if (!sigsetjmp(back, 1))
        __asm__ volatile("int3");
    CHECK(last.si_signo == SIGTRAP && last.si_code == SI_KERNEL && last_trap == 3);
    handle(SIGFPE, jumping, 0);
    if (!sigsetjmp(back, 1))
        __asm__ volatile("xor %%ecx, %%ecx; idivl %%ecx" : : : "rax", "rcx", "rdx");
    CHECK(last.si_signo == SIGFPE && last.si_code == FPE_INTDIV && last_trap == 0);
    unsigned csr = 0x1f80 & ~0x200; /* division by zero is not masked */
    if (!sigsetjmp(back, 1))
        __asm__ volatile("ldmxcsr %0; xorps %%xmm0, %%xmm0; mov $1, %%eax\n"
                         "cvtsi2ss %%eax, %%xmm1; divss %%xmm0, %%xmm1"
                         : : "m"(csr) : "rax", "xmm0", "xmm1");
    csr = 0x1f80;
    __asm__ volatile("ldmxcsr %0" : : "m"(csr));
    CHECK(last.si_signo == SIGFPE && last.si_code == FPE_FLTDIV && last_trap == 19);
}

static void on_stack(int signal, siginfo_t *info, void *context)
{
    char here;
    stack_t old;
    CHECK(&here >= stack && &here < stack + sizeof stack);
    CHECK(!sigaltstack(0, &old) && old.ss_flags == SS_ONSTACK && old.ss_sp == stack);
    old.ss_flags = 0;
    CHECK(sigaltstack(&old, 0) == -1 && errno == EPERM);
    CHECK(((ucontext_t *)context)->uc_stack.ss_sp == stack);
    jumping(signal, info, context);
}

__attribute__((noinline)) static int overflow(int n)
{
    volatile char frame[4096];
    frame[n & 4095] = (char)n;
    return n == -1 ? 0 : overflow(n + 1) + frame[0];
}

static void use_stack(int flags)
{
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof stack, .ss_flags = flags};
    CHECK(!sigaltstack(&alt, 0));
}

static void stack_overflow(void)
{
    stack_t small = {.ss_sp = stack, .ss_size = 100}, old;
    CHECK(sigaltstack(&small, 0) == -1 && errno == ENOMEM);
    small.ss_flags = 7;
    CHECK(sigaltstack(&small, 0) == -1 && errno == EINVAL);
    CHECK(!sigaltstack(0, &old) && old.ss_flags == SS_DISABLE);
    use_stack(0);
    handle(SIGSEGV, on_stack, SA_ONSTACK);
    for (int i = 0; i < 2; i++) {
        if (!sigsetjmp(back, 1))
            CHECK(overflow(0) && !"there is no end of the stack");
        CHECK(last.si_signo == SIGSEGV);
    }
    CHECK(!sigaltstack(0, &old) && old.ss_flags == 0);
}

static void disarmed(int signal, siginfo_t *info, void *context)
{
    char here;
    stack_t old;
    CHECK(&here >= stack && &here < stack + sizeof stack);
    CHECK(!sigaltstack(0, &old) && old.ss_flags == SS_DISABLE);
    counting(signal, info, context);
}

static void autodisarm(void)
{
    stack_t old;
    use_stack(1 << 31);
    handle(SIGUSR1, disarmed, SA_ONSTACK);
    CHECK(!raise(SIGUSR1) && count == 1);
    CHECK(!sigaltstack(0, &old) && old.ss_flags == 1 << 31 && old.ss_sp == stack);
}

static void reset(void)
{
    struct sigaction now;
    handle(SIGUSR1, counting, SA_RESETHAND);
    CHECK(!raise(SIGUSR1) && count == 1);
    CHECK(!sigaction(SIGUSR1, 0, &now) && now.sa_handler == SIG_DFL);
}

static void reset_kills(void)
{
    reset();
    raise(SIGUSR1);
}

static void nesting(int signal, siginfo_t *info, void *context)
{
    counting(signal, info, context);
    if (++depth > depth_max)
        depth_max = depth;
    if (count < 3) {
        CHECK(!raise(SIGUSR1));
        CHECK(!raise(SIGUSR2));
    }
    depth--;
}

static void nested(void)
{
    handle(SIGUSR1, nesting, 0);
    handle(SIGUSR2, counting, 0);
    CHECK(!raise(SIGUSR1)); /* 10, inside it 12; then the 10 that waited, and 12 before its end */
    CHECK(depth_max == 1 && count == 3 && order[0] == 10 && order[1] == 12 && order[2] == 10);
    count = depth_max = 0;
    handle(SIGUSR1, nesting, SA_NODEFER);
    CHECK(!raise(SIGUSR1));
    CHECK(depth_max == 3 && order[0] == 10 && order[1] == 10 && order[2] == 10 && order[3] == 12);
}

static void masked(int signal, siginfo_t *info, void *context)
{
    counting(signal, info, context);
    CHECK(is_blocked(SIGUSR1) && is_blocked(SIGUSR2) && !is_blocked(SIGTERM));
    CHECK(!raise(SIGUSR2) && count == 1);
}

static void mask(void)
{
    struct sigaction action = {.sa_sigaction = masked, .sa_flags = SA_SIGINFO};
    sigset_t set = set_of(SIGUSR2), old;
    action.sa_mask = set;
    handle(SIGUSR2, counting, 0);
    CHECK(!sigaction(SIGUSR1, &action, 0));
    CHECK(!raise(SIGUSR1) && count == 2 && order[1] == SIGUSR2);
    CHECK(!is_blocked(SIGUSR1) && !is_blocked(SIGUSR2));

    CHECK(!sigprocmask(SIG_BLOCK, &set, &old) && !sigismember(&old, SIGUSR2));
    CHECK(!raise(SIGUSR2) && !raise(SIGUSR2) && count == 2);
    CHECK(!sigpending(&old) && sigismember(&old, SIGUSR2) && !sigismember(&old, SIGUSR1));
    CHECK(!sigprocmask(SIG_UNBLOCK, &set, 0) && count == 3);
    CHECK(!sigpending(&old) && !sigismember(&old, SIGUSR2));
    CHECK(!sigprocmask(SIG_BLOCK, &set, 0) && !raise(SIGUSR2));
    signal(SIGUSR2, SIG_IGN);
    CHECK(!sigpending(&old) && !sigismember(&old, SIGUSR2));
    CHECK(sigprocmask(99, &set, 0) == -1 && errno == EINVAL);
    sigfillset(&set);
    CHECK(!sigprocmask(SIG_SETMASK, &set, 0) && !is_blocked(SIGKILL) && !is_blocked(SIGSTOP));
}

static void suspended(void)
{
    sigset_t set = set_of(SIGUSR1), none = set_of(0);
    handle(SIGUSR1, counting, SA_RESTART);
    CHECK(!sigprocmask(SIG_BLOCK, &set, 0) && !raise(SIGUSR1) && count == 0);
    CHECK(sigsuspend(&none) == -1 && errno == EINTR && count == 1);
    CHECK(is_blocked(SIGUSR1));
}

static void queued(void)
{
    sigset_t set = set_of(SIGRTMIN);
    struct timespec now = {0, 0}, soon = {0, 20000000};
    siginfo_t info;
    sigaddset(&set, SIGRTMIN + 1);
    sigaddset(&set, SIGUSR1);
    CHECK(!sigprocmask(SIG_BLOCK, &set, 0));
    for (int i = 0; i < 3; i++) {
        union sigval value = {.sival_int = i};
        CHECK(!sigqueue(getpid(), SIGRTMIN + 1, value));
        CHECK(!sigqueue(getpid(), SIGRTMIN, value));
        CHECK(!sigqueue(getpid(), SIGUSR1, value));
    }
    CHECK(sigtimedwait(&set, &info, &now) == SIGUSR1 && info.si_value.sival_int == 0);
    for (int i = 0; i < 6; i++) {
        CHECK(sigtimedwait(&set, &info, &soon) == SIGRTMIN + i / 3);
        CHECK(info.si_code == SI_QUEUE && info.si_value.sival_int == i % 3);
        CHECK(info.si_pid == getpid() && info.si_uid == getuid());
    }
    CHECK(sigtimedwait(&set, &info, &now) == -1 && errno == EAGAIN);
    CHECK(sigtimedwait(&set, &info, &soon) == -1 && errno == EAGAIN);
}

static void clobbering(int signal, siginfo_t *info, void *context)
{
    unsigned csr;
    unsigned short control;
    __asm__ volatile("stmxcsr %0; fnstcw %1" : "=m"(csr), "=m"(control));
    CHECK(csr == 0x1f80 && control == 0x37f);
    csr = 0x3f80;
    __asm__ volatile("pcmpeqd %%xmm0, %%xmm0; movdqa %%xmm0, %%xmm7; movdqa %%xmm0, %%xmm15\n"
                     "fninit; fldz; fldz; fldz; ldmxcsr %0"
                     : : "m"(csr) : "xmm0", "xmm7", "xmm15");
    counting(signal, info, context);
}

static void floating_point(void)
{
    static const double in[2] = {1.5, -2.25};
    double xmm0[2], xmm15[2], x87 = 0;
    unsigned csr = 0x5f80, csr_after; /* rounds up */
    unsigned short control = 0x77f, control_after;
    handle(SIGUSR1, clobbering, 0);
    __asm__ volatile("fninit; fldpi; fldcw %[control]; ldmxcsr %[csr]\n"
                     "movupd %[in], %%xmm0; movupd %[in], %%xmm15; movupd %[in], %%xmm7\n"
                     "syscall\n"
                     "movupd %%xmm0, %[xmm0]; movupd %%xmm15, %[xmm15]\n"
                     "fstpl %[x87]; fnstcw %[control_after]; stmxcsr %[csr_after]; fninit"
                     : [xmm0] "=m"(xmm0), [xmm15] "=m"(xmm15), [x87] "+m"(x87),
                       [control_after] "=m"(control_after), [csr_after] "=m"(csr_after)
                     : [in] "m"(in), [csr] "m"(csr), [control] "m"(control),
                       "a"(SYS_kill), "D"(getpid()), "S"(SIGUSR1)
                     : "rcx", "r11", "memory", "xmm0", "xmm7", "xmm15");
    csr = 0x1f80;
    __asm__ volatile("ldmxcsr %0" : : "m"(csr));
    CHECK(count == 1 && csr_after == 0x5f80 && control_after == 0x77f);
    CHECK(!memcmp(xmm0, in, 16) && !memcmp(xmm15, in, 16) && x87 > 3.14159 && x87 < 3.1416);
}

static void skipping(int signal, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    CHECK(registers[REG_R15] == 15 && registers[REG_RBP] == 0x66 && registers[REG_RAX] == 1);
    CHECK(registers[REG_EFL] & 0x400 && (registers[REG_CSGSFS] & 0xffff) == 0x33);
    unsigned long flags;
    __asm__ volatile("pushfq; popq %0\n"
                     "mov $-1, %%rcx; mov %%rcx, %%r11; mov %%rcx, %%r10; mov %%rcx, %%r9"
                     : "=r"(flags) : : "rcx", "r9", "r10", "r11");
    CHECK(!(flags & 0x400));
    registers[REG_RIP] += 2;
    counting(signal, info, context);
}

/* Loads every register and the last word of the red zone, takes a fault, and sees what is left: the
   differences, all or-ed together. */
unsigned long registers_probe(void);
__asm__("registers_probe:\n"
        "push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "mov $1, %rax; mov $2, %rbx; mov $3, %rcx; mov $4, %rdx; mov $5, %rsi; mov $7, %rdi\n"
        "mov $8, %r8; mov $9, %r9; mov $10, %r10; mov $11, %r11; mov $12, %r12; mov $13, %r13\n"
        "mov $14, %r14; mov $15, %r15; mov $0x66, %rbp; movq $0x77, -128(%rsp); movq $0x78, -8(%rsp)\n"
        "std; stc\n"
        "ud2\n"
        "setnc %al; movzbl %al, %eax\n" /* all that follows changes the flags */
        "cld\n"
        "xor $2, %rbx; or %rbx, %rax; xor $3, %rcx; or %rcx, %rax; xor $4, %rdx; or %rdx, %rax\n"
        "xor $5, %rsi; or %rsi, %rax; xor $7, %rdi; or %rdi, %rax; xor $8, %r8; or %r8, %rax\n"
        "xor $9, %r9; or %r9, %rax; xor $10, %r10; or %r10, %rax; xor $11, %r11; or %r11, %rax\n"
        "xor $12, %r12; or %r12, %rax; xor $13, %r13; or %r13, %rax; xor $14, %r14; or %r14, %rax\n"
        "xor $15, %r15; or %r15, %rax; xor $0x66, %rbp; or %rbp, %rax\n"
        "xorq $0x77, -128(%rsp); or -128(%rsp), %rax; xorq $0x78, -8(%rsp); or -8(%rsp), %rax\n"
        "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "ret\n");

static void registers(void)
{
    handle(SIGILL, skipping, 0);
    CHECK(registers_probe() == 0 && count == 1);
}

static void dividing(int signal, siginfo_t *info, void *context)
{
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    CHECK(info->si_code == FPE_INTDIV && info->si_addr == (void *)registers[REG_RIP]);
    registers[REG_RIP] += 2; /* f7 f9: idiv %ecx */
    registers[REG_RAX] = 4711;
    counting(signal, info, context);
}

static void divide_and_go_on(void)
{
    int quotient = 1;
    handle(SIGFPE, dividing, 0);
    __asm__ volatile("cltd; .byte 0xf7, 0xf9" : "+a"(quotient) : "c"(0) : "rdx");
    CHECK(quotient == 4711 && count == 1);
}

static void bending(int signal, siginfo_t *info, void *context)
{
    counting(signal, info, context);
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] = 0x800000000000;
}

static void bad_return_kills(void)
{
    handle(SIGUSR1, bending, 0);
    raise(SIGUSR1);
}

static void bad_stack_kills(void)
{
    handle(SIGUSR1, counting, 0);
    __asm__ volatile("mov %0, %%rsp; syscall"
                     : : "r"(4096L), "a"(SYS_kill), "D"(getpid()), "S"(SIGUSR1) : "rcx", "r11");
}

static void blocked_fault_kills(void)
{
    sigset_t set = set_of(SIGSEGV);
    handle(SIGSEGV, counting, 0);
    sigprocmask(SIG_BLOCK, &set, 0);
    *near_null = 1;
}

static void ignored_fault_kills(void)
{
    signal(SIGSEGV, SIG_IGN);
    *near_null = 1;
}

static void abort_kills(void)
{
    signal(SIGABRT, SIG_IGN);
    abort();
}

static void term_kills(void) { raise(SIGTERM); }
static void real_time_kills(void) { raise(SIGRTMAX); }

static const struct {
    const char *name;
    void (*run)(void);
} behaviours[] = {
#define BEHAVIOUR(name) {#name, name}
    BEHAVIOUR(raised), BEHAVIOUR(targets), BEHAVIOUR(faults), BEHAVIOUR(stack_overflow),
    BEHAVIOUR(autodisarm), BEHAVIOUR(reset), BEHAVIOUR(nested), BEHAVIOUR(mask),
    BEHAVIOUR(suspended), BEHAVIOUR(queued), BEHAVIOUR(floating_point), BEHAVIOUR(registers),
    BEHAVIOUR(divide_and_go_on), BEHAVIOUR(reset_kills), BEHAVIOUR(bad_return_kills),
    BEHAVIOUR(bad_stack_kills), BEHAVIOUR(blocked_fault_kills), BEHAVIOUR(ignored_fault_kills),
    BEHAVIOUR(abort_kills), BEHAVIOUR(term_kills), BEHAVIOUR(real_time_kills),
};

/* Back to how a program starts. */
static void start_over(void)
{
    sigset_t none = set_of(0);
    stack_t off = {.ss_flags = SS_DISABLE};
    for (int i = 1; i <= SIGRTMAX; i++)
        signal(i, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, 0);
    sigaltstack(&off, 0);
    count = depth = depth_max = 0;
}

int main(int argc, char **argv)
{
    const char *wanted = argc > 1 ? argv[1] : "all";
    int found = 0;

    setvbuf(stdout, 0, _IONBF, 0);
    for (unsigned i = 0; i < sizeof behaviours / sizeof *behaviours; i++) {
        const char *name = behaviours[i].name;
        if (!strcmp(wanted, "list")) {
            printf("%s\n", name);
        } else if (!strcmp(wanted, name) || (!strcmp(wanted, "all") && !strstr(name, "_kills"))) {
            start_over();
            behaviours[i].run();
            if (strstr(name, "_kills"))
                return 1;
            printf("PASS %s\n", name);
        } else {
            continue;
        }
        found = 1;
    }
    return !found;
}
