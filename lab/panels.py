"""The queries of the committed dashboards as plain data: those of panels, annotations and variables."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lab.tree import DASHBOARDS

EVERYTHING = {
    "job": ".+",
    "instance": ".+",
    "machine": ".+",
    "fingerprint": ".+",
    "__rate_interval": "5m",
}
"""Every variable of the dashboards, with a value that selects everything."""

LABEL_VALUES = re.compile(r"label_values\((.+), \w+\)")
QUERY_RESULT = re.compile(r"query_result\((.+)\)")


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """A query, and its place: the title of a panel, or the name of an annotation or a variable."""

    dashboard: str
    panel: str
    name: str
    expression: str
    instant: bool

    def __str__(self) -> str:
        """The name of the query in the identifiers of tests."""
        return f"{self.dashboard}: {self.panel}: {self.name}"


def dashboards() -> dict[str, dict[str, Any]]:
    """Return the committed dashboards as JSON, by file name."""
    return {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))}


def panels(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all panels of a dashboard except the row headings, those of folded rows among them."""
    everything = (one for panel in dashboard["panels"] for one in (panel, *panel.get("panels", ())))
    return [panel for panel in everything if panel["type"] != "row"]


def variables(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the variables of a dashboard whose values come from Prometheus."""
    return [variable for variable in dashboard["templating"]["list"] if variable["type"] == "query"]


def queries(values: Mapping[str, str] = EVERYTHING) -> list[PanelQuery]:
    """Return all queries of all dashboards with these patterns as variables' values. Raises KeyError for others."""
    return [query for dashboard in dashboards().values() for query in _queries(dashboard, values)]


def _queries(dashboard: Mapping[str, Any], values: Mapping[str, str]) -> Iterator[PanelQuery]:
    title = dashboard["title"]
    for panel in panels(dashboard):
        for target in panel["targets"]:
            yield PanelQuery(
                title, panel["title"], target["refId"], replaced(target["expr"], values), target["instant"]
            )
    for annotation in dashboard["annotations"]["list"]:
        expression = replaced(annotation["expr"], values)
        yield PanelQuery(title, f"annotation {annotation['name']}", "annotation", expression, instant=False)
    for variable in variables(dashboard):
        expression = replaced(asked_by(variable["query"]), values)
        yield PanelQuery(title, f"variable {variable['name']}", "variable", expression, instant=True)


def asked_by(query: str) -> str:
    """Return the expression inside a variable's query; the variable has values if the expression has a result."""
    found = LABEL_VALUES.fullmatch(query) or QUERY_RESULT.fullmatch(query)
    if found is None:
        raise ValueError(f"a variable asks for {query!r}, which is neither label_values() nor query_result()")
    return found[1]


def replaced(expression: str, values: Mapping[str, str]) -> str:
    """Return the expression with each of Grafana's variables replaced by its value; ``$1`` is none."""
    return re.sub(r"\$([a-z_]\w*)", lambda found: values[found[1]], expression)
