"""An Observation: a sample, and what else was collected with it. The Observer makes Observations."""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from kvm_exporter.collector.boot import BootReference, BootReferenceKeeper
from kvm_exporter.collector.conditions import KVM_CLOCK, Found, Use
from kvm_exporter.collector.guest import Evidence, read_evidence
from kvm_exporter.collector.host import own_kvm
from kvm_exporter.collector.in_use import features_in_use, switched_off
from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.cpuid.registers import Source
from kvm_exporter.errors import ReadError
from kvm_exporter.kvm.drift import LATE_SECONDS, Difference, changes, features_set
from kvm_exporter.kvm.effects import Effect, effects
from kvm_exporter.kvm.features import Feature
from kvm_exporter.kvm.host import can_offer, is_based_on_tsc
from kvm_exporter.kvm.leaves import Kvm, Leaves
from kvm_exporter.kvm.sample import Sample

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Collected:
    """The outcome of one run of a collector: whether it succeeded, and its duration in seconds."""

    success: bool
    duration: float


@dataclass(frozen=True, eq=False)
class Observation:
    """The values of all metrics of the machine except the baseline's. Of a dump, only the sample is present.

    An Observation is equal to itself only: to compare two takes milliseconds if there are thousands of CPUs.
    """

    sample: Sample
    reference: BootReference | None = None
    #: Whether the guest kernel has enabled each assigned feature, and how that is known; see in_use.py.
    in_use: Mapping[Feature, Use] = field(default_factory=dict)
    #: Features that a boot parameter forbids, each with the parameter.
    switched_off: tuple[tuple[Feature, str], ...] = ()
    #: The guest kernel's current clocksource; None if it could not be read.
    clocksource: str | None = None
    #: The technology that fixes the leaves at launch, so that they cannot show drift: ``sev-snp``; else None.
    fixed_at_launch: str | None = None
    #: What this machine's own KVM can offer to guests; None without /dev/kvm, or if it cannot be read.
    host: Kvm | None = None
    #: Whether this machine's current clocksource is based on the TSC; None without /dev/kvm, which need not open.
    host_clocksource_based_on_tsc: bool | None = None
    #: The outcome of the collectors that ran, by name: ``guest`` and ``host``.
    collectors: Mapping[str, Collected] = field(default_factory=dict)
    #: Whether the reference outlives a restart of the exporter.
    persistent: bool = False
    #: The differences from the sample before, as drift.changes() returns them; of the first sample there are none.
    changes: Mapping[Difference, tuple[int, ...]] = field(default_factory=dict)

    @property
    def kvmclock_is_current(self) -> bool | None:
        """Whether the guest kernel's current clocksource is kvm-clock; None if it could not be read."""
        return None if self.clocksource is None else self.clocksource == KVM_CLOCK

    @cached_property
    def since_reference(self) -> Difference:
        """The difference from the boot reference; an empty one without a reference."""
        return self.reference.difference(self.sample) if self.reference is not None else Difference()

    @cached_property
    def effects(self) -> tuple[Effect, ...]:
        """What each feature that was lost or gained since the boot reference does to the guest."""
        return self.effects_of(self.since_reference, self.sample.common)

    def effects_of(self, change: Difference, before: Leaves) -> tuple[Effect, ...]:
        """What a change does to this guest; without a boot reference, ``before`` stands for what it booted with."""
        unused = [feature for feature, use in self.in_use.items() if use.enabled is False]
        return effects(change, self.boot or before, unused)

    @cached_property
    def used_not_offered(self) -> tuple[Feature, ...]:
        """Features that the guest kernel shows to use, that are not offered, and that no reference has as lost."""
        lost = self.since_reference.lost
        features = (feature for feature, use in self.in_use.items() if use.enabled)
        return tuple(one for one in features if not self.sample.common.offers(one) and one not in lost)

    @property
    def boot(self) -> Leaves | None:
        """The leaves of the boot reference; None without one."""
        return self.reference.leaves if self.reference is not None else None


class Observer:
    """Takes Observations of a Source, and of the kernel whose /proc, /sys and /dev are under ``root``.

    ``selection`` says which CPUs are sampled. Without a ``keeper`` there is no boot reference. ``host`` says whether
    /dev/kvm is asked what it can offer to guests. Its methods block; the exporter calls them in the reading thread.
    """

    def __init__(
        self,
        source: Source,
        selection: CpuSelection,
        keeper: BootReferenceKeeper | None,
        *,
        host: bool = True,
        root: Path = Path("/"),
    ) -> None:
        self._source = source
        self._selection = selection
        self._keeper = keeper
        self._host = host
        self._root = root
        self._host_error = ""
        self._evidence: Evidence | None = None

    def observe(self, last: Sample | None) -> Observation:
        """Take an Observation, given the last sample. Raises ReadError if CPUID cannot be read on any CPU.

        Anything else that cannot be read is left out.
        """
        sample = sweep(self._source, self._selection, last)
        reference = self._keeper.reference(sample) if self._keeper is not None else None
        evidence, guest = _timed(lambda: read_evidence(self._root, self._evidence))
        self._complain_of(evidence.unread, self._evidence.unread if self._evidence is not None else ())
        self._evidence = evidence
        found = _found(reference, sample)
        collectors = {"guest": Collected(not evidence.unread, guest.duration)}
        host = None
        if self._host:
            host, collected = _timed(self._own_kvm)
            if self._host_error or host is not None:
                collectors["host"] = Collected(host is not None, collected.duration)
        return Observation(
            sample=sample,
            reference=reference,
            in_use=features_in_use(evidence, found, sample.common),
            switched_off=switched_off(evidence, found),
            clocksource=evidence.current_clocksource,
            fixed_at_launch="sev-snp" if evidence.sev_snp else None,
            host=host,
            host_clocksource_based_on_tsc=(
                is_based_on_tsc(evidence.current_clocksource)
                if "host" in collectors and evidence.current_clocksource is not None
                else None
            ),
            collectors=collectors,
            persistent=self._keeper is not None and self._keeper.persistent,
            changes=changes(last, sample) if last is not None else {},
        )

    @staticmethod
    def _complain_of(unread: Collection[str], before: Collection[str]) -> None:
        """Log each file that could not be read once, and that it can be read again."""
        for name in sorted(set(unread) - set(before)):
            logger.warning("/%s cannot be read, so what the guest kernel uses is not known completely", name)
        for name in sorted(set(before) - set(unread)):
            logger.info("/%s can be read again", name)

    def _own_kvm(self) -> Kvm | None:
        """Return what this machine's own KVM can offer, or None. An error that repeats is logged once."""
        message = ""
        try:
            return own_kvm(self._root)
        except ReadError as error:
            message = str(error)
            if message != self._host_error:
                logger.info("cannot read which features this machine's own KVM supports: %s", message)
            return None
        finally:
            self._host_error = message


def _found(reference: BootReference | None, sample: Sample) -> Found:
    """Return what stands for the leaves at boot: the reference or, without one, what is offered now."""
    if reference is None:
        return Found(sample.common, "now; no boot reference", early=sample.boottime <= LATE_SECONDS)
    return Found(reference.leaves, reference.when, early=not reference.late)


def _timed(collect: Callable[[], T]) -> tuple[T, Collected]:
    start = time.perf_counter()
    result = collect()
    return result, Collected(success=True, duration=time.perf_counter() - start)


def supported(observation: Observation, feature: Feature) -> bool | None:
    """Return whether this machine's own KVM can offer a feature to its guests; None if unknown."""
    return can_offer(observation.host, feature) if observation.host is not None else None


def shown_features(sample: Sample, reference: Leaves | None) -> tuple[Feature, ...]:
    """Return the features to show: those of the sample, and those that the boot reference has."""
    boot = reference.kvm if reference is not None else None
    at_boot = features_set(boot.eax, boot.edx) if boot is not None else ()
    return tuple(sorted({*sample.features, *at_boot}))
