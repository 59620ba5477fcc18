"""kvm_exporter.app.systemd: the notifications READY, RELOADING, STOPPING and WATCHDOG on a real socket."""

import asyncio
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from kvm_exporter.app import daemon, systemd
from lab.exporter import exporter
from lab.notifications import Notifications, notified_exporter
from lab.patience import PATIENCE_SECONDS
from tests.support.rooms.loop import in_own_time
from tests.support.system.latch import Latch
from tests.support.system.latched_daemon import EAX

INTERVAL_USEC = 600_000
"""Of a watchdog."""

SHORT = 0.3
"""How long a test waits for an event that must not happen, in seconds."""


def test_it_is_ready_when_it_serves_a_sample(latch: Latch, manager: Notifications) -> None:
    """READY is sent with a STATUS after the first sample, when requests are answered."""
    with latch.shut(), latch.daemon(max_age=60, environment=manager.environment) as running:
        with latch.visitor():
            assert list(manager.within(SHORT)) == []
        status = manager.until("READY")["STATUS"]
        scrape = running.scrape()
    assert (scrape.value("kvm_present"), scrape.value("kvm_exporter_samples_total", reason="start")) == (1, 1)
    [(fingerprint,)] = scrape.values("kvm_fingerprint_info", "fingerprint")
    assert status == (
        f"KVM at 0x40000000, features EAX {EAX:#010x}, EDX 0x00000000, fingerprint {fingerprint}; "
        "2 of 2 CPUs sampled, 0 differ"
    )


def test_a_machine_that_does_not_answer_does_not_hold_up_the_start(latch: Latch, manager: Notifications) -> None:
    """If the first sample times out, READY is sent without a sample, and STATUS says so."""
    with latch.shut(), latch.daemon(timeout=0.1, environment=manager.environment) as running, latch.visitor():
        assert manager.until("READY")["STATUS"] == "no sample yet; see the log"
        assert running.scrape().value("kvm_exporter_sample_failures_total", cause="timeout") == 1


def test_status_names_a_baseline_that_the_start_could_not_load(tmp_path: Path, manager: Notifications) -> None:
    """An invalid baseline does not end the start, and is in STATUS from the start on; there is no previous one."""
    baseline = tmp_path / "baseline.yml"
    baseline.write_text("nonsense")
    with exporter(f"--baseline.file={baseline}", environment=manager.environment):
        assert manager.until("READY")["STATUS"].endswith("; the baseline file is invalid")


def test_a_reload_has_a_begin_and_an_end(latch: Latch, manager: Notifications) -> None:
    """RELOADING has the time on the monotonic clock; READY follows when the machine has been read again."""
    with latch.daemon(environment=manager.environment) as running:
        running.scrape()
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        with latch.shut():
            running.process.send_signal(signal.SIGHUP)
            reloading = manager.until("RELOADING")
            assert reloading["RELOADING"] == "1"
            assert before <= int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            with latch.visitor():
                assert list(manager.within(SHORT)) == []
        assert manager.until("READY")["READY"] == "1"


def test_a_reload_without_a_new_sample_says_so(latch: Latch, manager: Notifications) -> None:
    """If no sample can be taken after SIGHUP, log and STATUS say that the old one is served, until there is one."""
    with latch.daemon(timeout=0.1, environment=manager.environment) as running:
        while "CPUs sampled" not in (status := manager.until("STATUS")["STATUS"]):
            pass
        with latch.shut():
            for _ in range(2):
                running.process.send_signal(signal.SIGHUP)
                manager.until("RELOADING")
                assert manager.until("READY")["STATUS"] == f"sampling failed; served: {status}"
            with latch.visitor():
                pass
        assert manager.until("STATUS")["STATUS"] == status
        assert running.stop() == 0
    said = [line for line in running.log if "SIGHUP" in line]
    assert len(said) == 2
    assert all(f'level=warn msg="sampling after SIGHUP failed; served: {status}"' in line for line in said)


def test_who_is_ready_can_be_reloaded() -> None:
    """The service manager may send SIGHUP as soon as it has received READY."""
    for _ in range(5):
        with notified_exporter() as (running, manager):
            running.process.send_signal(signal.SIGHUP)
            manager.until("RELOADING")


def test_the_end_is_announced(manager: Notifications) -> None:
    """STOPPING is the last notification."""
    with exporter(environment=manager.environment) as running:
        manager.until("READY")
        assert running.stop() == 0
    assert manager.next() == {"STOPPING": "1"}
    assert list(manager.within(0)) == []


def test_the_watchdog_is_fed() -> None:
    """WATCHDOG is sent from the start on, at least once in every half of the interval."""
    with notified_exporter(WATCHDOG_USEC=str(INTERVAL_USEC)) as (_, manager):
        for _ in range(8):
            assert manager.until("WATCHDOG")["WATCHDOG"] == "1"


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_datagrams_of_the_journal_and_the_manager(
    *, abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field of several lines has its length, and an address that begins with @ is an abstract one."""
    name = str(tmp_path / "socket")
    address = f"@{name}" if abstract else name
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as received:
        received.bind(f"\0{name}" if abstract else name)
        received.settimeout(PATIENCE_SECONDS)
        monkeypatch.setattr(systemd, "JOURNAL", address)
        systemd.journal_send(("MESSAGE=a\nb", "KVM_CPU=1=2", "X=\udc80"))
        assert received.recv(1000) == b"MESSAGE\n\3\0\0\0\0\0\0\0a\nb\nKVM_CPU=1=2\nX=\\udc80\n"
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notifier = systemd.Notifier()
        notifier.send("READY=1\nSTATUS=good")
        assert received.recv(1000) == b"READY=1\nSTATUS=good"
        notifier.close()


@pytest.mark.parametrize(
    ("count", "process"),
    [("0", None), ("-1", None), ("soon", None), ("1000000", None), ("1", "soon"), ("1", "1"), (None, None)],
)
def test_sockets_that_nobody_passed(count: str | None, process: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says of sockets that were not passed, there are none."""
    for name, value in (("LISTEN_FDS", count), ("LISTEN_PID", process or str(os.getpid()))):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert systemd.listen_descriptors() == []


@in_own_time
async def test_how_often_the_watchdog_is_fed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice in the interval, at once and for as long as it runs."""
    loop = asyncio.get_running_loop()
    fed: list[float] = []
    monkeypatch.setenv("WATCHDOG_USEC", str(INTERVAL_USEC))
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.setattr(systemd, "notify", lambda *_: fed.append(loop.time()))
    daemon._feed_watchdog(loop)  # noqa: SLF001 - nothing else of the daemon has to run for it
    await asyncio.sleep(1)
    assert fed == pytest.approx([0, 0.3, 0.6, 0.9])


@pytest.mark.parametrize(
    "environment",
    [{}, {"WATCHDOG_USEC": "0"}, {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}],
    ids=["none", "off", "another's", "nonsense"],
)
def test_a_watchdog_that_is_not_ours_is_not_fed(environment: dict[str, str]) -> None:
    """Without a watchdog for this process no WATCHDOG is sent."""
    with notified_exporter(**environment) as (_, manager):
        assert list(manager.within(SHORT)) == []


def test_a_service_manager_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    """A failed notification is logged, and the daemon keeps serving."""
    with exporter(environment={"NOTIFY_SOCKET": str(tmp_path / "gone")}) as running:
        assert running.scrape().value("kvm_exporter_sample_success") == 1
        said = running.wait_for_log("cannot send")
        assert "to the service manager: No such file or directory" in said
        assert running.stop() == 0
        # STATUS, READY and STOPPING failed alike.
        assert [line for line in running.log if "cannot send" in line] == [said]
