"""Metric families about the baseline: what it expects of a machine, and which bits violate it."""

from collections.abc import Iterator

from prometheus_client.core import Metric

from kvm_exporter.kvm.baseline import Baseline
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.metrics.families import gauges
from kvm_exporter.metrics.machine import BIT_LABELS, bit_values


def baseline_families(baseline: Baseline, sample: Sample | None) -> Iterator[Metric]:
    """Yield what a baseline expects and, if there is a sample, the bits of its common leaves that violate it."""
    yield gauges(
        "kvm_feature_expected",
        "1 if the baseline (--baseline.file) requires the bit of CPUID leaf base + 1, 0 if it forbids it.",
        BIT_LABELS,
        {bit_values(feature): 1 for feature in baseline.required}
        | {bit_values(feature): 0 for feature in baseline.forbidden},
    )
    if sample is not None:
        offers = sample.common.offers
        yield gauges(
            "kvm_baseline_violation",
            "-1 if the baseline (--baseline.file) requires the bit of EAX or EDX of CPUID leaf base + 1 and it is "
            "not set on most CPUs, 1 if the baseline forbids the bit and it is set there; only bits that violate "
            "the baseline.",
            BIT_LABELS,
            {bit_values(feature): -1 for feature in baseline.required if not offers(feature)}
            | {bit_values(feature): 1 for feature in baseline.forbidden if offers(feature)},
        )
