"""Scrapes at a steady rate, over TLS with a password, by several scrapers with persistent connections."""

import ssl
import threading
import time
from contextlib import closing
from http import HTTPStatus

from lab.secure import ask_on, basic, connection

SCRAPES_PER_SECOND = 200
SCRAPERS = 4

KEPT = 100
"""The number of scrapes before a scraper opens a new connection, which uses the current certificate."""

LOGIN = basic("prometheus")


class Load:
    """Scrapes the exporter at a steady rate until the event ``stop`` is set."""

    def __init__(self, port: int, context: ssl.SSLContext, stop: threading.Event) -> None:
        self._port = port
        self._context = context
        self._stop = stop
        #: The duration in seconds of each scrape with a response.
        self.times: list[float] = []
        #: The reason of each failure.
        self.failures: list[str] = []

    def run(self) -> None:
        """Run one scraper."""
        due = time.monotonic()
        while not self._stop.is_set():
            with closing(connection(self._port, self._context)) as kept:
                for _ in range(KEPT):
                    due += SCRAPERS / SCRAPES_PER_SECOND
                    if self._stop.wait(max(due - time.monotonic(), 0)):
                        return
                    start = time.monotonic()
                    try:
                        reply = ask_on(kept, login=LOGIN)
                    except OSError as error:
                        self.failures.append(repr(error))
                        break
                    if reply.status != HTTPStatus.OK or "\nkvm_exporter_sample_success 1.0\n" not in reply.body:
                        self.failures.append(f"{reply.status}: {reply.body[:200]!r}")
                    self.times.append(time.monotonic() - start)
