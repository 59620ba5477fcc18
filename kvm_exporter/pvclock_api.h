/* The function of pvclock.c. Declarations only, without preprocessor directives, because cffi parses this file too. */

/*
 * Copy a struct pvclock_vcpu_time_info (arch/x86/include/asm/pvclock-abi.h) from an address of this process. Returns 0,
 * EFAULT if memory is missing there, EAGAIN if the hypervisor updated the structure meanwhile (its version is odd, or
 * changed), or the errno of pipe2(2), writev(2) or read(2). Only after 0 is out valid. Never blocks.
 */
int kvm_pvclock_copy(uint64_t address, uint8_t out[32]);
