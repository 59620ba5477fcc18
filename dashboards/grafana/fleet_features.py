"""How far each feature is spread over a fleet, and who is the odd one: rows of the dashboard *KVM fleet*."""

from settings import OF_COHORT, OF_FEATURE

from grafana.board import THIS_GUEST, Row
from grafana.queries import COHORT_NAME, JOBS, SHOWN
from grafana.series import Timeline
from grafana.tables import COHORT_COLUMNS, Column, Matrix, Table
from grafana.values import BAD, NEWS, ODD, ODDITY, SPREAD

SHARE = f"cohort:kvm_feature_offered:share{{{JOBS}}}"


def unlike_most(machines: str) -> str:
    """1 for each feature that a machine, unlike most of its cohort, is offered or is not offered; else 0."""
    return f"abs(kvm_feature_offered{{{machines}}} - on ({OF_FEATURE}) group_left () {SHARE}) > bool 0.5"


def or_none(recorded: str) -> str:
    """A number of machines for each feature, which is recorded only where it is not nought."""
    return f"max by ({OF_FEATURE}) ({recorded} or on ({OF_FEATURE}) 0 * cohort:kvm_feature_offered:sum{{{JOBS}}})"


FEATURES = Row(
    title="Features",
    height=16,
    panels=(
        Timeline(
            title="How far each feature is spread",
            description="On how many machines of its job each feature is offered: on none, on few, on most, on all.",
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
            title="Features and who is the odd one",
            description=(
                "How many guests are offered each feature, how many are the odd ones in that, and one of them that is "
                "in $machine."
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
                "lost": or_none(f"cohort:kvm_boot_feature_changed:lost{{{JOBS}}}"),
                "gained": or_none(f"cohort:kvm_boot_feature_changed:gained{{{JOBS}}}"),
            },
            columns=(
                Column(field="register", title="Register", width=75),
                Column(field="bit", title="Bit", width=50),
                Column(field="feature", title="Feature"),
                Column(field="Value #offered", title="Guests", width=75),
                Column(field="Value #share", title="Share", unit="percentunit", width=75),
                Column(field="Value #odd", title="Odd", thresholds=((1, ODD),), width=60),
                Column(field="instance", title="One of them", link=THIS_GUEST),
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
            title="Which machine is offered what",
            description=(
                "The machines in $machine, and every feature: red and orange where a machine is unlike most of its "
                "job; what a machine does not report is not known."
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
