"""What a running guest does when a feature bit is lost or gained under it: the table, as data.

A guest kernel caches only KVM's base. It decides at boot on the clock, TLB flushes, IPIs, yields and locks, and
executes CPUID again when a CPU comes online or goes offline, at suspend and resume, before kexec, and when haltpoll
switches (kvm_arch_para_features() of arch/x86/kernel/kvm.c, the same in 6.1, 6.12 and 7.2). What follows from a lost
bit is mostly the VMM's doing: which MSRs it restores, and whether it has KVM enforce CPUID.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Literal, NamedTuple

Change = Literal["lost", "gained"]


class Severity(IntEnum):
    """How bad an outcome is for the guest."""

    HARMLESS = 0
    #: The kernel's documentation does not define the bit, or its effect has not been examined.
    UNKNOWN = 1
    SLOWER = 2
    TIME_DRIFTS = 3
    #: A task, a CPU or a device waits for what does not come, or a program is killed.
    STALLS = 4
    #: Memory is used by those that it was taken away from.
    CORRUPTS = 5


class Circumstance(IntEnum):
    """When an outcome comes about."""

    #: Under a VMM, or in a guest, that is out of the ordinary.
    UNUSUAL = 0
    #: When a CPU comes online, after a resume, or at kexec.
    LATER = 1
    #: It depends on what the leaves do not tell: the kernel's version, shared CPUs, what the guest waits for.
    UNTOLD = 2
    #: Under QEMU with its defaults.
    USUAL = 3


class Outcome(NamedTuple):
    """One thing that can follow from a change."""

    severity: Severity
    circumstance: Circumstance
    #: One or two sentences.
    text: str
    #: Where it is written; "shown" where a test on a real guest shows it as well.
    source: str
    #: It takes this other feature to have been offered and usable at boot; empty: any.
    offered: str = ""
    #: It takes this other feature not to have been offered at boot; empty: any.
    absent: str = ""


_ENFORCED = "Under a VMM that enforces CPUID, "
_GUEST = "Linux 7.2 arch/x86/kernel/kvm.c"
_CLOCK = "Linux 7.2 arch/x86/kernel/kvmclock.c"
_HOST = "Linux 7.2 arch/x86/kvm/x86.c"
_RESTORE = "QEMU 10.0 target/i386/kvm/kvm.c, kvm_put_msrs()"


def _harmless(text: str, source: str, offered: str = "", absent: str = "") -> Outcome:
    return Outcome(Severity.HARMLESS, Circumstance.USUAL, text, source, offered, absent)


def _enforced(severity: Severity, text: str, offered: str = "") -> Outcome:
    return Outcome(severity, Circumstance.UNUSUAL, f"{_ENFORCED}{text}", f"{_HOST}, guest_pv_has()", offered)


_FAULTS = "the kernel's write of the MSR faults when a CPU comes online."


def _of_sev_guests(text: str) -> Outcome:
    return Outcome(Severity.UNKNOWN, Circumstance.UNUSUAL, text, _GUEST)


_CLOCK_STOPS = (
    "QEMU from 10.0 on does not restore the clock's MSR without the bit: the host no longer updates the clock's page, "
    "and time drifts."
)
_SLEEPERS = (
    "The MSRs of asynchronous page faults are not restored, and with them the wake-up of all sleepers: tasks that "
    "waited for a page when the guest was paused for the move sleep for ever."
)

_WITHOUT_STEAL_TIME = "Linux does not use it without steal_time."

LOST: Mapping[str, tuple[Outcome, ...]] = {
    "clocksource": (
        Outcome(Severity.TIME_DRIFTS, Circumstance.USUAL, _CLOCK_STOPS, _RESTORE, absent="clocksource2"),
        Outcome(
            Severity.TIME_DRIFTS,
            Circumstance.UNTOLD,
            "The kernel uses clocksource2. A VMM that carries the clock over by the old MSR may not restore it.",
            f"{_CLOCK}; {_RESTORE}",
            offered="clocksource2",
        ),
        _enforced(Severity.TIME_DRIFTS, _FAULTS),
    ),
    "nop_io_delay": (_harmless("The kernel goes on without delays, which no host needs.", _GUEST),),
    "mmu_op": (_harmless("No kernel that is supported uses it.", "Linux 6.1, 6.12, 7.2"),),
    "clocksource2": (
        Outcome(Severity.TIME_DRIFTS, Circumstance.USUAL, _CLOCK_STOPS, _RESTORE),
        _enforced(Severity.TIME_DRIFTS, _FAULTS),
    ),
    "async_pf": (
        Outcome(
            Severity.STALLS,
            Circumstance.UNTOLD,
            _SLEEPERS,
            f"{_RESTORE}; {_HOST}, kvm_pv_enable_async_pf()",
            offered="async_pf_int",
        ),
        Outcome(
            Severity.STALLS,
            Circumstance.UNTOLD,
            f"Linux before 5.8 uses the bit without async_pf_int; later kernels do not. {_SLEEPERS}",
            f"{_RESTORE}; {_GUEST}",
            absent="async_pf_int",
        ),
        _enforced(Severity.STALLS, _FAULTS),
    ),
    "steal_time": (
        Outcome(
            Severity.CORRUPTS,
            Circumstance.USUAL,
            "A vCPU that was preempted when the guest was paused for the move stays marked as preempted, and "
            "pv_tlb_flush leaves it out of every flush: its programs go on using pages that were taken away. Steal "
            "time stands still.",
            f"shown; {_RESTORE}; {_GUEST}, kvm_flush_tlb_multi()",
            offered="pv_tlb_flush",
        ),
        Outcome(
            Severity.SLOWER,
            Circumstance.USUAL,
            "Steal time stands still, and the scheduler gets wrong information on which vCPUs are preempted.",
            f"{_RESTORE}; {_GUEST}",
            absent="pv_tlb_flush",
        ),
        _enforced(Severity.SLOWER, _FAULTS),
    ),
    "pv_eoi": (
        _harmless("QEMU does not restore its MSR, and the host stops using it.", _RESTORE),
        Outcome(
            Severity.CORRUPTS,
            Circumstance.UNUSUAL,
            "Under a VMM that restores MSRs whatever CPUID says, such as Firecracker, the kernel does not switch it "
            "off before kexec, and the host writes into the next kernel's memory.",
            f"{_GUEST}, kvm_guest_cpu_offline(); Firecracker msr.rs",
        ),
    ),
    "pv_unhalt": (
        Outcome(
            Severity.STALLS,
            Circumstance.UNTOLD,
            "Harmless, unless KVM cleared the bit because HLT no longer exits (QEMU's cpu-pm=on): then vCPUs that are "
            "kicked sleep until their next timer tick.",
            "Linux 7.2 arch/x86/kvm/cpuid.c",
            absent="hints_realtime",
        ),
        _harmless("With hints_realtime the kernel uses native locks, and not this.", _GUEST, offered="hints_realtime"),
        _enforced(Severity.STALLS, "kicks are lost."),
    ),
    "pv_tlb_flush": (
        _harmless("KVM goes on flushing on the guest's behalf.", f"shown; {_HOST}, record_steal_time()", "steal_time"),
        _harmless(_WITHOUT_STEAL_TIME, _GUEST, absent="steal_time"),
        _enforced(Severity.CORRUPTS, "requests to flush are dropped, and stale translations stay.", "steal_time"),
    ),
    "async_pf_vmexit": (
        _harmless("It is delivered as before.", _HOST),
        _enforced(Severity.STALLS, "KVM refuses the MSR in which it is enabled, so the VMM cannot restore it."),
    ),
    "pv_send_ipi": (
        _harmless("KVM goes on sending them.", f"shown with two CPUs; {_HOST}, kvm_emulate_hypercall()"),
        _enforced(Severity.STALLS, "interrupts to several CPUs at once are lost."),
    ),
    "poll_control": (
        _harmless("The setting stays as it is.", _HOST),
        _enforced(Severity.SLOWER, "the kernel's write of the MSR faults when haltpoll switches."),
    ),
    "pv_sched_yield": (
        _harmless("KVM goes on yielding.", _HOST, offered="steal_time"),
        _harmless(_WITHOUT_STEAL_TIME, _GUEST, absent="steal_time"),
        _enforced(Severity.SLOWER, "KVM refuses the hypercall, and the kernel ignores that.", "steal_time"),
    ),
    "async_pf_int": (
        Outcome(Severity.STALLS, Circumstance.UNTOLD, _SLEEPERS, f"{_RESTORE}; {_HOST}, kvm_pv_enable_async_pf()"),
    ),
    "msi_ext_dest_id": (
        Outcome(
            Severity.STALLS,
            Circumstance.UNTOLD,
            "Devices whose interrupts go to CPUs with an APIC ID above 254 lose them; others do not.",
            "Linux 7.2 arch/x86/kernel/apic; QEMU 10.0 target/i386",
        ),
    ),
    "hc_map_gpa_range": (
        _of_sev_guests("Only SEV guests report page encryption, and Linux decides on that by migration_control."),
    ),
    "migration_control": (_of_sev_guests("Only SEV guests use it; others only clear it when a CPU goes offline."),),
    "clocksource_stable_bit": (
        _harmless(
            "The kernel read it at boot. Whether the clock is stable stands in the clock's page.",
            f"{_CLOCK}, kvmclock_init()",
        ),
    ),
    "hints_realtime": (
        Outcome(
            Severity.STALLS,
            Circumstance.UNTOLD,
            "The kernel chose native locks, whatever else it is offered. Where vCPUs share CPUs now, it spins for "
            "locks whose holders do not run.",
            f"{_GUEST}, kvm_spinlock_init()",
        ),
    ),
}
"""By feature, what can follow where a running guest is no longer offered it. Conditions of one feature exclude each
other, those of unusual circumstances aside."""


def _unread(source: str = _GUEST) -> Outcome:
    return _harmless("The kernel does not read the bit again before its next boot.", source)


_HALTPOLL = "The kernel reads it again at resume and when haltpoll switches, which does no harm."

GAINED: Mapping[str, tuple[Outcome, ...]] = {
    "clocksource": (_unread(source=_CLOCK),),
    "nop_io_delay": (_unread(),),
    "mmu_op": (_harmless("No kernel that is supported uses it.", "Linux 6.1, 6.12, 7.2"),),
    "clocksource2": (_unread(source=_CLOCK),),
    "async_pf": (_harmless("Since Linux 5.8 it is of no use without async_pf_int.", _GUEST),),
    "steal_time": (_unread(),),
    "pv_eoi": (_harmless("A CPU that comes online later enables it, which does no harm.", _GUEST),),
    "pv_unhalt": (_unread(),),
    "pv_tlb_flush": (_unread(),),
    "async_pf_vmexit": (_harmless("A CPU that comes online later asks for it, which does no harm.", _GUEST),),
    "pv_send_ipi": (_unread(),),
    "poll_control": (_harmless(_HALTPOLL, _GUEST),),
    "pv_sched_yield": (_unread(),),
    "async_pf_int": (
        Outcome(
            Severity.STALLS,
            Circumstance.LATER,
            "A CPU that comes online later, and all CPUs after a resume, enable asynchronous page faults, for which "
            "the kernel has installed no handler: it takes the next one for a real fault.",
            f"shown up to the enabled MSR and the kernel's warning; {_GUEST}, kvm_guest_cpu_init()",
        ),
    ),
    "msi_ext_dest_id": (_unread(source="Linux 7.2 arch/x86/kernel/apic"),),
    "hc_map_gpa_range": (_harmless("Linux never reads the bit.", _GUEST),),
    "migration_control": (_of_sev_guests("Only SEV guests use it; others only clear it when a CPU goes offline."),),
    "clocksource_stable_bit": (_unread(source=_CLOCK),),
    "hints_realtime": (_harmless(_HALTPOLL, _GUEST),),
}
"""By feature, what can follow where a running guest is offered it and was not when it booted."""

UNASSIGNED: Mapping[Change, Outcome] = {
    "lost": Outcome(
        Severity.UNKNOWN,
        Circumstance.UNTOLD,
        "The mainline kernel does not define the bit; a vendor's kernel may use it.",
        "Linux 7.2 Documentation/virt/kvm/x86/cpuid.rst",
    ),
    "gained": Outcome(
        Severity.UNKNOWN,
        Circumstance.UNUSUAL,
        "The mainline kernel does not define the bit; a vendor's kernel may read it again when a CPU comes online.",
        "Linux 7.2 Documentation/virt/kvm/x86/cpuid.rst",
    ),
}
"""What can follow from a bit that is not in the table of features."""

IDENTITY = (
    "A running kernel reads KVM's leaves at the base that it found at boot. When a CPU comes online or goes offline, "
    "it takes whatever is there for feature bits."
)
"""What another base, or another signature there, does to a running guest. Source: kvm_cpuid_base() of Linux 7.2."""
