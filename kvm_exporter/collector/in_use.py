"""Decides from evidence which features the guest kernel uses: enabled, forbidden by a boot parameter, or unknown.

Enabled and forbidden both need positive evidence. The comment at each rule names the kernel's function.
Source: the kernel's arch/x86/kernel/kvm.c, arch/x86/kernel/kvmclock.c,
drivers/cpuidle/cpuidle-haltpoll.c, Documentation/admin-guide/kernel-parameters.txt.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from kvm_exporter.collector.guest import Evidence
from kvm_exporter.kvm.features import Feature, feature_named
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, Leaves

KVM_CLOCK = "kvm-clock"


class EnablementRule(NamedTuple):
    """A feature, and the evidence that the guest kernel has enabled it."""

    feature: str
    #: Takes the evidence and the leaves at boot; True if the kernel has enabled the feature, else unknown.
    is_enabled: Callable[[Evidence, Leaves], bool]


def _offered(boot: Leaves, name: str) -> bool:
    return boot.kvm is not None and boot.kvm.offers(feature_named(name))


def _has_kvmclock(evidence: Evidence) -> bool:
    return KVM_CLOCK in (evidence.available_clocksources or ())


def _has_page_ready_interrupts(evidence: Evidence, boot: Leaves) -> bool:
    # The line counts Hyper-V's callbacks as well, so it is evidence only if KVM is the only hypervisor.
    only_kvm = all(found.signature == KVM_SIGNATURE for found in boot.hypervisors)
    return only_kvm and bool(evidence.hypervisor_interrupts)


ENABLEMENT_RULES = (
    # kvmclock_init(): the new MSRs where they are offered, else the old ones.
    # One of them was offered at boot where kvm-clock is registered: if neither is in the reference, it was taken late.
    EnablementRule(
        "clocksource2",
        lambda evidence, boot: (
            _has_kvmclock(evidence) and (_offered(boot, "clocksource2") or not _offered(boot, "clocksource"))
        ),
    ),
    EnablementRule(
        "clocksource",
        lambda evidence, boot: (
            _has_kvmclock(evidence) and _offered(boot, "clocksource") and not _offered(boot, "clocksource2")
        ),
    ),
    # kvm_register_steal_time(): without it the column stays 0. It may also be 0 on a host without contention.
    EnablementRule("steal_time", lambda evidence, _: bool(evidence.steal_ticks)),
    # sysvec_kvm_asyncpf_interrupt() counts in HYP; kvm_guest_cpu_init() enables both together.
    EnablementRule("async_pf_int", _has_page_ready_interrupts),
    EnablementRule(
        "async_pf", lambda evidence, boot: _has_page_ready_interrupts(evidence, boot) and _offered(boot, "async_pf")
    ),
    # paravirt_set_cap() shows the flag once kvm_spinlock_init() has replaced the native unlock.
    EnablementRule("pv_unhalt", lambda evidence, _: "pvunlock" in (evidence.cpu_flags or ())),
    # arch_haltpoll_enable() writes MSR 0x4b564d05 if the bit is there; the driver can be forced without it.
    EnablementRule(
        "poll_control",
        lambda evidence, boot: evidence.cpuidle_driver == "haltpoll" and _offered(boot, "poll_control"),
    ),
)

FORBIDDING_PARAMETERS: Mapping[str, tuple[str, ...]] = {
    # kvmclock_init() returns before it checks either bit.
    "no-kvmclock": ("clocksource", "clocksource2"),
    # parse_no_kvmapf() clears kvmapf, which kvm_guest_cpu_init() checks before it enables any of them.
    "no-kvmapf": ("async_pf", "async_pf_vmexit", "async_pf_int"),
    # kvm_spinlock_init() returns before it replaces the native spinlocks.
    "nopvspin": ("pv_unhalt",),
    # detect_hypervisor_vendor() skips KVM: kvm_init_platform() and kvm_guest_init() are never called.
    "nopv": (
        "clocksource",
        "nop_io_delay",
        "clocksource2",
        "async_pf",
        "steal_time",
        "pv_eoi",
        "pv_unhalt",
        "pv_tlb_flush",
        "async_pf_vmexit",
        "pv_send_ipi",
        "pv_sched_yield",
        "async_pf_int",
    ),
}
"""Boot parameters, and the features that each forbids.

``no-steal-acc`` is not among them: the kernel counts steal time in spite of it.
"""


def features_in_use(evidence: Evidence, boot: Leaves) -> dict[Feature, bool]:
    """Return the features known to be enabled (True) or forbidden (False), given the leaves at boot.

    Without KVM the result is empty: other hypervisors have steal time, spinlocks and callback interrupts too.
    """
    if boot.kvm is None:
        return {}
    # The kernel treats ``_`` and ``-`` in the name of a parameter as equal.
    parameters = {word.replace("_", "-") for word in evidence.command_line or ()}
    known = {
        feature_named(name): False
        for word in FORBIDDING_PARAMETERS.keys() & parameters
        for name in FORBIDDING_PARAMETERS[word]
    }
    known.update({feature_named(rule.feature): True for rule in ENABLEMENT_RULES if rule.is_enabled(evidence, boot)})
    return dict(sorted(known.items()))


def kvmclock_is_current(evidence: Evidence) -> bool | None:
    """Return whether the current clocksource is kvm-clock; None if it could not be read."""
    return None if evidence.current_clocksource is None else evidence.current_clocksource == KVM_CLOCK
