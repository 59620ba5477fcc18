"""The benchmarks run and measure what is promised, and the soak finds what is wrong; the figures mean nothing here."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.effort import PEERS
from benchmarks.figures import Figure, ratios, table
from benchmarks.soak import Soaked, complaints, summary
from lab.patience import PATIENCE_SECONDS
from lab.tree import REPOSITORY
from tests.support.tools import missing, program

PROMISED = {
    "sweep_vs_c_loop": 1.15,
    "sweep_own_overhead_per_cpu": 25,
    "scrape_p50_vs_node_exporter": 0.20,
    "scrape_cpu_vs_node_exporter": 0.20,
    "scrape_p50_vs_nginx": 2.5,
    "rss_vs_node_exporter": 1.25,
    "start_to_first_scrape": None,
    "idle_wakeups_per_minute": None,
    "series_of_64_cpus": 110 + 2 * 64,
    "probe_delay_of_64_cpus": 10,
    "attack_idle_failed": 0,
    "attack_idle_over_tls_failed": 0,
    "attack_idle_p50": None,
}
"""What is aimed at."""

GOOD = Soaked(
    seconds=10,
    times=[0.001] * 2000,
    failures=[],
    descriptors=(9, 9),
    memory=[40.0] * 8,
    changes=9,
    reloads=4,
    peers=20,
    errors=[],
    code=0,
)


def run(module: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """As make runs it."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )


@pytest.mark.slow
def test_all_that_is_promised_is_measured(tmp_path: Path) -> None:
    """With its target, in the file for programs and in the table for people."""
    for name in ("prometheus-node-exporter", "nginx"):
        if not list(PEERS.glob(f"usr/*/{name}")):
            missing(f"{name} (scripts/benchmark-peers)")
    program("cpuid")
    output = tmp_path / "bench.json"
    result = run("benchmarks", "--quick", f"--output={output}")
    assert result.returncode == 0, result.stderr
    figures = {figure["name"]: figure for figure in json.loads(output.read_text())["figures"]}
    assert {name: figures[name]["target"] for name in PROMISED} == PROMISED
    assert "sweep_vs_cpuid_program" in figures
    assert all(f"| `{name}` |" in result.stdout for name in figures)
    assert all(figure["values"] for figure in figures.values())


def test_a_name_of_no_measurement() -> None:
    """Those that there are are named."""
    result = run("benchmarks", "speed")
    assert result.returncode == 2
    assert "speed: no such measurement; choose from sweeps, scrapes, footprint, growth, attacks" in result.stderr


def test_figures() -> None:
    """Quartiles, and whether the median is within the target."""
    figure = Figure("a", [4, 1, 2, 3, 5], target=3)
    assert (figure.quartiles, figure.verdict) == ((2, 3, 4), "met")
    assert replace(figure, target=2.9).verdict == "missed"
    assert replace(figure, target=None).verdict == ""
    assert Figure("b", [7]).quartiles == (7, 7, 7)
    assert ratios([2, 9], [4, 3]) == [0.5, 3]


def test_the_table_has_ratios_first() -> None:
    """Numbers have three digits that count."""
    rows = table([Figure("time", [1234.5], "µs"), Figure("ratio", [0.12345, 0.5], target=1), Figure("none", [0], "")])
    assert rows.splitlines()[2:] == [
        "| `ratio` | 0.312 | 0.218 to 0.406 | 2 | ≤ 1 | met |",
        "| `time` | 1,234 µs | 1,234 to 1,234 | 1 |  |  |",
        "| `none` | 0 | 0 to 0 | 1 |  |  |",
    ]


@pytest.mark.slow
def test_a_short_soak(figure: Callable[[str], None]) -> None:
    """Long enough for every change to happen, and for the first slow peers to be cut."""
    result = run("benchmarks.soak", "--duration=20s")
    figure(result.stdout)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_good_soak_has_no_complaint() -> None:
    """And a summary."""
    assert list(complaints(GOOD)) == []
    assert summary(GOOD).startswith("2000 scrapes in 10 s, 0 failed; p50 1.0 ms, p99 1.0 ms, slowest 1.0 ms\n")


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"failures": ["500: 'oh'"]}, "scrapes failed, the first with 500: 'oh'"),
        ({"times": [0.001] * 1700}, "the exporter could not keep up: only 1700 scrapes"),
        ({"times": []}, "the exporter could not keep up: only 0 scrapes"),
        ({"descriptors": (9, 10)}, "descriptors are still open at the end"),
        ({"memory": [40.0, 40.0, 40.0, 42.0, 44.0]}, "memory grew by 4.0 MB in the second half"),
        ({"changes": 2}, "the exporter counted only 2 changes of the sample in 10 s"),
        ({"errors": ["level=error"]}, "the log has errors, the first is level=error"),
        ({"code": -9}, "the exporter exited with -9"),
    ],
    ids=["failure", "slow", "nothing", "descriptors", "memory", "changes", "log", "code"],
)
def test_a_soak_that_shows_something_says_so(wrong: dict[str, object], complaint: str) -> None:
    """One line for each thing, and the summary is there all the same."""
    soaked = replace(GOOD, **wrong)  # type: ignore[arg-type]
    assert list(complaints(soaked)) == [complaint]
    assert summary(soaked)
