/*
 * Executes the CPUID instruction and verifies on which CPU it ran. Python interprets the registers.
 *
 * cffi releases Python's global interpreter lock around each call: a thread that is pinned to a CPU which a real-time task
 * monopolises may block here indefinitely, and must not block the rest of the process. cpuid_api.h documents the
 * functions.
 *
 * The header is not called cpuid.h, because it would hide gcc's <cpuid.h>.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include "cpuid_api.h"

int kvm_cpuid_pin(pid_t thread, const uint8_t *mask, size_t size)
{
    /* The kernel's cpumask is an array of unsigned long. On a little-endian machine its bytes are in order, as in mask. */
    return sched_setaffinity(thread, size, (const cpu_set_t *)mask) ? errno : 0;
}

size_t kvm_cpuid_execute_range(uint32_t first, uint32_t step, size_t count, uint32_t *rows, size_t *read)
{
    size_t used = 0;

    for (*read = 0; *read < count; ++*read) {
        uint32_t *row = rows + 5 * used;
        if (kvm_cpuid_execute(first + (uint32_t)*read * step, 0, row))
            break;
        if (used == 0 || memcmp(row, row - 5, 4 * sizeof *row)) {
            row[4] = (uint32_t)*read;
            used++;
        }
    }
    return used;
}

#if defined(__x86_64__) || defined(__i386__)

#include <asm/prctl.h>
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

int kvm_cpuid_allowed(void)
{
    /* 0 means that CPUID would raise SIGSEGV. A kernel that cannot make it fault returns EINVAL or ENOSYS. */
    return syscall(SYS_arch_prctl, ARCH_GET_CPUID, 0) == 0 ? EACCES : 0;
}

int kvm_cpuid_execute(uint32_t leaf, uint32_t subleaf, uint32_t out[5])
{
    int before = sched_getcpu();
    __cpuid_count(leaf, subleaf, out[0], out[1], out[2], out[3]);
    int after = sched_getcpu();

    if (before < 0 || after < 0)
        return errno;
    out[4] = (uint32_t)after;
    return before == after ? 0 : EAGAIN;
}

#else

int kvm_cpuid_allowed(void)
{
    return ENOTSUP;
}

int kvm_cpuid_execute(uint32_t leaf, uint32_t subleaf, uint32_t out[5])
{
    (void)leaf, (void)subleaf, (void)out;
    return ENOTSUP;
}

#endif
