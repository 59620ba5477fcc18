"""Current problems of a fleet, and the machines that have them: rows of the dashboard *KVM fleet*."""

from labels import OF_MACHINE
from problems import WEIGHT
from settings import Settings

from grafana.board import THIS_GUEST, Row
from grafana.panels import Stat
from grafana.problems_table import NAMES, PROBLEMS_TABLE
from grafana.queries import FINGERPRINT_SHARE, JOBS, MOST_ROWS, SCRAPED, SELECTED, SHOWN, each, judged
from grafana.series import Timeline
from grafana.tables import Column, Table, cohort_columns
from grafana.values import ANSWERS, BAD, CHANGED, NEWS, ODD, PLAIN, SEVERITY, filled

FIRING = f'alertstate="firing", alertname=~"Kvm.+", {JOBS}'
"""Matchers for the firing alerts of the selected jobs, including alerts on a cohort, which have no instance."""

NONE = f"0 * sum(kvm_present{{{SELECTED}}}) * sum(cohort:up:count{{{JOBS}}})"
"""An expression: 0 if any machine is selected and the rules count its job, else no result: that is unknown."""

NONE_AGAINST = f"{NONE} * sum({judged(SELECTED)})"
"""The same for the machines that have a valid baseline."""

OF_ALERT = f"alertname, {OF_MACHINE}, feature"

SEVERITIES = "\nor\n".join(
    f'{value} * max by ({OF_ALERT}) (ALERTS{{{FIRING}, severity="{word}"}})' for value, (word, _) in SEVERITY.items()
)


def with_problem(names: str, none: str = NONE) -> str:
    """Return an expression: the number of selected machines with one of these problems; ``none`` gives the 0."""
    return f"""
count(max by ({OF_MACHINE}) ({WEIGHT}{{{SELECTED}, problem=~"{names}"}}))
or on () {none}
"""


def now(settings: Settings) -> Row:
    """Return the row of numbers of machines and alerts."""
    return Row(
        height=4,
        panels=(
            Stat(
                title="Alerts",
                description="Firing alerts of severity warning or critical, of the rules in this Prometheus.",
                queries={
                    "alerts": f"""
count(ALERTS{{{FIRING}, severity=~"critical|warning"}})
or on () {NONE}
"""
                },
                thresholds=((1, BAD),),
            ),
            Stat(
                title="Lost features",
                description=(
                    "The number of machines that lost a feature, or whose signature changed, since boot, or that use "
                    "a feature that they are not offered. Losses that are harmless do not count."
                ),
                queries={"lost": with_problem("KVM vanished|lost|lost, dangerous|used, not offered|signature changed")},
                thresholds=((1, BAD),),
            ),
            Stat(
                title="CPUs differ",
                description="The number of machines with CPUs that differ from the majority of the machine's CPUs.",
                queries={"divergent": f"sum(kvm_cpus_divergent{{{SELECTED}}} > bool 0)"},
                thresholds=((1, BAD),),
            ),
            Stat(
                title="Against baseline",
                description="The number of machines that violate their baseline, of those that have a valid one.",
                queries={"against": with_problem("required, not offered|forbidden, offered", NONE_AGAINST)},
                thresholds=((1, ODD),),
            ),
            Stat(
                title="Not sampled",
                description=(
                    "The number of machines whose exporter cannot be scraped, serves no sample, or whose last sample "
                    "failed. Their state is unknown."
                ),
                queries={"unknown": with_problem("not sampled")},
                thresholds=((1, ODD),),
            ),
            rare(
                settings,
                f"""
sum(
  (kvm_fingerprint_info{{{SELECTED}}} * on ({settings.of_fingerprint}) group_left () {FINGERPRINT_SHARE})
  < bool {settings.rare_share}
)
""",
            ),
            Stat(
                title="Feature sets",
                description="The number of fingerprints of the selected machines: 1 if all have the same feature set.",
                queries={"fingerprints": f"count(count by (fingerprint) (kvm_fingerprint_info{{{SELECTED}}}))"},
                thresholds=((2, NEWS),),
            ),
            Stat(
                title="Guests on KVM",
                description="The number of selected machines that are offered KVM's signature.",
                queries={"guests": f"sum(kvm_present{{{SELECTED}}})"},
            ),
        ),
    )


def rare(settings: Settings, number: str) -> Stat:
    """Return the panel of the number of machines with a rare feature set, an expression."""
    return Stat(
        title="Rare",
        description=(
            f"Machines with a rare feature set: fewer than {settings.rare_share * 100:g}% of their cohort have it."
        ),
        queries={"rare": number},
        thresholds=((1, ODD),),
    )


def of_machine_or_all(expression: str) -> str:
    """Return an expression whose series without an instance are of all, the value that selects all in a link."""
    return f'label_replace(\n{expression.strip()},\n"instance", "All", "instance", ""\n)'


PROBLEMS = Row(height=11, panels=(PROBLEMS_TABLE,))

ALERTS = Row(
    height=8,
    panels=(
        Table(
            title="Firing alerts",
            description=(
                f"Firing alerts of the selected jobs, of the rules in this Prometheus; at most {MOST_ROWS}, the "
                "most urgent first. An alert with the machine *All* is about its whole job."
            ),
            queries={
                "severity": of_machine_or_all(f"""
topk({MOST_ROWS}, max by ({OF_ALERT}) (
{SEVERITIES}
))
"""),
                "since": of_machine_or_all(f"""
max by ({OF_ALERT}) (
  1000 * ALERTS_FOR_STATE{{alertname=~"Kvm.+", {JOBS}}}
  and on ({OF_ALERT}) ALERTS{{{FIRING}}}
)
"""),
            },
            columns=(
                Column(field="instance", title="Machine", link=THIS_GUEST),
                Column(field="Value #severity", title="Severity", words=SEVERITY, width=90),
                Column(field="alertname", title="Alert", width=250),
                Column(field="feature", title="Feature", width=175),
                Column(field="Value #since", title="Since", unit="dateTimeFromNow", width=125),
                Column(field="job", title="Job", width=80),
            ),
            sort=("-Severity", "Alert", "Machine"),
            empty="No alert is known: none fires, or this Prometheus does not load the rules.",
        ),
    ),
)


def machines(settings: Settings) -> Row:
    """Return the row of the machines with the worst problems."""
    return Row(
        height=11,
        panels=(
            Table(
                title="Machines to check first",
                description=(
                    "The machines that are shown, those with the worst problems first: differences from their boot "
                    "reference, the first sample of their boot, the number of CPUs that differ, and the share of the "
                    "cohort that has the same feature set."
                ),
                queries={
                    "worst": f"{each(WEIGHT)}\nor on ({OF_MACHINE})\n0 * {SCRAPED}",
                    "up": SCRAPED,
                    "lost": each("kvm_boot_feature_changes", where='change="lost"'),
                    "gained": each("kvm_boot_feature_changes", where='change="gained"'),
                    "divergent": each("kvm_cpus_divergent"),
                    "changed": each("kvm_boot_change_timestamp_seconds") + " * 1000",
                    "share": f"""
max by ({OF_MACHINE}, fingerprint) (
  kvm_fingerprint_info{{{SHOWN}}} * on ({settings.of_fingerprint}) group_left () {FINGERPRINT_SHARE}
)
""",
                },
                columns=(
                    Column(field="instance", title="Machine", link=THIS_GUEST),
                    Column(field="Value #worst", title="Worst problem", words={**NAMES, "0": ("-", PLAIN)}, width=165),
                    Column(field="Value #up", title="Scraped", words=ANSWERS, width=75),
                    Column(field="Value #lost", title="Lost", thresholds=((1, BAD),), width=60),
                    Column(field="Value #gained", title="Gained", thresholds=((1, NEWS),), width=75),
                    Column(field="Value #divergent", title="CPUs differ", thresholds=((1, BAD),), width=100),
                    Column(field="Value #changed", title="Changed", unit="dateTimeFromNow", absent="-", width=125),
                    Column(field="fingerprint", title="Fingerprint", width=160),
                    Column(field="Value #share", title="Share", unit="percentunit", width=70),
                    *cohort_columns(settings),
                ),
                sort=("-Worst problem", "Machine"),
                empty="No machine is selected, or Prometheus scrapes none.",
            ),
        ),
    )


CHANGES = Row(
    height=10,
    panels=(
        Timeline(
            title="Changes since boot",
            description="Features of the machines that are shown that differ from their boot reference.",
            queries={
                "changed": f"""
label_replace({each("kvm_boot_feature_changed", "feature")} == -1, "at", "1", "", "")
or
label_replace({each("kvm_boot_feature_changed", "feature")} == 1, "at", "2", "", "")
or on ()
label_replace(0 * sum(kvm_present{{{SHOWN}}}), "feature", "all features of these machines", "", "")
"""
            },
            names="{{feature}} {{instance}}",
            values=filled(CHANGED),
            empty="unknown: nothing is scraped",
        ),
    ),
)
