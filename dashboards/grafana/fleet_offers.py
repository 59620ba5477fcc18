"""The machines by feature set, now and over time: sections of the dashboard *KVM fleet*."""

from labels import OF_MACHINE
from settings import Settings

from grafana.board import FLEET_UID, THIS_GUEST, Row, Section
from grafana.queries import FINGERPRINT_SHARE, JOBS, MOST_ROWS, SELECTED, cohort_name
from grafana.series import Lines
from grafana.tables import Column, Table, cohort_columns

THIS_FINGERPRINT = (
    f"/d/{FLEET_UID}?${{__url_time_range}}&${{datasource:queryparam}}&${{job:queryparam}}&${{instance:queryparam}}"
    "&var-fingerprint=${__value.raw}"
)


def fingerprint_counts(settings: Settings) -> str:
    """Return an expression: the number of machines with each fingerprint."""
    return f"sum by ({settings.of_fingerprint}) (cohort_fingerprint:kvm_fingerprint_info:count{{{JOBS}}})"


def machines_by_fingerprint(settings: Settings) -> Lines:
    """Return the panel of the number of machines with each fingerprint, over time."""
    return Lines(
        title="Machines by fingerprint",
        description="Roll-out progress: the number of machines with each fingerprint.",
        queries={"machines": fingerprint_counts(settings)},
        names=f"{cohort_name(settings)} {{{{fingerprint}}}}",
        unit="none",
        stacked=True,
        counts=True,
    )


def fingerprints(settings: Settings) -> Section:
    """Return the section of the machines by feature set, now."""
    return Section(
        title="Fingerprints",
        rows=(
            Row(
                height=10,
                panels=(
                    Table(
                        title="Fingerprints",
                        description=(
                            "Machines with equal fingerprints have the same feature set. Click one to list its "
                            "machines."
                        ),
                        queries={
                            "machines": fingerprint_counts(settings),
                            "share": f"max by ({settings.of_fingerprint}) ({FINGERPRINT_SHARE})",
                        },
                        columns=(
                            Column(field="fingerprint", title="Fingerprint", link=THIS_FINGERPRINT),
                            Column(field="Value #machines", title="Machines", width=90),
                            Column(field="Value #share", title="Share", unit="percentunit", width=75),
                            *cohort_columns(settings),
                        ),
                        sort=("-Machines",),
                        empty="No machine is on KVM, or the rules are not loaded in this Prometheus.",
                        width=9,
                    ),
                    Table(
                        title="Fingerprint by machine",
                        description=(
                            f"The machines with the selected fingerprints; at most {MOST_ROWS}, the rarest first."
                        ),
                        queries={
                            "share": f"""
bottomk({MOST_ROWS},
  max by ({OF_MACHINE}, fingerprint) (
    kvm_fingerprint_info{{{SELECTED}, fingerprint=~"$fingerprint"}}
    * on ({settings.of_fingerprint}) group_left () {FINGERPRINT_SHARE}
  )
)
"""
                        },
                        columns=(
                            Column(field="instance", title="Machine", link=THIS_GUEST),
                            Column(field="fingerprint", title="Fingerprint", width=165),
                            Column(field="Value", title="Share", unit="percentunit", width=75),
                            Column(field="job", title="Job", width=80),
                        ),
                        sort=("Share", "Fingerprint", "Machine"),
                        empty="No selected machine has one of the selected fingerprints.",
                    ),
                ),
            ),
            Row(height=8, panels=(machines_by_fingerprint(settings),)),
        ),
    )


def history(settings: Settings) -> Section:
    """Return the section of numbers of machines over time."""
    return Section(
        title="Over time",
        rows=(
            Row(
                height=8,
                panels=(
                    Lines(
                        title="Guests on KVM over time",
                        description="The number of machines of each job that are offered KVM's signature.",
                        queries={"guests": f"sum by ({settings.of_cohort}) (cohort:kvm_present:sum{{{JOBS}}})"},
                        names=cohort_name(settings),
                        unit="none",
                        counts=True,
                    ),
                    Lines(
                        title="Drifted machines over time",
                        description="The number of machines of each job that differ from their boot reference.",
                        queries={
                            "drifted": (
                                f"sum by ({settings.of_cohort}) (cohort:kvm_boot_feature_changes:drifted{{{JOBS}}})"
                            ),
                        },
                        names=cohort_name(settings),
                        unit="none",
                        counts=True,
                    ),
                    Lines(
                        title="Feature sets over time",
                        description="The number of different fingerprints among the machines of each job.",
                        queries={"fingerprints": f"cohort:kvm_fingerprint_info:distinct{{{JOBS}}}"},
                        names=cohort_name(settings),
                        unit="none",
                        counts=True,
                    ),
                ),
            ),
        ),
    )
