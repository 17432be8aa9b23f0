/* What mappings keep: each line is a behaviour, and must be the same on Linux. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static void shared_anonymous_memory_survives_mprotect(void)
{
    char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    page[0] = 65;
    mprotect(page, 8192, PROT_READ);
    mprotect(page, 8192, PROT_READ | PROT_WRITE);
    page[1] = 66;
    printf("shared anonymous: %d %d\n", page[0], page[1]);
}

static void private_memory_survives_prot_none(void)
{
    char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(page, "kept");
    mprotect(page, 4096, PROT_NONE);
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
    strcat(page, " and written");
    printf("private: %s\n", page);
}

static void dontneed_gives_zeroes(void)
{
    char *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page[0] = 1;
    madvise(page, 4096, MADV_DONTNEED);
    printf("dontneed: %d\n", page[0]);
}

static void a_hole_splits_a_mapping(void)
{
    char *pages = mmap(0, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset(pages, 7, 3 * 4096);
    munmap(pages + 4096, 4096);
    unsigned char seen[1];
    int middle = mincore(pages + 4096, 4096, seen);
    printf("hole: %d %d %d\n", pages[0], middle, pages[2 * 4096]);
}

int main(void)
{
    shared_anonymous_memory_survives_mprotect();
    private_memory_survives_prot_none();
    dontneed_gives_zeroes();
    a_hole_splits_a_mapping();
    return 0;
}
