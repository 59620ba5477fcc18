"""The demonstration in a real terminal: what it shows, what keys and signals do, and that nothing is left of it."""

import os
import re
import signal
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.cast import CAST
from lab.patience import PATIENCE_SECONDS
from lab.proc import descendants, parents, wait_until
from tests.support.system.terminal import Terminal, terminal
from tests.support.tools import monitoring_program

PROGRAM = (sys.executable, "-m", "demo")
LAST_WORDS = "one on the mixed feature sets of the fleet."

FIRING, RESOLVED = (
    f"to operators: {status} +warning +KvmFeatureLost: plain lost steal_time" for status in ("FIRING", "RESOLVED")
)


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
    """A page of each exporter and of Prometheus, Alertmanager's alerts; each machine with its name and what it is."""
    with demonstration(monkeypatch, tmp_path) as (_, text):
        assert all(character.name in text and character.about in text for character in CAST)
        *machines, prometheus, alertmanager, _ = re.findall(r"http://127\.0\.0\.1:\S+", text)
        assert len(machines) == len(CAST)
        assert all("KVM" in page(url) for url in machines)
        assert "CPU 1 differs" in page(machines[3])
        assert "KvmFeatureLost" in page(prometheus)
        assert page(alertmanager).startswith("[")


def test_keys_and_signals_make_a_machine_drift(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Enter does, and the other signal puts it right; each is told. So does the signal, and Enter puts it right."""
    with demonstration(monkeypatch, tmp_path) as (shown, _):
        shown.press("\n")
        shown.until("plain loses steal_time")
        shown.until(FIRING)
        shown.until(r"What\s+to\s+do:\s+Migrate\s+the\s+machine\s+back")
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
    """No process is left, however it ends; nor a file, unless nobody could do anything about it."""
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
