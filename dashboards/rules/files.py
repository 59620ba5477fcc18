"""The rule files: which group is in which file, and the formats of Prometheus and of the Prometheus operator.

There are two, because several Prometheus servers may share a large fleet. Each of them loads machine-rules.yaml, and
the server where their sums meet cohort-rules.yaml. A server that scrapes all machines loads both.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from runbooks import runbook
from settings import Settings

from rules.cohort import cohort_rules
from rules.drift import drift_rules
from rules.exporter import exporter_alerts
from rules.intent import INTENT_ALERTS
from rules.last import with_last
from rules.rule import Alert, Recording, Rule
from rules.sums import sums

Groups = Mapping[str, Sequence[Rule]]
"""The rules of a file by the names of their groups."""


def rule_files(settings: Settings) -> dict[str, Groups]:
    """Return the groups of each file, by the name of the file without its ending."""
    return {
        "machine-rules": {
            "kvm-exporter": exporter_alerts(settings),
            "kvm-drift": drift_rules(settings),
            "kvm-intent": INTENT_ALERTS,
            "kvm-sums": sums(settings),
        },
        "cohort-rules": {"kvm-cohorts": cohort_rules(settings)},
    }


def rule_file(groups: Groups, runbooks: str) -> dict[str, Any]:
    """Return the content of a rule file of Prometheus; ``runbooks`` is the URL of the runbooks, or empty."""
    return {
        "groups": [
            {"name": name, "rules": [rule_content(rule, runbooks) for rule in with_last(rules)]}
            for name, rules in groups.items()
        ]
    }


def prometheus_rule(name: str, rule_file: Mapping[str, Any]) -> dict[str, Any]:
    """Return the PrometheusRule, the custom resource of the Prometheus operator, with the content of a rule file.

    Source: Documentation/api-reference of the Prometheus operator, monitoring.coreos.com/v1.
    """
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": f"kvm-exporter-{name}"},
        "spec": rule_file,
    }


def rule_content(rule: Rule, runbooks: str) -> dict[str, Any]:
    """Return a rule in the format of Prometheus' rule files."""
    if isinstance(rule, Recording):
        return {"record": rule.name, "expr": rule.expression.strip()}
    return {
        "alert": rule.name,
        "expr": rule.expression.strip(),
        "for": rule.wait,
        **({"keep_firing_for": rule.kept} if rule.kept else {}),
        "labels": {"severity": rule.severity},
        "annotations": texts(rule, runbooks),
    }


def texts(alert: Alert, runbooks: str) -> dict[str, str]:
    """Return what an alert says, as annotations."""
    return {"summary": alert.summary, "description": alert.description, **runbook(alert.name, runbooks)}
