"""What the kernel refuses the process, signals in every state, and clocks that jump: what stays up and is shown."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support.exporter import PROGRAM
from support.process import wait_until

TESTS = Path(__file__).parent

NO_THREAD = "kvm-exporter: no thread to read in: can't start new thread; raise the limit (TasksMax=, ulimit -u)\n"


# Out of threads.


@pytest.mark.parametrize(
    "words",
    [["serve", "--web.listen-address=unix:{}/socket"], ["show"], ["dump"], ["textfile", "{}/kvm.prom"]],
    ids=lambda words: words[0],
)
def test_where_there_may_be_no_more_threads(words: list[str]) -> None:
    """Exit code 1 and a line that says what to do; nothing is left behind."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        command = [sys.executable, "-m", "support.threadless", *(word.format(folder) for word in words)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False)
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
    assert running.wait(20) == 0


def ask_at(path: Path) -> bytes:
    """What is served at a socket in the file system."""
    received = b""
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(10)
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
    assert subprocess.run(command, timeout=30, check=False).returncode == 2
