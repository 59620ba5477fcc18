"""How many machines of a fleet are offered each feature, and the outliers: rows of the dashboard *KVM fleet*."""

from settings import OF_COHORT, OF_FEATURE

from grafana.board import THIS_GUEST, Row
from grafana.queries import COHORT_NAME, JOBS, SHOWN
from grafana.series import Timeline
from grafana.tables import COHORT_COLUMNS, Column, Matrix, Table
from grafana.values import BAD, NEWS, ODD, ODDITY, SPREAD

SHARE = f"cohort:kvm_feature_offered:share{{{JOBS}}}"


def unlike_most(machines: str) -> str:
    """Return an expression: 1 for each feature in which a machine differs from most of its cohort, else 0."""
    return f"abs(kvm_feature_offered{{{machines}}} - on ({OF_FEATURE}) group_left () {SHARE}) > bool 0.5"


def or_zero(recorded: str) -> str:
    """Return an expression: a number of machines for each feature, 0 where no series is recorded."""
    return f"max by ({OF_FEATURE}) ({recorded} or on ({OF_FEATURE}) 0 * cohort:kvm_feature_offered:sum{{{JOBS}}})"


FEATURES = Row(
    title="Features",
    height=16,
    panels=(
        Timeline(
            title="Spread of each feature",
            description="The share of a job's machines that are offered a feature: none, up to half, over half, all.",
            queries={
                "spread": f"""
(cohort:kvm_feature_offered:share{{{JOBS}}} > bool 0)
+ (cohort:kvm_feature_offered:share{{{JOBS}}} > bool 0.5)
+ (cohort:kvm_feature_offered:share{{{JOBS}}} >= bool 1)
"""
            },
            names=f"{COHORT_NAME} {{{{feature}}}}",
            values=SPREAD,
        ),
        Table(
            title="Outliers by feature",
            description=(
                "The number of guests that are offered each feature, the number of outliers, and one outlier of those "
                "in $machine. Outliers are the smaller group: the guests that are offered the feature, or the others."
            ),
            queries={
                "offered": f"max by ({OF_FEATURE}) (cohort:kvm_feature_offered:sum{{{JOBS}}})",
                "share": f"max by ({OF_FEATURE}) ({SHARE})",
                "odd": f"""
max by ({OF_FEATURE}) (
  cohort:kvm_feature_offered:sum{{{JOBS}}} and {SHARE} <= 0.5
  or
  cohort:kvm_present:sum{{{JOBS}}} - on ({OF_COHORT}) group_right () cohort:kvm_feature_offered:sum{{{JOBS}}}
)
""",
                "example": f"""
topk by ({OF_FEATURE}) (1,
  max by ({OF_FEATURE}, instance) ({unlike_most(SHOWN)} == 1)
)
""",
                "lost": or_zero(f"cohort:kvm_boot_feature_changed:lost{{{JOBS}}}"),
                "gained": or_zero(f"cohort:kvm_boot_feature_changed:gained{{{JOBS}}}"),
            },
            columns=(
                Column(field="register", title="Register", width=75),
                Column(field="bit", title="Bit", width=50),
                Column(field="feature", title="Feature"),
                Column(field="Value #offered", title="Guests", width=75),
                Column(field="Value #share", title="Share", unit="percentunit", width=75),
                Column(field="Value #odd", title="Outliers", thresholds=((1, ODD),), width=80),
                Column(field="instance", title="Example", link=THIS_GUEST),
                Column(field="Value #lost", title="Lost", thresholds=((1, BAD),), width=60),
                Column(field="Value #gained", title="Gained", thresholds=((1, NEWS),), width=75),
                *COHORT_COLUMNS,
            ),
            sort=("Register", "Bit"),
            numbers=("bit",),
        ),
    ),
)

MATRIX = Row(
    height=14,
    panels=(
        Matrix(
            title="Features by machine",
            description=(
                "Every feature of the machines in $machine. Red and orange: the machine differs from most machines of "
                "its job. Empty: the machine does not report the feature."
            ),
            queries={
                "offered": f"""
max by (instance, feature) (
  kvm_feature_offered{{{SHOWN}}} + 2 * ({unlike_most(SHOWN)})
  or
  kvm_feature_offered{{{SHOWN}}}
)
"""
            },
            rows="instance",
            columns="feature",
            values=ODDITY,
            link=THIS_GUEST,
        ),
    ),
)
