"""Real Prometheus servers that scrape what a test runs."""

import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent
from typing import Any

from support.exporter import Exporter
from support.tools import monitoring_program

CONFIGURATION = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: kvm
{settings}    static_configs:
      - targets: ['127.0.0.1:{port}']
"""

NOT_OURS = {"__name__", "job", "instance"}

Labels = frozenset[tuple[str, str]]


class Prometheus:
    """A running server."""

    def __init__(self, process: Exporter) -> None:
        started = process.wait_for_log('msg="Listening on"', 20)
        process.wait_for_log("ready to receive web requests", 20)
        found = re.search(r"address=127\.0\.0\.1:(\d+)", started)
        assert found is not None
        self._url = f"http://127.0.0.1:{found[1]}/api/v1"

    def ask(self, path: str) -> Any:  # noqa: ANN401 - JSON of many shapes
        """The data of its API's answer."""
        with urllib.request.urlopen(f"{self._url}/{path}", timeout=10) as response:  # noqa: S310 - always http
            answer = json.load(response)
        assert answer["status"] == "success"
        return answer["data"]

    def series(self, name: str) -> dict[Labels, float]:
        """What it knows of a metric: labels, without those that it adds itself, and values."""
        found = self.ask(f"query?query={name}")["result"]
        return {
            frozenset((label, value) for label, value in one["metric"].items() if label not in NOT_OURS): float(
                one["value"][1]
            )
            for one in found
        }


@contextmanager
def prometheus(release: str, port: int, folder: Path, settings: str = "") -> Iterator[Prometheus]:
    """A server that scrapes a port of the loopback every second; settings are lines of its scrape_config."""
    configuration = folder / "prometheus.yml"
    configuration.write_text(CONFIGURATION.format(port=port, settings=indent(settings, " " * 4)))
    process = Exporter(
        [
            monitoring_program(release, "prometheus"),
            f"--config.file={configuration}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ]
    )
    try:
        yield Prometheus(process)
    finally:
        process.stop()
