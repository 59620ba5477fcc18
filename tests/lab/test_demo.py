"""The demonstration in a real terminal: what it shows, what keys and signals do, and that nothing is left of it."""

import os
import re
import signal
import socket
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from demo.cast import CAST
from demo.fleet import ALERTMANAGER_PORT, FIRST_PORT, PROMETHEUS_PORT
from lab.patience import PATIENCE_SECONDS
from lab.proc import descendants, parents, wait_until
from lab.servers import unless_taken
from lab.tree import DASHBOARDS, REPOSITORY
from tests.support.system.terminal import Terminal, terminal
from tests.support.tools import monitoring_program

PROGRAM = (sys.executable, "-m", "demo")
LAST_WORDS = "one on the mixed feature sets of the fleet."

FIRING = r"to operators: \[FIRING:1\] KvmFeatureLost, warning\s+plain lost steal_time\s"
RESOLVED = r"to operators: \[RESOLVED\] KvmFeatureLost, warning\s+Resolved: plain lost steal_time\s"


@contextmanager
def demonstration(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[tuple[Terminal, str]]:
    """One that runs, and what it says in the beginning."""
    for name in ("prometheus", "prometheus-alertmanager"):
        monitoring_program("bookworm", name)
    monkeypatch.setenv("TMPDIR", str(folder))
    with terminal(*PROGRAM) as shown:
        yield shown, shown.until(f"(?s).*{re.escape(LAST_WORDS)}")[0]


def page(url: str) -> str:
    """What is there."""
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as response:  # noqa: S310 - always http
        return str(response.read().decode())


def test_what_is_shown_can_be_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A page of each exporter and of Prometheus, Alertmanager's alerts; each machine with its name and what it is.

    Also the files for a Grafana, and how to reach all ports from elsewhere. A port that is taken is not used.
    """
    ports = (*range(FIRST_PORT, FIRST_PORT + len(CAST)), PROMETHEUS_PORT, ALERTMANAGER_PORT)
    with closing(socket.socket()) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # some other program has it
            taken.bind(("127.0.0.1", FIRST_PORT))
            taken.listen()
        expected = [unless_taken(port) for port in ports]
        with demonstration(monkeypatch, tmp_path) as (_, text):
            assert all(character.name in text and character.about in text for character in CAST)
            *machines, prometheus, alertmanager, _, source = re.findall(r"http://127\.0\.0\.1:\S+", text)
            assert len(machines) == len(CAST)
            assert all("KVM" in page(url) for url in machines)
            assert "CPU 1 differs" in page(machines[3])
            assert "KvmFeatureLost" in page(prometheus)
            assert page(alertmanager).startswith("[")
            assert '"status":"success"' in page(f"{source}/api/v1/labels")
            shown = [urlsplit(url).port for url in (*machines, prometheus, alertmanager)]
    assert expected[0] == 0
    assert [port or here for port, here in zip(expected, shown, strict=True)] == shown
    assert [f"-L {port}:127.0.0.1:{port}" in text for port in shown] == [True] * len(shown)
    assert all(str(path.relative_to(REPOSITORY)) in text for path in DASHBOARDS.glob("*.json"))


def test_keys_and_signals_make_a_machine_drift(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Enter does, and the other signal puts it right; each is told. So does the signal, and Enter puts it right."""
    with demonstration(monkeypatch, tmp_path) as (shown, _):
        shown.press("\n")
        shown.until("plain loses steal_time")
        shown.until(FIRING)
        shown.until(r"\s{4}Do:\s+Migrate\s+the\s+machine\s+back")
        shown.process.send_signal(signal.SIGUSR2)
        shown.until("plain has steal_time again")
        shown.until(RESOLVED)
        shown.process.send_signal(signal.SIGUSR1)
        shown.until("plain loses steal_time")
        shown.press("\n")
        shown.until("plain has steal_time again")


def exporter_on(machine: str, demo: int) -> int:
    """The exporter's process."""
    for process in descendants(demo):
        if f"/{machine}".encode() in Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" "):
            return process
    raise AssertionError(f"no exporter on {machine}")


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGHUP", "SIGKILL", "a child's death"])
def test_everything_stops_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str) -> None:
    """No process is left, however it ends; nor a file, unless it was killed."""
    with demonstration(monkeypatch, tmp_path) as (shown, _):
        started = descendants(shown.process.pid)
        assert len(started) == len(CAST) + 2
        if how == "Ctrl-C":
            shown.press("\x03")
        elif how.startswith("SIG"):
            shown.process.send_signal(signal.Signals[how])
        else:
            os.kill(exporter_on("strict", shown.process.pid), signal.SIGKILL)
            shown.until("the exporter on strict exited unexpectedly with -9. The end of its log:")
        expected = {"SIGKILL": -signal.SIGKILL, "a child's death": 1}.get(how, 0)
        assert shown.process.wait(PATIENCE_SECONDS) == expected
        try:
            wait_until(lambda: not started & parents().keys())
        finally:
            for left in started & parents().keys():
                os.kill(left, signal.SIGKILL)
    assert how == "SIGKILL" or list(tmp_path.iterdir()) == []
