"""What an observation and a baseline say beyond the sample, as metric families: lost, expected, used, supported."""

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from kvm_exporter.collector.boot import Reference
from kvm_exporter.collector.host import host_features
from kvm_exporter.collector.observer import Observation
from kvm_exporter.cpuid.registers import Registers
from kvm_exporter.kvm.baseline import Baseline
from kvm_exporter.kvm.drift import difference
from kvm_exporter.kvm.features import Feature
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.metrics.machine import FEATURE_LABELS, feature_values

_BIT_LABELS = FEATURE_LABELS[:3]


def observed_families(observation: Observation) -> Iterator[Metric]:
    """Everything that an observation says beyond its sample."""
    if observation.reference is not None:
        yield from _boot(observation.sample, observation.reference)
    yield from _in_use(observation)
    if observation.host is not None:
        yield _host(observation.host)


def expected_families(baseline: Baseline) -> Iterator[Metric]:
    """What a baseline declares."""
    family = GaugeMetricFamily(
        "kvm_feature_expected",
        "1 if the baseline (--baseline.file) requires the bit of CPUID leaf base + 1, 0 if it forbids it.",
        labels=_BIT_LABELS,
    )
    for feature in baseline.required:
        family.add_metric(_bit_values(feature), 1)
    for feature in baseline.forbidden:
        family.add_metric(_bit_values(feature), 0)
    yield family


def _bit_values(feature: Feature) -> tuple[str, ...]:
    return feature_values(feature)[:3]


def _boot(sample: Sample, reference: Reference) -> Iterator[Metric]:
    change = difference(reference.leaves, sample.common)
    yield GaugeMetricFamily(
        "kvm_boot_reference_timestamp_seconds",
        "When this boot was first sampled, in seconds since the epoch; what was offered then is the boot reference.",
        reference.timestamp,
        unit="seconds",
    )
    counts = GaugeMetricFamily(
        "kvm_boot_feature_changes",
        "How many bits of EAX and EDX of CPUID leaf base + 1 differ from the boot reference.",
        labels=("change",),
    )
    counts.add_metric(("lost",), len(change.lost))
    counts.add_metric(("gained",), len(change.gained))
    yield counts
    changed = GaugeMetricFamily(
        "kvm_boot_feature_changed",
        "-1 if the bit of EAX or EDX of CPUID leaf base + 1 was lost since the boot reference, 1 if it was gained.",
        labels=FEATURE_LABELS,
    )
    for feature in change.lost:
        changed.add_metric(feature_values(feature), -1)
    for feature in change.gained:
        changed.add_metric(feature_values(feature), 1)
    yield changed
    yield GaugeMetricFamily(
        "kvm_boot_signature_changed",
        "1 if leaf 1's hypervisor bit, a signature or a base of CPUID leaves 0x40000N00 is not the boot reference's.",
        change.identity,
    )


def _in_use(observation: Observation) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "kvm_feature_in_use",
        "1 if the guest kernel shows that it has enabled the feature, 0 if a boot switch forbids it; absent if "
        "neither shows. From /proc and /sys, not from CPUID.",
        labels=_BIT_LABELS,
    )
    for feature, used in observation.in_use.items():
        family.add_metric(_bit_values(feature), used)
    yield family
    if observation.kvmclock_is_current is not None:
        yield GaugeMetricFamily(
            "kvm_clocksource_current_is_kvmclock",
            "1 if the guest kernel's current clocksource is kvm-clock, from /sys/devices/system/clocksource.",
            observation.kvmclock_is_current,
        )


def _host(supported: Registers) -> Metric:
    family = GaugeMetricFamily(
        "kvm_host_feature_supported",
        "1 if this machine's own KVM can offer the bit of EAX of CPUID leaf 0x40000001 to its guests, from "
        "KVM_GET_SUPPORTED_CPUID of /dev/kvm; without the bits that only a VMM sets, and the hints.",
        labels=_BIT_LABELS,
    )
    for feature in host_features(supported):
        family.add_metric(_bit_values(feature), bool(supported.eax & feature.mask))
    return family
