"""kvm_exporter.metrics.exporter: the exporter's own metrics before and after the first sample; the number of series."""

import platform
from collections.abc import Iterable
from importlib.metadata import version

import pytest
from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.core import Metric

import kvm_exporter
from kvm_exporter._revision import REVISION
from kvm_exporter.collector.observer import Collected
from kvm_exporter.collector.sampler import Tally
from kvm_exporter.kvm.features import FEATURES
from kvm_exporter.metrics.exporter import (
    build_families,
    collector_families,
    counter_families,
    sample_families,
    settings_families,
)
from kvm_exporter.metrics.exposition import render
from kvm_exporter.metrics.machine import machine_families
from kvm_exporter.metrics.negotiation import Format
from lab.readers import guest, sample_of
from lab.scrape import Scrape

SAMPLE = sample_of({0: guest(0x01007EFB)})


def scrape(families: Iterable[Metric]) -> Scrape:
    """Return the families as a scrape."""
    return Scrape(render(families, Format.TEXT_0_0_4).decode())


def test_before_any_sample_there_is_only_that_it_failed() -> None:
    """Before the first sample only kvm_exporter_sample_success exists, with 0."""
    found = scrape(sample_families(None, success=False))
    assert found.names == {"kvm_exporter_sample_success"}
    assert found.value("kvm_exporter_sample_success") == 0


@pytest.mark.parametrize("success", [True, False])
def test_the_sample_that_is_served_is_described(*, success: bool) -> None:
    """The start and the duration of the served sample are reported, whether a later attempt succeeded or not."""
    found = scrape(sample_families(SAMPLE, success=success))
    assert {name: found.value(name) for name in found.names} == {
        "kvm_exporter_sample_success": success,
        "kvm_exporter_sample_timestamp_seconds": 1704067200.0,
        "kvm_exporter_sample_duration_seconds": 0.25,
    }


@pytest.mark.parametrize("max_age", [0.0, 60.0, 0.5])
def test_the_maximum_age_is_shown(max_age: float) -> None:
    """The maximum age is a metric, because alerts on old samples need it."""
    assert scrape(settings_families(max_age)).value("kvm_exporter_sample_max_age_seconds") == max_age


def test_counters_begin_at_zero() -> None:
    """Every reason and cause starts at 0, because a rate misses the first event of a series that appears with it."""
    found = scrape(counter_families(Tally()))
    assert found.values("kvm_exporter_samples_total", "reason") == {
        ("start",): 0,
        ("age",): 0,
        ("signal",): 0,
        ("hotplug",): 0,
    }
    assert found.values("kvm_exporter_sample_failures_total", "cause") == {("timeout",): 0, ("error",): 0}
    assert found.value("kvm_exporter_sample_changes_total") == 0
    assert len(found.names) == 3


def test_counters_tell_what_has_happened() -> None:
    """Each event is counted under its own reason or cause."""
    none = Tally()
    record = Tally(
        changes=5, samples={**none.samples, "age": 3, "hotplug": 1}, failures={**none.failures, "timeout": 2}
    )
    found = scrape(counter_families(record))
    assert found.values("kvm_exporter_samples_total", "reason") == {
        ("start",): 0,
        ("age",): 3,
        ("signal",): 0,
        ("hotplug",): 1,
    }
    assert found.values("kvm_exporter_sample_failures_total", "cause") == {("timeout",): 2, ("error",): 0}
    assert found.value("kvm_exporter_sample_changes_total") == 5


def test_collectors_tell_how_it_went() -> None:
    """Each collector that ran has a series; others have none."""
    collectors = {"guest": Collected(success=True, duration=0.5), "host": Collected(success=False, duration=0.25)}
    found = scrape(collector_families(collectors))
    assert found.values("kvm_exporter_collector_success", "collector") == {("guest",): 1, ("host",): 0}
    assert found.values("kvm_exporter_collector_duration_seconds", "collector") == {("guest",): 0.5, ("host",): 0.25}
    assert scrape(collector_families({})).names == set()


def test_the_build_is_described() -> None:
    """The versions of the exporter, of Python and of prometheus_client are labels."""
    labels = ("version", "revision", "python_version", "prometheus_client_version")
    assert scrape(build_families()).values("kvm_exporter_build_info", *labels) == {
        (kvm_exporter.__version__, REVISION, platform.python_version(), version("prometheus-client")): 1
    }


def test_series_are_few_and_grow_by_two_a_cpu() -> None:
    """Without drift, baseline and host a scrape of one CPU has 70 series, those of the process included."""
    one, many = (
        sum(
            len(family.samples)
            for families in (
                machine_families(sample),
                sample_families(sample, success=True),
                collector_families({"guest": Collected(success=True, duration=0.1)}),
                settings_families(60.0),
                counter_families(Tally()),
                build_families(),
                PlatformCollector(registry=None).collect(),
                ProcessCollector(registry=None).collect(),
            )
            for family in families
        )
        for sample in (SAMPLE, sample_of(dict.fromkeys(range(100), guest(0x01007EFB))))
    )
    assert one == (9 + 2 * len(FEATURES)) + 2 + 14 + 7
    assert many - one == 2 * 99
