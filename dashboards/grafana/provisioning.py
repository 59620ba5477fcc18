"""Provisioning files for Grafana: a data source, the dashboards, and Grafana-managed alert rules.

The alert rules are translated from those of Prometheus. Source of the format: pkg/services/provisioning of Grafana
11.6, and its documentation under "File provisioning".
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

UID, URL = "$KVM_DATASOURCE_UID", "$KVM_DATASOURCE_URL"
"""The data source, as environment variables, which Grafana expands everywhere except in the model of a query."""

FOLDER = "KVM"

INTERVAL = "1m"
"""The evaluation interval, equal to Prometheus' default."""

MOST_UID = 40
"""The maximum length of an identifier in Grafana, in characters."""

QUERY, CONDITION = "A", "B"

PROBLEMS = ("kvm-fleet", 9)
"""The dashboard and the number of the panel that each alert rule links to: the table of problems."""

_SELECTOR = re.compile(r"(?<![\w:])(?:\w+:)?kvm_[\w:]+(?:\{[^}]*\})?")


def data_source() -> dict[str, Any]:
    """Return the data source: the Prometheus that scrapes the exporters."""
    source = {
        "name": "Prometheus (KVM)",
        "uid": UID,
        "type": "prometheus",
        "access": "proxy",
        "url": URL,
        "jsonData": {"httpMethod": "POST", "timeInterval": "$KVM_SCRAPE_INTERVAL"},
    }
    return {"apiVersion": 1, "datasources": [source]}


def dashboard_provider() -> dict[str, Any]:
    """Return the provider of the dashboards, from the folder in the environment variable KVM_DASHBOARDS_PATH."""
    provider = {
        "name": "kvm-exporter",
        "folder": FOLDER,
        "type": "file",
        "allowUiUpdates": False,
        "disableDeletion": False,
        "updateIntervalSeconds": 60,
        "options": {"path": "$KVM_DASHBOARDS_PATH", "foldersFromFilesStructure": False},
    }
    return {"apiVersion": 1, "providers": [provider]}


def alerting(group: str, rules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a group of Grafana's alert rules, translated from those of Prometheus."""
    translated = {
        "orgId": 1,
        "name": group,
        "folder": FOLDER,
        "interval": INTERVAL,
        "rules": [alert_rule(rule) for rule in rules],
    }
    return {"apiVersion": 1, "groups": [translated]}


def alert_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return one of Grafana's alert rules, translated from one of Prometheus.

    Prometheus fires for every series that an expression returns, whatever its value. Grafana fires for every series
    that is not 0, so a second query turns each value into 1. Prometheus does not fire without a series, so
    ``noDataState`` is ``OK``. Grafana 11.6 has no equivalent of ``keep_firing_for``: the expression itself outlasts a
    machine that cannot be scraped.
    """
    dashboard, panel = PROBLEMS
    window = {"from": 600, "to": 0}
    query = {
        "refId": QUERY,
        "relativeTimeRange": window,
        "datasourceUid": UID,
        "model": {
            "refId": QUERY,
            "expr": lasting(rule["expr"], rule.get("keep_firing_for")),
            "instant": True,
            "range": False,
        },
    }
    expression = {"type": "__expr__", "uid": "__expr__"}
    condition = {
        "refId": CONDITION,
        "relativeTimeRange": window,
        "datasourceUid": "__expr__",
        "model": {
            "refId": CONDITION,
            "type": "math",
            "expression": f"is_number(${QUERY})",
            "datasource": expression,
        },
    }
    return {
        "uid": identifier(rule["alert"]),
        "title": rule["alert"],
        "condition": CONDITION,
        "data": [query, condition],
        "for": rule["for"],
        "noDataState": "OK",
        "execErrState": "Error",
        "labels": dict(rule["labels"]),
        "annotations": {name: annotation(text) for name, text in rule["annotations"].items()},
        "dashboardUid": dashboard,
        "panelId": panel,
    }


def lasting(expression: str, period: str | None) -> str:
    """Return the expression with the last value of each series within a period, such as ``15m``; None for now only."""
    if period is None:
        return expression
    return _SELECTOR.sub(lambda found: f"last_over_time({found[0]}[{period}])", expression)


def identifier(name: str) -> str:
    """Return the identifier of a rule: ``kvm-feature-lost`` for ``KvmFeatureLost``. Raises ValueError if too long."""
    uid = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
    if len(uid) > MOST_UID:
        raise ValueError(
            f"Grafana allows {MOST_UID} characters, and {uid} has {len(uid)}; give the alert a shorter name"
        )
    return uid


def annotation(template: str) -> str:
    """Return Grafana's template for one of Prometheus. Raises ValueError if it has another ``$`` variable.

    In Grafana, ``$value`` is a text about all queries, and ``$`` in an annotation starts an environment variable. The
    result uses the names without ``$``: ``.Labels`` and ``.Values``.
    """
    translated = template.replace("$labels.", ".Labels.").replace("$value", f".Values.{QUERY}.Value")
    if "$" in translated:
        raise ValueError(f"Grafana would expand an environment variable in {template!r}; translate it here")
    return translated
