"""Metric families about the exporter itself: samples, collectors, the web configuration, settings and build."""

import platform
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric

from kvm_exporter import __version__
from kvm_exporter._revision import REVISION
from kvm_exporter.collector.observer import Collected, Observation
from kvm_exporter.collector.sampler import Tally
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.metrics.exposition import render
from kvm_exporter.metrics.families import counters, gauges
from kvm_exporter.metrics.machine import machine_families, observed_families
from kvm_exporter.metrics.negotiation import Format


def sample_families(sample: Sample | None, *, success: bool) -> Iterator[Metric]:
    """Yield whether the last attempt succeeded, and the start and duration of the served sample."""
    yield GaugeMetricFamily(
        "kvm_exporter_sample_success",
        "1 if the last attempt to sample read at least one CPU by a pinned thread; if 0, the last good sample is "
        "served, or what an unpinned thread read.",
        success,
    )
    if sample is not None:
        yield GaugeMetricFamily(
            "kvm_exporter_sample_timestamp_seconds",
            "Start of the served sample, in seconds since the epoch.",
            sample.timestamp,
            unit="seconds",
        )
        yield GaugeMetricFamily(
            "kvm_exporter_sample_duration_seconds",
            "Duration of the served sample over all CPUs, in seconds.",
            sample.duration,
            unit="seconds",
        )


def collector_families(collectors: Mapping[str, Collected]) -> Iterator[Metric]:
    """Yield success and duration of each collector: ``guest``, ``host`` and ``baseline``."""
    yield gauges(
        "kvm_exporter_collector_success",
        "1 if the collector succeeded: guest reads evidence of the guest kernel, host queries /dev/kvm (absent if the "
        "machine has none), baseline reads the baseline's file.",
        ("collector",),
        {(name,): collected.success for name, collected in collectors.items()},
    )
    yield gauges(
        "kvm_exporter_collector_duration_seconds",
        "Duration of the collector's last run.",
        ("collector",),
        {(name,): collected.duration for name, collected in collectors.items()},
        unit="seconds",
    )


class Reload(NamedTuple):
    """The outcome of the last reload of the web configuration, and its time in seconds since the epoch."""

    successful: bool
    timestamp: float
    #: End of the certificate that is served, in seconds since the epoch; None without TLS.
    certificate_end: float | None = None


def web_config_families(reload: Reload) -> Iterator[Metric]:
    """Yield outcome and time of the last reload of the web configuration, and the end of the certificate."""
    yield GaugeMetricFamily(
        "kvm_exporter_web_config_last_reload_successful",
        "1 if the web configuration (--web.config.file) was reloaded; 0 if that failed and the previous one is in use.",
        reload.successful,
    )
    yield GaugeMetricFamily(
        "kvm_exporter_web_config_last_reload_timestamp_seconds",
        "Time of the last reload of the web configuration, in seconds since the epoch.",
        reload.timestamp,
        unit="seconds",
    )
    if reload.certificate_end is not None:
        yield GaugeMetricFamily(
            "kvm_exporter_web_certificate_expiry_timestamp_seconds",
            "End of the TLS certificate that is served, in seconds since the epoch. Certificates of authorities that "
            "are sent with it may end earlier.",
            reload.certificate_end,
            unit="seconds",
        )


def settings_families(max_age: float) -> Iterator[Metric]:
    """Yield the settings that alerts compare with: the maximum age of a sample, in seconds."""
    yield GaugeMetricFamily(
        "kvm_exporter_sample_max_age_seconds",
        "Age above which a new sample is due (--sample.max-age), in seconds; 0: at no age.",
        max_age,
        unit="seconds",
    )


def counter_families(tally: Tally) -> Iterator[Metric]:
    """Yield the counters since the start: attempts, failures and changes."""
    yield counters(
        "kvm_exporter_samples",
        "Attempts to sample the CPUID leaves, by trigger.",
        ("reason",),
        {(reason,): count for reason, count in tally.samples.items()},
    )
    yield counters(
        "kvm_exporter_sample_failures",
        "Attempts to sample the CPUID leaves that failed or timed out, by cause.",
        ("cause",),
        {(cause,): count for cause, count in tally.failures.items()},
    )
    yield CounterMetricFamily(
        "kvm_exporter_sample_changes",
        "Published samples whose leaves differ from those of the previous sample.",
        tally.changes,
    )


def build_families() -> Iterator[Metric]:
    """Yield the versions of the exporter, Python and prometheus_client."""
    from importlib.metadata import version  # noqa: PLC0415 - it takes a megabyte that most commands do not need

    yield InfoMetricFamily(
        "kvm_exporter_build",
        "Versions of the exporter, of Python and of prometheus_client.",
        {
            "version": __version__,
            "revision": REVISION,
            "python_version": platform.python_version(),
            "prometheus_client_version": version("prometheus-client"),
        },
    )


def textfile_body(observation: Observation, max_age: float) -> bytes:
    """Return the metrics for node_exporter's textfile collector, in text format 0.0.4.

    ``max_age`` is the time in seconds after which the file is due to be written again. Counters and process metrics are
    left out, because the process has ended when the file is read.
    """
    families = [
        *machine_families(observation.sample, observation.boot),
        *observed_families(observation),
        *build_families(),
        *sample_families(observation.sample, success=observation.sample.pinned),
        *settings_families(max_age),
        *collector_families(observation.collectors),
    ]
    return render(families, Format.TEXT_0_0_4)
