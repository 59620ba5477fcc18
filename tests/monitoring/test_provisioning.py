"""What Grafana provisions itself with: the format as documented, and alert rules that are Prometheus' own.

Source of the keys: pkg/services/provisioning of Grafana 11.6 (datasources/types.go, dashboards/types.go,
alerting/rules_types.go), and its documentation under "File provisioning".
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from grafana.provisioning import annotation, identifier

from kvm_exporter.kvm.features import FEATURES
from lab.panels import dashboards, panels
from lab.tree import DASHBOARDS
from tests.support.monitoring.fleet import (
    Machine,
    Phase,
    alert_rules,
    input_series,
    promtool_tests,
    rule_groups,
    series,
)
from tests.support.monitoring.promql import nodes, selectors

FOLDER = DASHBOARDS / "provisioning"

DATA_SOURCE = FOLDER / "datasources" / "prometheus.yaml"
PROVIDER = FOLDER / "dashboards" / "kvm.yaml"
ALERTING = FOLDER / "alerting" / "kvm-drift.yaml"

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
    "annotations": {"summary": str, "description": str, "runbook": str},
    "dashboardUid": str,
    "panelId": int,
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
    ALERTING: {
        "apiVersion": int,
        "groups": {"orgId": int, "name": str, "folder": str, "interval": str, "rules": RULE},
    },
}


def content(path: Path) -> dict[str, Any]:
    """A file as Grafana reads it."""
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def complaints(found: object, known: "Keys | type", path: str = "") -> Iterator[str]:
    """Keys that nobody reads, and values of another type."""
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
                yield f"{path}.{key}: nobody reads it"
    else:
        yield f"{path}: {found!r} has no keys"


def prometheus_rules() -> dict[str, dict[str, Any]]:
    """The alerts on drift by name, as Prometheus reads them."""
    gained = [rule for name, rule in alert_rules().items() if name.startswith("KvmFeatureGained")]
    drift = [rule for rule in rule_groups()["kvm-drift"] if "alert" in rule]
    return {rule["alert"]: rule for rule in (*drift, *gained)}


def grafana_rules() -> dict[str, dict[str, Any]]:
    """The same as Grafana reads them."""
    (group,) = content(ALERTING)["groups"]
    return {rule["title"]: rule for rule in group["rules"]}


def strings(found: object) -> Iterator[str]:
    """Every text in a file."""
    if isinstance(found, str):
        yield found
    elif isinstance(found, list):
        for one in found:
            yield from strings(one)
    elif isinstance(found, dict):
        yield from strings(list(found.values()))


def expanded(template: str) -> str:
    """What Grafana makes of a text of a file with no variable in its environment: values.go, interpolateValue."""
    return "$".join(re.sub(r"\$\{?\w+\}?", "", part) for part in template.split("$$"))


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
    spoiled = content(ALERTING)
    spoiled["groups"][0]["rules"][0]["nodataState"] = "OK"
    assert list(complaints(spoiled, KNOWN[ALERTING])) == [".groups[0].rules[0].nodataState: nobody reads it"]


def test_every_alert_on_drift_is_there() -> None:
    """In the order of Prometheus, and no other."""
    assert list(grafana_rules()) == list(prometheus_rules())


@pytest.mark.parametrize("name", prometheus_rules())
def test_a_rule_is_the_one_of_prometheus(name: str) -> None:
    """The same expression, over the time that Prometheus keeps it firing; the same wait and labels; any value fires."""
    theirs, ours = prometheus_rules()[name], grafana_rules()[name]
    query, condition = ours["data"]
    asked = query["model"]["expr"]
    kept = re.sub(r"last_over_time\(([\w:]+(?:\{[^}]*\})?)\[15m\]\)", r"\1", asked)
    assert kept == theirs["expr"]
    ranges = nodes(asked, promql_parser.MatrixSelector)
    assert len(ranges) == (len(selectors(asked)) if theirs.get("keep_firing_for") == "15m" else 0)
    assert (query["model"]["instant"], query["model"]["range"]) == (True, False)
    assert ours["for"] == theirs["for"]
    assert ours["labels"] == theirs["labels"]
    assert ours["condition"] == condition["refId"] == condition["model"]["refId"]
    assert condition["model"]["type"] == "math"
    assert condition["model"]["expression"] == f"is_number(${query['refId']})"
    assert (ours["noDataState"], ours["execErrState"]) == ("OK", "Error")
    assert theirs.keys() - {"keep_firing_for"} == {"alert", "expr", "for", "labels", "annotations"}


def test_an_alert_outlasts_a_machine_that_cannot_be_scraped(tmp_path: Path) -> None:
    """For as long as that of Prometheus: a failed scrape neither resolves it nor makes it fire again."""
    (feature,) = (one for one in FEATURES if one.name == "pv_unhalt")
    labels = {"feature": feature.name, "register": feature.register, "bit": str(feature.bit), "signature": "KVMKVMKVM"}
    lost: Machine = {series("kvm_boot_feature_changed", **labels): -1}
    expression = f"count({grafana_rules()['KvmFeatureLost']['data'][0]['model']['expr']})"
    one = [{"labels": "{}", "value": 1}]
    tests = [
        {"expr": expression, "eval_time": f"{minute}m", "exp_samples": found}
        for minute, found in ((4, one), (6, one), (18, one), (21, []))
    ]
    phases: list[Phase] = [(5, {"one": lost}), (20, {"one": {}})]
    test = {"interval": "1m", "input_series": input_series(phases), "promql_expr_test": tests}
    assert promtool_tests(tmp_path, test) == ""


def test_every_alert_links_to_the_table_of_problems() -> None:
    """By the number that it has on its dashboard."""
    links = {(rule["dashboardUid"], rule["panelId"]) for rule in grafana_rules().values()}
    ((dashboard, number),) = links
    (found,) = (one["title"] for one in panels(dashboards()[f"{dashboard}.json"]) if one["id"] == number)
    assert found == "Problems"


@pytest.mark.parametrize("name", prometheus_rules())
def test_annotations_say_the_same(name: str) -> None:
    """But for the names of labels and of the value, which need no dollar."""
    back = {
        key: text.replace(".Labels.", "$labels.").replace(".Values.A.Value", "$value")
        for key, text in grafana_rules()[name]["annotations"].items()
    }
    assert back == prometheus_rules()[name]["annotations"]
    for text in grafana_rules()[name]["annotations"].values():
        assert expanded(text) == text


def test_a_template_that_grafana_would_spoil_is_refused() -> None:
    """Not written and wondered at."""
    with pytest.raises(ValueError, match=r"Grafana would expand an environment variable in '\{\{ \$externalURL \}\}'"):
        annotation("{{ $externalURL }}")


def test_identifiers_are_stable_and_short() -> None:
    """One for each rule, which Grafana allows."""
    uids = [rule["uid"] for rule in grafana_rules().values()]
    assert len(set(uids)) == len(uids)
    assert all(re.fullmatch(r"[a-z-]{1,40}", uid) for uid in uids)
    assert identifier("KvmCpusDiffer") == "kvm-cpus-differ"


def test_a_long_identifier_is_refused() -> None:
    """Grafana would refuse the whole file."""
    with pytest.raises(ValueError, match=r"Grafana allows 40 characters, and a{41} has 41; give the alert a shorter"):
        identifier("a" * 41)


def test_a_wait_is_a_multiple_of_the_interval() -> None:
    """Grafana evaluates at the interval, and waits no part of it."""
    (group,) = content(ALERTING)["groups"]
    assert group["interval"] == "1m"
    assert all(re.fullmatch(r"[1-9]\d*m", rule["for"]) for rule in group["rules"])


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
