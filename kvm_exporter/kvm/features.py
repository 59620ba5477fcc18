"""The feature bits of KVM's leaf ``base + 1`` as data, with placeholder names for the unassigned bits.

Source: the kernel's Documentation/virt/kvm/x86/cpuid.rst and arch/x86/include/uapi/asm/kvm_para.h; the properties are
those of QEMU's target/i386/cpu.c.
"""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Literal, NamedTuple

Register = Literal["eax", "edx"]


class Feature(NamedTuple):
    """One bit of the feature leaf: its register and position, its names, and its meaning to the guest."""

    register: Register
    bit: int
    #: The kernel's name in lower case, without KVM_FEATURE_ or KVM_.
    name: str
    #: The property of QEMU's ``-cpu`` that masks the bit; empty where QEMU has none.
    qemu: str
    meaning: str
    #: KVM never reports the bit as supported; the virtual machine monitor (VMM), such as QEMU, sets it.
    vmm_only: bool = False

    @property
    def mask(self) -> int:
        """The register's value with only this bit set: ``1 << bit``."""
        return 1 << self.bit

    @property
    def title(self) -> str:
        """The name with its position: ``steal_time (eax bit 5)``."""
        return f"{self.name} ({self.register} bit {self.bit})"


FEATURES = (
    Feature("eax", 0, "clocksource", "kvmclock", "kvmclock at the old MSRs 0x11 and 0x12"),
    Feature("eax", 1, "nop_io_delay", "kvm-nopiodelay", "port I/O needs no delays"),
    Feature("eax", 2, "mmu_op", "kvm-mmu", "paravirtual MMU operations (deprecated)"),
    Feature("eax", 3, "clocksource2", "kvmclock", "kvmclock at the MSRs 0x4b564d00 and 0x4b564d01"),
    Feature("eax", 4, "async_pf", "kvm-asyncpf", "asynchronous page faults can be enabled"),
    Feature("eax", 5, "steal_time", "kvm-steal-time", "steal time can be enabled"),
    Feature("eax", 6, "pv_eoi", "kvm-pv-eoi", "paravirtual end of interrupt"),
    Feature("eax", 7, "pv_unhalt", "kvm-pv-unhalt", "paravirtual spinlocks: a halted vCPU can be kicked"),
    Feature("eax", 9, "pv_tlb_flush", "kvm-pv-tlb-flush", "paravirtual TLB flush"),
    Feature("eax", 10, "async_pf_vmexit", "kvm-asyncpf-vmexit", "an asynchronous page fault arrives as a VM exit"),
    Feature("eax", 11, "pv_send_ipi", "kvm-pv-ipi", "paravirtual interrupts between vCPUs"),
    Feature("eax", 12, "poll_control", "kvm-poll-control", "the guest can stop the host from polling on HLT"),
    Feature("eax", 13, "pv_sched_yield", "kvm-pv-sched-yield", "a vCPU can yield to the target of its interrupt"),
    Feature("eax", 14, "async_pf_int", "kvm-asyncpf-int", "an asynchronous 'page ready' arrives as an interrupt"),
    Feature("eax", 15, "msi_ext_dest_id", "kvm-msi-ext-dest-id", "15-bit destination in MSI addresses", vmm_only=True),
    Feature(
        "eax",
        16,
        "hc_map_gpa_range",
        "",
        "the guest can report page encryption changes to the host (KVM_HC_MAP_GPA_RANGE)",
        vmm_only=True,
    ),
    Feature("eax", 17, "migration_control", "", "the guest can allow or forbid its live migration", vmm_only=True),
    Feature("eax", 24, "clocksource_stable_bit", "kvmclock-stable-bit", "a flag of kvmclock says if it is stable"),
    Feature("edx", 0, "hints_realtime", "kvm-hint-dedicated", "vCPUs are never preempted", vmm_only=True),
)

_ASSIGNED = {(feature.register, feature.bit): feature for feature in FEATURES}


def feature_at(register: Register, bit: int) -> Feature:
    """Return the feature of one bit, 0 to 31. An unassigned bit is named by its position, such as ``eax_bit_18``."""
    assigned = _ASSIGNED.get((register, bit))
    return assigned or Feature(register, bit, f"{register}_bit_{bit}", "", "not assigned by the mainline kernel")


def features_of(eax: int, edx: int) -> Iterator[Feature]:
    """Yield each assigned feature, and each unassigned bit that is set in EAX or EDX, by register and bit."""
    words: tuple[tuple[Register, int], ...] = (("eax", eax), ("edx", edx))
    for register, word in words:
        for bit in range(32):
            if (register, bit) in _ASSIGNED or word >> bit & 1:
                yield feature_at(register, bit)


def feature_named(name: str) -> Feature:
    """Return the feature with the kernel's name, or at a position such as ``eax_bit_18``.

    A position stays valid after the kernel assigns the bit. Raises ValueError, which suggests the closest name.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    if position := _POSITION.fullmatch(name):
        return feature_at("eax" if position[1] == "eax" else "edx", int(position[2]))
    close = get_close_matches(name, _BY_NAME, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known features: {', '.join(_BY_NAME)}, eax_bit_N and edx_bit_N"
    raise ValueError(f"unknown feature {name!r}; {hint}")


_BY_NAME = {feature.name: feature for feature in FEATURES}
_POSITION = re.compile(r"(eax|edx)_bit_([12]?[0-9]|3[01])")
