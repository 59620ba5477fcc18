"""Decides which features the guest kernel has enabled, and says why.

Pure. An answer rests on what the kernel shows once it has enabled a feature, on a boot parameter, or on the conditions
of conditions.py. Source: as there, and the kernel's Documentation/admin-guide/kernel-parameters.txt.
"""

from collections.abc import Iterable, Mapping

from kvm_exporter.collector.conditions import (
    CONDITIONS,
    NOT_DECIDED,
    OF_EVERY_VERSION,
    Answer,
    Condition,
    Found,
    Kernel,
    Use,
    guest_code_ran,
    has_kvmclock,
    is_recent,
    no,
    unreadable,
)
from kvm_exporter.collector.guest import COMMAND_LINE, Evidence
from kvm_exporter.kvm.features import FEATURES, Feature, feature_named
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, Leaves

SWITCHES: Mapping[str, tuple[str, ...]] = {
    # kvmclock_init() returns before it checks any of them.
    "no-kvmclock": ("clocksource", "clocksource2", "clocksource_stable_bit"),
    # parse_no_kvmapf() clears kvmapf, which kvm_guest_cpu_init() checks before it enables any of them.
    "no-kvmapf": ("async_pf", "async_pf_vmexit", "async_pf_int"),
    # kvm_spinlock_init() returns before it replaces the native spinlocks.
    "nopvspin": ("pv_unhalt",),
    # detect_hypervisor_vendor() skips KVM: kvm_init_platform() and kvm_guest_init() are never called.
    "nopv": (*(name for name, conditions in CONDITIONS.items() if guest_code_ran in conditions), "msi_ext_dest_id"),
}
"""Boot parameters, and the features that each forbids.

``no-steal-acc`` is not among them: the kernel counts steal time in spite of it.
"""

_WITHOUT_KVM_CLOCK = {"no-kvmclock", "nopv"}
"""Switches that are not set where kvm-clock is registered."""

WORKS_WITH: Mapping[str, tuple[str, ...]] = {
    # Page-ready interrupts need both MSRs.
    "async_pf": ("async_pf_int",),
    "async_pf_vmexit": ("async_pf", "async_pf_int"),
    "async_pf_int": ("async_pf",),
    # kvm_flush_tlb_multi() and kvm_smp_send_call_func_ipi() read which vCPUs are preempted from the steal time area.
    "pv_tlb_flush": ("steal_time",),
    "pv_sched_yield": ("steal_time",),
}
"""Other features without which an enabled one stops working."""

RESTORED_IF_OFFERED = {"async_pf", "async_pf_int", "steal_time", "pv_eoi", "poll_control"}
"""Features that end with a migration to a host that does not offer them: QEMU restores their MSRs only with the bit.

Source: kvm_put_msrs() in QEMU's target/i386/kvm/kvm.c.
"""


def features_in_use(evidence: Evidence, found: Found, now: Leaves) -> dict[Feature, Use]:
    """Return for each assigned feature whether the kernel has enabled it, given the leaves at boot and ``now``.

    Without KVM the result is empty: other hypervisors have steal time, spinlocks and callback interrupts too.
    """
    if found.leaves.kvm is None:
        return {}
    kernel, off = Kernel(evidence, found), switched_off(evidence, found)
    return {feature: _at_present(feature, _decide(feature, kernel, off), kernel, now) for feature in FEATURES}


def switched_off(evidence: Evidence, found: Found) -> tuple[tuple[Feature, str], ...]:
    """Return each feature that a boot parameter forbids, with the parameter; nothing without KVM."""
    kernel = Kernel(evidence, found)
    if found.leaves.kvm is None or is_recent(kernel) is not None:
        return ()
    words = sorted(SWITCHES.keys() & (evidence.parameters or ()))
    return tuple(sorted((feature_named(name), word) for word in words for name in SWITCHES[word]))


def _decide(feature: Feature, kernel: Kernel, off: Iterable[tuple[Feature, str]]) -> Use:
    """Return the answer without regard to what is offered now; ``off`` is what switched_off() returns."""
    name, found = feature.name, kernel.found
    if (seen := _direct_evidence(name, kernel)) is not None:
        return Use(Answer.YES, seen)
    if words := [word for forbidden, word in off if forbidden == feature]:
        return no(f"boot parameter {' and '.join(words)}")
    if not kernel.was_offered(name):
        return Use(Answer.NOTHING if found.early else Answer.UNKNOWN, f"not offered {found.when}")
    if name in NOT_DECIDED:
        return NOT_DECIDED[name]
    if name not in OF_EVERY_VERSION and (old := is_recent(kernel)) is not None:
        return old
    objections = [use for condition in (*CONDITIONS[name], _parameters(name)) if (use := condition(kernel)) is not None]
    objections.sort(key=lambda use: use.answer is Answer.UNKNOWN)
    return objections[0] if objections else Use(Answer.YES, f"offered {found.when}")


def _direct_evidence(name: str, kernel: Kernel) -> str | None:
    """Return what the kernel shows once it has enabled a feature, whatever is known of its boot."""
    evidence = kernel.evidence
    # kvm_register_steal_time(): without it the column stays 0. It may also be 0 on a host without contention.
    if name == "steal_time" and evidence.steal_ticks:
        return "steal time above 0"
    # sysvec_kvm_asyncpf_interrupt() counts in HYP, as Hyper-V's callbacks do.
    only_kvm = all(signature.signature == KVM_SIGNATURE for signature in kernel.found.leaves.hypervisors)
    if name == "async_pf_int" and only_kvm and evidence.hypervisor_interrupts:
        return "page-ready interrupts arrived"
    # One of the clocks was offered at boot where kvm-clock is registered.
    neither = not kernel.was_offered("clocksource") and not kernel.was_offered("clocksource2")
    if name == "clocksource2" and neither and has_kvmclock(evidence):
        return "kvm-clock is registered"
    return None


def _parameters(name: str) -> Condition:
    """Return the condition that the command line was read, where it matters for a feature."""

    def were_read(kernel: Kernel) -> Use | None:
        matters = any(name in names for word, names in SWITCHES.items() if word not in _WITHOUT_KVM_CLOCK)
        return unreadable(COMMAND_LINE) if matters and kernel.evidence.parameters is None else None

    return were_read


def _at_present(feature: Feature, use: Use, kernel: Kernel, now: Leaves) -> Use:
    """Return the answer for an enabled feature that may not work any more; other answers stay."""
    if not use.enabled:
        return use
    others = [name for name in WORKS_WITH.get(feature.name, ()) if kernel.was_offered(name)]
    for name in (feature.name, *others):
        if name in RESTORED_IF_OFFERED and not now.offers(feature_named(name)):
            return Use(Answer.BROKEN, f"{'' if name == feature.name else f'{name} '}not offered now")
    if not now.offers(feature):
        return Use(Answer.WITHDRAWN, use.reason)
    if feature.name == "async_pf_int" and not now.offers(feature_named("async_pf")):
        return Use(use.answer, f"{use.reason}; a migration ends it, as async_pf is not offered")
    return use
