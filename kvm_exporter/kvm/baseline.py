"""A Baseline: the features that an operator requires or forbids on a machine; and its violations by a sample.

config/baseline.py reads a Baseline from a file.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kvm_exporter.cpuid.cpulist import format_cpu_list
from kvm_exporter.kvm.features import Feature
from kvm_exporter.kvm.sample import Sample


@dataclass(frozen=True, slots=True)
class Baseline:
    """The features that the hypervisor must offer, and those it must not offer; no feature is in both."""

    required: tuple[Feature, ...] = ()
    forbidden: tuple[Feature, ...] = ()


def violations(baseline: Baseline, sample: Sample) -> list[str]:
    """Return a line for each feature that violates the baseline on at least one sampled or retained CPU.

    The list is empty if the sample matches the baseline.
    """
    return [
        *_lines(sample, baseline.required, required=True),
        *_lines(sample, baseline.forbidden, required=False),
    ]


def _lines(sample: Sample, features: tuple[Feature, ...], *, required: bool) -> Iterator[str]:
    # If no CPU could be read, the common leaves are checked instead, as those of a single CPU.
    known = sample.known or {0: sample.common}
    for feature in features:
        cpus = [cpu for cpu, leaves in known.items() if leaves.offers(feature) != required]
        if cpus:
            where = "on every CPU" if len(cpus) == len(known) else f"on CPU {format_cpu_list(cpus)}"
            problem = "required, but not offered" if required else "forbidden, but offered"
            yield f"{feature.name} ({feature.register} bit {feature.bit}): {problem} {where}"
