"""Compares leaves and samples: lost and gained features, changed signatures, and whether a guest may migrate."""

from collections.abc import Mapping
from dataclasses import dataclass

from kvm_exporter.kvm.features import Feature, features_of
from kvm_exporter.kvm.leaves import Kvm, Leaves
from kvm_exporter.kvm.sample import Sample


@dataclass(frozen=True, slots=True)
class Difference:
    """How one CPU's leaves differ from another's, or from earlier ones. Features are ordered by register and bit."""

    lost: tuple[Feature, ...] = ()
    gained: tuple[Feature, ...] = ()
    #: The hypervisor bit, a signature or a base differs: KVM may have appeared, disappeared or moved to another base.
    identity: bool = False
    #: The TSC or bus frequency of leaf base + 0x10 differs. This alone does not make the difference true.
    timing: bool = False

    def __bool__(self) -> bool:
        return bool(self.lost or self.gained or self.identity)

    @property
    def serious(self) -> bool:
        """Whether a running guest kernel may be affected: it lost a feature, or the leaves are not where it found them.

        A gained feature is harmless: the kernel starts to use it at the next boot.
        """
        return bool(self.lost or self.identity)


def difference(before: Leaves, after: Leaves) -> Difference:
    """Return what changes for a guest that moves from ``before`` to ``after``. Without KVM, no feature is offered."""
    old, new = before.kvm or _NO_KVM, after.kvm or _NO_KVM
    return Difference(
        lost=tuple(features_set(old.eax & ~new.eax, old.edx & ~new.edx)),
        gained=tuple(features_set(new.eax & ~old.eax, new.edx & ~old.edx)),
        identity=(before.hypervisor_bit, before.hypervisors) != (after.hypervisor_bit, after.hypervisors),
        timing=old.timing != new.timing,
    )


_NO_KVM = Kvm(0, 0, 0)


def features_set(eax: int, edx: int) -> tuple[Feature, ...]:
    """Return the features whose bits are set in EAX and EDX, ordered by register and bit."""
    words = Kvm(0, eax, edx)
    return tuple(feature for feature in features_of(eax, edx) if words.offers(feature))


def compatible(source: Leaves, target: Leaves) -> bool:
    """Return whether a running guest may migrate: it loses no feature, and finds each signature at the same base.

    The features are compared as Cloud Hypervisor does before a migration: the bits that are set at the source must be
    a subset of those at the target.
    """
    return not difference(source, target).serious


def may_move(source: Sample, target: Sample) -> bool:
    """Return whether a guest may migrate from one machine to any CPU of another."""
    return all(compatible(source.common, leaves) for leaves in (target.common, *target.known.values()))


def agree(earlier: Sample, later: Sample) -> bool:
    """Return whether the common leaves are equal, and those of each CPU that both samples have sampled."""
    both = earlier.sampled.keys() & later.sampled.keys()
    return earlier.common == later.common and all(earlier.sampled[cpu] == later.sampled[cpu] for cpu in both)


def changes(earlier: Sample, later: Sample) -> Mapping[Difference, tuple[int, ...]]:
    """Return the differences between two samples, each with the CPUs that have it, ascending.

    Only CPUs that both samples have sampled are compared. If all of those are equal, the result has the difference of
    the common leaves, if there is one, with an empty tuple of CPUs.
    """
    both = sorted(earlier.sampled.keys() & later.sampled.keys())
    found: dict[Difference, tuple[int, ...]] = {}
    for cpu in both:
        if change := difference(earlier.sampled[cpu], later.sampled[cpu]):
            found[change] = (*found.get(change, ()), cpu)
    if not found and (change := difference(earlier.common, later.common)):
        found[change] = ()
    return found
