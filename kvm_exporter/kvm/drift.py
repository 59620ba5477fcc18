"""Compares leaves and samples: lost and gained features, and changed signatures."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from kvm_exporter.kvm.features import Feature, features_of
from kvm_exporter.kvm.leaves import Kvm, Leaves
from kvm_exporter.kvm.sample import Sample

TSC_TOLERANCE = 250e-6
"""Relative difference up to which two TSC frequencies count as equal: KVM's own tolerance (tsc_tolerance_ppm of
arch/x86/kvm/x86.c), which QEMU applies to a migration as well."""

LATE_SECONDS = 600.0
"""A boot reference that was taken later after the boot than this cannot tell what the kernel found."""


class TscChange(NamedTuple):
    """The TSC frequency before and after, in kHz; None where KVM does not report one."""

    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class Difference:
    """How one feature set differs from another: features by register and bit, ascending."""

    lost: tuple[Feature, ...] = ()
    gained: tuple[Feature, ...] = ()
    #: The hypervisor bit, a signature or a base differs: KVM may be gone, new or at another base.
    identity: bool = False
    #: The TSC frequency differs by more than TSC_TOLERANCE, or is known of one side only.
    tsc: TscChange | None = None

    def __bool__(self) -> bool:
        return bool(self.lost or self.gained or self.identity or self.tsc)

    @property
    def tsc_changed(self) -> bool:
        """Whether both frequencies are known and differ."""
        return self.tsc is not None and None not in self.tsc


def difference(before: Leaves, after: Leaves, tsc_khz: tuple[int | None, int | None] = (None, None)) -> Difference:
    """The difference between two feature sets; without KVM the feature set is empty.

    Not compared are the highest leaf, leaf 1 but for its hypervisor bit, and the frequency of the APIC bus: no guest
    kernel depends on them once it runs. ``tsc_khz`` has the TSC frequencies before and after: they belong to a machine,
    not to a CPU, and are left out where CPUs of one sample are compared.
    """
    old, new = before.kvm or _NO_KVM, after.kvm or _NO_KVM
    both = before.kvm is not None and after.kvm is not None
    return Difference(
        lost=tuple(features_set(old.eax & ~new.eax, old.edx & ~new.edx)),
        gained=tuple(features_set(new.eax & ~old.eax, new.edx & ~old.edx)),
        identity=(before.hypervisor_bit, before.hypervisors) != (after.hypervisor_bit, after.hypervisors),
        tsc=_tsc_change(*tsc_khz) if both else None,
    )


def difference_of_samples(earlier: Sample, later: Sample) -> Difference:
    """The difference between two samples of a machine: of the common leaves, and of the TSC frequency."""
    return difference(earlier.common, later.common, (earlier.tsc_khz, later.tsc_khz))


def same_frequency(before: int, after: int) -> bool:
    """Whether two frequencies of a TSC count as equal."""
    return abs(after - before) <= before * TSC_TOLERANCE


def _tsc_change(before: int | None, after: int | None) -> TscChange | None:
    same = before == after or (before and after and same_frequency(before, after))
    return None if same else TscChange(before, after)


_NO_KVM = Kvm(0, 0, 0)


def features_set(eax: int, edx: int) -> tuple[Feature, ...]:
    """Return the features whose bits are set in EAX and EDX, ordered by register and bit."""
    words = Kvm(0, eax, edx)
    return tuple(feature for feature in features_of(eax, edx) if words.offers(feature))


def agree(earlier: Sample, later: Sample) -> bool:
    """Return whether common leaves and TSC frequency are equal, and the leaves of each CPU that both have sampled."""
    both = earlier.sampled.keys() & later.sampled.keys()
    same = all(earlier.sampled[cpu] == later.sampled[cpu] for cpu in both)
    return same and not difference_of_samples(earlier, later)


def changes(earlier: Sample, later: Sample) -> Mapping[Difference, tuple[int, ...]]:
    """Return the differences between two samples, each with the CPUs that have it, ascending.

    The CPUs are those that both samples read. The TSC frequency is the machine's: its change is on no CPU, as is the
    difference of the common leaves if those CPUs agree.
    """
    pairs: dict[tuple[Leaves, Leaves], list[int]] = {}
    for cpu in sorted(earlier.sampled.keys() & later.sampled.keys()):
        before, after = earlier.sampled[cpu], later.sampled[cpu]
        if before != after:
            pairs.setdefault((before, after), []).append(cpu)
    found: dict[Difference, tuple[int, ...]] = {}
    for (before, after), cpus in pairs.items():
        change = difference(before, after)
        found[change] = tuple(sorted((*found.get(change, ()), *cpus)))
    common = difference_of_samples(earlier, later)
    if found and common.tsc is not None:
        found[Difference(tsc=common.tsc)] = ()
    elif not found and common:
        found[common] = ()
    return found
