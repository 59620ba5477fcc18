/*
 * What a vCPU executes in the tests: CPUID, for one request after another.
 *
 * Linked as a flat binary without data that begins with _start. The host passes the address of a request in EAX, where
 * regparm looks for it, fills in a leaf and a subleaf, and runs the vCPU until HLT; the next run goes on behind the HLT.
 */
#include <cpuid.h>
#include <stdint.h>

struct request {
    uint32_t leaf, subleaf;
    uint32_t eax, ebx, ecx, edx;
};

__attribute__((noreturn, regparm(1))) void _start(volatile struct request *request)
{
    for (;;) {
        uint32_t eax, ebx, ecx, edx;
        __cpuid_count(request->leaf, request->subleaf, eax, ebx, ecx, edx);
        request->eax = eax;
        request->ebx = ebx;
        request->ecx = ecx;
        request->edx = edx;
        __asm__ volatile("hlt" ::: "memory");
    }
}
