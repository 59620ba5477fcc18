"""A Sample: what one look at every CPU found, where and when, and what the machine as a whole is said to offer."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_

from kvm_exporter.kvm.features import Feature, features_of
from kvm_exporter.kvm.leaves import Leaves


@dataclass(frozen=True)
class Sample:
    """One look at the machine. Every online CPU is in exactly one of sampled, retained, skipped and failed."""

    #: Read where the thread happened to run, after a scan of all bases.
    anywhere: Leaves
    #: Read by a thread pinned to the CPU.
    sampled: Mapping[int, Leaves]
    #: Isolated CPUs, as an earlier sample read them.
    retained: Mapping[int, Leaves]
    #: CPUs that the settings say to leave alone.
    skipped: frozenset[int]
    #: CPUs that could not be read, with the reason.
    failed: Mapping[int, str]
    #: When the look began: seconds since the epoch.
    timestamp: float
    #: When the look began: seconds of CLOCK_BOOTTIME, which goes on while the machine is suspended.
    boottime: float
    #: How long it took, in seconds.
    duration: float

    @cached_property
    def known(self) -> dict[int, Leaves]:
        """The leaves of every CPU that is sampled or retained, by CPU number."""
        return dict(sorted({**self.retained, **self.sampled}.items()))

    @cached_property
    def states(self) -> dict[str, Collection[int]]:
        """The CPUs by what was done with them; every online CPU is in exactly one state."""
        return {"sampled": self.sampled, "retained": self.retained, "skipped": self.skipped, "failed": self.failed}

    @cached_property
    def online(self) -> int:
        """The number of online CPUs."""
        return sum(len(cpus) for cpus in self.states.values())

    @cached_property
    def common(self) -> Leaves:
        """The leaves of the largest group of equal CPUs, a tie going to the group with the lowest CPU number.

        This is what the machine is said to offer, wherever a thread happened to run. Retained CPUs count, so that it
        is the same whether they were visited this time or not. The unpinned read stands in only if no CPU could be
        sampled.
        """
        if not self.sampled:
            return self.anywhere
        # max() keeps the first of equals, and a Counter keeps the order in which the groups were met.
        groups = Counter(self.known.values())
        return max(groups, key=groups.__getitem__)

    @cached_property
    def divergent(self) -> tuple[int, ...]:
        """The sampled CPUs that differ from the common leaves, ascending."""
        return tuple(cpu for cpu in sorted(self.sampled) if self.sampled[cpu] != self.common)

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """The features to show: all assigned ones, and the unassigned ones that some CPU offers; none without KVM."""
        if self.common.kvm is None:
            return ()
        words = [leaves.kvm for leaves in (self.common, *self.known.values()) if leaves.kvm]
        eax = reduce(or_, (kvm.eax for kvm in words))
        edx = reduce(or_, (kvm.edx for kvm in words))
        return tuple(features_of(eax, edx))

    def offering(self, feature: Feature) -> int:
        """On how many of the sampled and retained CPUs the feature's bit is set."""
        return sum(leaves.offers(feature) for leaves in self.known.values())
