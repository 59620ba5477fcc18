"""The dashboard *KVM shards*: a fleet that several Prometheus servers share, where their sums and rankings meet.

No query reads a series that grows with the number of machines. What needs one is on *KVM guest*, with the data source
of a shard.
"""

from problems import COUNT, RANKED, WEIGHTS
from settings import Settings

from grafana.board import GUEST_UID, SHARDS_UID, Board, Row, Section, data_source, jobs
from grafana.fleet_features import outliers, spread_over_time
from grafana.fleet_machines import ALERTS, rare
from grafana.fleet_offers import fingerprint_counts, history, machines_by_fingerprint
from grafana.panels import Stat
from grafana.problems_table import ACTIONS, NAMES, NOBODY
from grafana.queries import FINGERPRINT_SHARE, JOBS, MOST_ROWS
from grafana.tables import Column, Table, cohort_columns
from grafana.values import BAD, NEWS, ODD, texts

SILENT = f"last_over_time(cohort:up:count{{{JOBS}}}[1d])\nunless on (shard) cohort:up:count{{{JOBS}}}"
"""An expression: the last number of machines, by cohort, of each shard that has had sums within a day and has none.

It counts the sums of the selected jobs alone, as every selection does.
"""

ALL = f"sum(cohort:up:count{{{JOBS}}}\nor\n{SILENT})"
"""An expression: the number of machines."""

SILENT_SHARD = "shard silent"
"""The value of the label ``problem`` for the machines of silent shards."""

SILENT_ROWS = f'label_replace({SILENT}, "problem", "{SILENT_SHARD}", "", "")'
"""An expression: SILENT, as a problem."""

CHECK_SHARD = "Check the Prometheus server that KvmShardDown names."

EXAMPLE = f"cohort_fingerprint:kvm_fingerprint_info:example{{{JOBS}}}"


def at_least(number: str) -> str:
    """Return an expression: a number of machines of the shards that have sums, and no result in place of a false 0."""
    return f"{number} > 0\nor\n{number} unless on () ({SILENT})"


def numbers(settings: Settings) -> Row:
    """Return the row of numbers of machines."""
    rare_counts = f"""
sum(
  {fingerprint_counts(settings)}
  * on ({settings.of_fingerprint}) ({FINGERPRINT_SHARE} < bool {settings.rare_share})
)
""".strip()
    return Row(
        height=4,
        panels=(
            Stat(
                title="Machines",
                description="The number of machines of all shards; of a silent shard, its last number within a day.",
                queries={"machines": ALL},
            ),
            Stat(
                title="Not scraped",
                description=(
                    "The number of machines whose exporter cannot be scraped, or whose shard is silent. Their state is "
                    "unknown."
                ),
                queries={"down": f"{ALL} - sum(cohort:up:sum{{{JOBS}}})"},
                thresholds=((1, ODD),),
            ),
            Stat(
                title="Drifted",
                description=(
                    "The number of machines that differ from their boot reference, as far as the shards are scraped."
                ),
                queries={"drifted": at_least(f"sum(cohort:kvm_boot_feature_changes:drifted{{{JOBS}}})")},
                thresholds=((1, BAD),),
            ),
            rare(settings, at_least(rare_counts)),
            Stat(
                title="Feature sets",
                description=(
                    "The number of fingerprints, as far as the shards are scraped: 1 if all these machines have the "
                    "same feature set."
                ),
                queries={"sets": f"count(count by (fingerprint) ({fingerprint_counts(settings)}))"},
                thresholds=((2, NEWS),),
            ),
            Stat(
                title="Guests on KVM",
                description=(
                    "The number of machines that are offered KVM's signature, as far as the shards are scraped."
                ),
                queries={"guests": f"sum(cohort:kvm_present:sum{{{JOBS}}})"},
            ),
        ),
    )


def counted() -> str:
    """Return an expression: the weight of each problem that machines of a job have."""
    weighed = "\nor\n".join(
        f'clamp(max by (job, problem) ({COUNT}{{{JOBS}, problem="{name}"}}), {weight}, {weight})'
        for name, weight in WEIGHTS.items()
    )
    nothing = f'label_replace(0 * absent(cohort:up:count{{{JOBS}}}), "problem", "{NOBODY}", "", "")'
    return f"max by (job, problem) (\n{weighed}\nor\n0 * {SILENT_ROWS}\nor on ()\n{nothing}\n)"


def machines_counted() -> str:
    """Return an expression: the number of machines of a job with each problem, and of those whose shard is silent."""
    return f"sum by (job, problem) (\n{COUNT}{{{JOBS}}}\nor\n{SILENT_ROWS}\n)"


PROBLEMS = Row(
    height=9,
    panels=(
        Table(
            title="Problems of all machines",
            description=(
                "The number of machines with each problem, the worst problem first. The state of machines whose shard "
                "is silent is unknown."
            ),
            queries={"weight": counted(), "machines": machines_counted()},
            columns=(
                Column(field="Value #weight", title="Problem", words=NAMES, width=165),
                Column(field="Value #machines", title="Machines", width=90),
                Column(field="problem", title="What to do", mappings=texts({**ACTIONS, SILENT_SHARD: CHECK_SHARD})),
                Column(field="job", title="Job", width=80),
            ),
            sort=("-Problem", "Job"),
            empty="No machine has a problem, as far as the shards are scraped.",
        ),
    ),
)


def worst(settings: Settings) -> Row:
    """Return the row of the machines that the shards rank first."""
    this_guest = (
        f"/d/{GUEST_UID}?${{__url_time_range}}&var-datasource={settings.shard_sources}${{__data.fields.Shard}}"
        "&${job:queryparam}&var-instance=${__value.raw}"
    )
    return Row(
        height=11,
        panels=(
            Table(
                title="Worst machines",
                description=(
                    f"The machines with the worst problems: of each shard at most {settings.ranked}, of all at most "
                    f"{MOST_ROWS}. A machine's name is a link to its dashboard, with the data source of its shard."
                ),
                queries={"worst": f"topk({MOST_ROWS}, max by (job, instance, shard) ({RANKED}{{{JOBS}}}))"},
                columns=(
                    Column(field="Value", title="Worst problem", words=NAMES, width=165),
                    Column(field="instance", title="Machine", link=this_guest),
                    Column(field="shard", title="Shard", width=90),
                    Column(field="job", title="Job", width=80),
                ),
                sort=("-Worst problem", "Machine"),
                empty="No machine has a problem, as far as the shards are scraped.",
            ),
        ),
    )


def features(settings: Settings) -> Section:
    """Return the section of features."""
    return Section(
        title="Features",
        rows=(
            Row(height=21, panels=(outliers(settings),)),
            Row(height=12, panels=(spread_over_time(settings),)),
        ),
    )


def fingerprints(settings: Settings) -> Section:
    """Return the section of feature sets, with one machine of each."""
    labels = settings.of_fingerprint
    table = Table(
        title="Feature sets of all machines",
        description="Machines with equal fingerprints have the same feature set. The example is one of them.",
        queries={
            "machines": fingerprint_counts(settings),
            "share": f"max by ({labels}) ({FINGERPRINT_SHARE})",
            "example": f"topk by ({labels}) (1,\n  max by ({labels}, instance) ({EXAMPLE})\n)",
        },
        columns=(
            Column(field="fingerprint", title="Fingerprint", width=165),
            Column(field="Value #machines", title="Machines", width=90),
            Column(field="Value #share", title="Share", unit="percentunit", width=75),
            Column(field="instance", title="Example"),
            *cohort_columns(settings),
        ),
        sort=("-Machines",),
        empty="No machine is on KVM, or the rules are not loaded.",
    )
    rows = (Row(height=10, panels=(table,)), Row(height=8, panels=(machines_by_fingerprint(settings),)))
    return Section(title="Fingerprints", rows=rows)


def shards(settings: Settings) -> Board:
    """Return the dashboard."""
    return Board(
        uid=SHARDS_UID,
        description="A fleet of KVM guests that several Prometheus servers share: problems, features, feature sets.",
        first=(PROBLEMS, worst(settings), numbers(settings), ALERTS),
        sections=(features(settings), fingerprints(settings), history(settings)),
        annotations=(),
        variables=(data_source(), jobs("cohort:up:count")),
    )
