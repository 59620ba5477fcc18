"""Real Prometheus servers scrape a running exporter and know what it serves."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.exporter import exporter
from lab.servers import JOB
from tests.support.monitoring.prometheus import Scraped, prometheus
from tests.support.rooms.loop import in_loop
from tests.support.system.relay import relay
from tests.support.tools import EACH_RELEASE

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


@pytest.mark.parametrize("release", EACH_RELEASE)
@in_loop
async def test_a_server_knows_what_is_served(release: str, tmp_path: Path, figure: Callable[[str], None]) -> None:
    """The target is up and healthy, and every series has the labels and the value that the exporter gives it."""
    with exporter() as running:
        async with relay(running.port) as between:
            with prometheus(release, tmp_path, {JOB: Scraped(between.port)}) as server:
                # When it asks a second time, what it got the first time is stored.
                await between.answers(2)
                [target] = (await asyncio.to_thread(server.ask, "targets"))["activeTargets"]
                found = {name: await asyncio.to_thread(server.series, name) for name in ("up", *CHECKED)}
        served = running.scrape()
    assert (target["health"], target["lastError"]) == ("up", "")
    assert found.pop("up") == {frozenset(): 1}
    for name in CHECKED:
        assert found[name] == served.series(name), name
    figure(f"{server_name(between.requests)} was answered {', '.join(between.content_types)}")


def server_name(requests: bytes) -> str:
    """How the server names itself."""
    found = re.search(rb"\r\nUser-Agent: ([^\r]*)\r\n", requests)
    assert found is not None
    return found[1].decode()
