"""What an operator has declared that this machine has to offer, and must not; and how it is kept. Pure.

Reading the file is baseline_file.py's.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kvm_exporter.cpuid.cpulist import format_cpu_list
from kvm_exporter.kvm.features import Feature
from kvm_exporter.kvm.sample import Sample


@dataclass(frozen=True, slots=True)
class Baseline:
    """Features by what is expected of them; no feature is in both."""

    required: tuple[Feature, ...] = ()
    forbidden: tuple[Feature, ...] = ()


def violations(baseline: Baseline, sample: Sample) -> list[str]:
    """A line for each feature that some sampled or retained CPU does not offer as declared; none if all is well."""
    return [
        *_differing(sample, baseline.required, wanted=True),
        *_differing(sample, baseline.forbidden, wanted=False),
    ]


def _differing(sample: Sample, features: tuple[Feature, ...], *, wanted: bool) -> Iterator[str]:
    # Where no CPU could be read, the machine as a whole stands for all of them.
    known = sample.known or {0: sample.common}
    for feature in features:
        cpus = [cpu for cpu, leaves in known.items() if leaves.offers(feature) != wanted]
        if cpus:
            where = "on every CPU" if len(cpus) == len(known) else f"on CPU {format_cpu_list(cpus)}"
            what = "required, but not offered" if wanted else "forbidden, but offered"
            yield f"{feature.name} ({feature.register} bit {feature.bit}): {what} {where}"
