"""A Sample: the leaves of every CPU and the pvclock page at one time, and the leaves common to most CPUs."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import or_

from kvm_exporter.kvm.clock import PvClock
from kvm_exporter.kvm.features import Feature, features_of
from kvm_exporter.kvm.leaves import Leaves


@dataclass(frozen=True)
class Sample:
    """The leaves of a machine's CPUs. Every online CPU is in exactly one of sampled, retained, skipped and failed."""

    #: Read by an unpinned thread, on whichever CPU it ran, after a scan of all bases.
    anywhere: Leaves
    #: By CPU number; read by a thread pinned to the CPU.
    sampled: Mapping[int, Leaves]
    #: Isolated CPUs that were not visited this time, with their leaves from an earlier sample.
    retained: Mapping[int, Leaves]
    #: CPUs that the settings exclude.
    skipped: frozenset[int]
    #: CPUs that could not be read, with the reason.
    failed: Mapping[int, str]
    #: When the sample was started, in seconds since the epoch.
    timestamp: float
    #: When the sample was started, in seconds of CLOCK_BOOTTIME, which also counts while the machine is suspended.
    boottime: float
    #: How long the sample took, in seconds.
    duration: float
    #: Online CPUs that could not be reached, in place of which the CPUs that the process may run on were sampled.
    replaced: frozenset[int] = frozenset()
    #: What KVM's pvclock page states; None if there is no such page, or it could not be read.
    clock: PvClock | None = None
    #: False if CPUs were visited, and none of them could be read.
    reached: bool = True

    @property
    def tsc_khz(self) -> int | None:
        """The TSC frequency in kHz; None if KVM does not report one.

        It is that of the pvclock page, which Linux itself uses (kvm_get_tsc_khz() of arch/x86/kernel/kvmclock.c), or
        else of the timing leaf.
        """
        return self.clock.tsc_khz if self.clock is not None else self.common.tsc_khz

    @cached_property
    def known(self) -> dict[int, Leaves]:
        """The leaves of every sampled or retained CPU, by ascending CPU number."""
        return dict(sorted({**self.retained, **self.sampled}.items()))

    @property
    def pinned(self) -> bool:
        """Whether a CPU that should be read was read by a thread pinned there; no retained CPU should be."""
        return self.reached and bool(self.sampled or self.retained)

    @cached_property
    def states(self) -> dict[str, Collection[int]]:
        """The CPU numbers by state: sampled, retained, skipped and failed. Every online CPU has exactly one state."""
        return {"sampled": self.sampled, "retained": self.retained, "skipped": self.skipped, "failed": self.failed}

    @cached_property
    def online(self) -> int:
        """The number of online CPUs."""
        return sum(len(cpus) for cpus in self.states.values())

    @cached_property
    def groups(self) -> Counter[Leaves]:
        """How many of the sampled and retained CPUs have each leaves, by the group's lowest CPU number."""
        return Counter(self.known.values())

    @cached_property
    def common(self) -> Leaves:
        """The leaves of the largest group of CPUs with equal leaves; of equal groups, that with the lowest CPU number.

        The metrics of the whole machine are made of these. Retained CPUs count as well, so that the result does not
        depend on which isolated CPUs were visited. If no CPU could be sampled, it is the unpinned read.
        """
        if not self.sampled:
            return self.anywhere
        # max() returns the first of equal groups, and a Counter keeps the order of insertion, which is by CPU number.
        return max(self.groups, key=self.groups.__getitem__)

    @cached_property
    def divergent(self) -> tuple[int, ...]:
        """The sampled and retained CPUs that differ from the common leaves, ascending."""
        return tuple(cpu for cpu, leaves in self.known.items() if leaves != self.common)

    @cached_property
    def features(self) -> tuple[Feature, ...]:
        """All assigned features, and the unassigned bits that are set on at least one CPU; ``()`` without KVM."""
        if self.common.kvm is None:
            return ()
        words = [leaves.kvm for leaves in (self.common, *self.groups) if leaves.kvm]
        eax = reduce(or_, (kvm.eax for kvm in words))
        edx = reduce(or_, (kvm.edx for kvm in words))
        return tuple(features_of(eax, edx))

    def offering(self, feature: Feature) -> int:
        """Return on how many of the sampled and retained CPUs the feature's bit is set."""
        return sum(count for leaves, count in self.groups.items() if leaves.offers(feature))
