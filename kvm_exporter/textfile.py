"""The gauges for node_exporter's textfile collector."""

from kvm_exporter.collector.observer import Observation
from kvm_exporter.drift_metrics import observed_families
from kvm_exporter.metrics.exporter import build_families, collector_families, sample_families
from kvm_exporter.metrics.exposition import render
from kvm_exporter.metrics.machine import machine_families
from kvm_exporter.metrics.negotiation import Format


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
