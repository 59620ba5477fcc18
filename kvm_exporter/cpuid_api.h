/* What cpuid.c offers. Plain declarations only: cffi reads this file too. */

/* 0: CPUID may be executed in this thread. EACCES: it faults here (arch_prctl(2), ARCH_SET_CPUID). ENOTSUP: not x86. */
int kvm_cpuid_allowed(void);

/*
 * out = EAX, EBX, ECX, EDX, number of the CPU. EAGAIN: the thread moved to another CPU meanwhile, and out is of no use.
 * ENOTSUP: not x86.
 */
int kvm_cpuid_execute(uint32_t leaf, uint32_t subleaf, uint32_t out[5]);

/*
 * Subleaf 0 of count leaves, step apart. rows has room for as many rows of EAX, EBX, ECX, EDX, place of the leaf, and gets
 * those that differ from the one before; returns how many. read is how many leaves were read: it ends at the first that
 * cannot be, for the caller to find out why.
 */
size_t kvm_cpuid_execute_range(uint32_t first, uint32_t step, size_t count, uint32_t *rows, size_t *read);

/* sched_setaffinity(2) with a mask of size bytes, CPU 0 in the lowest bit of the first; 0 is the calling thread. */
int kvm_cpuid_pin(pid_t thread, const uint8_t *mask, size_t size);
