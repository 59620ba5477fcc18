"""What the daemon costs: the time to its first answer, and its memory after many scrapes. Both are printed."""

import http.client
import sys
import time
from contextlib import closing

import pytest

from lab.exporter import UNMEASURED, exporter
from lab.patience import PATIENCE_SECONDS
from lab.proc import memory

SCRAPES = 1000
MOST_MEMORY = 64
"""Megabytes: twice of what is meant, so that only a leak or a large library is above it."""


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
        before = memory(running)
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
        after = memory(running)
    say(capsys, f"{after:.1f} MB resident after {SCRAPES} scrapes, {before:.1f} MB before")
    assert after < MOST_MEMORY
    assert after - before < MOST_MEMORY / 10
