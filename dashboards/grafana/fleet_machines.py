"""Current problems of a fleet, and the machines that have them: rows of the dashboard *KVM fleet*."""

from settings import OF_FINGERPRINT, OF_MACHINE, RARE_SHARE

from grafana.board import THIS_GUEST, Row
from grafana.panels import Stat
from grafana.queries import FINGERPRINT_SHARE, JOBS, MOST_ROWS, SELECTED, SHOWN, drift, each
from grafana.series import Timeline
from grafana.tables import Column, Table
from grafana.values import BAD, CHANGED, NEWS, ODD, SIGNATURE

FIRING = f'alertstate="firing", alertname=~"Kvm.+", {JOBS}'
"""Matchers for the firing alerts of the selected jobs, including alerts on a cohort, which have no instance."""

NO_MACHINE = f"0 * sum(kvm_present{{{SELECTED}}})"
"""An expression: 0 if any machine is selected, else no result, which a panel shows as unknown."""


NOW = Row(
    height=4,
    panels=(
        Stat(
            title="Alerts",
            description="Firing alerts of severity warning or critical, from alerts.yaml in this Prometheus.",
            queries={
                "alerts": f"""
count(ALERTS{{{FIRING}, severity=~"critical|warning"}})
or on () {NO_MACHINE}
"""
            },
            thresholds=((1, BAD),),
        ),
        Stat(
            title="Guests on KVM",
            description="The number of selected machines that are offered KVM's signature.",
            queries={"guests": f"sum(kvm_present{{{SELECTED}}})"},
        ),
        Stat(
            title="Exporters down",
            description="The number of selected machines that Prometheus cannot scrape. Their state is unknown.",
            queries={"down": f"sum(up{{{SELECTED}}} == bool 0)"},
            thresholds=((1, BAD),),
        ),
        Stat(
            title="Samples failing",
            description="The number of machines whose last sample failed. They serve the last good sample.",
            queries={"failing": f"sum(kvm_exporter_sample_success{{{SELECTED}}} == bool 0)"},
            thresholds=((1, BAD),),
        ),
        Stat(
            title="Drifted",
            description="The number of machines that differ from their boot reference, the first sample of their boot.",
            queries={"drifted": f"sum({drift(SELECTED)} > bool 0)"},
            thresholds=((1, BAD),),
        ),
        Stat(
            title="CPUs differ",
            description="The number of machines with CPUs that differ from the majority of the machine's CPUs.",
            queries={"divergent": f"sum(kvm_cpus_divergent{{{SELECTED}}} > bool 0)"},
            thresholds=((1, BAD),),
        ),
        Stat(
            title="Rare",
            description=f"Machines with a rare feature set: one that less than {RARE_SHARE:.0%} of their cohort have.",
            queries={
                "rare": f"""
count(kvm_fingerprint_info{{{SELECTED}}} and on ({OF_FINGERPRINT}) {FINGERPRINT_SHARE} < {RARE_SHARE})
or on () {NO_MACHINE}
"""
            },
            thresholds=((1, ODD),),
        ),
        Stat(
            title="Feature sets",
            description="The number of fingerprints of the selected machines: 1 if all have the same feature set.",
            queries={"fingerprints": f"count(count by (fingerprint) (kvm_fingerprint_info{{{SELECTED}}}))"},
            thresholds=((2, NEWS),),
        ),
    ),
)

MACHINES = Row(
    title="Machines",
    height=10,
    panels=(
        Table(
            title="Firing alerts",
            description=(
                f"Firing alerts of the selected jobs, from alerts.yaml in this Prometheus; at most {MOST_ROWS}."
            ),
            queries={
                "alerts": f"""
topk({MOST_ROWS}, max by (severity, alertname, {OF_MACHINE}, feature) (ALERTS{{{FIRING}}}))
"""
            },
            columns=(
                Column(field="severity", title="Severity", width=90),
                Column(field="alertname", title="Alert"),
                Column(field="instance", title="Machine", link=THIS_GUEST),
                Column(field="feature", title="Feature"),
                Column(field="job", title="Job"),
            ),
            sort=("Severity", "Alert", "Machine"),
            width=10,
        ),
        Table(
            title="Machines to check first",
            description=(
                "The machines in $machine: differences from their boot reference, the first sample of their boot, the "
                "number of CPUs that differ, and the share of the cohort that has the same feature set."
            ),
            queries={
                "up": each("up"),
                "lost": each("kvm_boot_feature_changes", where='change="lost"'),
                "gained": each("kvm_boot_feature_changes", where='change="gained"'),
                "signature": each("kvm_boot_signature_changed"),
                "divergent": each("kvm_cpus_divergent"),
                "share": f"""
max by ({OF_MACHINE}, fingerprint) (
  kvm_fingerprint_info{{{SHOWN}}} * on ({OF_FINGERPRINT}) group_left () {FINGERPRINT_SHARE}
)
""",
                "boot": each("kvm_boot_reference_timestamp_seconds") + " * 1000",
            },
            columns=(
                Column(field="instance", title="Machine", link=THIS_GUEST),
                Column(field="Value #up", title="Scraped", words={"0": ("down", BAD), "1": ("up", "text")}),
                Column(field="Value #lost", title="Lost", thresholds=((1, BAD),)),
                Column(field="Value #gained", title="Gained", thresholds=((1, NEWS),)),
                Column(field="Value #signature", title="Signature", words=SIGNATURE),
                Column(field="Value #divergent", title="CPUs that differ", thresholds=((1, BAD),)),
                Column(field="fingerprint", title="Fingerprint", width=150),
                Column(field="Value #share", title="Share", unit="percentunit"),
                Column(field="Value #boot", title="First sampled", unit="dateTimeFromNow"),
                Column(field="job", title="Job"),
            ),
            sort=("-Lost", "-Gained", "Share"),
            width=14,
        ),
    ),
)

CHANGES = Row(
    height=8,
    panels=(
        Timeline(
            title="Changes since boot",
            description="Feature bits of the machines in $machine that differ from their boot reference.",
            queries={"changed": each("kvm_boot_feature_changed", "feature")},
            names="{{instance}} {{feature}}",
            values=CHANGED,
        ),
    ),
)
