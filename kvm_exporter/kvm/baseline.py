"""A Baseline: the features that an operator requires or forbids on a machine; and its violations by a sample.

config/baseline.py reads a Baseline from a file.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kvm_exporter.cpuid.cpulist import format_cpu_list
from kvm_exporter.kvm.features import Feature
from kvm_exporter.kvm.host_settings import HostSetting, host_setting
from kvm_exporter.kvm.sample import Sample


@dataclass(frozen=True, slots=True)
class Baseline:
    """The features that the hypervisor must offer, and those it must not offer; no feature is in both."""

    required: tuple[Feature, ...] = ()
    forbidden: tuple[Feature, ...] = ()


@dataclass(frozen=True, slots=True)
class Violation:
    """A feature that is required and not offered, or forbidden and offered."""

    feature: Feature
    required: bool
    #: Ascending; empty for every CPU that is known.
    cpus: tuple[int, ...] = ()

    @property
    def words(self) -> str:
        """One line, such as ``steal_time (eax bit 5): required, but offered on no CPU``."""
        if self.required:
            where = f"not offered on CPU {format_cpu_list(self.cpus)}" if self.cpus else "offered on no CPU"
            return f"{self.feature.title}: required, but {where}"
        where = f"CPU {format_cpu_list(self.cpus)}" if self.cpus else "every CPU"
        return f"{self.feature.title}: forbidden, but offered on {where}"

    @property
    def setting(self) -> HostSetting | None:
        """The setting of the host that ends it; None if only some CPUs violate it: a setting is for all of them."""
        return None if self.cpus else host_setting(self.feature, offered=self.required)


def violations(baseline: Baseline, sample: Sample) -> tuple[Violation, ...]:
    """Return each feature that violates the baseline on at least one sampled or retained CPU, required ones first."""
    return (
        *_violations(sample, baseline.required, required=True),
        *_violations(sample, baseline.forbidden, required=False),
    )


def _violations(sample: Sample, features: tuple[Feature, ...], *, required: bool) -> Iterator[Violation]:
    # If no CPU could be read, the common leaves are checked instead, as those of a single CPU.
    known = sample.known or {0: sample.common}
    for feature in features:
        cpus = tuple(cpu for cpu, leaves in known.items() if leaves.offers(feature) != required)
        if cpus:
            yield Violation(feature, required, () if len(cpus) == len(known) else cpus)
