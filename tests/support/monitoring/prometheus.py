"""Real Prometheus servers that scrape what a test runs."""

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple

from lab.patience import PATIENCE_SECONDS
from lab.servers import JOB, start
from tests.support.tools import monitoring_program

GLOBAL = """
global:
  scrape_interval: 1s
scrape_configs:
"""

OF_A_JOB = """\
  - job_name: {job}
{settings}    static_configs:
      - targets: ['127.0.0.1:{port}']
"""

NOT_OURS = {"__name__", "job", "instance"}

Labels = frozenset[tuple[str, str]]


class Prometheus:
    """The API of a running server at host:port."""

    def __init__(self, address: str) -> None:
        self._url = f"http://{address}/api/v1"

    def ask(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON of many shapes
        """The data of its API's answer."""
        url = f"{self._url}/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as response:  # noqa: S310 - always http
            answer = json.load(response)
        assert answer["status"] == "success"
        return answer["data"]

    def query(self, expression: str, when: float | None = None) -> list[Any]:
        """The series that an expression gives at a time, by default now: ``metric`` and ``value``."""
        moment = {} if when is None else {"time": str(when)}
        return list(self.ask("query", query=expression, **moment)["result"])

    def target(self, job: str = JOB) -> dict[str, Any]:
        """The only target of a job, once that has been asked: ``health``, ``lastError``, ``labels``."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            for target in self.ask("targets")["activeTargets"]:
                if target["labels"]["job"] == job and target["health"] != "unknown":
                    return dict(target)
            assert time.monotonic() < deadline, "no scrape"
            time.sleep(0.1)

    def series(self, name: str) -> dict[Labels, float]:
        """What it knows of a metric: labels, without those that it adds itself, and values."""
        return {
            frozenset((label, value) for label, value in one["metric"].items() if label not in NOT_OURS): float(
                one["value"][1]
            )
            for one in self.query(name)
        }


class Scraped(NamedTuple):
    """A port of the loopback that a job scrapes, with the other lines of its scrape_config."""

    port: int
    settings: str = ""


@contextmanager
def prometheus(release: str, folder: Path, jobs: Mapping[str, Scraped]) -> Iterator[Prometheus]:
    """A server with these jobs, each of which scrapes its port every second."""
    monitoring_program(release, "prometheus")
    configuration = folder / "prometheus.yml"
    text = [OF_A_JOB.format(job=job, port=port, settings=indent(lines, " " * 4)) for job, (port, lines) in jobs.items()]
    configuration.write_text("".join([GLOBAL, *text]))
    flags = (f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}")
    server = start(release, "prometheus", *flags)
    try:
        yield Prometheus(server.address)
    finally:
        server.process.stop()
