"""No alert fires for a stock guest: rules on the whole exposition of the daemon, with the files of such a guest."""

import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from lab.exporter import exporter
from lab.scrape import Scrape
from tests.support.monitoring.fleet import Ago, Firing, Machine, Phase, minutes, promtool_says, series
from tests.support.rooms.kernel import IDLE_DRIVER, STAT, kernel

STOCK = {STAT: "cpu  9000 0 4000 80000 500 0 100 0 0 0\n", IDLE_DRIVER: "none\n"}
"""Two CPUs of QEMU's -cpu host under Linux 6.1, on a host without contention."""


@pytest.fixture
def exposition(tmp_path: Path) -> str:
    """What the daemon serves on such a guest."""
    program = (sys.executable, "-m", "tests.support.system.staged_daemon", "stock", str(kernel(tmp_path, STOCK)))
    with exporter(program=program) as running:
        return running.scrape().text


def machine(exposition: str) -> Machine:
    """The series of an exposition as a machine; the sample is half a minute old."""
    samples = [sample for family in text_string_to_metric_families(exposition) for sample in family.samples]
    served = {series(sample.name, **sample.labels): sample.value for sample in samples}
    return {"up": 1, **served, "kvm_exporter_sample_timestamp_seconds": Ago(30)}


def test_a_stock_guest_is_quiet(exposition: str, tmp_path: Path) -> None:
    """Two hours long, although the kernel leaves two of the 13 features that it is offered unused."""
    used = Scrape(exposition).values("kvm_feature_in_use", "feature")
    assert {feature for (feature,), enabled in used.items() if not enabled} == {"clocksource", "poll_control"}
    assert len(used) == 13
    phases: list[Phase] = [(120, {"guest-1:10401": machine(exposition)})]
    checks: dict[int, Firing] = {minute: {} for minute in range(5, minutes(phases), 5)}
    assert promtool_says(tmp_path, phases, checks, ignored=set()) == ""
