"""The rules on cohorts read sums, never a series of each machine: the server that evaluates them need not know any.

So does the dashboard *KVM shards*, which is for that server, and reads rankings of a fixed length besides.
"""

import re

import promql_parser
import pytest

from lab.panels import PanelQuery, queries
from lab.tree import RULE_FILES
from tests.support.monitoring.fleet import rule_groups
from tests.support.monitoring.promql import nodes, selectors
from tests.support.monitoring.queries import committed_rules

RECORDED = {rule["record"]: rule["expr"] for rule in committed_rules() if "record" in rule}
"""The expression of each recorded series."""

OF_COHORTS = {rule.get("record") or rule["alert"]: rule for rule in rule_groups()["kvm-cohorts"]}
"""The rules of the second file by their names."""

BOUNDED = {"job", "feature", "register", "bit", "fingerprint", "problem"}
"""Labels with as many values as there are jobs, bits, feature sets and problems, however many machines there are."""

QUERY = re.compile(r'printf "(.+?)" .+? \| query')
"""A query in the template of an annotation."""


def grows(name: str) -> bool:
    """Whether a series of a name exists for each machine: each of an exporter's, and of Prometheus' own, may."""
    return name not in RECORDED or result_grows(RECORDED[name])


def result_grows(expression: str) -> bool:
    """Whether an expression has a result for each machine: unless it aggregates them, or reads what does not grow."""
    tree = promql_parser.parse(expression)
    if isinstance(tree, promql_parser.AggregateExpr) and is_bounded(tree):
        return False
    if isinstance(tree, promql_parser.BinaryExpr) and is_of_few(tree):
        return result_grows(tree.rhs.prettify())
    return any(grows(str(one.name)) for one in selectors(expression))


def is_of_few(binary: promql_parser.BinaryExpr) -> bool:
    """Whether its result is of those machines alone that its right side has a result for."""
    matching = binary.modifier and binary.modifier.matching
    return str(binary.op) == "and" and matching is not None and "instance" in matching.labels


def is_bounded(aggregation: promql_parser.AggregateExpr) -> bool:
    """Whether it has one result for each group, or a fixed number of them, and groups by labels of no machine."""
    by = aggregation.modifier
    of_cohorts = by is None or (str(by.type) == "AggModifierType.By" and set(by.labels) <= BOUNDED)
    return of_cohorts and (aggregation.param is None or isinstance(aggregation.param, promql_parser.NumberLiteral))


def read(rule: dict[str, object]) -> list[str]:
    """The names of the series that a rule reads, in its expression and in the templates of its annotations."""
    annotations = rule.get("annotations", {})
    assert isinstance(annotations, dict)
    templates = [query.replace("%q", '""') for text in annotations.values() for query in QUERY.findall(text)]
    return [str(one.name) for expression in (str(rule["expr"]), *templates) for one in selectors(expression)]


@pytest.mark.parametrize("name", OF_COHORTS)
def test_a_rule_on_cohorts_reads_no_series_of_a_machine(name: str) -> None:
    """By the syntax trees of its own expressions, and of those of all that it reads."""
    names = read(OF_COHORTS[name])
    assert names
    assert [one for one in names if grows(one)] == []


@pytest.mark.parametrize("query", [query for query in queries() if query.dashboard == "KVM shards"], ids=str)
def test_the_dashboard_of_shards_reads_no_series_of_a_machine(query: PanelQuery) -> None:
    """But for alerts: its Prometheus has those on cohorts alone."""
    names = {str(one.name) for one in selectors(query.expression)} - {"ALERTS", "ALERTS_FOR_STATE"}
    assert [one for one in names if grows(one)] == []


@pytest.mark.parametrize("name", OF_COHORTS)
def test_a_rule_on_cohorts_adds_what_several_servers_send(name: str) -> None:
    """Each sum of the first file is inside an aggregation, by labels that do not tell the servers apart."""
    sums = {rule["record"] for rule in rule_groups()["kvm-sums"]}
    expression = OF_COHORTS[name]["expr"]
    inside = []
    for one in nodes(expression, promql_parser.AggregateExpr):
        argument = one.expr.prettify()
        if is_bounded(one) and not nodes(argument, promql_parser.AggregateExpr):
            inside += [str(selector.name) for selector in selectors(argument) if selector.name in sums]
    assert sorted(inside) == sorted(str(one.name) for one in selectors(expression) if one.name in sums)


@pytest.mark.parametrize(
    "expression",
    [
        "kvm_present",
        "sum by (job, instance) (kvm_present)",
        "sum without (instance) (kvm_present)",
        "topk(scalar(count(up)), kvm_present)",
        "cohort:kvm_present:sum + on (job) group_right () kvm_present",
        "instance:kvm_problem:weight",
        "instance:kvm_problem:weight and on (job) cohort:kvm_present:sum",
        "instance:kvm_problem:weight and on (job, instance) up",
    ],
)
def test_what_grows_is_found(expression: str) -> None:
    """In whatever form it is asked for."""
    assert result_grows(expression)


def test_each_file_is_a_half() -> None:
    """Alerts with the label of a machine are in the first file; in the second are all others."""
    for path, rules in zip(RULE_FILES, (set(rule_groups()) - {"kvm-cohorts"}, {"kvm-cohorts"}), strict=True):
        text = path.read_text(encoding="utf-8")
        for alert in (rule for name in rules for rule in rule_groups()[name] if "alert" in rule):
            assert f"alert: {alert['alert']}\n" in text
            assert ("$labels.instance" in alert["annotations"]["summary"]) is (path == RULE_FILES[0])
