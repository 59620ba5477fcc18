/*
 * The system calls and instructions of an exporter's sweep in a bare loop, to measure what a sweep costs at least.
 *
 * Usage: sweep LEAF...
 *
 * For each byte of standard input, it reads the files that list the CPUs. On the current CPU, it reads the bases of
 * hypervisors and the given leaves; then, pinned, the given leaves on every CPU. It prints the wall time and the CPU time of
 * the thread, in nanoseconds.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <cpuid.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MOST_LEAVES 16

/* Descriptors, kept open as in the exporter; -1 for missing files. */
static int files[3];

static volatile uint32_t sink;

static int64_t now(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

static void execute(uint32_t leaf)
{
    uint32_t eax, ebx, ecx, edx;
    __cpuid_count(leaf, 0, eax, ebx, ecx, edx);
    sink = eax ^ ebx ^ ecx ^ edx;
}

static void sweep(const uint32_t *leaves, int count)
{
    char text[4096];
    cpu_set_t home;

    for (int i = 0; i < 3; i++)
        if (pread(files[i], text, sizeof text, 0) < 0 && i == 0)
            exit(1);
    syscall(SYS_arch_prctl, ARCH_GET_CPUID, 0);
    sched_getaffinity(getpid(), sizeof home, &home);
    execute(leaves[0]);
    for (uint32_t base = 0x40000000; base < 0x40010000; base += 0x100)
        execute(base);
    for (int i = 0; i < count; i++)
        execute(leaves[i]);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &home))
            continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (sched_setaffinity(0, sizeof one, &one))
            exit(1);
        for (int i = 0; i < count; i++)
            execute(leaves[i]);
    }
    sched_setaffinity(0, sizeof home, &home);
}

int main(int count, char **words)
{
    uint32_t leaves[MOST_LEAVES];

    if (count < 2 || count > MOST_LEAVES + 1) {
        fprintf(stderr, "usage: sweep LEAF...\n");
        return 2;
    }
    for (int i = 1; i < count; i++)
        leaves[i - 1] = (uint32_t)strtoul(words[i], NULL, 0);
    files[0] = open("/sys/devices/system/cpu/online", O_RDONLY | O_CLOEXEC);
    files[1] = open("/sys/devices/system/cpu/isolated", O_RDONLY | O_CLOEXEC);
    files[2] = open("/sys/devices/system/cpu/nohz_full", O_RDONLY | O_CLOEXEC);
    while (getchar() != EOF) {
        int64_t time = now(CLOCK_MONOTONIC), used = now(CLOCK_THREAD_CPUTIME_ID);
        sweep(leaves, count - 1);
        used = now(CLOCK_THREAD_CPUTIME_ID) - used;
        printf("%jd %jd\n", (intmax_t)(now(CLOCK_MONOTONIC) - time), (intmax_t)used);
        fflush(stdout);
    }
    return 0;
}
