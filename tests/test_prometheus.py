"""Real Prometheus servers scrape a running exporter and know what it serves."""

import asyncio
import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.exporter import Exporter, exporter
from support.loop import in_loop
from support.relay import relay
from support.tools import RELEASES, monitoring_program

CONFIGURATION = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: kvm
    static_configs:
      - targets: ['127.0.0.1:{port}']
"""

CHECKED = (
    "kvm_present",
    "kvm_feature_offered",
    "kvm_feature_offered_cpus",
    "kvm_cpu_register",
    "kvm_signature_info",
    "kvm_fingerprint_info",
    "kvm_exporter_sample_success",
    "kvm_exporter_samples_total",
    "kvm_exporter_build_info",
)

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
def prometheus(release: str, port: int, folder: Path) -> Iterator[Prometheus]:
    """A server that scrapes a port of the loopback every second."""
    configuration = folder / "prometheus.yml"
    configuration.write_text(CONFIGURATION.format(port=port))
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


@pytest.mark.parametrize("release", RELEASES)
@in_loop
async def test_a_server_knows_what_is_served(release: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The target is up and healthy, and every series has the labels and the value that the exporter gives it."""
    with exporter() as running:
        async with relay(running.port) as between:
            with prometheus(release, between.port, tmp_path) as server:
                # When it asks a second time, what it got the first time is stored.
                await between.answers(2)
                [target] = (await asyncio.to_thread(server.ask, "targets"))["activeTargets"]
                found = {name: await asyncio.to_thread(server.series, name) for name in ("up", *CHECKED)}
        served = running.scrape()
    assert (target["health"], target["lastError"]) == ("up", "")
    assert found.pop("up") == {frozenset(): 1}
    for name in CHECKED:
        assert found[name] == served.series(name), name
    with capsys.disabled():
        sys.stdout.write(f"\n{server_name(between.requests)} was answered {', '.join(between.content_types)}\n")


def server_name(requests: bytes) -> str:
    """How the server names itself."""
    found = re.search(rb"\r\nUser-Agent: ([^\r]*)\r\n", requests)
    assert found is not None
    return found[1].decode()
