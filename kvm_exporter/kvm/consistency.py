"""Feature sets that contradict themselves, or that offer what Linux does not use, judged by the feature leaf alone.

What depends on the guest as well, such as poll_control without the driver haltpoll, is no rule here. The sources are
Linux 6.1, 6.12 and 7.2, and QEMU 10.0.
"""

from dataclasses import dataclass

from kvm_exporter.kvm.effects import Weight
from kvm_exporter.kvm.features import Feature, feature_named
from kvm_exporter.kvm.leaves import Leaves


@dataclass(frozen=True, slots=True)
class Rule:
    """Features that are useless or dangerous, either without others or beside another one.

    The rule is broken by those of ``features`` that are offered, if none of ``without`` is and all of ``beside`` are.
    """

    name: str
    #: What it means for a running guest that is to move, even to an identical host.
    weight: Weight
    features: tuple[Feature, ...]
    follows: str
    action: str
    #: Where the code says so.
    source: str
    without: tuple[Feature, ...] = ()
    beside: tuple[Feature, ...] = ()

    @property
    def contradiction(self) -> bool:
        """Whether a running guest may be in danger; otherwise a feature is merely unused."""
        return self.weight is not Weight.HARMLESS

    def broken_by(self, leaves: Leaves) -> tuple[Feature, ...]:
        """Return the features that break the rule on a CPU; ``()`` if it is kept."""
        if any(map(leaves.offers, self.without)) or not all(map(leaves.offers, self.beside)):
            return ()
        return tuple(filter(leaves.offers, self.features))


def _features(*names: str) -> tuple[Feature, ...]:
    return tuple(map(feature_named, names))


_NOTHING = "Nothing, if the machine booted like this; "

RULES = (
    Rule(
        "async_pf_int_without_async_pf",
        weight=Weight.INCOMPATIBLE,
        features=_features("async_pf_int"),
        without=_features("async_pf"),
        follows="Linux enables asynchronous page faults on bit 14 alone, and QEMU restores their MSR 0x4b564d02 only "
        "with bit 4: after a migration, even to an identical host, tasks that wait for a page may sleep for ever.",
        action="Set kvm-asyncpf=on or kvm-asyncpf-int=off in QEMU, stop the machine and start it again; "
        "do not migrate it before.",
        source="Linux arch/x86/kernel/kvm.c, kvm_guest_cpu_init(), and arch/x86/kvm/x86.c, kvm_pv_enable_async_pf(); "
        "QEMU target/i386/kvm/kvm.c, kvm_put_msrs()",
    ),
    Rule(
        "async_pf_without_async_pf_int",
        weight=Weight.HARMLESS,
        features=_features("async_pf"),
        without=_features("async_pf_int"),
        follows="Linux from 5.10 on has asynchronous page faults only with bit 14. QEMU's default features lack it.",
        action=f"{_NOTHING}to have asynchronous page faults, set kvm-asyncpf-int=on in QEMU.",
        source="Linux arch/x86/kernel/kvm.c, kvm_guest_cpu_init(); QEMU docs/system/i386/kvm-pv.rst",
    ),
    Rule(
        "async_pf_vmexit_without_async_pf_int",
        weight=Weight.HARMLESS,
        features=_features("async_pf_vmexit"),
        without=_features("async_pf_int"),
        follows="Linux from 5.10 on reads the bit only where it enables asynchronous page faults, which needs bit 14.",
        action=f"{_NOTHING}to have asynchronous page faults, set kvm-asyncpf-int=on in QEMU.",
        source="Linux arch/x86/kernel/kvm.c, kvm_guest_cpu_init()",
    ),
    Rule(
        "preemption_without_steal_time",
        weight=Weight.HARMLESS,
        features=_features("pv_tlb_flush", "pv_sched_yield"),
        without=_features("steal_time"),
        follows="Linux uses pv_tlb_flush and pv_sched_yield only if it boots with steal_time, which shows preempted "
        "vCPUs. If it lost steal_time since, it goes on using them, and may read memory that was taken away.",
        action=f"{_NOTHING}to have them used, set kvm-steal-time=on in QEMU, which TDX guests cannot have.",
        source="Linux arch/x86/kernel/kvm.c, pv_tlb_flush_supported() and pv_sched_yield_supported()",
    ),
    Rule(
        "preemption_beside_hint",
        weight=Weight.HARMLESS,
        features=_features("pv_unhalt", "pv_tlb_flush", "pv_sched_yield"),
        beside=_features("hints_realtime"),
        follows="Linux uses pv_unhalt, pv_tlb_flush and pv_sched_yield only if it boots without the hint, which says "
        "that vCPUs are never preempted.",
        action="Nothing, if each vCPU has a physical CPU for itself; otherwise set kvm-hint-dedicated=off in QEMU.",
        source="Linux arch/x86/kernel/kvm.c, kvm_spinlock_init(), pv_tlb_flush_supported(), pv_sched_yield_supported()",
    ),
    Rule(
        "stable_bit_without_clock",
        weight=Weight.HARMLESS,
        features=_features("clocksource_stable_bit"),
        without=_features("clocksource", "clocksource2"),
        follows="The bit describes kvmclock, which is not offered.",
        action=f"{_NOTHING}to have kvmclock, set kvmclock=on in QEMU.",
        source="Linux arch/x86/kernel/kvmclock.c, kvmclock_init()",
    ),
    Rule(
        "migration_control_without_map_gpa_range",
        weight=Weight.WARNING,
        features=_features("migration_control"),
        without=_features("hc_map_gpa_range"),
        follows="An SEV guest with Linux allows its migration on bit 17 alone, and reports its shared pages with the "
        "hypercall of bit 16: a host without that hypercall may migrate them wrongly. Other guests use neither bit.",
        action="Ask the vendor of the VMM to offer both or neither; QEMU has a property for neither.",
        source="Linux arch/x86/kernel/kvm.c, kvm_init_platform(), and Documentation/virt/kvm/x86/cpuid.rst",
    ),
)


@dataclass(frozen=True, slots=True)
class Inconsistency:
    """A rule, and the features that break it: at least one."""

    rule: Rule
    features: tuple[Feature, ...]

    @property
    def words(self) -> str:
        """The features with their positions, such as ``async_pf (eax bit 4) without async_pf_int (eax bit 14)``."""
        without, beside = self.rule.without, self.rule.beside
        others = f"without {_listed(without, 'or')}" if without else f"beside {_listed(beside, 'and')}"
        return f"{_listed(self.features, 'and')} {others}"


def _listed(features: tuple[Feature, ...], conjunction: str) -> str:
    *names, last = (feature.title for feature in features)
    return f"{', '.join(names)} {conjunction} {last}" if names else last


def inconsistencies(leaves: Leaves) -> tuple[Inconsistency, ...]:
    """Return what is inconsistent in the leaves that a guest booted with, in the order of RULES.

    Of leaves that changed since the boot, *unused* would be wrong: a kernel goes on using what it found.
    """
    found = ((rule, rule.broken_by(leaves)) for rule in RULES)
    return tuple(Inconsistency(rule, features) for rule, features in found if features)
