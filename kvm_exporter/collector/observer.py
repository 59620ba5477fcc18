"""An Observation: a sample, and what else was seen of the machine at that time; and the Observer who makes them."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from kvm_exporter.collector.boot import BootReference, BootReferenceKeeper
from kvm_exporter.collector.guest import read_evidence
from kvm_exporter.collector.host import host_features, supported_features
from kvm_exporter.collector.in_use import features_in_use, kvmclock_is_current
from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.cpuid.registers import Registers, Source
from kvm_exporter.errors import ReadError
from kvm_exporter.kvm.drift import features_set
from kvm_exporter.kvm.features import Feature
from kvm_exporter.kvm.leaves import Leaves
from kvm_exporter.kvm.sample import Sample

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Collected:
    """How it went to collect something: seconds, and whether there is a result."""

    success: bool
    duration: float


@dataclass(frozen=True)
class Observation:
    """All that the metrics of the machine are made of, the baseline aside. A dump gives a sample alone."""

    sample: Sample
    reference: BootReference | None = None
    #: What the guest kernel has enabled, and what it was told not to; see in_use.py.
    in_use: Mapping[Feature, bool] = field(default_factory=dict)
    kvmclock_is_current: bool | None = None
    #: What this machine's own KVM supports; None if it has none, or may not be asked.
    host: Registers | None = None
    #: ``guest`` and ``host``, as far as they were collected.
    collectors: Mapping[str, Collected] = field(default_factory=dict)

    @property
    def boot(self) -> Leaves | None:
        """What was offered when this boot was first sampled; None where nobody keeps that."""
        return self.reference.leaves if self.reference is not None else None


class Observer:
    """Looks at a Source and at the kernel under a root. Everything here runs in the reading thread."""

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
        self._complaint = ""

    def observe(self, last: Sample | None) -> Observation:
        """Look now. Raises ReadError if nothing of CPUID can be read; all else is left out where it cannot be had."""
        sample = sweep(self._source, self._selection, last)
        reference = self._keeper.reference(sample) if self._keeper is not None else None
        evidence, guest = _timed(lambda: read_evidence(self._root))
        boot = reference.leaves if reference is not None else sample.common
        collectors = {"guest": guest}
        supported = None
        if self._host:
            supported, collected = _timed(self._supported)
            if self._complaint or supported is not None:
                collectors["host"] = Collected(supported is not None, collected.duration)
        return Observation(
            sample=sample,
            reference=reference,
            in_use=features_in_use(evidence, boot),
            kvmclock_is_current=kvmclock_is_current(evidence),
            host=supported,
            collectors=collectors,
        )

    def _supported(self) -> Registers | None:
        """What the host's side says; that it may not be asked is logged once."""
        complaint = ""
        try:
            return supported_features(self._root)
        except ReadError as error:
            complaint = str(error)
            if complaint != self._complaint:
                logger.info("what this machine's own KVM supports is not known: %s", complaint)
            return None
        finally:
            self._complaint = complaint


def _timed(collect: Callable[[], T]) -> tuple[T, Collected]:
    start = time.perf_counter()
    result = collect()
    return result, Collected(success=True, duration=time.perf_counter() - start)


def supported(observation: Observation, feature: Feature) -> bool | None:
    """Whether this machine's own KVM can offer a feature to guests of its own; None if that is not known."""
    if observation.host is None or feature not in host_features(observation.host):
        return None
    return bool(observation.host.eax & feature.mask)


def shown_features(sample: Sample, reference: Leaves | None) -> tuple[Feature, ...]:
    """The features that have series: the sample's, and those that the reference offered."""
    boot = reference.kvm if reference is not None else None
    lasting = features_set(boot.eax, boot.edx) if boot is not None else ()
    return tuple(sorted({*sample.features, *lasting}))
