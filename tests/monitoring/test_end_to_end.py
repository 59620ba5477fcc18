"""From what happens to five machines to who is told: exporters, real Prometheus and Alertmanager, and every message.

The rules, the alerts and Alertmanager's example configuration are those that ship; only their waits are shorter. Both
releases watch the same machines at the same time.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.drifting import DriftingHost
from lab.exporter import UNMEASURED, Exporter
from lab.proc import wait_until
from lab.webhook import Message
from tests.support.monitoring.stack import PACE, stack
from tests.support.rooms.layouts import AMD, kvm
from tests.support.tools import RELEASES

ALL, STOLEN = kvm(0x0100_7EFB), kvm(0x0100_7EDB)
"""With steal time and without."""

LOSER, UNEVEN, VIOLATOR, LEAVER, STEADY = MACHINES = ("loser", "uneven", "violator", "leaver", "steady")

KEPT = "features: {required: [steal_time], forbidden: [hints_realtime]}\n"
VIOLATED = "features: {required: [steal_time, hints_realtime], forbidden: [pv_eoi]}\n"
"""A baseline that every machine keeps, and one that none does."""

CALM_SECONDS = 11 * 60 / PACE
"""A minute more than the longest wait before a message: what comes later than the last one expected is one too many."""

Told = tuple[str, str, Mapping[str, str]]
"""Receiver, status, and labels of an alert."""


def alert(name: str, severity: str = "warning", **labels: str) -> dict[str, str]:
    """The labels of an alert on the job."""
    return {"alertname": name, "severity": severity, "job": "kvm", **labels}


ALERTS = [
    alert("KvmCpusDiffer", instance=UNEVEN),
    alert("KvmExporterDown", instance=LEAVER),
    alert("KvmFeatureForbidden", instance=VIOLATOR, feature="pv_eoi", register="eax", bit="6"),
    alert("KvmFeatureLostDangerous", "critical", instance=LOSER, feature="steal_time", register="eax", bit="5"),
    alert("KvmFeatureMissing", instance=VIOLATOR, feature="hints_realtime", register="edx", bit="0"),
    alert("KvmFleetMixed", "info"),
]
"""All that people have to know. That the bit which was lost is missing from a baseline, too, is no news."""


RECEIVERS = {"critical": "on-call", "warning": "operators", "info": "operators"}


class Fleet:
    """Five machines with their exporters, and the servers of both releases that watch them."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self._running = running
        self.hosts = {name: DriftingHost(folder / name, {0: ALL, 1: ALL}) for name in MACHINES}
        for name in MACHINES:
            self.declare(name, KEPT)
        self.exporters = {name: self._start(name) for name in MACHINES}
        self._ports = {name: exporter.port for name, exporter in self.exporters.items()}
        addresses = {name: f"127.0.0.1:{port}" for name, port in self._ports.items()}
        self._stacks = {release: running.enter_context(stack(release, folder, addresses)) for release in RELEASES}
        for watching in self._stacks.values():
            watching.wait_until_known(len(MACHINES))

    def declare(self, name: str, baseline: str) -> None:
        """The baseline of a machine, from now on."""
        (self.hosts[name].folder / "baseline.yaml").write_text(baseline)

    def restart(self, name: str) -> None:
        """An exporter comes back where it was."""
        self.exporters[name] = self._start(name, f"--port={self._ports[name]}")

    def messages(self, expected: int) -> dict[str, list[Message]]:
        """What each release sends until it has sent so many messages, and a while after."""
        wait_until(lambda: all(len(one.messages) >= expected for one in self._stacks.values()))
        time.sleep(CALM_SECONDS)
        return {release: one.take() for release, one in self._stacks.items()}

    def _start(self, name: str, *flags: str) -> Exporter:
        host = self.hosts[name]
        daemon = host.daemon(*flags, baseline=host.folder / "baseline.yaml", environment=UNMEASURED)
        return self._running.enter_context(daemon)


Acts = Mapping[str, Mapping[str, list[Message]]]
"""The messages by act and release."""


@pytest.fixture(scope="module")
def acts(tmp_path_factory: pytest.TempPathFactory) -> Acts:
    """All is well; four machines go wrong in four ways; they are put right; KVM is gone from the fifth."""
    with ExitStack() as running:
        fleet = Fleet(tmp_path_factory.mktemp("fleet"), running)
        played = {"well": fleet.messages(0)}
        fleet.hosts[LOSER].change({0: STOLEN, 1: STOLEN})
        fleet.hosts[UNEVEN].change({0: ALL, 1: STOLEN})
        fleet.declare(VIOLATOR, VIOLATED)
        fleet.exporters[LEAVER].stop()
        played["wrong"] = fleet.messages(len(ALERTS))
        fleet.hosts[LOSER].change({0: ALL, 1: ALL})
        fleet.hosts[UNEVEN].change({0: ALL, 1: ALL})
        fleet.declare(VIOLATOR, KEPT)
        fleet.restart(LEAVER)
        played["right"] = fleet.messages(len(ALERTS))
        fleet.hosts[STEADY].change({0: AMD, 1: AMD})
        played["gone"] = fleet.messages(1)
    return played


def told(messages: list[Message]) -> list[Told]:
    """What messages are about, by the names of the alerts."""
    alerts = [(message["receiver"], one["status"], one["labels"]) for message in messages for one in message["alerts"]]
    return sorted(alerts, key=lambda alert: str(alert[2]["alertname"]))


@pytest.mark.parametrize("release", RELEASES)
def test_nobody_is_told_that_all_is_well(acts: Acts, release: str) -> None:
    """Machines that were never seen before are no news."""
    assert told(acts["well"][release]) == []


@pytest.mark.parametrize("release", RELEASES)
def test_each_alert_arrives_and_no_other(acts: Acts, release: str) -> None:
    """One message for each matter, with the labels that say whose it is; the steady machine is in none."""
    messages = acts["wrong"][release]
    assert told(messages) == [(RECEIVERS[labels["severity"]], "firing", labels) for labels in ALERTS]
    assert len(messages) == len(ALERTS)


@pytest.mark.parametrize("release", RELEASES)
def test_each_alert_is_resolved_when_it_is_put_right(acts: Acts, release: str) -> None:
    """One message again."""
    messages = acts["right"][release]
    assert told(messages) == [(RECEIVERS[labels["severity"]], "resolved", labels) for labels in ALERTS]
    assert len(messages) == len(ALERTS)


@pytest.mark.parametrize("release", RELEASES)
def test_the_worst_is_one_message_to_those_on_call(acts: Acts, release: str) -> None:
    """That KVM is gone says that its signature and each of its features are, and that the baseline is violated."""
    expected = alert("KvmVanished", "critical", instance=STEADY)
    assert told(acts["gone"][release]) == [("on-call", "firing", expected)]


@pytest.mark.parametrize("release", RELEASES)
def test_a_message_names_the_machine_and_the_feature(acts: Acts, release: str) -> None:
    """In words, with what to do."""
    [lost] = [one for message in acts["wrong"][release] for one in message["alerts"] if one["labels"] == ALERTS[3]]
    assert lost["annotations"]["summary"] == "loser lost steal_time, which it depends on"
    assert lost["annotations"]["description"].startswith("The hypervisor offered loser steal_time (eax bit 5) when ")
    assert lost["annotations"]["runbook"].startswith("Take the machine out of service now")
