"""Which machines are offered the same, and how that changed: rows of the dashboard *KVM fleet*."""

from settings import OF_FINGERPRINT, OF_MACHINE

from grafana.board import FLEET_UID, THIS_GUEST, Row
from grafana.queries import COHORT_NAME, FINGERPRINT_SHARE, JOBS, MOST_ROWS, SELECTED
from grafana.series import Lines
from grafana.tables import COHORT_COLUMNS, Column, Table

THIS_FINGERPRINT = (
    f"/d/{FLEET_UID}?${{__url_time_range}}&${{datasource:queryparam}}&${{job:queryparam}}&${{instance:queryparam}}"
    "&var-fingerprint=${__value.raw}"
)

FINGERPRINTS = Row(
    title="Fingerprints",
    height=10,
    panels=(
        Table(
            title="Fingerprints",
            description="Machines with the same fingerprint are offered the same. Follow one to see which have it.",
            queries={
                "machines": f"max by ({OF_FINGERPRINT}) (cohort_fingerprint:kvm_fingerprint_info:count{{{JOBS}}})",
                "share": f"max by ({OF_FINGERPRINT}) ({FINGERPRINT_SHARE})",
            },
            columns=(
                Column(field="fingerprint", title="Fingerprint", link=THIS_FINGERPRINT),
                Column(field="Value #machines", title="Machines"),
                Column(field="Value #share", title="Share", unit="percentunit"),
                *COHORT_COLUMNS,
            ),
            sort=("-Machines",),
        ),
        Table(
            title="Which machine has which",
            description=f"Selected machines with the fingerprints in $fingerprint; at most {MOST_ROWS}.",
            queries={
                "machines": f"""
topk({MOST_ROWS},
  max by ({OF_MACHINE}, fingerprint) (kvm_fingerprint_info{{{SELECTED}, fingerprint=~"$fingerprint"}})
)
"""
            },
            columns=(
                Column(field="instance", title="Machine", link=THIS_GUEST),
                Column(field="fingerprint", title="Fingerprint"),
                Column(field="job", title="Job"),
            ),
            sort=("Fingerprint", "Machine"),
        ),
        Lines(
            title="Machines by fingerprint",
            description="How a roll-out goes on: what many were offered gives way to what many are.",
            queries={"machines": f"cohort_fingerprint:kvm_fingerprint_info:count{{{JOBS}}}"},
            names=f"{COHORT_NAME} {{{{fingerprint}}}}",
            unit="none",
            stacked=True,
        ),
    ),
)

HISTORY = Row(
    title="Over time",
    height=8,
    panels=(
        Lines(
            title="Guests on KVM over time",
            description="Machines of each job that find KVM's signature.",
            queries={"guests": f"cohort:kvm_present:sum{{{JOBS}}}"},
            names=COHORT_NAME,
            unit="none",
        ),
        Lines(
            title="Drifted machines over time",
            description="Machines of each job that are offered something else than at boot.",
            queries={"drifted": f"cohort:kvm_boot_feature_changes:drifted{{{JOBS}}}"},
            names=COHORT_NAME,
            unit="none",
        ),
        Lines(
            title="Different offers over time",
            description="Fingerprints that the machines of each job have.",
            queries={"offers": f"cohort:kvm_fingerprint_info:distinct{{{JOBS}}}"},
            names=COHORT_NAME,
            unit="none",
        ),
    ),
)
