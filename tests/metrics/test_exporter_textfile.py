"""kvm_exporter.metrics.exporter: the gauges in the file for node_exporter's textfile collector."""

from prometheus_client.parser import text_string_to_metric_families

from kvm_exporter.collector.boot import BootReference
from kvm_exporter.collector.conditions import Answer, Use
from kvm_exporter.collector.observer import Collected, Observation
from kvm_exporter.kvm.features import feature_named
from kvm_exporter.kvm.leaves import Kvm
from kvm_exporter.metrics.exporter import textfile_body
from lab.readers import BASE, guest, sample_of
from lab.scrape import Scrape

OBSERVATION = Observation(
    sample=sample_of({0: guest(0x0100007B), 1: guest(0x0100007B)}),
    reference=BootReference(guest(0x41007EFB), 1704067100.0, 20.0),
    in_use={feature_named("steal_time"): Use(Answer.YES, "offered at boot")},
    switched_off=((feature_named("steal_time"), "nopv"),),
    clocksource="tsc",
    host=Kvm(BASE, 0x01007AFB, 0),
    host_clocksource_based_on_tsc=True,
    collectors={"guest": Collected(success=True, duration=0.1), "host": Collected(success=True, duration=0.2)},
)


def test_all_gauges_are_in_the_file() -> None:
    """The file has all gauges of the machine, of the observation, and of the sample."""
    assert Scrape(textfile_body(OBSERVATION, 60).decode()).names == {
        "kvm_present",
        "kvm_signature_info",
        "kvm_feature_offered",
        "kvm_feature_offered_cpus",
        "kvm_fingerprint_info",
        "kvm_cpu_register",
        "kvm_cpus_online",
        "kvm_cpus",
        "kvm_cpus_divergent",
        "kvm_boot_reference_timestamp_seconds",
        "kvm_boot_reference_uptime_seconds",
        "kvm_boot_reference_persistent",
        "kvm_boot_feature_changes",
        "kvm_boot_feature_changed",
        "kvm_boot_signature_changed",
        "kvm_feature_in_use",
        "kvm_feature_switched_off",
        "kvm_clocksource_current_is_kvmclock",
        "kvm_host_feature_supported",
        "kvm_host_fingerprint_info",
        "kvm_host_clocksource_based_on_tsc",
        "kvm_exporter_build_info",
        "kvm_exporter_sample_success",
        "kvm_exporter_sample_timestamp_seconds",
        "kvm_exporter_sample_duration_seconds",
        "kvm_exporter_sample_max_age_seconds",
        "kvm_exporter_collector_success",
        "kvm_exporter_collector_duration_seconds",
    }


def test_nothing_is_counted() -> None:
    """The file has no counters, because the process that would count has exited."""
    families = list(text_string_to_metric_families(textfile_body(OBSERVATION, 60).decode()))
    assert {family.type for family in families} == {"gauge"}


def test_a_bit_that_was_lost_since_the_boot_is_in_the_file() -> None:
    """A lost unassigned bit is 0, and kvm_boot_feature_changed is -1 for it."""
    found = Scrape(textfile_body(OBSERVATION, 60).decode())
    assert found.value("kvm_feature_offered", feature="eax_bit_30") == 0
    assert found.value("kvm_boot_feature_changed", feature="eax_bit_30") == -1
    assert found.value("kvm_exporter_sample_success") == 1


def test_a_sample_alone_is_enough() -> None:
    """An observation without reference, evidence and host is written."""
    found = Scrape(textfile_body(Observation(sample_of({0: guest(0x0100007B)})), 60).decode())
    assert found.value("kvm_present") == 1
    assert not [name for name in found.names if name.startswith(("kvm_boot", "kvm_host"))]
