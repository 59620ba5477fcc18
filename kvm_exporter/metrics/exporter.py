"""The exporter's own state as metric families: how sampling goes, and what is running."""

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
from kvm_exporter.metrics.machine import machine_families, observed_families
from kvm_exporter.metrics.negotiation import Format


def sample_families(sample: Sample | None, *, success: bool) -> Iterator[Metric]:
    """How the sample that is served came to be."""
    yield GaugeMetricFamily(
        "kvm_exporter_sample_success",
        "1 if the last attempt to sample the CPUID leaves succeeded; if not, those of the last good one are served.",
        success,
    )
    if sample is not None:
        yield GaugeMetricFamily(
            "kvm_exporter_sample_timestamp_seconds",
            "When the sample that is served was begun, in seconds since the epoch.",
            sample.timestamp,
            unit="seconds",
        )
        yield GaugeMetricFamily(
            "kvm_exporter_sample_duration_seconds",
            "How long the sample that is served took, over all CPUs.",
            sample.duration,
            unit="seconds",
        )


def collector_families(collectors: Mapping[str, Collected]) -> Iterator[Metric]:
    """How it went to collect what is not read with CPUID."""
    success = GaugeMetricFamily(
        "kvm_exporter_collector_success",
        "1 if what the collector stands for could be had: evidence of the guest kernel; the host's view through "
        "/dev/kvm, absent where there is none; the baseline's file as it is now.",
        labels=("collector",),
    )
    duration = GaugeMetricFamily(
        "kvm_exporter_collector_duration_seconds", "How long that took.", labels=("collector",), unit="seconds"
    )
    for name, collected in collectors.items():
        success.add_metric((name,), collected.success)
        duration.add_metric((name,), collected.duration)
    yield success
    yield duration


class Reload(NamedTuple):
    """How the web configuration's files were last read, and when, in seconds since the epoch."""

    successful: bool
    timestamp: float


def web_config_families(reload: Reload) -> Iterator[Metric]:
    """Whether the web configuration that is in use is what its files say."""
    yield GaugeMetricFamily(
        "kvm_exporter_web_config_last_reload_successful",
        "1 if the web configuration (--web.config.file) in use is what its files say; 0 if they are broken.",
        reload.successful,
    )
    yield GaugeMetricFamily(
        "kvm_exporter_web_config_last_reload_timestamp_seconds",
        "When the files of the web configuration were last read, in seconds since the epoch.",
        reload.timestamp,
        unit="seconds",
    )


def settings_families(max_age: float) -> Iterator[Metric]:
    """The settings that alerts need to know."""
    yield GaugeMetricFamily(
        "kvm_exporter_sample_max_age_seconds",
        "How old a sample may be at a scrape before another is taken (--sample.max-age); 0 for any age.",
        max_age,
        unit="seconds",
    )


def counter_families(tally: Tally) -> Iterator[Metric]:
    """What has happened since the start."""
    samples = CounterMetricFamily(
        "kvm_exporter_samples", "Attempts to sample the CPUID leaves, by what made them due.", labels=("reason",)
    )
    for reason, count in tally.samples.items():
        samples.add_metric((reason,), count)
    yield samples
    failures = CounterMetricFamily(
        "kvm_exporter_sample_failures",
        "Attempts to sample the CPUID leaves that failed or were late.",
        labels=("cause",),
    )
    for cause, failed in tally.failures.items():
        failures.add_metric((cause,), failed)
    yield failures
    yield CounterMetricFamily(
        "kvm_exporter_sample_changes",
        "Published samples that differ from the one before, in what some CPU is offered.",
        tally.changes,
    )


def _prometheus_client_version() -> str:
    """The installed version."""
    from importlib.metadata import version  # noqa: PLC0415 - a megabyte that most commands do not need

    return version("prometheus-client")


def build_families() -> Iterator[Metric]:
    """What is running."""
    family = InfoMetricFamily("kvm_exporter_build", "The exporter's version and what it runs on.")
    labels = {
        "version": __version__,
        "revision": REVISION,
        "python_version": platform.python_version(),
        "prometheus_client_version": _prometheus_client_version(),
    }
    family.add_metric((), labels)
    yield family


def textfile_body(observation: Observation) -> bytes:
    """The gauges in text 0.0.4: no counters, and nothing of a process that is gone when the file is read."""
    families = [
        *machine_families(observation.sample, observation.boot),
        *observed_families(observation),
        *build_families(),
        *sample_families(observation.sample, success=True),
        *collector_families(observation.collectors),
    ]
    return render(families, Format.TEXT_0_0_4)
