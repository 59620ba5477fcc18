"""The files that Grafana provisions itself with: its data source, the dashboards, and alert rules of its own.

An alert rule is translated from the one that Prometheus reads. Source of the format: pkg/services/provisioning of
Grafana 11.6, and its documentation under "File provisioning".
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

UID, URL = "$KVM_DATASOURCE_UID", "$KVM_DATASOURCE_URL"
"""Of the data source, from the environment of Grafana, which puts it in everywhere but in the model of a query."""

FOLDER = "KVM"

INTERVAL = "1m"
"""How often Grafana evaluates, as Prometheus does by default."""

MOST_UID = 40
"""Characters that Grafana allows in an identifier."""

QUERY, CONDITION = "A", "B"


def data_source() -> dict[str, Any]:
    """The Prometheus that scrapes the exporters."""
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
    """The dashboards, from the folder that an environment variable names."""
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
    """Alert rules of Prometheus as a group of Grafana's."""
    translated = {
        "orgId": 1,
        "name": group,
        "folder": FOLDER,
        "interval": INTERVAL,
        "rules": [alert_rule(rule) for rule in rules],
    }
    return {"apiVersion": 1, "groups": [translated]}


def alert_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    """One rule of Prometheus as one of Grafana's.

    Prometheus fires for every series that an expression yields, whatever its value, and stays silent without one;
    Grafana fires for every one that is not 0, and has states of its own without data. Hence the second query and
    ``noDataState``. Grafana 11.6 has nothing like ``keep_firing_for``, which is left out.
    """
    window = {"from": 600, "to": 0}
    query = {
        "refId": QUERY,
        "relativeTimeRange": window,
        "datasourceUid": UID,
        "model": {"refId": QUERY, "expr": rule["expr"], "instant": True, "range": False},
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
    }


def identifier(name: str) -> str:
    """What stands for a rule as long as it has its name: ``KvmFeatureLost`` is ``kvm-feature-lost``."""
    uid = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()
    if len(uid) > MOST_UID:
        raise ValueError(
            f"Grafana allows {MOST_UID} characters, and {uid} has {len(uid)}; give the alert a shorter name"
        )
    return uid


def annotation(template: str) -> str:
    """A template of Prometheus as one of Grafana's.

    ``$value`` is a text about all queries there. And a ``$`` would have to be written twice, since environment
    variables are put into annotations; what a ``$`` stands for has a name without it, too.
    """
    translated = template.replace("$labels.", ".Labels.").replace("$value", f".Values.{QUERY}.Value")
    if "$" in translated:
        raise ValueError(f"Grafana would put an environment variable into {template!r}; say here what it stands for")
    return translated
