"""What the kernel refuses the process, signals in every state, and clocks that jump: what stays up and is shown."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from kvm_exporter.web.connection import Deadlines
from kvm_exporter.web.server import MAX_CONNECTIONS
from lab.exporter import PROGRAM, UNMEASURED, exporter
from lab.notifications import Notifications
from lab.patience import NEVER, PATIENCE_SECONDS
from lab.proc import errors, sockets, wait_until
from lab.secure import TLS, make_server, web_config
from tests.support.system.clock import Clock
from tests.support.system.latch import Latch

MOST_ATTEMPTS = 10

NO_THREAD = (
    "kvm-exporter: cannot start the reading thread: can't start new thread; raise the limit (TasksMax=, ulimit -u)\n"
)


# Out of threads.


@pytest.mark.parametrize(
    "words",
    [["serve", "--web.listen-address=unix:{}/socket"], ["show"], ["dump"], ["textfile", "{}/kvm.prom"]],
    ids=lambda words: words[0],
)
def test_where_there_may_be_no_more_threads(words: list[str]) -> None:
    """Exit code 1 and a line that says what to do; nothing is left behind."""
    environment = {**os.environ, **UNMEASURED}
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        command = [sys.executable, "-m", "tests.support.system.threadless", *(word.format(folder) for word in words)]
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
        assert list(Path(folder).iterdir()) == []
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", NO_THREAD)


# The log cannot be written.


@pytest.mark.parametrize("where", ["on a full disk", "nowhere", "to a reader that is gone"])
def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path, where: str) -> None:
    """Scrapes and reloads are answered, and the exit code is 0."""
    path = tmp_path / "socket"
    read, write = os.pipe()
    os.close(read)
    script = {"on a full disk": 'exec "$@" 2> /dev/full', "nowhere": 'exec "$@" 2>&-'}.get(where, 'exec "$@"')
    command = ["sh", "-c", script, "sh", *PROGRAM[:-1], f"--web.listen-address=unix:{path}"]
    try:
        running = subprocess.Popen(command, stderr=write, stdin=subprocess.DEVNULL)
    finally:
        os.close(write)
    try:
        wait_until(path.exists)
        for _ in range(2):
            assert b"\nkvm_exporter_sample_success 1.0\n" in ask_at(path)
            running.send_signal(signal.SIGHUP)
    finally:
        running.terminate()
    assert running.wait(PATIENCE_SECONDS) == 0


def test_a_log_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    """With a full pipe behind stderr scrapes are answered, lost messages are counted, and the exit code is 0."""
    path = tmp_path / "socket"
    read, write = os.pipe()
    command = [*PROGRAM[:-1], f"--web.listen-address=unix:{path}", "--log.level=debug"]
    with os.fdopen(read), os.fdopen(write, "wb") as stderr, ExitStack() as stack:
        running = subprocess.Popen(command, stderr=stderr, stdin=subprocess.DEVNULL)
        stack.callback(running.kill)
        wait_until(path.exists)
        silent: deque[socket.socket] = deque()
        while b"\nkvm_exporter_log_messages_dropped_total 0\n" in ask_at(path):
            for _ in range(100):  # at the limit, each closes another one, which is a message at this level
                silent.append(stack.enter_context(socket.socket(socket.AF_UNIX)))
                silent[-1].connect(str(path))
                if len(silent) > MAX_CONNECTIONS:
                    silent.popleft().close()
        running.terminate()
        assert running.wait(PATIENCE_SECONDS) == 0


def ask_at(path: Path) -> bytes:
    """What is served at a socket in the file system."""
    received = b""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE_SECONDS)
        peer.connect(str(path))
        peer.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        while data := peer.recv(1 << 16):
            received += data
    return received


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
@pytest.mark.parametrize("words", ["check --baseline nowhere", "decode nowhere", "textfile nowhere", "--loud"])
def test_an_error_that_nobody_hears_keeps_its_exit_code(words: str, redirection: str) -> None:
    """2, where 1 would be an answer: of check, that the machine drifts."""
    command = ["sh", "-c", f'exec "$@" {words} {redirection}', "sh", sys.executable, "-m", "kvm_exporter"]
    assert subprocess.run(command, timeout=PATIENCE_SECONDS, check=False).returncode == 2


# Signals.


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_the_end_comes_while_it_starts(tmp_path: Path, seconds: float) -> None:
    """Whether Python has begun or the daemon: it ends soon, maybe killed before it listens, and leaves no socket."""
    flag = f"--web.listen-address=unix:{tmp_path}/socket"
    with exporter(program=[*PROGRAM[:-1], flag]) as running:
        time.sleep(seconds)
        assert running.stop() in {0, -signal.SIGTERM}
        assert errors(running) == []
    assert list(tmp_path.iterdir()) == []


def test_the_end_comes_twice_while_a_scrape_waits(latch: Latch, manager: Notifications) -> None:
    """An impatient second SIGTERM changes nothing: the answer is on its way."""
    with latch.daemon(environment=manager.environment) as running, ThreadPoolExecutor(1) as pool:
        running.scrape()
        with latch.shut():
            answer = pool.submit(running.scrape)
            with latch.visitor():
                running.process.terminate()
                manager.until("STOPPING")
                running.process.terminate()
        assert answer.result(PATIENCE_SECONDS).value("kvm_exporter_sample_success") == 1
        assert running.process.wait(PATIENCE_SECONDS) == 0
        assert errors(running) == []


@pytest.mark.parametrize("also", [(), (signal.SIGHUP,)], ids=["reloading", "and asked to reload once more"])
def test_the_end_comes_while_it_reloads(latch: Latch, manager: Notifications, also: tuple[signal.Signals, ...]) -> None:
    """The machine that does not answer is not waited for, and the manager is told."""
    with latch.daemon(timeout=NEVER, environment=manager.environment) as running:
        manager.until("READY")
        with latch.shut():
            running.process.send_signal(signal.SIGHUP)
            manager.until("RELOADING")
            with latch.visitor():
                for number in (*also, signal.SIGTERM):
                    running.process.send_signal(number)
                manager.until("STOPPING")
                assert running.process.wait(PATIENCE_SECONDS) == 0
        assert errors(running) == []


def test_the_end_comes_while_clients_shake_hands(tmp_path: Path) -> None:
    """One that is silent and one that stopped half-way are not waited for; a scraper that is idle is let go."""
    make_server(tmp_path)
    flag = f"--web.config.file={web_config(tmp_path, TLS)}"
    lasted = handshake = Deadlines().handshake
    attempts = 0
    # On a slow machine the deadline of a handshake may pass anyhow: then nothing is known, and it is tried again.
    while lasted >= handshake and (attempts := attempts + 1) <= MOST_ATTEMPTS:
        with exporter(flag) as running, ExitStack() as peers:
            address, before = ("127.0.0.1", running.port), sockets(running)
            start = time.monotonic()
            for said in (b"", b"\x16\x03\x01\x02\x00\x01\x00"):
                peers.enter_context(socket.create_connection(address, timeout=PATIENCE_SECONDS)).sendall(said)
            # A handshake holds a second descriptor of its socket.
            wait_until(lambda: sockets(running) == before + 3 or time.monotonic() - start > handshake)  # noqa: B023 - at once
            running.process.terminate()
            assert running.process.wait(PATIENCE_SECONDS) == 0
            lasted = time.monotonic() - start
            assert errors(running) == []
    assert lasted < handshake


# Clocks.


@pytest.mark.parametrize("offset", ["+3650d", "-3650d"])
def test_the_wall_clock_jumps(tmp_path: Path, offset: str) -> None:
    """Ten years either way: the sample is as young as it was; the next one has the new time."""
    clock = Clock(tmp_path, monotonic=False)
    with exporter(environment=clock.environment) as running:
        kept = HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE_SECONDS)
        before = scrape_on(kept)
        clock.jump(offset)
        assert scrape_on(kept) == before
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: running.scrape().value("kvm_exporter_samples_total", reason="signal") == 1)
        after = running.scrape()
        years = (after.value("kvm_exporter_sample_timestamp_seconds") - before) / (365 * 86400)
        assert abs(abs(years) - 10) < 0.1
        assert after.value("kvm_exporter_sample_success") == 1
        assert after.value("kvm_exporter_sample_duration_seconds") < PATIENCE_SECONDS
        kept.close()
        assert running.stop() == 0
        assert errors(running) == []


def test_a_machine_sleeps_or_is_restored(tmp_path: Path) -> None:
    """All clocks jump by a year, deadlines with them: the next scrape looks again, and there is no failure to see."""
    clock = Clock(tmp_path, monotonic=True)
    with exporter(environment=clock.environment) as running:
        assert running.scrape().value("kvm_exporter_samples_total", reason="age") == 0
        clock.jump("+365d")
        scrape = running.scrape()
        assert scrape.value("kvm_exporter_samples_total", reason="age") == 1
        assert scrape.value("kvm_exporter_sample_success") == 1
        assert set(scrape.values("kvm_exporter_sample_failures_total", "cause").values()) == {0}
        assert running.stop() == 0
        assert errors(running) == []


def scrape_on(kept: HTTPConnection) -> float:
    """When the sample was taken, as a connection that is kept is told."""
    kept.request("GET", "/metrics")
    text = kept.getresponse().read().decode()
    [line] = [line for line in text.splitlines() if line.startswith("kvm_exporter_sample_timestamp_seconds ")]
    assert "\nkvm_exporter_sample_success 1.0\n" in text
    return float(line.split()[1])
