"""What the daemon costs: the time to its first answer, and its memory after many scrapes. Both are printed."""

import http.client
import re
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from lab.exporter import UNMEASURED, Exporter, exporter
from lab.patience import PATIENCE_SECONDS

SCRAPES = 1000
MOST_RESIDENT = 64 << 20
"""Bytes: twice of what is meant, so that only a leak or a large library is above it."""


def resident(running: Exporter) -> int:
    """The bytes that it has in memory: proc_pid_status(5)."""
    status = Path(f"/proc/{running.process.pid}/status").read_text(encoding="ascii")
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def say(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Print for a person, whatever pytest captures."""
    with capsys.disabled():
        sys.stdout.write(f"\n{text}\n")


def test_the_time_to_the_first_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """From exec to the first 200: imports, a sample of every CPU, and a body."""
    start = time.monotonic()
    with exporter(environment=UNMEASURED) as running:
        assert running.scrape().value("kvm_exporter_sample_success") == 1
        seconds = time.monotonic() - start
    say(capsys, f"first answer after {seconds:.2f} s")


def test_memory_after_many_scrapes(capsys: pytest.CaptureFixture[str]) -> None:
    """Scrapes leave nothing behind: a thousand, of many samples, compressed and not, in both formats."""
    with exporter("--sample.max-age=20ms", environment=UNMEASURED) as running:
        for _ in range(SCRAPES // 10):
            running.get()
        before = resident(running)
        with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE_SECONDS)) as connection:
            for number in range(SCRAPES):
                headers = {
                    "Accept": ("text/plain", "application/openmetrics-text; version=1.0.0")[number % 2],
                    "Accept-Encoding": ("identity", "gzip")[number // 2 % 2],
                }
                connection.request("GET", "/metrics", headers=headers)
                with connection.getresponse() as response:
                    assert response.status == 200
                    response.read()
        after = resident(running)
    say(capsys, f"{after / (1 << 20):.1f} MiB resident after {SCRAPES} scrapes, {before / (1 << 20):.1f} MiB before")
    assert after < MOST_RESIDENT
    assert after - before < MOST_RESIDENT / 10
