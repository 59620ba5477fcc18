"""How many machines of a fleet are offered each feature, and the outliers: a section of the dashboard *KVM fleet*."""

from dataclasses import replace

from labels import OF_BIT, OF_MACHINE
from settings import Settings

from grafana.board import THIS_GUEST, Row, Section
from grafana.queries import JOBS, SHOWN, cohort_name, in_order, state_of_bits
from grafana.series import Timeline
from grafana.tables import Column, Table, cohort_columns
from grafana.values import BAD, NEWS, ODD, OFFERED, SPREAD

SHARE = f"cohort:kvm_feature_offered:share{{{JOBS}}}"


def unlike_most(settings: Settings, machines: str) -> str:
    """Return an expression: 1 for each feature in which a machine differs from most of its cohort, else 0."""
    return f"abs(kvm_feature_offered{{{machines}}} - on ({settings.of_feature}) group_left () {SHARE}) > bool 0.5"


def offered(settings: Settings) -> str:
    """Return an expression: the number of guests that are offered each feature."""
    return f"sum by ({settings.of_feature}) (cohort:kvm_feature_offered:sum{{{JOBS}}})"


def or_zero(settings: Settings, recorded: str) -> str:
    """Return an expression: a number of machines for each feature, 0 where no series is recorded."""
    labels = settings.of_feature
    return f"sum by ({labels}) ({recorded})\nor on ({labels})\n0 * {offered(settings)}"


NO_FEATURE = "No machine of the selected jobs is offered a feature, or the rules are not loaded in this Prometheus."


def spread_over_time(settings: Settings) -> Timeline:
    """Return the panel of the spread of each feature."""
    return Timeline(
        title="Spread of each feature",
        description="The share of a job's machines that are offered a feature: none, up to half, over half, all.",
        queries={
            "spread": in_order(
                f"""
(cohort:kvm_feature_offered:share{{{JOBS}}} > bool 0)
+ (cohort:kvm_feature_offered:share{{{JOBS}}} > bool 0.5)
+ (cohort:kvm_feature_offered:share{{{JOBS}}} >= bool 1)
""".strip(),
                *settings.cohort,
            )
        },
        names=f"{{{{feature}}}} {cohort_name(settings)}",
        values=SPREAD,
        empty="unknown: nothing is recorded",
    )


def outliers(settings: Settings) -> Table:
    """Return the table of features, by number of machines."""
    return Table(
        title="Outliers of all machines",
        description=(
            "The number of guests that are offered each feature, and the number of outliers. Outliers are the smaller "
            "group: the guests that are offered the feature, or the others."
        ),
        queries={
            "offered": offered(settings),
            "share": f"max by ({settings.of_feature}) ({SHARE})",
            "odd": f"""
max by ({settings.of_feature}) (
  {offered(settings)} and {SHARE} <= 0.5
  or
  sum by ({settings.of_cohort}) (cohort:kvm_present:sum{{{JOBS}}})
  - on ({settings.of_cohort}) group_right ()
  {offered(settings)}
)
""",
            "lost": or_zero(settings, f"cohort:kvm_boot_feature_changed:lost{{{JOBS}}}"),
            "gained": or_zero(settings, f"cohort:kvm_boot_feature_changed:gained{{{JOBS}}}"),
        },
        columns=(
            Column(field="register", title="Register", width=80),
            Column(field="bit", title="Bit", width=50),
            Column(field="feature", title="Feature", width=190),
            Column(field="Value #offered", title="Guests", width=75),
            Column(field="Value #share", title="Share", unit="percentunit", width=75),
            Column(field="Value #odd", title="Outliers", thresholds=((1, ODD),), width=80),
            Column(field="Value #lost", title="Lost", thresholds=((1, BAD),), width=60),
            Column(field="Value #gained", title="Gained", thresholds=((1, NEWS),), width=75),
            *cohort_columns(settings),
        ),
        sort=("Register", "Bit"),
        empty=NO_FEATURE,
        numbers=("bit",),
    )


def outliers_with_examples(settings: Settings) -> Table:
    """Return the table of features, with one outlier of the machines that are shown."""
    table = outliers(settings)
    cohort = cohort_columns(settings)
    example = f"""
topk by ({settings.of_feature}) (1,
  max by ({settings.of_feature}, instance) ({unlike_most(settings, SHOWN)} == 1)
)
"""
    return replace(
        table,
        title="Outliers by feature",
        description=(
            "The number of guests that are offered each feature, the number of outliers, and one outlier of those that "
            "are shown. Outliers are the smaller group: the guests that are offered the feature, or the others."
        ),
        queries={**table.queries, "example": example},
        columns=(
            *table.columns[: -len(cohort)],
            Column(field="instance", title="Example", link=THIS_GUEST),
            *cohort,
        ),
    )


def machines_unlike_most(settings: Settings) -> Table:
    """Return the table of machines unlike most."""
    return Table(
        title="Machines unlike most",
        description=(
            "The features in which a machine that is shown differs from most machines of its job, and the share of "
            "the job's machines that are offered the feature; what was lost comes first, then what is rarest."
        ),
        queries={
            "offered": f"""
max by ({OF_MACHINE}, feature) (
  ({state_of_bits(SHOWN)})
  and on ({OF_BIT})
  ({unlike_most(settings, SHOWN)} == 1)
)
""",
            "share": f"""
max by ({OF_MACHINE}, feature) (
  0 * (kvm_feature_offered{{{SHOWN}}} and ({unlike_most(settings, SHOWN)} == 1))
  + on ({settings.of_feature}) group_left () {SHARE}
)
""",
            "like": f"""
max by ({OF_MACHINE}, feature) (
  1 - abs(
    (kvm_feature_offered{{{SHOWN}}} and ({unlike_most(settings, SHOWN)} == 1))
    - on ({settings.of_feature}) group_left () {SHARE}
  )
)
""",
        },
        columns=(
            Column(field="instance", title="Machine", link=THIS_GUEST),
            Column(field="feature", title="Feature", width=190),
            Column(field="Value #offered", title="Offered", words=OFFERED, width=95),
            Column(field="Value #share", title="Offered to", unit="percentunit", width=95),
            Column(field="Value #like", title="Alike", unit="percentunit", width=75),
            *cohort_columns(settings),
        ),
        sort=("Offered", "Alike", "Machine", "Feature"),
        empty="No machine that is shown differs from most of its job, as far as they are scraped.",
    )


def features(settings: Settings) -> Section:
    """Return the section."""
    return Section(
        title="Features",
        rows=(
            Row(height=11, panels=(machines_unlike_most(settings),)),
            Row(height=21, panels=(outliers_with_examples(settings),)),
            Row(height=12, panels=(spread_over_time(settings),)),
        ),
    )
