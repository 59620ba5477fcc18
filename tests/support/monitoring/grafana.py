"""The alert rules that Grafana is provisioned with, also in a form that Prometheus evaluates."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lab.tree import DASHBOARDS

ALERTING = DASHBOARDS / "provisioning" / "alerting"

LINKED = ("__dashboardUid__", "__panelId__")
"""The annotations that link an alert to a panel."""


@cache
def groups() -> dict[str, dict[str, Any]]:
    """The committed groups by name, of all files."""
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(ALERTING.iterdir())]
    return {group["name"]: group for file in files for group in file["groups"]}


@cache
def grafana_rules() -> dict[str, dict[str, Any]]:
    """The committed alert rules by title."""
    return {rule["title"]: rule for group in groups().values() for rule in group["rules"]}


def asked(rule: dict[str, Any]) -> str:
    """The expression of a rule."""
    return str(rule["data"][0]["model"]["expr"])


def for_prometheus(folder: Path) -> Path:
    """A rule file with these alerts and no recorded series: the variables of texts have Prometheus' names."""
    path = folder / "grafana-rules.yaml"
    content = {
        "groups": [
            {"name": name, "rules": [_for_prometheus(rule) for rule in group["rules"]]}
            for name, group in groups().items()
        ]
    }
    path.write_text(yaml.safe_dump(content))
    return path


def said(text: str) -> str:
    """A text for Prometheus of one for Grafana."""
    return re.sub(r"(?<=\W)\.Labels\.", "$labels.", text).replace(".Values.A.Value", "$value")


def _for_prometheus(rule: dict[str, Any]) -> dict[str, Any]:
    texts = {name: said(text) for name, text in rule["annotations"].items() if name not in LINKED}
    return {
        "alert": rule["title"],
        "expr": asked(rule),
        "for": rule["for"],
        "labels": rule["labels"],
        "annotations": texts,
    }
