"""The requests and structures of /dev/kvm that tests use, as bytes on 64-bit x86.

Source: the kernel's include/uapi/linux/kvm.h and arch/x86/include/uapi/asm/kvm.h.
"""

import struct
from enum import IntEnum


class Request(IntEnum):
    """What ioctl() asks of the device, of a virtual machine or of a vCPU."""

    KVM_CREATE_VM = 0xAE01
    KVM_GET_VCPU_MMAP_SIZE = 0xAE04
    KVM_GET_SUPPORTED_CPUID = 0xC008_AE05
    KVM_CREATE_VCPU = 0xAE41
    KVM_SET_USER_MEMORY_REGION = 0x4020_AE46
    KVM_SET_TSS_ADDR = 0xAE47
    KVM_RUN = 0xAE80
    KVM_SET_REGS = 0x4090_AE82
    KVM_GET_SREGS = 0x8138_AE83
    KVM_SET_SREGS = 0x4138_AE84
    KVM_SET_CPUID2 = 0x4008_AE90


CPUID2 = struct.Struct("<I4x")
"""kvm_cpuid2: the number of the entries that follow."""

CPUID_ENTRY = struct.Struct("<7I12x")
"""kvm_cpuid_entry2: function (the leaf), index (the subleaf), flags, EAX, EBX, ECX, EDX."""

CPUID_ENTRIES_MAX = 256

SIGNIFICANT_INDEX = 1
"""Flag of an entry: without it, the entry answers every subleaf."""

REGS = struct.Struct("<18Q")
"""kvm_regs: RAX, RBX, RCX, RDX, RSI, RDI, RSP, RBP, R8 to R15, RIP, RFLAGS."""

SREGS_SIZE, SREGS_CR0 = 312, 224
"""kvm_sregs begins with the segments CS, DS, ES, FS, GS, SS."""

SEGMENT = struct.Struct("<QIH8B2x")
"""kvm_segment: base, limit, selector, type, present, DPL, DB, S, L, G, AVL."""

MEMORY_REGION = struct.Struct("<IIQQQ")
"""kvm_userspace_memory_region: slot, flags, the guest's address, size, our address."""

EXIT_REASON = struct.Struct("<8xI")
"""The beginning of kvm_run."""

EXIT_HLT = 5
