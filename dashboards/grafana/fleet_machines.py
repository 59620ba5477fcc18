"""What is wrong with a fleet now, and with which machines: rows of the dashboard *KVM fleet*."""

from settings import OF_FINGERPRINT, OF_MACHINE, RARE_SHARE

from grafana.board import THIS_GUEST, Row
from grafana.panels import Stat
from grafana.queries import FINGERPRINT_SHARE, JOBS, MOST_ROWS, SELECTED, SHOWN, drift, each
from grafana.series import Timeline
from grafana.tables import Column, Table
from grafana.values import BAD, CHANGED, NEWS, ODD, SIGNATURE

FIRING = f'alertstate="firing", alertname=~"Kvm.+", {JOBS}'
"""Alerts of the selected jobs; those on a whole cohort name no machine."""

NO_MACHINE = f"0 * sum(kvm_present{{{SELECTED}}})"
"""Nought where there are machines, so that a panel without any says that it knows nothing."""


NOW = Row(
    height=4,
    panels=(
        Stat(
            title="Alerts",
            description="Warnings and worse that fire, as the rules in alerts.yaml make them in this Prometheus.",
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
            description="Selected machines that find KVM's signature.",
            queries={"guests": f"sum(kvm_present{{{SELECTED}}})"},
        ),
        Stat(
            title="Exporters down",
            description="Selected machines that Prometheus cannot scrape: nothing is known of them now.",
            queries={"down": f"sum(up{{{SELECTED}}} == bool 0)"},
            thresholds=((1, BAD),),
        ),
        Stat(
            title="Samples failing",
            description="Machines whose last attempt to sample the CPUID leaves failed; they serve the last good one.",
            queries={"failing": f"sum(kvm_exporter_sample_success{{{SELECTED}}} == bool 0)"},
            thresholds=((1, BAD),),
        ),
        Stat(
            title="Drifted",
            description="Machines that are offered something else than when their present boot was first sampled.",
            queries={"drifted": f"sum({drift(SELECTED)} > bool 0)"},
            thresholds=((1, BAD),),
        ),
        Stat(
            title="CPUs differ",
            description="Machines that have CPUs that are offered something else than most of their CPUs.",
            queries={"divergent": f"sum(kvm_cpus_divergent{{{SELECTED}}} > bool 0)"},
            thresholds=((1, BAD),),
        ),
        Stat(
            title="Rare",
            description=f"Machines that are offered what less than {RARE_SHARE:.0%} of their cohort are.",
            queries={
                "rare": f"""
count(kvm_fingerprint_info{{{SELECTED}}} and on ({OF_FINGERPRINT}) {FINGERPRINT_SHARE} < {RARE_SHARE})
or on () {NO_MACHINE}
"""
            },
            thresholds=((1, ODD),),
        ),
        Stat(
            title="Different offers",
            description="Fingerprints that the selected machines have: 1 if all are offered the same.",
            queries={"offers": f"count(count by (fingerprint) (kvm_fingerprint_info{{{SELECTED}}}))"},
            thresholds=((2, NEWS),),
        ),
    ),
)

WHO = Row(
    title="Who",
    height=10,
    panels=(
        Table(
            title="Alerts that fire",
            description=(
                "Alerts of the selected jobs, as the rules in alerts.yaml make them in this Prometheus; at most "
                f"{MOST_ROWS}."
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
            title="Machines to look at first",
            description=(
                "The machines in $machine: what of theirs is not as it was at boot, how many of their CPUs differ, and "
                "how many of their cohort are offered the same."
            ),
            queries={
                "up": each("up"),
                "lost": each("kvm_boot_feature_changes", where='change="lost"'),
                "gained": each("kvm_boot_feature_changes", where='change="gained"'),
                "signature": each("kvm_boot_signature_changed"),
                "divergent": each("kvm_cpus_divergent"),
                "alike": f"""
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
                Column(field="Value #alike", title="Alike", unit="percentunit"),
                Column(field="Value #boot", title="First sampled", unit="dateTimeFromNow"),
                Column(field="job", title="Job"),
            ),
            sort=("-Lost", "-Gained", "Alike"),
            width=14,
        ),
    ),
)

CHANGES = Row(
    height=8,
    panels=(
        Timeline(
            title="Changes since boot",
            description="Bits of the machines in $machine that are not as they were at boot.",
            queries={"changed": each("kvm_boot_feature_changed", "feature")},
            names="{{instance}} {{feature}}",
            values=CHANGED,
        ),
    ),
)
