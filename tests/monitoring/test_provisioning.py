"""What Grafana provisions itself with: the format as documented; test_grafana_alerts.py has what the alert rules say.

Source of the keys: pkg/services/provisioning of Grafana 11.6 (datasources/types.go, dashboards/types.go,
alerting/rules_types.go), and its documentation under "File provisioning".
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.tree import DASHBOARDS
from tests.support.monitoring.grafana import ALERTING, grafana_rules

FOLDER = DASHBOARDS / "provisioning"

DATA_SOURCE = FOLDER / "datasources" / "prometheus.yaml"
PROVIDER = FOLDER / "dashboards" / "kvm.yaml"
DRIFT = ALERTING / "kvm-drift.yaml"

Keys = Mapping[str, "Keys | type"]
"""Every key that may be there, and the type of its value; of a list, of each in it."""

QUERY: Keys = {
    "refId": str,
    "relativeTimeRange": {"from": int, "to": int},
    "datasourceUid": str,
    "model": {
        "refId": str,
        "expr": str,
        "instant": bool,
        "range": bool,
        "type": str,
        "expression": str,
        "datasource": {"type": str, "uid": str},
    },
}

RULE: Keys = {
    "uid": str,
    "title": str,
    "condition": str,
    "data": QUERY,
    "for": str,
    "noDataState": str,
    "execErrState": str,
    "labels": {"severity": str},
    "annotations": {
        "summary": str,
        "description": str,
        "runbook": str,
        "__dashboardUid__": str,
        "__panelId__": str,
    },
    "dashboardUid": str,
    "panelId": int,
}

RULES: Keys = {
    "apiVersion": int,
    "groups": {"orgId": int, "name": str, "folder": str, "interval": str, "rules": RULE},
}

KNOWN: Mapping[Path, Keys] = {
    DATA_SOURCE: {
        "apiVersion": int,
        "datasources": {
            "name": str,
            "uid": str,
            "type": str,
            "access": str,
            "url": str,
            "jsonData": {"httpMethod": str, "timeInterval": str},
        },
    },
    PROVIDER: {
        "apiVersion": int,
        "providers": {
            "name": str,
            "folder": str,
            "type": str,
            "allowUiUpdates": bool,
            "disableDeletion": bool,
            "updateIntervalSeconds": int,
            "options": {"path": str, "foldersFromFilesStructure": bool},
        },
    },
    **{ALERTING / f"kvm-{group}.yaml": RULES for group in ("cohorts", "drift", "exporter", "intent")},
}


def content(path: Path) -> dict[str, Any]:
    """A file as Grafana reads it."""
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def complaints(found: object, known: "Keys | type", path: str = "") -> Iterator[str]:
    """Keys that Grafana does not read, and values of another type."""
    if isinstance(known, type):
        if type(found) is not known:
            yield f"{path}: {found!r} is no {known.__name__}"
    elif isinstance(found, list):
        for number, one in enumerate(found):
            yield from complaints(one, known, f"{path}[{number}]")
    elif isinstance(found, dict):
        for key, value in found.items():
            if key in known:
                yield from complaints(value, known[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}: Grafana reads no such key"
    else:
        yield f"{path}: {found!r} has no keys"


def strings(found: object) -> Iterator[str]:
    """Every text in a file."""
    if isinstance(found, str):
        yield found
    elif isinstance(found, list):
        for one in found:
            yield from strings(one)
    elif isinstance(found, dict):
        yield from strings(list(found.values()))


def test_no_file_is_unknown() -> None:
    """Each is checked below."""
    assert set(FOLDER.rglob("*.*")) == set(KNOWN)


@pytest.mark.parametrize("path", KNOWN, ids=lambda path: path.name)
def test_the_keys_are_grafanas(path: Path) -> None:
    """Grafana says nothing of a key that it does not know."""
    assert list(complaints(content(path), KNOWN[path])) == []
    assert content(path)["apiVersion"] == 1


def test_a_misspelled_key_is_found() -> None:
    """At its place."""
    spoiled = content(DRIFT)
    spoiled["groups"][0]["rules"][0]["nodataState"] = "OK"
    assert list(complaints(spoiled, KNOWN[DRIFT])) == [".groups[0].rules[0].nodataState: Grafana reads no such key"]


def test_nothing_is_fixed_to_a_data_source() -> None:
    """It comes from the environment: its identifier, in all places; and its address, the scrape interval, a folder."""
    texts = [text for path in KNOWN for text in strings(content(path))]
    variables = {text for text in texts if text.startswith("$")}
    assert variables == {"$KVM_DATASOURCE_UID", "$KVM_DATASOURCE_URL", "$KVM_SCRAPE_INTERVAL", "$KVM_DASHBOARDS_PATH"}
    uids = {query["datasourceUid"] for rule in grafana_rules().values() for query in rule["data"]}
    assert uids == {"$KVM_DATASOURCE_UID", "__expr__"}
    (source,) = content(DATA_SOURCE)["datasources"]
    assert source["uid"] == "$KVM_DATASOURCE_UID"


def test_the_readme_names_every_variable() -> None:
    """And no other."""
    readme = (DASHBOARDS / "README.md").read_text(encoding="utf-8")
    texts = [text for path in KNOWN for text in strings(content(path))]
    assert set(re.findall(r"\bKVM_[A-Z_]+", readme)) == {text[1:] for text in texts if text.startswith("$")}
