/* Ticks of the time-stamp counter that a null system call (getppid) takes, the loop taken off:
   the minimum over repeats of short runs, so that no interrupt is in it. Prints one number. */
#include <stdio.h>
#include <sys/syscall.h>
#include <x86intrin.h>

#define CALLS 8
#define REPEATS 200

static unsigned long loop(int calls)
{
    unsigned long begin = __rdtsc();
    for (int i = 0; i < CALLS; i++) {
        unsigned long result = SYS_getppid;
        if (calls)
            __asm__ volatile("syscall" : "+a"(result)::"rcx", "r11", "memory");
        else
            __asm__ volatile("" : "+a"(result)::"rcx", "r11", "memory");
    }
    return __rdtsc() - begin;
}

static unsigned long minimum(int calls)
{
    unsigned long best = ~0ul;
    for (int i = 0; i < REPEATS; i++) {
        unsigned long ticks = loop(calls);
        if (ticks < best)
            best = ticks;
    }
    return best;
}

int main(void)
{
    unsigned long with = minimum(1), without = minimum(0);
    printf("%.1f\n", (double)(with - without) / CALLS);
    return 0;
}
