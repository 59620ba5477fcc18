"""What the kernel refuses the process, signals in every state, and clocks that jump: what stays up and is shown."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

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
