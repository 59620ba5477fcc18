"""Metric families about the machine: features, signatures, CPUs, drift since boot, features in use, the host.

Their names, labels and values are a contract; docs/metrics.md lists them.
"""

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric

from kvm_exporter.collector.boot import BootReference
from kvm_exporter.collector.observer import Observation, shown_features
from kvm_exporter.kvm.clock import PvClock
from kvm_exporter.kvm.features import Feature, features_of
from kvm_exporter.kvm.host import host_features, stated
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, Kvm, Leaves, fingerprint, printable
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.metrics.exposition import PIECE_SERIES
from kvm_exporter.metrics.families import gauges

BIT_LABELS = ("feature", "register", "bit")
FEATURE_LABELS = (*BIT_LABELS, "signature")


def machine_families(
    sample: Sample, reference: Leaves | None = None, *, per_cpu_features: bool = False
) -> Iterator[Metric]:
    """Yield the families of one sample.

    A feature of the boot reference ``reference`` keeps its series until the next boot, even after KVM has disappeared.
    ``per_cpu_features`` adds a series for each feature of each CPU.
    """
    kvm = sample.common.kvm
    yield GaugeMetricFamily(
        "kvm_present", "1 if KVM's signature was found in EBX, ECX, EDX of a CPUID leaf 0x40000N00.", kvm is not None
    )
    yield _signatures(sample.common)
    if features := shown_features(sample, reference):
        yield from _features(sample, features)
    if kvm is not None:
        yield _fingerprint(kvm)
        yield from _timing(kvm)
    if sample.clock is not None:
        yield from _clock(sample.clock)
    if sample.pinned:
        yield from _registers(sample)
        if per_cpu_features:
            yield from _cpu_features(sample)
    yield from _cpus(sample)


def feature_values(feature: Feature) -> tuple[str, str, str, str]:
    """Return the values of FEATURE_LABELS for a feature."""
    return *bit_values(feature), printable(KVM_SIGNATURE)


def bit_values(feature: Feature) -> tuple[str, str, str]:
    """Return the values of BIT_LABELS for a feature."""
    return feature.name, feature.register, str(feature.bit)


def _signatures(common: Leaves) -> Metric:
    family = InfoMetricFamily(
        "kvm_signature",
        "Hypervisor signatures found in EBX, ECX, EDX of CPUID leaves 0x40000N00; max_leaf is EAX of the same leaf.",
        labels=("signature", "base", "max_leaf"),
    )
    for found in common.hypervisors:
        labels = {
            "signature": printable(found.signature),
            "base": f"{found.base:#010x}",
            "max_leaf": f"{found.max_leaf:#010x}",
        }
        family.add_metric((), labels)
    return family


def _features(sample: Sample, features: Iterable[Feature]) -> Iterator[Metric]:
    yield gauges(
        "kvm_feature_offered",
        "1 if the hypervisor offers the feature: its bit of EAX or EDX of CPUID leaf base + 1 is set on most CPUs. A "
        "change that the kernel does not announce, such as a live migration, is detected within the sample's maximum "
        "age plus a scrape interval.",
        FEATURE_LABELS,
        {feature_values(feature): sample.common.offers(feature) for feature in features},
    )
    if sample.pinned:
        yield gauges(
            "kvm_feature_offered_cpus",
            "Number of sampled and retained CPUs on which the bit of EAX or EDX of CPUID leaf base + 1 is set.",
            FEATURE_LABELS,
            {feature_values(feature): sample.offering(feature) for feature in features},
        )


def _fingerprint(kvm: Kvm) -> Metric:
    return InfoMetricFamily(
        "kvm_fingerprint",
        "Equal on machines with the same feature set: the first 64 bits of SHA-256 over KVM's signature, its base, and "
        "EAX and EDX of CPUID leaf base + 1 on most CPUs.",
        {"fingerprint": fingerprint(kvm)},
    )


def _timing(kvm: Kvm) -> Iterator[Metric]:
    # A hypervisor may have the leaf and leave a register 0: that the frequency is not known is not 0 Hz.
    if kvm.timing is not None and kvm.timing.tsc_khz:
        yield GaugeMetricFamily(
            "kvm_tsc_frequency_hertz",
            "Frequency of the time stamp counter: EAX of CPUID leaf base + 0x10.",
            kvm.timing.tsc_khz * 1000,
            unit="hertz",
        )
    if kvm.timing is not None and kvm.timing.bus_khz:
        yield GaugeMetricFamily(
            "kvm_bus_frequency_hertz",
            "Frequency of the local APIC's bus: EBX of CPUID leaf base + 0x10; not compared with anything.",
            kvm.timing.bus_khz * 1000,
            unit="hertz",
        )


def _clock(clock: PvClock) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "kvm_clock_stable",
        "1 if KVM's pvclock page says that kvm-clock is the same on all CPUs, 0 if not: bit 0 of its flags, which the "
        "host sets while its own clocksource is the TSC.",
        clock.stable,
    )
    yield GaugeMetricFamily(
        "kvm_clock_tsc_frequency_hertz",
        "Frequency of the time stamp counter, from tsc_to_system_mul and tsc_shift of KVM's pvclock page.",
        clock.tsc_khz * 1000,
        unit="hertz",
    )


def _registers(sample: Sample) -> Iterator[Metric]:
    return _in_parts(
        "kvm_cpu_register",
        "EAX and EDX of CPUID leaf base + 1 as a number, read by a thread pinned to the CPU.",
        ("cpu", "leaf", "register"),
        (
            ((str(cpu), f"{kvm.base + 1:#010x}", register), value)
            for cpu, kvm in _cpus_with_leaf(sample)
            for register, value in (("eax", kvm.eax), ("edx", kvm.edx))
        ),
    )


def _cpu_features(sample: Sample) -> Iterator[Metric]:
    return _in_parts(
        "kvm_cpu_feature_offered",
        "1 if the bit of EAX or EDX of CPUID leaf base + 1 is set, read by a thread pinned to the CPU.",
        ("cpu", *BIT_LABELS),
        (
            ((str(cpu), *bit_values(feature)), kvm.offers(feature))
            for cpu, kvm in _cpus_with_leaf(sample)
            for feature in features_of(kvm.eax, kvm.edx)
        ),
    )


def _in_parts(
    name: str, documentation: str, labels: tuple[str, ...], series: Iterable[tuple[tuple[str, ...], float]]
) -> Iterator[Metric]:
    """Yield a family with series for each CPU in parts of PIECE_SERIES series, made when they are asked for."""
    part = GaugeMetricFamily(name, documentation, labels=labels)
    for values, value in series:
        if len(part.samples) == PIECE_SERIES:
            yield part
            part = GaugeMetricFamily(name, documentation, labels=labels)
        part.add_metric(values, value)
    yield part


def _cpus_with_leaf(sample: Sample) -> Iterator[tuple[int, Kvm]]:
    for cpu, leaves in sample.known.items():
        if leaves.kvm is not None and leaves.kvm.has_leaf:
            yield cpu, leaves.kvm


def _cpus(sample: Sample) -> Iterator[Metric]:
    yield GaugeMetricFamily("kvm_cpus_online", "Online CPUs, from /sys/devices/system/cpu/online.", sample.online)
    yield gauges(
        "kvm_cpus",
        "Online CPUs by state in the served sample: sampled, retained (isolated, read earlier), skipped, failed.",
        ("state",),
        {(state,): len(cpus) for state, cpus in sample.states.items()},
    )
    if sample.pinned:
        yield GaugeMetricFamily(
            "kvm_cpus_divergent",
            "Sampled CPUs whose hypervisor bit, signatures, or EAX or EDX of CPUID leaf base + 1 differ from the "
            "majority.",
            len(sample.sampled.keys() & set(sample.divergent)),
        )


def observed_families(observation: Observation) -> Iterator[Metric]:
    """Yield the families of an observation except those of its sample: drift since boot, features in use, the host."""
    if observation.reference is not None:
        yield from _boot(observation, observation.reference)
    yield from _in_use(observation)
    if observation.fixed_at_launch is not None:
        yield gauges(
            "kvm_leaves_fixed_at_launch",
            "1 where CPUID is answered from a table that was measured at launch, so that the leaves cannot show "
            "drift: under SEV-SNP, by /sys/devices/system/cpu/sev/vmpl (Linux 6.11). Absent elsewhere.",
            ("technology",),
            {(observation.fixed_at_launch,): 1},
        )
    if observation.host is not None:
        yield from host_families(observation.host)
    if observation.host_clocksource_based_on_tsc is not None:
        yield GaugeMetricFamily(
            "kvm_host_clocksource_based_on_tsc",
            "1 if this machine's current clocksource, from /sys/devices/system/clocksource, is tsc or "
            "hyperv_clocksource_tsc_page; if 0, no guest of its own KVM can have a stable kvmclock. Absent without "
            "/dev/kvm.",
            observation.host_clocksource_based_on_tsc,
        )


def _boot(observation: Observation, reference: BootReference) -> Iterator[Metric]:
    change = observation.since_reference
    yield GaugeMetricFamily(
        "kvm_boot_reference_timestamp_seconds",
        "Time of the boot reference, the first sample of this boot, in seconds since the epoch.",
        reference.timestamp,
        unit="seconds",
    )
    if reference.uptime is not None:
        yield GaugeMetricFamily(
            "kvm_boot_reference_uptime_seconds",
            "How long this boot had lasted, on CLOCK_BOOTTIME, when the boot reference was taken; above 600 seconds it "
            "cannot tell what the kernel found at boot.",
            reference.uptime,
            unit="seconds",
        )
    yield GaugeMetricFamily(
        "kvm_boot_reference_persistent",
        "1 if the boot reference outlives a restart of the exporter, 0 if it is in memory only.",
        observation.persistent,
    )
    if (khz := reference.tsc_khz) is not None:
        yield GaugeMetricFamily(
            "kvm_boot_tsc_frequency_hertz",
            "TSC frequency of the boot reference, from KVM's pvclock page, or else EAX of CPUID leaf base + 0x10.",
            khz * 1000,
            unit="hertz",
        )
    if reference.changed is not None:
        yield GaugeMetricFamily(
            "kvm_boot_change_timestamp_seconds",
            "When the present difference from the boot reference was first seen, in seconds since the epoch; absent "
            "while nothing differs.",
            reference.changed,
            unit="seconds",
        )
    yield gauges(
        "kvm_boot_feature_changes",
        "Number of bits of EAX and EDX of CPUID leaf base + 1 that differ from the boot reference.",
        ("change",),
        {("lost",): len(change.lost), ("gained",): len(change.gained)},
    )
    yield gauges(
        "kvm_boot_feature_changed",
        "-1 if the bit of EAX or EDX of CPUID leaf base + 1 was lost since the boot reference, 1 if it was gained.",
        FEATURE_LABELS,
        {feature_values(feature): -1 for feature in change.lost}
        | {feature_values(feature): 1 for feature in change.gained},
    )
    yield GaugeMetricFamily(
        "kvm_boot_signature_changed",
        "1 if leaf 1's hypervisor bit, or a signature or base of leaves 0x40000N00, differs from the boot reference.",
        change.identity,
    )


def _in_use(observation: Observation) -> Iterator[Metric]:
    enabled = {feature: use.enabled for feature, use in observation.in_use.items() if use.enabled is not None}
    common = observation.sample.common
    yield gauges(
        "kvm_feature_in_use",
        "1 if the guest kernel has enabled the feature, 0 if it has not, absent if that is unknown or the feature was "
        "not offered at boot. By the kernel's own conditions, from the boot reference, /proc, /sys and /boot; 1 does "
        "not say that the feature still works.",
        BIT_LABELS,
        {bit_values(feature): value for feature, value in enabled.items()},
    )
    yield gauges(
        "kvm_unoffered_feature_in_use",
        "kvm_feature_in_use of the bits of EAX and EDX of CPUID leaf base + 1 that are not set on most CPUs: 1 if the "
        "guest kernel has enabled a feature that the hypervisor does not offer, 0 if it has not.",
        BIT_LABELS,
        {bit_values(feature): value for feature, value in enabled.items() if not common.offers(feature)},
    )
    yield gauges(
        "kvm_feature_switched_off",
        "1 for each switch on the kernel's command line that disables the feature, offered or not.",
        (*BIT_LABELS, "switch"),
        {(*bit_values(feature), switch): 1 for feature, switch in observation.switched_off},
    )
    if observation.kvmclock_is_current is not None:
        yield GaugeMetricFamily(
            "kvm_clocksource_current_is_kvmclock",
            "1 if the guest kernel's current clocksource is kvm-clock, from /sys/devices/system/clocksource.",
            observation.kvmclock_is_current,
        )


def host_families(host: Kvm) -> Iterator[Metric]:
    """Yield the families of what a host's own KVM can offer to guests."""
    yield gauges(
        "kvm_host_feature_supported",
        "1 if this machine's own KVM can offer the bit of EAX of CPUID leaf 0x40000001 to its guests, from "
        "KVM_GET_SUPPORTED_CPUID of /dev/kvm; excludes the bits that only a VMM sets, and the hints.",
        BIT_LABELS,
        {bit_values(feature): host.offers(feature) for feature in host_features(host)},
    )
    yield InfoMetricFamily(
        "kvm_host_fingerprint",
        "Equal on hosts whose own KVM can offer the same features: the first 64 bits of SHA-256 over KVM's signature, "
        "0x40000000, and EAX and EDX of CPUID leaf 0x40000001 from KVM_GET_SUPPORTED_CPUID, without the bits that only "
        "a VMM sets.",
        {"fingerprint": fingerprint(stated(host))},
    )
