"""Comparisons of leaves and samples, and the fingerprint. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from kvm_exporter.kvm.features import Feature, features_of
from kvm_exporter.kvm.leaves import Kvm, Leaves
from kvm_exporter.kvm.sample import Sample


@dataclass(frozen=True, slots=True)
class Difference:
    """What became of an offer: features by register and bit, ascending."""

    lost: tuple[Feature, ...] = ()
    gained: tuple[Feature, ...] = ()
    #: The hypervisor bit, a signature or a base is another: KVM may have gone, come or moved.
    identity: bool = False
    #: The frequencies of leaf base + 0x10 are others.
    timing: bool = False

    def __bool__(self) -> bool:
        return bool(self.lost or self.gained or self.identity)

    @property
    def serious(self) -> bool:
        """A running kernel misses something: a feature that it may use, or the leaves where it found them.

        A feature that is gained harms nobody: it is used after the next boot.
        """
        return bool(self.lost or self.identity)


def difference(before: Leaves, after: Leaves) -> Difference:
    """What a guest finds changed that has moved from ``before`` to ``after``; without KVM nothing is offered."""
    old, new = before.kvm or _NO_KVM, after.kvm or _NO_KVM
    return Difference(
        lost=tuple(features_set(old.eax & ~new.eax, old.edx & ~new.edx)),
        gained=tuple(features_set(new.eax & ~old.eax, new.edx & ~old.edx)),
        identity=(before.hypervisor_bit, before.hypervisors) != (after.hypervisor_bit, after.hypervisors),
        timing=old.timing != new.timing,
    )


_NO_KVM = Kvm(0, 0, 0)


def features_set(eax: int, edx: int) -> tuple[Feature, ...]:
    """The features of the bits that are set, ascending."""
    words = Kvm(0, eax, edx)
    return tuple(feature for feature in features_of(eax, edx) if words.offers(feature))


def compatible(source: Leaves, target: Leaves) -> bool:
    """Whether a guest may move: it loses no feature, and finds KVM where it was.

    The features are compared as Cloud Hypervisor does before a migration: the words of the source have to be a bitwise
    subset of the target's.
    """
    return not difference(source, target).serious


def may_move(source: Sample, target: Sample) -> bool:
    """Whether a guest of one machine may run on any CPU of another."""
    return all(compatible(source.common, leaves) for leaves in (target.common, *target.known.values()))


def agree(earlier: Sample, later: Sample) -> bool:
    """Whether two samples tell the same: the common leaves, and those of each CPU that both sampled."""
    both = earlier.sampled.keys() & later.sampled.keys()
    return earlier.common == later.common and all(earlier.sampled[cpu] == later.sampled[cpu] for cpu in both)


def changes(earlier: Sample, later: Sample) -> Mapping[Difference, tuple[int, ...]]:
    """What changed between two samples, each difference with the CPUs that it was seen on, ascending.

    The CPUs are those that both samples read. If those agree, the difference of the common leaves is on no CPU.
    """
    both = sorted(earlier.sampled.keys() & later.sampled.keys())
    found: dict[Difference, tuple[int, ...]] = {}
    for cpu in both:
        if change := difference(earlier.sampled[cpu], later.sampled[cpu]):
            found[change] = (*found.get(change, ()), cpu)
    if not found and (change := difference(earlier.common, later.common)):
        found[change] = ()
    return found
