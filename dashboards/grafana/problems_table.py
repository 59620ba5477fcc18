"""The table of problems, with which both dashboards begin: which machine, which feature, since when, what to do."""

from labels import OF_MACHINE
from problems import PROBLEMS, WEIGHTS, begun, listed

from grafana.board import THIS_GUEST
from grafana.queries import SCRAPED, SHOWN
from grafana.tables import Column, Table
from grafana.values import BAD, NEWS, ODD, UNKNOWN, Words, texts

COLORS = {
    **dict.fromkeys(("KVM vanished", "lost, dangerous", "lost", "used, not offered", "signature changed"), BAD),
    "CPUs differ": BAD,
    **dict.fromkeys(("gained", "lost, harmless"), NEWS),
}
"""The colours of problems; all others are orange."""

NOBODY = "unknown"

NAMES: Words = {
    **{str(WEIGHTS[one.name]): (one.name, COLORS.get(one.name, ODD)) for one in PROBLEMS},
    "0": (NOBODY, UNKNOWN),
}

ACTIONS = {
    **{one.name: one.action for one in PROBLEMS},
    NOBODY: "Check that Prometheus has exporters and rules.",
}
"""What to do about a problem, by its name."""


def problems(expression: str) -> str:
    """Return an expression: one series for each problem of each machine, by feature."""
    return f"max by ({OF_MACHINE}, problem, feature) (\n{expression}\n)"


PROBLEMS_TABLE = Table(
    title="Problems",
    description=(
        "What is wrong with the machines that are shown, the worst first: features that were lost since boot or are "
        "used and not offered, changed signatures, CPUs that differ, violations of the baseline, unknown states, "
        "gained features, harmless losses, rare feature sets. A feature that was lost or gained and violates the "
        "baseline, too, has one row, of what is worse. Since: when it was first seen, or its alert started."
    ),
    queries={
        "weight": problems(f'{listed(SHOWN)}\nor\nlabel_replace(0 * absent({SCRAPED}), "problem", "{NOBODY}", "", "")'),
        "since": problems(begun(SHOWN)),
    },
    columns=(
        Column(field="instance", title="Machine", link=THIS_GUEST),
        Column(field="Value #weight", title="Problem", words=NAMES, width=165),
        Column(field="feature", title="Feature", width=170),
        Column(field="Value #since", title="Since", unit="dateTimeFromNow", width=120),
        Column(field="problem", title="What to do", mappings=texts(ACTIONS), width=385),
        Column(field="job", title="Job", width=75),
    ),
    sort=("-Problem", "Machine", "Feature"),
    empty="No machine that is shown has a problem.",
)
