"""The conditions by which the guest kernel enables each feature, and the answers that they give.

Pure. The docstring of a condition names the kernel's functions that apply it. They are the same in Linux 6.1, 6.12 and
7.2. Source: the kernel's arch/x86/kernel/kvm.c, arch/x86/kernel/kvmclock.c, drivers/cpuidle/cpuidle-haltpoll.c.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import NamedTuple

from kvm_exporter.collector.guest import (
    AVAILABLE_CLOCKSOURCES,
    CONFIGURATION,
    CPU_INFO,
    CPUIDLE_DRIVER,
    POSSIBLE_CPUS,
    RELEASE,
    Evidence,
    configuration_in_boot,
)
from kvm_exporter.kvm.features import feature_named
from kvm_exporter.kvm.leaves import Leaves

KVM_CLOCK = "kvm-clock"


class Answer(StrEnum):
    """Whether the guest kernel has enabled a feature, as people read it."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "?"
    #: There is nothing to enable.
    NOTHING = "-"
    #: The hypervisor no longer offers the feature; what it does for the guest may go on.
    WITHDRAWN = "enabled, not offered any more"
    BROKEN = "enabled, does not work any more"


class Use(NamedTuple):
    """Whether the guest kernel has enabled a feature, and how that is known."""

    answer: Answer
    reason: str

    @property
    def enabled(self) -> bool | None:
        """Whether the kernel has enabled it, whether or not it still works; None if unknown, or nothing to enable."""
        if self.answer in {Answer.YES, Answer.WITHDRAWN, Answer.BROKEN}:
            return True
        return False if self.answer is Answer.NO else None

    @property
    def explanation(self) -> str:
        """The reason, after the answer if that says more than ``enabled`` does."""
        return f"{self.answer}: {self.reason}" if self.answer in {Answer.WITHDRAWN, Answer.BROKEN} else self.reason


class Found(NamedTuple):
    """The leaves that stand for those that the kernel found at boot."""

    leaves: Leaves
    #: When they were read, in words: ``at boot``.
    when: str = "at boot"
    #: Whether that was early enough to know what was not offered at boot.
    early: bool = True


class Kernel(NamedTuple):
    """A guest kernel: its evidence, and what it found at boot."""

    evidence: Evidence
    found: Found

    def was_offered(self, name: str) -> bool:
        """Return whether KVM offered the feature."""
        return self.found.leaves.offers(feature_named(name))


Condition = Callable[[Kernel], Use | None]
"""Returns None if it is met, else the answer NO or UNKNOWN."""


def no(reason: str) -> Use:
    """Return the answer that the kernel has not enabled a feature."""
    return Use(Answer.NO, reason)


def _unknown(reason: str) -> Use:
    return Use(Answer.UNKNOWN, reason)


def unreadable(*names: str) -> Use:
    """Return the answer where files could not be read, by their names under the root."""
    return _unknown(f"cannot read {' or '.join(f'/{name}' for name in names)}")


def is_recent(kernel: Kernel) -> Use | None:
    """Linux 5.8 stopped using async_pf without async_pf_int, and 5.9 added nopvspin."""
    if (version := kernel.evidence.version) is None:
        return unreadable(RELEASE)
    return _unknown("only known from Linux 5.10 on") if version < (5, 10) else None


def guest_code_ran(kernel: Kernel) -> Use | None:
    """KVM's guest code ran: kvm_init_platform() registers kvm-clock, and then kvm_guest_init() runs as well."""
    if kernel.evidence.available_clocksources is None:
        return unreadable(AVAILABLE_CLOCKSOURCES)
    return None if has_kvmclock(kernel.evidence) else _unknown("kvm-clock is not registered")


def has_kvmclock(evidence: Evidence) -> bool:
    """Return whether kvm-clock is known to be registered."""
    return KVM_CLOCK in (evidence.available_clocksources or ())


def _no_at_boot(kernel: Kernel, reason: str) -> Use:
    """Return NO for a reason that rests on the leaves at boot; UNKNOWN if those were read too late to tell."""
    return no(reason) if kernel.found.early else _unknown(reason)


def _has_no_newer_clock(kernel: Kernel) -> Use | None:
    """kvmclock_init() uses the old MSRs only without the new ones."""
    return _no_at_boot(kernel, "clocksource2 is used instead") if kernel.was_offered("clocksource2") else None


def _needs(name: str) -> Condition:
    """Return the condition that another feature was offered."""

    def was_offered(kernel: Kernel) -> Use | None:
        reason = f"needs {name}, not offered {kernel.found.when}"
        return None if kernel.was_offered(name) else _no_at_boot(kernel, reason)

    return was_offered


def _shares_its_cpus(kernel: Kernel) -> Use | None:
    """kvm_spinlock_init(), pv_tlb_flush_supported(), pv_sched_yield_supported()."""
    name = "hints_realtime"
    return _no_at_boot(kernel, f"{name} set {kernel.found.when}") if kernel.was_offered(name) else None


def _has_several_cpus(kernel: Kernel) -> Use | None:
    """kvm_spinlock_init(); since Linux 5.18 pv_tlb_flush_supported() and its like for IPIs and yielding."""
    if kernel.evidence.possible_cpus is None:
        return unreadable(POSSIBLE_CPUS)
    return no("one possible CPU") if kernel.evidence.possible_cpus == 1 else None


def _cannot_monitor(kernel: Kernel) -> Use | None:
    """pv_tlb_flush_supported(), pv_sched_yield_supported(): /proc/cpuinfo calls X86_FEATURE_MWAIT so."""
    if kernel.evidence.cpu_flags is None:
        return unreadable(CPU_INFO)
    return no("CPU flag monitor") if "monitor" in kernel.evidence.cpu_flags else None


def _from_6_1(condition: Condition) -> Condition:
    """Return a condition that Linux 5.18 added: what an older one does is not verified."""

    def applied(kernel: Kernel) -> Use | None:
        objection, version = condition(kernel), kernel.evidence.version
        if objection is not None and objection.answer is Answer.NO and version is not None and version < (6, 1):
            return _unknown(f"{objection.reason}: only known from Linux 6.1 on")
        return objection

    return applied


def _has_pv_spinlocks(kernel: Kernel) -> Use | None:
    """kvm_spinlock_init() is empty without CONFIG_PARAVIRT_SPINLOCKS."""
    evidence = kernel.evidence
    if evidence.has_pv_spinlocks is None:
        names = (configuration_in_boot(evidence.release),) if evidence.release is not None else ()
        return unreadable(*names, CONFIGURATION)
    return None if evidence.has_pv_spinlocks else no("built without CONFIG_PARAVIRT_SPINLOCKS")


def _has_haltpoll(kernel: Kernel) -> Use | None:
    """The driver alone calls arch_haltpoll_enable(), which writes MSR 0x4b564d05."""
    if kernel.evidence.cpuidle_driver is None:
        return unreadable(CPUIDLE_DRIVER)
    return None if kernel.evidence.cpuidle_driver == "haltpoll" else no("haltpoll not loaded")


def _has_no_user(_: Kernel) -> Use | None:
    return no("Linux has no code for it")


_MAY_BE_PREEMPTED = (
    _needs("steal_time"),
    _shares_its_cpus,
    _from_6_1(_has_several_cpus),
    _from_6_1(_cannot_monitor),
)
"""pv_tlb_flush_supported(), pv_sched_yield_supported()."""

CONDITIONS: Mapping[str, tuple[Condition, ...]] = {
    # kvmclock_init().
    "clocksource": (guest_code_ran, _has_no_newer_clock),
    "clocksource2": (guest_code_ran,),
    "clocksource_stable_bit": (guest_code_ran,),
    # paravirt_ops_setup().
    "nop_io_delay": (guest_code_ran,),
    "mmu_op": (_has_no_user,),
    # kvm_guest_cpu_init().
    "async_pf": (guest_code_ran, _needs("async_pf_int")),
    "async_pf_vmexit": (guest_code_ran, _needs("async_pf_int")),
    "async_pf_int": (guest_code_ran,),
    "pv_eoi": (guest_code_ran,),
    # kvm_guest_init().
    "steal_time": (guest_code_ran,),
    "pv_tlb_flush": (guest_code_ran, *_MAY_BE_PREEMPTED),
    "pv_sched_yield": (guest_code_ran, *_MAY_BE_PREEMPTED),
    # kvm_apic_init().
    "pv_send_ipi": (guest_code_ran, _from_6_1(_has_several_cpus)),
    "pv_unhalt": (guest_code_ran, _shares_its_cpus, _has_several_cpus, _has_pv_spinlocks),
    "poll_control": (_has_haltpoll,),
}
"""What has to be met for the kernel to enable a feature that was offered at boot, beside the boot parameters."""

OF_EVERY_VERSION = {"clocksource", "clocksource2", "clocksource_stable_bit", "poll_control"}
"""Features whose conditions are older than Linux 5.10."""

NOT_DECIDED = {
    "msi_ext_dest_id": _unknown("the kernel does not show it"),
    "hc_map_gpa_range": _unknown("only for encrypted guests"),
    "migration_control": _unknown("only for encrypted guests"),
    "hints_realtime": Use(Answer.NOTHING, "a hint, not a feature"),
}
"""The answer where there are no conditions, if the feature was offered."""
