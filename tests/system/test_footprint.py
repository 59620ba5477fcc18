"""What the daemon costs: the time to its first answer, and its memory after many scrapes. Both are printed."""

import http.client
import time
from collections.abc import Callable
from contextlib import closing

from lab.exporter import UNMEASURED, exporter
from lab.patience import PATIENCE_SECONDS
from lab.proc import memory

SCRAPES = 1000
MOST_MEMORY = 64
"""Megabytes: twice of what is meant, so that only a leak or a large library is above it."""


def test_the_time_to_the_first_answer(figure: Callable[[str], None]) -> None:
    """From exec to the first 200: imports, a sample of every CPU, and a body."""
    start = time.monotonic()
    with exporter(environment=UNMEASURED) as running:
        assert running.scrape().value("kvm_exporter_sample_success") == 1
        seconds = time.monotonic() - start
    figure(f"first answer after {seconds:.2f} s")


def test_memory_after_many_scrapes(figure: Callable[[str], None]) -> None:
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
    figure(f"{after:.1f} MB resident after {SCRAPES} scrapes, {before:.1f} MB before")
    assert after < MOST_MEMORY
    assert after - before < MOST_MEMORY / 10
