"""The rules of Grafana's dashboard-linter, which is a Go program: each by its name there.

Source: github.com/grafana/dashboard-linter, docs/index.md and lint/rule_*.go.
"""

import re
from typing import Any

import promql_parser
import pytest

from lab.panels import asked_by, dashboards, panels, replaced, variables
from tests.support.monitoring.promql import nodes, selectors

FILES = sorted(dashboards())

SHARDS = "kvm-shards.json"
"""The dashboard whose series know no instance, but for rankings, whose machines are all shown."""

OF_JOBS = [(name, "job") for name in FILES]
OF_INSTANCES = [(name, "instance") for name in FILES if name != SHARDS]
"""The dashboards that have each of two variables."""

LINTED = {name: "pattern-of-" + name for name in ("job", "instance", "machine", "fingerprint")} | {
    "__rate_interval": "4m"
}
"""Values for the variables by which they can be told again in an expression."""

UNITS = {"none", "string", "percentunit", "hex0x", "bytes", "dateTimeAsIso", "dateTimeFromNow", "hertz", "s"}
"""Those of Grafana's units (valueFormats/categories.ts, as in rule_panel_units.go) that are used here."""


def targets(name: str) -> list[tuple[str, str]]:
    """The title of a panel and an expression, for each that a dashboard's panels ask."""
    return [
        (panel["title"], replaced(target["expr"], LINTED))
        for panel in panels(dashboards()[name])
        for target in panel["targets"]
    ]


def matchers(selector: promql_parser.VectorSelector) -> set[tuple[str, str, str]]:
    """Label, operator and value of each."""
    return {(one.name, str(one.op), one.value) for one in selector.matchers.matchers}


MATCHES = "MatchOp.Re"


def variable(name: str, of: str) -> dict[str, Any]:
    """A variable of a dashboard, which it must have."""
    (found,) = (one for one in dashboards()[name]["templating"]["list"] if one["name"] == of)
    return dict(found)


@pytest.mark.parametrize("name", FILES)
def test_template_datasource_rule(name: str) -> None:
    """The dashboard has a templated data source, with the usual name and label."""
    (source,) = (one for one in dashboards()[name]["templating"]["list"] if one["type"] == "datasource")
    assert (source["name"], source["label"], source["query"]) == ("datasource", "Data source", "prometheus")


@pytest.mark.parametrize(("name", "label"), [*OF_JOBS, *OF_INSTANCES])
def test_template_job_rule_and_template_instance_rule(name: str, label: str) -> None:
    """The dashboard has a templated job and instance: of its data source, several at once, and all."""
    found = variable(name, label)
    assert found["type"] == "query"
    assert found["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert found["label"] == label.title()
    assert found["multi"] is True
    assert found["includeAll"] is True
    assert found["allValue"] == ".+"


@pytest.mark.parametrize("name", FILES)
def test_template_label_promql_rule(name: str) -> None:
    """The queries of variables call what there is, with PromQL."""
    for found in variables(dashboards()[name]):
        promql_parser.parse(replaced(asked_by(found["query"]), LINTED))


@pytest.mark.parametrize("name", FILES)
def test_template_on_time_change_reload_rule(name: str) -> None:
    """Variables are asked again when the time changes."""
    assert {found["refresh"] for found in variables(dashboards()[name])} == {2}


@pytest.mark.parametrize("name", FILES)
def test_panel_datasource_rule(name: str) -> None:
    """Each panel, and each query of it, uses the templated data source."""
    for panel in panels(dashboards()[name]):
        assert {one["datasource"]["uid"] for one in (panel, *panel["targets"])} == {"${datasource}"}


@pytest.mark.parametrize("name", FILES)
def test_panel_title_description_rule(name: str) -> None:
    """Each panel has a title and a description."""
    for panel in panels(dashboards()[name]):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]


@pytest.mark.parametrize("name", FILES)
def test_panel_units_rule(name: str) -> None:
    """Each panel has a unit that Grafana knows, and so has each field that has one of its own."""
    for panel in panels(dashboards()[name]):
        fields = panel["fieldConfig"]
        own = [one["value"] for over in fields["overrides"] for one in over["properties"] if one["id"] == "unit"]
        assert {fields["defaults"]["unit"], *own} <= UNITS, panel["title"]


@pytest.mark.parametrize("name", FILES)
def test_panel_no_targets_rule(name: str) -> None:
    """Each panel asks something."""
    assert all(panel["targets"] for panel in panels(dashboards()[name]))


@pytest.mark.parametrize("name", FILES)
def test_target_promql_rule(name: str) -> None:
    """Each query is PromQL."""
    for _, expression in targets(name):
        promql_parser.parse(expression)


@pytest.mark.parametrize("name", FILES)
def test_target_rate_interval_rule(name: str) -> None:
    """The range of each rate is $__rate_interval."""
    for title, expression in targets(name):
        for call in nodes(expression, promql_parser.Call):
            for one in call.args:
                if isinstance(one, promql_parser.MatrixSelector) and call.func.name in {"rate", "irate"}:
                    assert one.range.total_seconds() == 240, title


@pytest.mark.parametrize("name", FILES)
def test_target_job_rule(name: str) -> None:
    """Every selection of series has a matcher for the jobs that are chosen."""
    for title, expression in targets(name):
        for selector in selectors(expression):
            assert ("job", MATCHES, LINTED["job"]) in matchers(selector), title


@pytest.mark.parametrize("name", FILES)
def test_target_instance_rule(name: str) -> None:
    """Every selection of series has a matcher for the instances that are chosen, or for those of them that are shown.

    Excepted: what is recorded of a cohort or a job, and alerts on one, know no instance.
    """
    for title, expression in targets(name):
        for selector in selectors(expression):
            if not re.match("cohort|job:|ranked:|ALERTS", str(selector.name)):
                (instance,) = (one for one in matchers(selector) if one[0] == "instance")
                assert instance[1:] in {(MATCHES, LINTED["instance"]), (MATCHES, LINTED["machine"])}, title
    if name != SHARDS:
        assert 'instance=~"$instance"' in variable(name, "machine")["query"]


@pytest.mark.parametrize("name", FILES)
def test_target_counter_agg_rule(name: str) -> None:
    """Every counter is in a rate or an increase."""
    for title, expression in targets(name):
        rated = [
            argument.vector_selector.name
            for call in nodes(expression, promql_parser.Call)
            for argument in call.args
            if call.func.name in {"rate", "irate", "increase"}
        ]
        assert [one.name for one in selectors(expression) if str(one.name).endswith("_total")] == rated, title


@pytest.mark.parametrize("name", FILES)
def test_uneditable_dashboard_rule(name: str) -> None:
    """What is provisioned is changed at its source."""
    assert dashboards()[name]["editable"] is False
