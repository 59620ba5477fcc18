"""A file that is not written any more: node_exporter serves it on, and an alert says how old it is."""

from pathlib import Path

import pytest

from kvm_exporter.metrics.exporter import textfile_body
from tests.metrics.test_exporter_textfile import OBSERVATION
from tests.monitoring.test_stock_guest import machine
from tests.support.monitoring.fleet import Expected, Phase, alert_rules, promtool_says

GUEST = "guest-1:9100"

NAME = "KvmExporterSampleStale"


@pytest.mark.parametrize(("max_age", "stale"), [(60, 20), (900, 62)], ids=["every minute", "a slower timer"])
def test_a_timer_that_stops_is_noticed(max_age: float, stale: int, tmp_path: Path) -> None:
    """Five minutes after the file is older than three periods and a minute, by what it says itself."""
    written = machine(textfile_body(OBSERVATION, max_age).decode())
    left = {**written, "kvm_exporter_sample_timestamp_seconds": 10 * 60}
    phases: list[Phase] = [(10, {GUEST: written}), (80, {GUEST: left})]
    expected = Expected(
        {"instance": GUEST},
        f"The sample of {GUEST} is too old",
        f"The sample of {GUEST} was 1h 19m 0s old when it was scraped, by the clocks of the machine and of Prometheus. "
        "Check the clock of the machine first, then the exporter's log.",
    )
    checks = {stale - 1: {}, 89: {NAME: [expected]}}
    assert promtool_says(tmp_path, phases, checks, ignored=alert_rules().keys() - {NAME}) == ""
