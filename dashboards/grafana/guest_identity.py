"""The state of a guest, its identity and its clock: rows of the dashboard *KVM guest*."""

from labels import OF_MACHINE
from settings import Settings

from grafana.board import Row, Section
from grafana.problems_table import PROBLEMS_TABLE
from grafana.queries import JOBS, SCRAPED, SHOWN, each, judged
from grafana.tables import Column, Table
from grafana.values import (
    ANSWERS,
    BAD,
    KEPT,
    KVM_CLOCK,
    NEWS,
    ODD,
    PRESENT,
    SIGNATURE,
    STABLE,
    SUCCEEDS,
)

NOTHING = "No machine is selected, or Prometheus scrapes none."

STATE = Table(
    title="State",
    description=(
        "Whether Prometheus can scrape the exporter and its last sample succeeded, whether KVM's signature is there, "
        "differences from the boot reference, CPUs that differ from the majority, violations of the baseline, if there "
        "is a valid one, and the clock."
    ),
    queries={
        "up": SCRAPED,
        "success": each("kvm_exporter_sample_success"),
        "present": each("kvm_present"),
        "lost": each("kvm_boot_feature_changes", where='change="lost"'),
        "gained": each("kvm_boot_feature_changes", where='change="gained"'),
        "signature": each("kvm_boot_signature_changed"),
        "divergent": each("kvm_cpus_divergent"),
        "against": f"""
count by ({OF_MACHINE}) (kvm_baseline_violation{{{SHOWN}}})
or on ({OF_MACHINE})
0 * max by ({OF_MACHINE}) ({judged(SHOWN)})
""",
        "clock": each("kvm_clocksource_current_is_kvmclock"),
        "stable": each("kvm_clock_stable"),
    },
    columns=(
        Column(field="instance", title="Machine"),
        Column(field="Value #up", title="Exporter", words=ANSWERS, width=85),
        Column(field="Value #success", title="Sample", words=SUCCEEDS, width=80),
        Column(field="Value #present", title="Hypervisor", words=PRESENT, width=100),
        Column(field="Value #lost", title="Lost", thresholds=((1, BAD),), width=60),
        Column(field="Value #gained", title="Gained", thresholds=((1, NEWS),), width=75),
        Column(field="Value #signature", title="Signature", words=SIGNATURE, width=95),
        Column(field="Value #divergent", title="CPUs differ", thresholds=((1, BAD),), width=105),
        Column(field="Value #against", title="Baseline", thresholds=((1, ODD),), width=85),
        Column(field="Value #clock", title="Clock source", words=KVM_CLOCK, width=110),
        Column(field="Value #stable", title="Clock", words=STABLE, width=95),
    ),
    sort=("-Lost", "Machine"),
    empty=NOTHING,
)

NOW = (Row(height=8, panels=(PROBLEMS_TABLE,)), Row(height=7, panels=(STATE,)))


def identity(settings: Settings) -> Section:
    """Return the section of what the machine is."""
    return Section(
        title="Identity and clock",
        rows=(
            Row(
                height=7,
                panels=(
                    Table(
                        title="Hypervisor signatures",
                        description=(
                            "Each hypervisor signature in the CPUID leaves, its base, and the highest leaf at that "
                            "base."
                        ),
                        queries={"signatures": each("kvm_signature_info", "signature", "base", "max_leaf")},
                        columns=(
                            Column(field="instance", title="Machine"),
                            Column(field="signature", title="Signature", width=130),
                            Column(field="base", title="Base", width=110),
                            Column(field="max_leaf", title="Highest leaf", width=115),
                        ),
                        sort=("Machine", "Base"),
                        empty="No hypervisor signature was found, or nothing is scraped.",
                    ),
                ),
            ),
            Row(
                height=7,
                panels=(
                    Table(
                        title="Fingerprint",
                        description=(
                            "The fingerprint of the feature set, the machines of the cohort that have the same, and "
                            "whether the leaves were fixed when the machine was launched: then they cannot show drift."
                        ),
                        queries={
                            "fingerprint": each("kvm_fingerprint_info", "fingerprint"),
                            "share": f"""
max by ({OF_MACHINE}, fingerprint) (
  kvm_fingerprint_info{{{SHOWN}}}
  * on ({settings.of_fingerprint}) group_left ()
  cohort_fingerprint:kvm_fingerprint_info:share{{{JOBS}}}
)
""",
                            "machines": f"""
max by ({OF_MACHINE}, fingerprint) (
  kvm_fingerprint_info{{{SHOWN}}}
  * on ({settings.of_fingerprint}) group_left ()
  cohort_fingerprint:kvm_fingerprint_info:count{{{JOBS}}}
)
""",
                            "fixed": f"""
max by ({OF_MACHINE}, fingerprint) (
  kvm_fingerprint_info{{{SHOWN}}}
  * on ({OF_MACHINE}) group_left ()
  max by ({OF_MACHINE}) (kvm_leaves_fixed_at_launch{{{SHOWN}}})
)
""",
                        },
                        columns=(
                            Column(field="instance", title="Machine"),
                            Column(field="fingerprint", title="Fingerprint", width=165),
                            Column(field="Value #machines", title="Machines", width=90),
                            Column(field="Value #share", title="Share", unit="percentunit", width=75),
                            Column(
                                field="Value #fixed",
                                title="Leaves",
                                words={"0": ("read", "text"), "1": ("fixed at launch", ODD)},
                                absent="-",
                                width=115,
                            ),
                        ),
                        sort=("Machine",),
                        empty="No machine is on KVM, or nothing is scraped.",
                    ),
                ),
            ),
            Row(
                height=7,
                panels=(
                    Table(
                        title="Boot reference",
                        description=(
                            "The first sample of this boot: when, how long after the boot, whether it outlives a "
                            "restart of the exporter, and when the present difference from it was first seen. If it "
                            "was taken late, it cannot tell what the kernel found at boot."
                        ),
                        queries={
                            "taken": each("kvm_boot_reference_timestamp_seconds") + " * 1000",
                            "uptime": each("kvm_boot_reference_uptime_seconds"),
                            "kept": each("kvm_boot_reference_persistent"),
                            "changed": each("kvm_boot_change_timestamp_seconds") + " * 1000",
                        },
                        columns=(
                            Column(field="instance", title="Machine"),
                            Column(field="Value #taken", title="First sampled", unit="dateTimeAsIso", width=160),
                            Column(field="Value #uptime", title="After the boot", unit="s", width=120),
                            Column(field="Value #kept", title="Kept", words=KEPT, width=120),
                            Column(
                                field="Value #changed", title="Changed", unit="dateTimeAsIso", absent="-", width=160
                            ),
                        ),
                        sort=("Machine",),
                        empty=NOTHING,
                    ),
                ),
            ),
            Row(
                height=7,
                panels=(
                    Table(
                        title="Clock",
                        description=(
                            "The guest's clock source, whether KVM says that kvm-clock is stable, and the frequencies "
                            "that KVM reports: of the TSC in the clock's page, in the timing leaf and at first "
                            "sampling, and of the bus."
                        ),
                        queries={
                            "cpus": each("kvm_cpus_online"),
                            "clock": each("kvm_clocksource_current_is_kvmclock"),
                            "stable": each("kvm_clock_stable"),
                            "page": each("kvm_clock_tsc_frequency_hertz"),
                            "leaf": each("kvm_tsc_frequency_hertz"),
                            "then": each("kvm_boot_tsc_frequency_hertz"),
                            "bus": each("kvm_bus_frequency_hertz"),
                        },
                        columns=(
                            Column(field="instance", title="Machine"),
                            Column(field="Value #cpus", title="CPUs", width=65),
                            Column(field="Value #clock", title="Clock source", words=KVM_CLOCK, width=110),
                            Column(field="Value #stable", title="Clock", words=STABLE, width=95),
                            Column(field="Value #page", title="TSC, by the clock", unit="hertz", width=140),
                            Column(field="Value #leaf", title="TSC, by the leaf", unit="hertz", width=130),
                            Column(field="Value #then", title="TSC at first", unit="hertz", width=110),
                            Column(field="Value #bus", title="Bus", unit="hertz", width=90),
                        ),
                        sort=("Machine",),
                        empty=NOTHING,
                    ),
                ),
            ),
        ),
    )
