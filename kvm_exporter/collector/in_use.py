"""Which features the guest kernel has enabled: 1 and 0 each on positive evidence only, else nothing is said. Pure.

Each rule is data beside its reference. Source: the kernel's arch/x86/kernel/kvm.c, arch/x86/kernel/kvmclock.c,
drivers/cpuidle/cpuidle-haltpoll.c, Documentation/admin-guide/kernel-parameters.txt.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from kvm_exporter.collector.guest import Evidence
from kvm_exporter.kvm.features import Feature, feature_named
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, Leaves

KVM_CLOCK = "kvm-clock"


class EnablementRule(NamedTuple):
    """Evidence that a feature is enabled."""

    feature: str
    #: From the evidence, and from what was offered when the kernel booted.
    seen: Callable[[Evidence, Leaves], bool]


def _offered(boot: Leaves, name: str) -> bool:
    return boot.kvm is not None and boot.kvm.offers(feature_named(name))


def _has_kvmclock(evidence: Evidence) -> bool:
    return KVM_CLOCK in (evidence.available_clocksources or ())


def _has_page_ready_interrupts(evidence: Evidence, boot: Leaves) -> bool:
    # The line counts Hyper-V's callbacks as well, so that it says something only where KVM is alone.
    alone = all(found.signature == KVM_SIGNATURE for found in boot.hypervisors)
    return alone and bool(evidence.hypervisor_interrupts)


ENABLEMENT_RULES = (
    # kvmclock_init(): the new MSRs where they are offered, else the old ones.
    EnablementRule("clocksource2", lambda evidence, boot: _has_kvmclock(evidence) and _offered(boot, "clocksource2")),
    EnablementRule(
        "clocksource",
        lambda evidence, boot: (
            _has_kvmclock(evidence) and _offered(boot, "clocksource") and not _offered(boot, "clocksource2")
        ),
    ),
    # kvm_register_steal_time(): without it the column stays 0, as it does on a host with time to spare.
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

SWITCHES: Mapping[str, tuple[str, ...]] = {
    # kvmclock_init() returns before it looks at either bit.
    "no-kvmclock": ("clocksource", "clocksource2"),
    # parse_no_kvmapf() clears kvmapf, which kvm_guest_cpu_init() asks before it enables any of them.
    "no-kvmapf": ("async_pf", "async_pf_vmexit", "async_pf_int"),
    # kvm_spinlock_init() returns before it replaces anything.
    "nopvspin": ("pv_unhalt",),
    # detect_hypervisor_vendor() passes KVM over: kvm_init_platform() and kvm_guest_init() are never called.
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
"""Boot switches, and the features that they forbid. ``no-steal-acc`` is none: steal time is counted all the same."""


def features_in_use(evidence: Evidence, boot: Leaves) -> dict[Feature, bool]:
    """What is known to be enabled or forbidden, given what was offered when the kernel booted.

    Nothing without KVM: other hypervisors have steal time, spinlocks and callback interrupts of their own.
    """
    if boot.kvm is None:
        return {}
    # The kernel takes ``_`` and ``-`` in the name of a switch for the same.
    switches = {word.replace("_", "-") for word in evidence.command_line or ()}
    known = {feature_named(name): False for switch in SWITCHES.keys() & switches for name in SWITCHES[switch]}
    known.update({feature_named(sign.feature): True for sign in ENABLEMENT_RULES if sign.seen(evidence, boot)})
    return dict(sorted(known.items()))


def kvmclock_is_current(evidence: Evidence) -> bool | None:
    """Whether the guest's time comes from kvmclock; None if the kernel does not say."""
    return None if evidence.current_clocksource is None else evidence.current_clocksource == KVM_CLOCK
