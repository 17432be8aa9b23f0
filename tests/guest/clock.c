/* Clocks and sleeping, through the C library (which asks the vDSO) and by system call; prints PASS. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                          \
    do {                                                                          \
        if (!(condition)) {                                                       \
            printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);        \
            exit(1);                                                              \
        }                                                                         \
    } while (0)

static int64_t ns_of(struct timespec ts) { return ts.tv_sec * 1000000000LL + ts.tv_nsec; }

static int64_t by_library(clockid_t clock)
{
    struct timespec ts;
    CHECK(!clock_gettime(clock, &ts) && ts.tv_nsec >= 0 && ts.tv_nsec < 1000000000);
    return ns_of(ts);
}

static int64_t by_call(clockid_t clock)
{
    struct timespec ts;
    CHECK(!syscall(SYS_clock_gettime, clock, &ts));
    return ns_of(ts);
}

static void clocks(void)
{
    static const clockid_t all[] = {
        CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID, CLOCK_THREAD_CPUTIME_ID,
        CLOCK_MONOTONIC_RAW, CLOCK_BOOTTIME, CLOCK_TAI};
    struct timespec ts;
    CHECK(getauxval(AT_SYSINFO_EHDR));
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        /* The two ways agree: what is read later is not earlier. */
        int64_t first = by_library(all[i]), second = by_call(all[i]), third = by_library(all[i]);
        CHECK(first <= second && second <= third && third - first < 2000000000);
        CHECK(!clock_getres(all[i], &ts) && ns_of(ts) == 1);
    }
    CHECK(by_call(CLOCK_REALTIME_COARSE) <= by_call(CLOCK_REALTIME));
    CHECK(by_library(CLOCK_MONOTONIC_COARSE) <= by_library(CLOCK_MONOTONIC));
    CHECK(!clock_getres(CLOCK_MONOTONIC_COARSE, &ts) && ns_of(ts) >= 1);
    CHECK(clock_gettime(99, &ts) == -1 && errno == EINVAL);
    CHECK(clock_gettime(10, &ts) == -1 && errno == EINVAL);
    CHECK(syscall(SYS_clock_gettime, CLOCK_REALTIME, 8) == -1 && errno == EFAULT);
    int64_t before = by_library(CLOCK_MONOTONIC);
    for (int i = 0; i < 100000; i++) {
        int64_t now = by_library(CLOCK_MONOTONIC);
        CHECK(now >= before);
        before = now;
    }
}

static void wall_clock(void)
{
    struct timeval tv;
    time_t seconds = time(0), stored;
    CHECK(seconds > 1700000000 && time(&stored) == stored);
    CHECK(!gettimeofday(&tv, 0) && tv.tv_usec >= 0 && tv.tv_usec < 1000000);
    CHECK(tv.tv_sec >= seconds && tv.tv_sec - seconds < 3);
    CHECK(!syscall(SYS_gettimeofday, &tv, 0) && tv.tv_sec - seconds < 3);
    CHECK(syscall(SYS_time, 0) - seconds < 3);
    CHECK(times(0) != -1);
    CHECK(sched_getcpu() >= 0);
}

static void sleeping(void)
{
    struct timespec request = {0, 30000000}, left = {7, 7}, until;
    int64_t start = by_library(CLOCK_MONOTONIC);
    CHECK(!nanosleep(&request, &left) && left.tv_sec == 7);
    int64_t end = by_library(CLOCK_MONOTONIC);
    CHECK(end - start >= 30000000 && end - start < 3000000000);
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
    for (int i = 0; i < 3; i++) {
        int64_t deadline = by_library(clocks[i]) + 10000000;
        until.tv_sec = deadline / 1000000000, until.tv_nsec = deadline % 1000000000;
        CHECK(!clock_nanosleep(clocks[i], TIMER_ABSTIME, &until, 0));
        CHECK(by_library(clocks[i]) >= deadline);
        CHECK(!clock_nanosleep(clocks[i], TIMER_ABSTIME, &until, 0)); /* long over */
    }
    request.tv_nsec = 1000000000;
    CHECK(nanosleep(&request, 0) == -1 && errno == EINVAL);
    CHECK(clock_nanosleep(CLOCK_MONOTONIC_RAW, 0, &left, 0) == ENOTSUP);
    CHECK(syscall(SYS_clock_nanosleep, CLOCK_THREAD_CPUTIME_ID, 0, &left, 0) == -1);
    CHECK(errno == EOPNOTSUPP);
    CHECK(syscall(SYS_nanosleep, 8, 0) == -1 && errno == EFAULT);
}

int main(void)
{
    clocks();
    printf("PASS clocks\n");
    wall_clock();
    printf("PASS wall_clock\n");
    sleeping();
    printf("PASS sleeping\n");
    return 0;
}
