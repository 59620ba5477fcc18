"""The dashboards as files: valid by Grafana's own types, about what there is, laid out without holes."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from grafana.board import Row
from grafana.panels import Stat
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from jsonschema import Draft7Validator

from kvm_exporter.kvm.features import feature_named
from lab.panels import EVERYTHING, PanelQuery, dashboards, panels, queries, replaced, variables
from lab.tree import DASHBOARDS, RULE_FILES
from tests.support.monitoring.catalogue import rendered
from tests.support.monitoring.promql import nodes, selectors
from tests.support.monitoring.queries import committed_rules
from tests.support.monitoring.tables import PACKAGES
from tests.support.tools import missing

SCHEMA = PACKAGES / "dashboard.json"

OF_PROMETHEUS = {"expr": "string", "titleFormat": "string", "useValueForTime": "boolean"}
"""What an annotation may have beyond Grafana's own type: what the data source for Prometheus reads of it, in
processAnnotationResponse and annotationQuery of packages/grafana-prometheus/src/datasource.ts."""

OF_PROMETHEUS_ITSELF = {"up", "ALERTS", "ALERTS_FOR_STATE"}
"""Series that no exporter has."""

FILES = sorted(dashboards())

SIDES = {"VectorMatchCardinality.ManyToOne": "rhs", "VectorMatchCardinality.OneToMany": "lhs"}
"""Which side of a join to many is the one."""


def schema() -> dict[str, Any]:
    """Grafana's type of a dashboard, with the annotations of Prometheus."""
    if not SCHEMA.exists():
        missing("build/grafana/dashboard.json (scripts/grafana-packages build/grafana)")
    content: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    annotation = content["definitions"]["AnnotationQuery"]["properties"]
    annotation.update({name: {"type": kind} for name, kind in OF_PROMETHEUS.items()})
    return content


def complaints(dashboard: Mapping[str, Any]) -> list[str]:
    """What is wrong by Grafana's type."""
    return [f"{error.json_path}: {error.message}" for error in Draft7Validator(schema()).iter_errors(dashboard)]


def round_trip(dashboard: Mapping[str, Any]) -> Any:  # noqa: ANN401 - it is JSON
    """What is left of it after it was an object."""
    register_default_plugins()
    return json.loads(json.dumps(Dashboard.from_json(copy.deepcopy(dict(dashboard))), cls=JSONEncoder))


def modelled(dashboard: Mapping[str, Any]) -> dict[str, Any]:
    """A dashboard without what the model of Grafana knows not of annotations."""
    kept = copy.deepcopy(dict(dashboard))
    for annotation in kept["annotations"]["list"]:
        for key in OF_PROMETHEUS.keys() - {"expr"}:
            del annotation[key]
    return kept


def lost(before: object, after: object, path: str = "") -> Iterator[str]:
    """Where something is not in JSON any more, or is something else; that there is more, is no loss."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from lost(value, after.get(key), f"{path}/{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from lost(one, other, f"{path}/{number}")
    elif before != after:
        yield path


def recorded() -> set[str]:
    """The names of recorded series."""
    return {rule["record"] for rule in committed_rules() if "record" in rule}


def test_a_sites_own_cohort_is_everywhere(tmp_path: Path) -> None:
    """A label more in the settings is in joins, tables and names, and all queries are PromQL still."""
    words = (f"--output={tmp_path}", "--dashboards", "--cohort=job,zone")
    subprocess.run([sys.executable, DASHBOARDS / "generate.py", *words], check=True)
    for dashboard in (json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.json")):
        expressions = [target["expr"] for panel in panels(dashboard) for target in panel["targets"]]
        joins = {found for one in expressions for found in re.findall(r"on \(([\w, ]+)\) group_", one)}
        assert all("zone" in one or "instance" in one for one in joins)
        for expression in expressions:
            promql_parser.parse(replaced(expression, EVERYTHING))
    assert "{{feature}} {{job}} {{zone}}" in (tmp_path / "kvm-fleet.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_it_is_a_dashboard_by_grafanas_own_types(name: str) -> None:
    """No key is missing, misspelled or of another type."""
    assert complaints(dashboards()[name]) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda dashboard: dashboard["panels"][0].update(gridpos={}),
        lambda dashboard: dashboard["panels"][0].pop("type"),
        lambda dashboard: dashboard["annotations"]["list"][0].update(titleformat=""),
        lambda dashboard: dashboard["templating"]["list"][0].update(multi="yes"),
    ],
)
def test_grafanas_types_are_strict(spoil: Callable[[dict[str, Any]], object]) -> None:
    """A dashboard that is not quite one is found out."""
    dashboard = dashboards()["kvm-fleet.json"]
    spoil(dashboard)
    assert complaints(dashboard)


@pytest.mark.parametrize("name", FILES)
def test_the_model_knows_every_key(name: str) -> None:
    """What the model of Grafana 11.6 does not know it loses; so nothing is misspelled where types allow anything."""
    dashboard = modelled(dashboards()[name])
    assert list(lost(dashboard, round_trip(dashboard))) == []


def test_the_model_loses_a_misspelled_option() -> None:
    """As Grafana would."""
    dashboard = modelled(dashboards()["kvm-fleet.json"])
    panels(dashboard)[0]["options"]["grafMode"] = "none"
    assert list(lost(dashboard, round_trip(dashboard))) == ["/panels/0/options/grafMode"]


@pytest.mark.parametrize("query", queries(), ids=str)
def test_a_query_is_about_what_there_is(query: PanelQuery) -> None:
    """It is PromQL, and names series that the exporter, the rules or Prometheus have, and features that exist."""
    known = rendered() | recorded() | OF_PROMETHEUS_ITSELF
    found = selectors(query.expression)
    assert found
    for selector in found:
        assert selector.name in known
        for matcher in selector.matchers.matchers:
            if matcher.name == "feature":
                assert feature_named(matcher.value)
            if matcher.name == "register":
                assert matcher.value in {"eax", "edx"}
            if matcher.name == "bit":
                assert int(matcher.value) in range(32)


def test_every_recorded_series_is_used() -> None:
    """On a dashboard, or by another rule."""
    rules = "".join(path.read_text(encoding="utf-8") for path in RULE_FILES)
    shown = {selector.name for query in queries() for selector in selectors(query.expression)}
    alone = {name for name in recorded() - shown if len(re.findall(rf"{name}\b", rules)) < 2}
    assert alone == set()


def test_every_metric_is_shown() -> None:
    """Whatever the exporter says has its place, but for what is the same bit by bit, or of Python's inside."""
    shown = {selector.name for query in queries() for selector in selectors(query.expression)}
    unseen = {name for name in rendered() if not {name, f"{name}_total", f"{name}_info"} & shown}
    assert unseen == {"kvm_cpu_feature_offered", "process_virtual_memory_bytes", "python_info"}


def headings(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The headings of sections."""
    return [panel for panel in dashboard["panels"] if panel["type"] == "row"]


def joined_to_many(query: PanelQuery) -> Iterator[tuple[object, set[str]]]:
    """For every join of one series to many: the side that is one, and the labels that the join is on."""
    for node in nodes(query.expression, promql_parser.BinaryExpr):
        modifier = node.modifier
        if modifier is not None and modifier.matching is not None and str(modifier.card) in SIDES:
            yield getattr(node, SIDES[str(modifier.card)]), set(modifier.matching.labels)


@pytest.mark.parametrize("query", [query for query in queries() if "group_" in query.expression], ids=str)
def test_a_join_to_many_is_of_one(query: PanelQuery) -> None:
    """It is recorded of a cohort, or aggregated by what the join is on: never an info metric, which may be two."""
    found = list(joined_to_many(query))
    assert len(found) == query.expression.count("group_")
    for one, labels in found:
        if isinstance(one, promql_parser.AggregateExpr):
            assert one.modifier is not None
            assert set(one.modifier.labels) == labels
        else:
            assert isinstance(one, promql_parser.VectorSelector)
            assert str(one.name).startswith("cohort")


@pytest.mark.parametrize("name", FILES)
def test_panels_and_queries_have_names_of_their_own(name: str) -> None:
    """So that links and alerts find them."""
    dashboard = dashboards()[name]
    numbers = [panel["id"] for panel in (*panels(dashboard), *headings(dashboard))]
    assert len(set(numbers)) == len(numbers)
    titles = [panel["title"] for panel in panels(dashboard)]
    assert len(set(titles)) == len(titles)
    for panel in panels(dashboard):
        names = [target["refId"] for target in panel["targets"]]
        assert all(re.fullmatch(r"\w+", one) for one in names), panel["title"]
        assert len(set(names)) == len(names), panel["title"]


@pytest.mark.parametrize("name", FILES)
def test_the_layout_has_no_holes(name: str) -> None:
    """Every cell of the grid, 24 wide, belongs to exactly one panel, down to the last row; so below each heading."""
    dashboard = dashboards()[name]
    for top, several in [(0, dashboard["panels"])] + [
        (row["gridPos"]["y"] + 1, row["panels"]) for row in headings(dashboard) if row["panels"]
    ]:
        cells = [
            (place["x"] + x, place["y"] + y)
            for place in (panel["gridPos"] for panel in several)
            for x in range(place["w"])
            for y in range(place["h"])
        ]
        rows = range(top, 1 + max(y for _, y in cells))
        assert sorted(cells) == [(x, y) for x in range(24) for y in rows]


def test_panels_that_leave_a_hole_are_refused() -> None:
    """Named after the first of their row."""
    alone = Stat(title="Alone", description="It is.", queries={}, width=23)
    message = "'Alone' and those beside it do not make 24 columns; change a width"
    with pytest.raises(ValueError, match=message):
        Row(height=4, panels=(alone,)).widths()


@pytest.mark.parametrize("name", FILES)
def test_no_data_source_is_fixed(name: str) -> None:
    """The data source is chosen at the import."""
    found = re.findall(r'"uid": "([^"]*)"', (DASHBOARDS / name).read_text(encoding="utf-8"))
    assert set(found) == {"${datasource}", name.removesuffix(".json")}


def mappings(panel: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The words for values on a panel, one for each field that has some."""
    fields = panel["fieldConfig"]
    found = [fields["defaults"].get("mappings", [])]
    found += [one["value"] for over in fields["overrides"] for one in over["properties"] if one["id"] == "mappings"]
    for several in found:
        if several:
            yield {value: word for one in several if one["type"] == "value" for value, word in one["options"].items()}


@pytest.mark.parametrize("name", FILES)
def test_values_have_words(name: str) -> None:
    """A field that has words has one for each value that it can have: 0 and 1, and -1 where something is lost."""
    for panel in panels(dashboards()[name]):
        for words in mappings(panel):
            numbers = {value for value in words if re.fullmatch(r"-?\d+", value)}
            assert not numbers or {"0", "1"} <= numbers, panel["title"]
        asks_for_changes = any("kvm_boot_feature_changed{" in target["expr"] for target in panel["targets"])
        if asks_for_changes and panel["type"] == "state-timeline":
            assert {"-1", "1"} <= next(mappings(panel)).keys()


@pytest.mark.parametrize("name", FILES)
def test_tables_are_merged_soundly(name: str) -> None:
    """All queries of a table group by the same labels, or one kind of them by more, of which each row has one.

    Grafana's merge (packages/grafana-data/src/transformations/transformers/merge.ts) makes one row of two when every
    column that both have is equal.
    """
    for panel in panels(dashboards()[name]):
        if len(panel["targets"]) > 1 and panel["type"] == "table":
            grouped = {labels_of(target["expr"]) for target in panel["targets"]}
            common = frozenset.intersection(*grouped)
            assert {"job"} < common, panel["title"]
            assert common in grouped, panel["title"]
            assert len(grouped) <= 2, panel["title"]


def labels_of(expression: str) -> frozenset[str]:
    """The labels that the outermost aggregation groups by."""
    found = re.search(r"by \(([\w, ]+)\)", expression)
    assert found is not None
    more = {"meaning"} if expression.startswith("label_join") else set()
    nested = re.search(r"^topk by \([\w, ]+\) \(1,\s*max by \(([\w, ]+)\)", expression)
    return frozenset({*(nested or found)[1].split(", "), *more})


@pytest.mark.parametrize("name", FILES)
def test_a_description_has_no_variable(name: str) -> None:
    """Grafana would replace it, and fifty names would stand in the tooltip."""
    assert [panel["title"] for panel in panels(dashboards()[name]) if "$" in panel["description"]] == []


@pytest.mark.parametrize("name", FILES)
def test_a_timeline_has_a_legend_and_always_a_row(name: str) -> None:
    """Grafana leaves the legend out where colours are a gradient, and warns of the time field where there is no row."""
    for panel in panels(dashboards()[name]):
        if panel["type"] == "state-timeline":
            assert panel["fieldConfig"]["defaults"]["color"]["mode"] == "fixed"
            assert all(" or on () label_replace(vector(" in one["expr"].replace("\n", " ") for one in panel["targets"])


@pytest.mark.parametrize("name", FILES)
def test_counts_are_whole_and_rates_are_per_minute(name: str) -> None:
    """No axis has a fifth of a machine, and no counter says that 0.0167 happened in a second."""
    for panel in (one for one in panels(dashboards()[name]) if one["type"] == "timeseries"):
        fields = panel["fieldConfig"]["defaults"]
        if fields["unit"] == "none" and not any("rate(" in one["expr"] for one in panel["targets"]):
            assert (fields["decimals"], fields["custom"]["lineInterpolation"]) == (0, "stepAfter"), panel["title"]
        elif fields["unit"] == "none":
            assert all("(60 * rate(" in one["expr"] for one in panel["targets"]), panel["title"]


@pytest.mark.parametrize("name", FILES)
def test_annotations_mark_moments(name: str) -> None:
    """The times of changes, and not as long as they last; those that are no harm are off until a person wants them."""
    found = {one["name"]: (one["useValueForTime"], one["enable"]) for one in dashboards()[name]["annotations"]["list"]}
    known = {"Lost": (True, True), "Gained": (True, False), "First sampled": (True, True)}
    assert found.items() <= known.items()


@pytest.mark.parametrize("name", FILES)
def test_the_machines_that_are_shown_are_called_so(name: str) -> None:
    """The label does not suggest that a machine is chosen there."""
    labels = [one["label"] for one in dashboards()[name]["templating"]["list"] if one["name"] == "machine"]
    assert all(re.fullmatch(r"Shown \(at most \d+\)", label) for label in labels)


@pytest.mark.parametrize("name", FILES)
def test_a_dashboard_begins_with_what_is_wrong(name: str) -> None:
    """Until a person opens a section, a refresh asks for panels, variables and annotations so often, and not more."""
    dashboard = dashboards()[name]
    asked = [target for panel in dashboard["panels"] for target in panel.get("targets", ())]
    asked += variables(dashboard)
    asked += [one for one in dashboard["annotations"]["list"] if one["enable"]]
    assert len(asked) <= {"kvm-fleet.json": 25, "kvm-guest.json": 23, "kvm-shards.json": 12}[name]
    assert all(row["collapsed"] for row in headings(dashboard))
    tables = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "table"]
    assert tables[0].startswith("Problems")


@pytest.mark.parametrize("name", FILES)
def test_each_leads_to_the_other(name: str) -> None:
    """With the machines and the time that are chosen."""
    (link,) = dashboards()[name]["links"]
    others = {dashboard["uid"] for other, dashboard in dashboards().items() if other != name}
    assert link["url"].removeprefix("/d/") in others
    assert link["includeVars"] is True
    assert link["keepTime"] is True
    assert dashboards()[name]["tags"] == ["kvm", "kvm-exporter"]


def test_links_in_cells_lead_to_a_dashboard_and_keep_what_is_chosen() -> None:
    """The time, the jobs and the data source go along; from *KVM shards*, the data source is that of the shard."""
    text = "".join((DASHBOARDS / name).read_text(encoding="utf-8") for name in FILES)
    urls = set(re.findall(r'"url": "(/d/[^"]+\?[^"]+)"', text))
    assert urls
    for url in urls:
        assert re.match(r"/d/kvm-(fleet|guest)\?", url)
        assert "${datasource:queryparam}" in url or "&var-datasource=kvm-shard-${__data.fields.Shard}&" in url
        assert "${__url_time_range}" in url
        assert "${job:queryparam}" in url


def test_a_variables_query_is_one_line() -> None:
    """Grafana's pattern for query_result() knows no second one."""
    for dashboard in dashboards().values():
        for variable in dashboard["templating"]["list"]:
            assert "\n" not in variable["query"]
