"""Every series that the exporter has, by name: rendered, not listed."""

from functools import cache

from prometheus_client import PlatformCollector, ProcessCollector

from kvm_exporter.collector.boot import Boot, BootReferenceKeeper
from kvm_exporter.collector.observer import Collected, Observation
from kvm_exporter.collector.sampler import Tally
from kvm_exporter.cpuid.registers import Registers
from kvm_exporter.kvm.baseline import Baseline
from kvm_exporter.kvm.clock import PvClock
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, Kvm, SignatureLeaf, read_leaves
from kvm_exporter.metrics.baseline import baseline_families
from kvm_exporter.metrics.exporter import (
    Reload,
    build_families,
    collector_families,
    counter_families,
    sample_families,
    settings_families,
    web_config_families,
)
from kvm_exporter.metrics.http import HttpCounts, http_families
from kvm_exporter.metrics.machine import machine_families, observed_families
from lab.readers import BASE, kvm_rows, reader, sample_of


@cache
def rendered() -> frozenset[str]:
    """The names of the series of each kind that the exporter has on a machine that drifted, and of its families."""
    timing = Registers(2_600_000, 1_000_000, 0, 0)
    before, now = (
        read_leaves(reader(kvm_rows(eax, timing=timing)), [SignatureLeaf(BASE, KVM_SIGNATURE, 0)])
        for eax in (0x0100007B, 0x01007EFB)
    )
    sample = sample_of({0: now}, clock=PvClock(stable=True, tsc_khz=2_600_000))
    keeper = BootReferenceKeeper(None, Boot("", 0.0, 0.0))
    keeper.reference(sample_of({0: before}))
    reference = keeper.reference(sample)
    host = Kvm(BASE, 0x01007EFB, 0)
    families = [
        *machine_families(sample, per_cpu_features=True),
        *observed_families(
            Observation(
                sample,
                reference,
                clocksource="kvm-clock",
                host=host,
                host_clocksource_based_on_tsc=True,
                fixed_at_launch="sev-snp",
            )
        ),
        *baseline_families(Baseline(), sample),
        *sample_families(sample, success=True),
        *settings_families(60),
        *counter_families(Tally()),
        *collector_families({"guest": Collected(success=True, duration=0)}),
        *web_config_families(Reload(successful=True, timestamp=0, certificate_end=0)),
        *http_families(HttpCounts({200: 0}, 0, {"limit": 0}, 0)),
        *build_families(),
        *ProcessCollector(registry=None).collect(),
        *PlatformCollector(registry=None).collect(),
    ]
    samples = {sample.name for family in families for sample in family.samples}
    return frozenset({family.name for family in families} | samples)
