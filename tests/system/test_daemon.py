"""The daemon as a process: signals, what it logs, and what its flags do."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from kvm_exporter import __version__
from lab.exporter import PROGRAM, Exporter, exporter
from lab.notifications import Notifications, notified_exporter
from lab.patience import NEVER, PATIENCE_SECONDS
from lab.proc import scrape_until
from lab.scrape import Scrape
from tests.support.system.journal import journal
from tests.support.system.latch import Latch


class Reply(NamedTuple):
    """What came back."""

    status: int
    connection: str | None
    body: str


def request(running: Exporter, path: str = "/metrics") -> Reply:
    """Ask on a connection of its own."""
    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE_SECONDS)) as connection:
        connection.request("GET", path)
        with connection.getresponse() as response:
            return Reply(response.status, response.getheader("Connection"), response.read().decode())


# Signals.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(number: signal.Signals) -> None:
    """SIGTERM and SIGINT: exit code 0, and nothing in the log but what it did."""
    with exporter() as running:
        assert running.scrape().value("kvm_exporter_sample_success") == 1
        assert running.stop(number) == 0
    assert {line.split(" ")[1] for line in running.log} == {"level=info"}
    first, second, *_, last = [line.partition("msg=")[2] for line in running.log]
    assert first.startswith('"listening on 127.0.0.1:')
    assert second.startswith(f'"kvm-exporter {__version__}: ')
    assert last == "stopped"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_running_answer_ends_first(number: signal.Signals, latch: Latch, manager: Notifications) -> None:
    """A scrape that waits for the machine when the signal comes is answered before the end."""
    with latch.daemon(environment=manager.environment) as running, ThreadPoolExecutor(1) as pool:
        running.scrape()
        with latch.shut():
            answer = pool.submit(request, running)
            with latch.visitor():
                running.process.send_signal(number)
                manager.until("STOPPING")
        reply = answer.result(PATIENCE_SECONDS)
        assert (reply.status, reply.connection) == (200, "close")
        assert Scrape(reply.body).value("kvm_exporter_sample_success") == 1
        assert running.process.wait(PATIENCE_SECONDS) == 0


def test_a_signal_during_the_start_ends_it(latch: Latch) -> None:
    """A machine that does not answer at the start does not hold up the end either."""
    with latch.shut(), latch.daemon(timeout=NEVER) as running, latch.visitor():
        running.process.terminate()
        assert running.process.wait(PATIENCE_SECONDS) == 0


def test_a_reading_that_never_ends_does_not_hold_up_the_end(latch: Latch) -> None:
    """The thread that reads may be stuck for ever: the process ends all the same."""
    with latch.daemon(timeout=0.1) as running:
        # On a busy machine an attempt may be late, and still go on: then the latch has no visitor.
        scrape_until(running.scrape, lambda scrape: scrape.value("kvm_exporter_sample_success") == 1)
        with latch.shut():
            assert running.scrape().value("kvm_exporter_sample_success") == 0
            with latch.visitor():
                assert running.stop() == 0
                assert "did not end" not in "".join(running.log)


def test_sighup_looks_again() -> None:
    """The machine is read though the sample is young, and the daemon goes on."""
    with notified_exporter() as (running, manager):
        assert running.scrape().value("kvm_exporter_samples_total", reason="signal") == 0
        for count in (1, 2):
            running.process.send_signal(signal.SIGHUP)
            manager.until("READY")
            scrape = running.scrape()
            assert scrape.value("kvm_exporter_samples_total", reason="signal") == count
            assert scrape.value("kvm_exporter_samples_total", reason="start") == 1
        assert running.stop() == 0


# The log.


def test_the_journal_gets_entries_with_fields(tmp_path: Path) -> None:
    """Where the journal listens, each line of the log is an entry, and nothing is on stderr."""
    with journal(tmp_path) as listening, exporter("--log.format=journal", under=listening.under) as running:
        listens = listening.next()
        ready = listening.next()
        assert running.stop() == 0
        stopped = listening.next()
    assert listens["MESSAGE"][0].startswith("listening on 127.0.0.1:")
    assert ready["MESSAGE"][0].startswith(f"kvm-exporter {__version__}: ")
    assert stopped == {
        "MESSAGE": ["stopped"],
        "PRIORITY": ["6"],
        "SYSLOG_IDENTIFIER": ["kvm-exporter"],
        "LOGGER": ["kvm_exporter.app.daemon"],
    }
    assert running.log == []


@pytest.mark.parametrize("leads_there", [True, False])
def test_the_journal_is_chosen_where_stderr_leads_there(tmp_path: Path, *, leads_there: bool) -> None:
    """JOURNAL_STREAM names the device and inode of stderr under systemd; a redirected stderr is another."""
    read, write = os.pipe()
    found = os.fstat(write)
    stream = f"{found.st_dev}:{found.st_ino if leads_there else found.st_ino + 1}"
    with journal(tmp_path) as listening, os.fdopen(read, encoding="utf-8") as stderr:
        process = subprocess.Popen(
            [*listening.under, *PROGRAM], stderr=write, env={**os.environ, "JOURNAL_STREAM": stream}
        )
        os.close(write)
        if leads_there:
            assert listening.next()["MESSAGE"][0].startswith("listening on ")
        else:
            assert "listening on " in stderr.readline()
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
        assert ("stopped" in stderr.read()) is not leads_there


def test_lines_of_json() -> None:
    """Each line of the log is an object with the time, the level and the message."""
    with exporter("--log.format=json") as running:
        running.wait_for_log("listening on")
        assert running.stop() == 0
    lines = [json.loads(line) for line in running.log]
    assert {frozenset(line) for line in lines} == {frozenset({"ts", "level", "msg"})}
    assert lines[-1]["msg"] == "stopped"


def test_a_level_that_hides() -> None:
    """With --log.level=error a good run is silent."""
    with notified_exporter("--log.level=error") as (running, _):
        assert running.stop() == 0
    assert running.log == []


# Flags.


def test_without_the_exporters_own_metrics() -> None:
    """--web.disable-exporter-metrics leaves out what is of the process and of Python, and nothing else."""
    with exporter() as running:
        everything = running.scrape().names
    with exporter("--web.disable-exporter-metrics") as running:
        left = running.scrape().names
    of_the_process = {name for name in everything if name.startswith(("process_", "python_"))}
    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "python_info"} <= of_the_process
    assert everything - of_the_process == left


def test_metrics_at_another_path() -> None:
    """--web.telemetry-path, and nothing is at the usual one."""
    with exporter("--web.telemetry-path=/kvm") as running:
        assert request(running, "/kvm").status == 200
        assert request(running, "/metrics").status == 404


def test_only_some_cpus() -> None:
    """--sample.cpus leaves the others alone, and says so."""
    with exporter("--sample.cpus=0") as running:
        scrape = running.scrape()
    assert scrape.value("kvm_cpus", state="sampled") == 1
    assert scrape.value("kvm_cpus", state="skipped") == scrape.value("kvm_cpus_online") - 1


def test_several_addresses() -> None:
    """Each is listened on, and the log says where."""
    with exporter("--web.listen-address=127.0.0.2:0") as running:
        running.wait_for_log("listening on 127.0.0.2:")
        ports = [int(found[1]) for line in running.log if (found := re.search(r"listening on \S+:(\d+) ", line))]
        for host, port in zip(("127.0.0.1", "127.0.0.2"), ports, strict=True):
            socket.create_connection((host, port), timeout=PATIENCE_SECONDS).close()


def test_an_address_in_use() -> None:
    """Exit code 1, and a line that names the address and says what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = subprocess.run(
            [sys.executable, "-m", "kvm_exporter", f"--web.listen-address={address}"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    problem = f"cannot listen on {address}: Address already in use"
    advice = "stop the program that uses it, or choose another with --web.listen-address"
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"kvm-exporter: {problem}; {advice}\n")
