"""docs/scaling.md says for the largest families which alerts and panels read them, and how to drop the others."""

import re
from collections.abc import Iterator

import pytest
import yaml

from lab.panels import queries
from lab.tree import REPOSITORY
from tests.support.monitoring.catalogue import rendered
from tests.support.monitoring.queries import committed_rules, metrics_of

SECTION = (REPOSITORY / "docs" / "scaling.md").read_text(encoding="utf-8").partition("\n## Fewer series\n")[2]

NONE = "\N{EN DASH}"
"""A cell without names."""

ALERTS = {rule["alert"]: rule["expr"] for rule in committed_rules() if "alert" in rule}


def rows() -> Iterator[tuple[str, str, str]]:
    """A pattern of names of metrics, and the cells with the alerts and the panels that read one of them."""
    for family, alerts, panels in re.findall(r"^\| (`.+?) \| .+? \| (.+?) \| (.+?) \|$", SECTION, re.MULTILINE):
        yield "|".join(re.findall(r"`([^`]+)`", family)), alerts, panels


ROWS = list(rows())


def readers(pattern: str, expressions: Iterator[tuple[str, str]]) -> str:
    """The sorted names of the expressions that read a metric whose name matches, or NONE."""
    names = {name for name, text in expressions if any(re.fullmatch(pattern, metric) for metric in metrics_of(text))}
    return ", ".join(sorted(names)) or NONE


def test_the_table_has_families() -> None:
    """As many as there are rows in the page."""
    assert len(ROWS) == SECTION.count("\n| `")
    assert len(ROWS) > 5


@pytest.mark.parametrize(("pattern", "alerts", "panels"), ROWS, ids=[pattern for pattern, _, _ in ROWS])
def test_the_page_says_who_reads_a_family(pattern: str, alerts: str, panels: str) -> None:
    """Every alert and every panel, also by way of recording rules; and the family is the exporter's."""
    assert any(re.fullmatch(pattern, name) for name in rendered())
    assert readers(pattern, iter(ALERTS.items())) == alerts
    shown = [query for query in queries() if not query.panel.startswith("variable ")]
    assert readers(pattern, ((query.panel, query.expression) for query in shown)) == panels


def test_what_is_dropped_is_read_by_no_rule() -> None:
    """It is all that the table has no alert of, and nothing else."""
    [setting] = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
    [step] = yaml.safe_load(setting)["metric_relabel_configs"]
    assert (step["source_labels"], step["action"]) == (["__name__"], "drop")
    assert step["regex"] == "|".join(pattern for pattern, alerts, _ in ROWS if alerts == NONE)
    metrics = {metric for rule in committed_rules() for metric in metrics_of(rule["expr"])}
    assert not [metric for metric in metrics if re.fullmatch(step["regex"], metric)]
