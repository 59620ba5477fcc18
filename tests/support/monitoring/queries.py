"""Every query of the files of dashboards/: of rules, panels, annotations and variables, as expressions by name."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from lab.panels import queries
from lab.tree import REPOSITORY
from tests.support.monitoring.fleet import alert_rules, rule_groups
from tests.support.monitoring.grafana import asked, grafana_rules
from tests.support.monitoring.promql import selectors

SELECTOR = re.compile(r"\b(?:up|kvm_\w+|\w+:\w+:\w+)\b(?:\{[^}]*\})?")
"""What an expression takes from the database: a name of ours, and what it asks of the labels."""


def committed_rules() -> list[dict[str, Any]]:
    """Recordings and alerts, as the files have them."""
    return [rule for rules in rule_groups().values() for rule in rules]


@cache
def metrics_of(expression: str) -> frozenset[str]:
    """The series of Prometheus and the exporters that an expression reads, itself or by way of recording rules."""
    recorded = {rule["record"]: rule["expr"] for rule in committed_rules() if "record" in rule}
    found: set[str] = set()
    new = {str(one.name) for one in selectors(expression)}
    while new:
        found |= new
        new = {str(one.name) for name in new & recorded.keys() for one in selectors(recorded[name])} - found
    return frozenset(found - recorded.keys())


def of_rules() -> dict[str, str]:
    """The expressions of recording rules and alerts by the rules' names, and each selector in them.

    An alert is silent while all is well, and then says nothing of whether it looks at the right series; these do.
    """
    expressions = {rule.get("record") or rule["alert"]: rule["expr"] for rule in committed_rules()}
    selectors = {found for expression in expressions.values() for found in SELECTOR.findall(expression)}
    return {**{selector: selector for selector in sorted(selectors)}, **expressions}


def of_readme() -> dict[str, str]:
    """The queries that README.md suggests, by what they are said to tell."""
    section = (REPOSITORY / "README.md").read_text(encoding="utf-8").partition("## The first three queries\n")[2]
    rows = re.findall(r"^    (\S.*?) +# (.*)$", section.partition("\n## ")[0], re.MULTILINE)
    return {f"README: {told}": expression for expression, told in rows}


def of_grafana() -> dict[str, str]:
    """The expressions of Grafana's alert rules by the titles of the rules."""
    return {f"Grafana: {title}": asked(rule) for title, rule in grafana_rules().items()}


PANELS = {str(query): query.expression for query in queries()}

QUERIES: Mapping[str, str] = {**of_rules(), **of_grafana(), **PANELS, **of_readme()}

NOT_DECIDED = frozenset(
    {
        "KVM fleet: Exporters that refuse requests: dropped",
        "KVM fleet: Exporters that refuse requests: log",
        "KVM fleet: Exporters that refuse requests: refused",
        "KVM guest: Fingerprint: fixed",
    }
)
"""Queries whose answer this machine decides: busy exporters refuse a scrape, and SEV-SNP fixes leaves at launch."""

EMPTY_WHEN_WELL = frozenset(
    {
        *alert_rules(),
        *of_grafana(),
        *(name for name in of_rules() if re.match(r"(cohort:)?kvm_boot_feature_changed(:gained)?{", name)),
        *(name for name in of_rules() if name.endswith((":last", ":missing"))),
        "kvm_baseline_violation",
        "kvm_boot_feature_changed",
        "kvm_feature_switched_off",
        "kvm_unoffered_feature_in_use",
        "cohort:kvm_boot_feature_changed:gained",
        "cohort:kvm_boot_feature_changed:lost",
        "instance:kvm_boot_feature_changed:lost",
        "instance:kvm_fingerprint_info:rare_since",
        "instance:kvm_problem:weight",
        "instance:up:unsampled",
        "job:kvm_problem:count",
        "ranked:kvm_problem:weight",
        "README: what a running guest has lost since it booted",
        "README: what some guests are offered and others are not",
        "KVM fleet: Firing alerts: severity",
        "KVM fleet: Firing alerts: since",
        "KVM fleet: Machines to check first: changed",
        "KVM fleet: Machines unlike most: like",
        "KVM fleet: Machines unlike most: offered",
        "KVM fleet: Machines unlike most: share",
        "KVM fleet: Outliers by feature: example",
        "KVM fleet: Problems: since",
        "KVM fleet: Problems: weight",
        "KVM fleet: annotation Gained: annotation",
        "KVM fleet: annotation Lost: annotation",
        "KVM guest: Bits: off",
        "KVM guest: Boot reference: changed",
        "KVM guest: Features offered to some CPUs only: some",
        "KVM guest: Problems: since",
        "KVM guest: Problems: weight",
        "KVM guest: Registers of CPUs that differ: eax",
        "KVM guest: Registers of CPUs that differ: edx",
        "KVM guest: annotation Gained: annotation",
        "KVM guest: annotation Lost: annotation",
        "KVM shards: Firing alerts: severity",
        "KVM shards: Firing alerts: since",
        "KVM shards: Problems of all machines: machines",
        "KVM shards: Problems of all machines: weight",
        "KVM shards: Worst machines: worst",
    }
)
"""The queries that have no answer in a fleet that is as it was and as it ought to be; all others have one."""
