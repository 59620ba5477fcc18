"""Which alerts silence others: real Alertmanagers, with the example's configuration, get some alerts and are asked.

Every case is a job of its own, so that one server can be asked about all of them at once.
"""

import json
import re
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from lab.patience import PATIENCE_SECONDS
from lab.servers import alertmanager_flags, start
from lab.tree import DASHBOARDS
from tests.support.monitoring.fleet import alert_rules
from tests.support.monitoring.stack import until
from tests.support.tools import EACH_RELEASE, monitoring_program

NOWHERE = "http://127.0.0.1:9"
"""Nobody takes messages there: the discard port."""

ONE, OTHER = "guest-1:10401", "guest-2:10401"

STEAL_TIME = {"feature": "steal_time", "register": "eax", "bit": "5"}
STABLE = {"feature": "clocksource_stable_bit", "register": "eax", "bit": "24"}

ASYNC_PF = {"feature": "async_pf", "register": "eax", "bit": "4"}

Labels = frozenset[tuple[str, str]]


def alert(name: str, instance: str | None = ONE, **labels: str) -> Labels:
    """What distinguishes an alert within its job; those on whole jobs have no instance."""
    return frozenset({"alertname": name, **({"instance": instance} if instance else {}), **labels}.items())


def severity(one: Labels) -> str:
    """What the rule says, by which messages are routed."""
    return str(alert_rules()[dict(one)["alertname"]]["labels"]["severity"])


class Case(NamedTuple):
    """Alerts that are sent, and alerts that they inhibit."""

    told: set[Labels]
    held: set[Labels]


SILENCING = {
    "KvmExportersDown",
    "KvmExporterDown",
    "KvmExporterSampleFailing",
    "KvmVanished",
    "KvmFeatureLostDangerous",
    "KvmFeatureLost",
    "KvmFeatureUsedNotOffered",
    "KvmFleetMixed",
}
"""Alerts that hold others back."""

CASES = {
    "many exporters are down": Case(
        told={alert("KvmExportersDown", None), alert("KvmFleetMixed", None)},
        held={alert("KvmExporterDown"), alert("KvmExporterDown", OTHER), alert("KvmFeatureLost", **STEAL_TIME)},
    ),
    "an exporter is down": Case(
        told={
            alert("KvmExporterDown"),
            alert("KvmFeatureLost", OTHER, **STEAL_TIME),
            alert("KvmFeatureGained", None, **STEAL_TIME),
        },
        held={alert("KvmFeatureLost", **STEAL_TIME), alert("KvmVanished")},
    ),
    "sampling fails": Case(
        told={
            alert("KvmExporterSampleFailing"),
            alert("KvmExporterSampleStale", OTHER),
            alert("KvmCpusUnreadable", OTHER, state="failed"),
            alert("KvmBootReferenceVolatile"),
        },
        held={alert("KvmExporterSampleStale"), alert("KvmCpusUnreadable", state="failed")},
    ),
    "KVM is gone": Case(
        told={alert("KvmVanished"), alert("KvmSignatureChanged", OTHER), alert("KvmCpusDiffer")},
        held={
            alert("KvmSignatureChanged"),
            alert("KvmFeatureLostDangerous", **STEAL_TIME),
            alert("KvmFeatureLost", **ASYNC_PF),
            alert("KvmFeatureLostHarmless", **STABLE),
            alert("KvmFeatureUsedNotOffered", **STABLE),
            alert("KvmFeatureMissing", **STABLE),
        },
    ),
    "a feature that a baseline requires was lost": Case(
        told={
            alert("KvmFeatureLost", **STEAL_TIME),
            alert("KvmFeatureMissing", **STABLE),
            alert("KvmFeatureMissing", OTHER, **STEAL_TIME),
            alert("KvmClockUnstable"),
        },
        held={alert("KvmFeatureMissing", **STEAL_TIME)},
    ),
    "a feature that a baseline requires is used and not offered": Case(
        told={
            alert("KvmFeatureUsedNotOffered", **STEAL_TIME),
            alert("KvmFeatureMissing", **STABLE),
            alert("KvmFeatureMissing", OTHER, **STEAL_TIME),
        },
        held={alert("KvmFeatureMissing", **STEAL_TIME)},
    ),
    "memory is at stake, and more was lost": Case(
        told={
            alert("KvmFeatureLostDangerous", **STEAL_TIME),
            alert("KvmFeatureGainedRisky", None, **ASYNC_PF),
            alert("KvmFeatureMissing", OTHER, **STEAL_TIME),
        },
        held={
            alert("KvmFeatureLost", **ASYNC_PF),
            alert("KvmFeatureLostHarmless", **STABLE),
            alert("KvmFeatureMissing", **STEAL_TIME),
            alert("KvmFeatureMissing", **ASYNC_PF),
        },
    ),
    "two features were lost": Case(
        told={alert("KvmFeatureLost", **ASYNC_PF), alert("KvmFeatureLostHarmless", OTHER, **STABLE)},
        held={alert("KvmFeatureLostHarmless", **STABLE)},
    ),
    "a harmless loss of what a baseline requires": Case(
        told={alert("KvmFeatureLostHarmless", **STABLE), alert("KvmFeatureMissing", **STABLE)},
        held=set(),
    ),
    "a harmless loss of what a baseline requires, beside one that is not": Case(
        told={alert("KvmFeatureLost", **ASYNC_PF), alert("KvmFeatureMissing", **STABLE)},
        held={alert("KvmFeatureLostHarmless", **STABLE), alert("KvmFeatureMissing", **ASYNC_PF)},
    ),
    "a roll-out goes on": Case(
        told={alert("KvmFleetMixed", None), alert("KvmFeatureLost", **STEAL_TIME)},
        held={alert("KvmFingerprintRare", None, fingerprint=one) for one in ("a", "b")},
    ),
    "nothing is above what is wrong": Case(
        told={alert(name) for name in alert_rules() if name not in SILENCING},
        held=set(),
    ),
}


class Alertmanager:
    """The API of a running server."""

    def __init__(self, address: str) -> None:
        self._url = f"http://{address}/api/v2/alerts"

    def post(self, job: str, alerts: set[Labels]) -> None:
        """Say that these fire for a while, as Prometheus does."""
        ends = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        labels = [dict(one) | {"job": job, "severity": severity(one)} for one in alerts]
        body = [{"labels": one, "endsAt": ends} for one in labels]
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url, json.dumps(body).encode(), headers)  # noqa: S310 - always http
        urllib.request.urlopen(request, timeout=PATIENCE_SECONDS).close()  # noqa: S310 - likewise

    def states(self) -> dict[str, dict[str, set[Labels]]]:
        """The alerts by job and state: ``active``, ``suppressed``, or for a moment ``unprocessed``."""
        with urllib.request.urlopen(self._url, timeout=PATIENCE_SECONDS) as response:  # noqa: S310 - always http
            alerts = json.load(response)
        found: dict[str, dict[str, set[Labels]]] = {}
        for one in alerts:
            own = frozenset((key, value) for key, value in one["labels"].items() if key not in {"job", "severity"})
            by_state = found.setdefault(one["labels"]["job"], {})
            by_state.setdefault(one["status"]["state"], set()).add(own)
        return found


@contextmanager
def alertmanager(release: str, folder: Path, changes: Mapping[str, str]) -> Iterator[Alertmanager]:
    """A server with the example, hurried and changed: its states are those that the last flush of a group found."""
    program = "prometheus-alertmanager"
    monitoring_program(release, program)
    flags = alertmanager_flags(folder / release, NOWHERE, 600)
    configuration = folder / release / "alertmanager.yaml"
    text = configuration.read_text()
    for before, after in changes.items():
        assert before in text
        text = text.replace(before, after)
    configuration.write_text(text)
    server = start(release, program, *flags)
    try:
        yield Alertmanager(server.address)
    finally:
        server.process.stop()


def outcome(server: Alertmanager, cases: Mapping[str, Case]) -> Mapping[str, Case]:
    """What a server makes of cases, once it holds back what it is to hold back: a first flush may come before that."""

    def settled(now: Mapping[str, Mapping[str, set[Labels]]]) -> bool:
        done = all("unprocessed" not in by_state for by_state in now.values())
        return done and all(case.held <= now[name].get("suppressed", set()) for name, case in cases.items())

    for name, case in cases.items():
        server.post(name, case.told | case.held)
    found = until(server.states, settled)
    return {
        name: Case(by_state.get("active", set()), by_state.get("suppressed", set())) for name, by_state in found.items()
    }


@pytest.fixture(scope="module", params=EACH_RELEASE)
def states(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Case]:
    """What a server of each release makes of the cases."""
    with alertmanager(request.param, tmp_path_factory.mktemp("alertmanager"), {}) as server:
        return outcome(server, CASES)


@pytest.mark.parametrize("name", CASES)
def test_some_are_held_back_and_no_others(states: Mapping[str, Case], name: str) -> None:
    """Of other machines, and of other features, everything is told."""
    assert states[name] == CASES[name]


def test_the_head_of_the_example_says_what_more_labels_change(tmp_path: Path) -> None:
    """Of a site with clusters: a cluster that is mixed hides no rare feature set of another, and a job is one job."""
    rare = {name: alert("KvmFingerprintRare", None, cluster=name, fingerprint="a") for name in ("north", "south")}
    down = {alert("KvmExporterDown", name, cluster="north") for name in (ONE, OTHER)}
    cases = {
        "rare": Case({alert("KvmFleetMixed", None, cluster="north"), rare["south"]}, {rare["north"]}),
        "down": Case({alert("KvmExportersDown", None)}, down),
    }
    changes = {"equal: [job]\n\nreceivers": "equal: [job, cluster]\n\nreceivers"}
    with alertmanager("bookworm", tmp_path, changes) as server:
        assert outcome(server, cases) == cases


def test_every_inhibition_has_a_case() -> None:
    """Each silences something somewhere."""
    rules = yaml.safe_load((DASHBOARDS / "alertmanager.example.yaml").read_text(encoding="utf-8"))["inhibit_rules"]
    assert {name for rule in rules for name in re.findall(r"Kvm\w+", rule["source_matchers"][0])} == SILENCING
    for name in SILENCING:
        cases = [case for case in CASES.values() if name in {dict(one)["alertname"] for one in case.told}]
        assert any(case.held for case in cases), name
