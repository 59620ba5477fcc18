"""Every query of dashboards/ is answered by real Prometheus servers that scrape real exporters.

Those that are only answered when something is wrong are asked when everything is, that any of them is about.
"""

import socket
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from kvm_exporter.collector.boot import FILE_NAME
from kvm_exporter.cpuid.dump import Rows
from kvm_exporter.cpuid.registers import Registers
from lab.certificates import Certificates
from lab.drifting import DriftingHost
from lab.exporter import UNMEASURED, Exporter
from lab.guest import Cpus
from lab.patience import PATIENCE_SECONDS
from lab.readers import BASE
from lab.secure import TLS, until_the_end
from tests.support.monitoring.fleet import alert_rules
from tests.support.monitoring.grafana import asked, grafana_rules
from tests.support.monitoring.prometheus import Labels, Prometheus
from tests.support.monitoring.queries import EMPTY_WHEN_WELL, NOT_DECIDED, QUERIES, committed_rules
from tests.support.monitoring.stack import stack, until
from tests.support.rooms.layouts import AMD, kvm, signature
from tests.support.tools import RELEASES

EAX = 0x0100_7EFB
STEAL_TIME, ASYNC_PF_INT, STABLE_CLOCK = 1 << 5, 1 << 14, 1 << 24

ALL: Rows = {**kvm(EAX), **signature(BASE, BASE + 0x10), (BASE + 0x10, 0): Registers(2_599_997, 1_000_000, 0, 0)}
"""The frequencies as well."""

FASTER: Rows = {**ALL, (BASE + 0x10, 0): Registers(3_100_000, 1_000_000, 0, 0)}
"""On another host."""

MACHINES = {
    "steady": 20,
    "lost": 3,
    "vanished": 1,
    "moved": 1,
    "gained": 1,
    "risky": 1,
    "uneven": 1,
    "violator": 1,
    "misjudged": 1,
    "careless": 1,
    "locked": 1,
    "secure": 1,
    "mute": 1,
    "belated": 1,
    "faster": 1,
    "unstable": 1,
    "host": 1,
    "unreadable": 1,
    "volatile": 1,
    "late": 1,
    "gone": 5,
}
"""So many instances that Prometheus scrapes have this exporter: it takes a fleet to be rare in one, or to be many."""

KEPT = "features: {required: [steal_time], forbidden: [hints_realtime]}\n"
VIOLATED = "features: {required: [hints_realtime], forbidden: [steal_time]}\n"
MISSPELLED = "features: {required: [steal], forbidden: []}\n"


def on_all(rows: Rows) -> Cpus:
    """Two CPUs alike."""
    return {0: rows, 1: rows}


class Answers(NamedTuple):
    """The names of the queries that a server has no answer to, and of alerts; and its rules as it evaluates them."""

    unanswered_when_well: set[str]
    unanswered_when_wrong: set[str]
    unlike_in_grafana: set[str]
    rules: list[Any]


class Fleet:
    """Machines that can go wrong in every way that a query is about."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self._running = running
        self._hosts = {name: DriftingHost(folder / name, on_all(ALL)) for name in MACHINES}
        for host in self._hosts.values():
            host.boot()
        self._certificates = Certificates(self._hosts["secure"].folder, days=90)
        self._certificates.make("ca")
        self._certificates.make("server", signer="ca", sans="IP:127.0.0.1")
        flags = {
            "steady": f"--host-supports={EAX:#x}",
            "host": f"--host-supports={EAX:#x}",
            "violator": f"--baseline={self._write('violator', KEPT)}",
            "misjudged": f"--baseline={self._write('misjudged', KEPT)}",
            "locked": f"--web-config={self._write('locked', '{}')}",
            "secure": f"--web-config={self._write('secure', TLS)}",
        }
        self._exporters = {name: self._start(name, *filter(None, [flags.get(name)])) for name in MACHINES}
        self.addresses = {
            f"{name}-{number}": f"{'https://' if name == 'secure' else ''}127.0.0.1:{self._exporters[name].port}"
            for name, count in MACHINES.items()
            for number in range(count)
        }

    def go_wrong(self) -> None:
        """All at once."""
        self._hosts["lost"].change(on_all(kvm(EAX & ~STEAL_TIME)))
        self._hosts["vanished"].change(on_all(AMD))
        self._hosts["moved"].change(on_all(kvm(EAX, base=0x4000_0100)))
        self._hosts["gained"].change(on_all(kvm(EAX, edx=1)))
        self._hosts["uneven"].change({0: ALL, 1: kvm(EAX & ~STEAL_TIME, edx=1)})
        self._write("violator", VIOLATED)
        self._write("misjudged", MISSPELLED)
        self._hosts["careless"].boot("no-kvmapf")
        self._hosts["careless"].change(on_all(kvm(EAX & ~STABLE_CLOCK)))
        self._write("locked", "tls_server: {}")
        replace(self._certificates, days=2).make("server", signer="ca", sans="IP:127.0.0.1")
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", self._exporters["secure"].port), PATIENCE_SECONDS) as peer:
                peer.sendall(bytes(100))
                until_the_end(peer)
        self._hosts["mute"].hide()
        port = self._exporters["belated"].port
        self._exporters["belated"].stop()
        self._start("belated", f"--port={port}", "--clock-behind=600")
        self._hosts["faster"].change(on_all(FASTER))
        self._hosts["faster"].set_clock(tsc_khz=3_100_000)
        self._hosts["unstable"].set_clock(stable=False)
        self._restart("host", f"--host-supports={EAX & ~STEAL_TIME:#x}", "--host-clocksource=hpet")
        self._restart("unreadable", "--unreadable=1")
        self._restart("volatile", RUNTIME_DIRECTORY="")
        self._reboot("late", kvm(EAX & ~STEAL_TIME))
        self._reboot("risky", kvm(EAX & ~ASYNC_PF_INT))
        self._hosts["risky"].change(on_all(ALL))
        self._exporters["gone"].stop()

    def _reboot(self, name: str, rows: Rows) -> None:
        """Have the boot reference of a machine taken again, from other leaves; return once it is."""
        self._exporters[name].stop()
        self._hosts[name].change(on_all(rows))
        (self._hosts[name].runtime_directory / FILE_NAME).unlink()
        self._restart(name).scrape()

    def _restart(self, name: str, *flags: str, **environment: str) -> Exporter:
        """Stop an exporter, and start another one on its port."""
        port = self._exporters[name].port
        self._exporters[name].stop()
        return self._running.enter_context(
            self._hosts[name].daemon(f"--port={port}", *flags, environment={**UNMEASURED, **environment})
        )

    def _write(self, name: str, text: str) -> Path:
        """The file that the exporter of a machine is told to read: its baseline, or its web configuration."""
        path = self._hosts[name].folder / "settings.yaml"
        path.write_text(text)
        return path

    def _start(self, name: str, *flags: str) -> Exporter:
        return self._running.enter_context(self._hosts[name].daemon(*flags, environment=UNMEASURED))


def ask_all(server: Prometheus, enough: Callable[[set[str]], bool]) -> set[str]:
    """The queries that have no answer, asked again until those are enough, or for long enough."""

    def unanswered() -> set[str]:
        return {name for name, expression in QUERIES.items() if not server.query(expression)} - NOT_DECIDED

    return until(unanswered, enough)


def unlike_in_grafana(server: Prometheus) -> set[str]:
    """The alerts whose two forms have different answers at one time, when all is wrong."""
    now = time.time()

    def answer(expression: str) -> dict[Labels, str]:
        return {
            frozenset((name, text) for name, text in one["metric"].items() if name != "__name__"): one["value"][1]
            for one in server.query(expression, now)
        }

    rules = grafana_rules()
    return {name for name, rule in alert_rules().items() if answer(rule["expr"]) != answer(asked(rules[name]))}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Answers]:
    """What each release says of the same machines: when all is well, and when nothing is."""
    folder = tmp_path_factory.mktemp("fleet")
    with ExitStack() as running:
        fleet = Fleet(folder, running)
        servers = {
            release: running.enter_context(stack(release, folder, fleet.addresses)).prometheus for release in RELEASES
        }
        well = {release: ask_all(server, lambda names: names == EMPTY_WHEN_WELL) for release, server in servers.items()}
        fleet.go_wrong()
        wrong = {release: ask_all(server, lambda names: not names) for release, server in servers.items()}
        unlike = {
            release: until(partial(unlike_in_grafana, server), lambda names: not names)
            for release, server in servers.items()
        }
        evaluated = {
            release: [rule for group in server.ask("rules")["groups"] for rule in group["rules"]]
            for release, server in servers.items()
        }
    return {
        release: Answers(well[release], wrong[release], unlike[release], evaluated[release]) for release in RELEASES
    }


@pytest.mark.parametrize("release", RELEASES)
def test_when_all_is_well_a_query_has_an_answer_or_is_named(answers: Mapping[str, Answers], release: str) -> None:
    """No series is misspelled, no join is in vain, and no alert is about what is no matter."""
    assert answers[release].unanswered_when_well == EMPTY_WHEN_WELL


@pytest.mark.parametrize("release", RELEASES)
def test_when_all_is_wrong_those_have_one_too(answers: Mapping[str, Answers], release: str) -> None:
    """Every alert is about something that can happen."""
    assert answers[release].unanswered_when_wrong == set()


@pytest.mark.parametrize("release", RELEASES)
def test_grafana_is_told_the_same(answers: Mapping[str, Answers], release: str) -> None:
    """By the expressions of its own alert rules, which read no recorded series: the same labels and values."""
    assert answers[release].unlike_in_grafana == set()


@pytest.mark.parametrize("release", RELEASES)
def test_a_server_evaluates_every_rule(answers: Mapping[str, Answers], release: str) -> None:
    """All that are committed, and without an error: the newest comes without a promtool that could check them."""
    found = [(rule["name"], rule["health"], rule.get("lastError", "")) for rule in answers[release].rules]
    names = [rule.get("record") or rule["alert"] for rule in committed_rules()]
    assert sorted(found) == sorted((name, "ok", "") for name in names)
