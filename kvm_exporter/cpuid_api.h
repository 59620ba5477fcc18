/* The functions of cpuid.c. Declarations only, without preprocessor directives, because cffi parses this file too. */

/*
 * Whether the calling thread may execute CPUID. Returns 0 if so, EACCES if the instruction faults (arch_prctl(2),
 * ARCH_SET_CPUID), ENOTSUP if the processor is not x86.
 */
int kvm_cpuid_allowed(void);

/*
 * Execute CPUID once. On success, out has EAX, EBX, ECX, EDX and the number of the CPU that executed it. Returns 0, EAGAIN
 * if the thread moved to another CPU meanwhile (out is then invalid), ENOTSUP if the processor is not x86, or the errno of
 * sched_getcpu(3).
 */
int kvm_cpuid_execute(uint32_t leaf, uint32_t subleaf, uint32_t out[5]);

/*
 * Execute CPUID for subleaf 0 of count leaves: first, first + step, and so on. A leaf is stored in rows only if its
 * registers differ from the row before: EAX, EBX, ECX, EDX and the index of the leaf, from 0. rows must have room for
 * count rows. Returns the number of rows stored. Stops at the first leaf that fails; *read is set to the number of leaves
 * executed, and kvm_cpuid_execute() of the next one gives the reason.
 */
size_t kvm_cpuid_execute_range(uint32_t first, uint32_t step, size_t count, uint32_t *rows, size_t *read);

/*
 * Set the CPU affinity of a thread (0: the calling one) with sched_setaffinity(2). mask has size bytes; CPU 0 is the lowest
 * bit of the first byte. Returns 0 or an errno value.
 */
int kvm_cpuid_pin(pid_t thread, const uint8_t *mask, size_t size);
