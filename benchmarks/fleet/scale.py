"""``python -m benchmarks.fleet.scale``: measure the cost of fleets for a real Prometheus with the shipped rules.

Each fleet is one job, whose targets have every series of a real exporter and are all served by this process. After all
targets have been scraped, it measures several evaluations of the rule groups, and several runs of each query of the
fleet dashboard. It prints a table, with each rule's share of the time and the series of each family, and writes
build/bench-fleet.json.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from benchmarks.fleet.bodies import body, cpus
from benchmarks.fleet.client import ask
from benchmarks.fleet.crowd import crowd
from lab.panels import EVERYTHING, PanelQuery, queries
from lab.patience import PATIENCE_SECONDS
from lab.servers import JOB, start
from lab.tree import REPOSITORY, RULE_FILES

RESULT = REPOSITORY / "build" / "bench-fleet.json"

EVALUATIONS = 4
ASKED = 5
SHOWN_SECONDS, STEP_SECONDS = 3600, 15
"""The range and the step of queries over time."""

FLEET = "KVM fleet"

ALL, OLDER, OLDEST, STOLEN = 0x0100_7EFB, 0x0100_7AFB, 0x0100_007B, 0x0100_7EDB

BASELINE = "features: {required: [clocksource2, steal_time, clocksource_stable_bit], forbidden: [hints_realtime]}\n"

KINDS = {
    "usual": (cpus(ALL, ALL), cpus(ALL, ALL)),
    "older": (cpus(OLDER, OLDER), cpus(OLDER, OLDER)),
    "rare": (cpus(OLDEST, OLDEST), cpus(OLDEST, OLDEST)),
    "gained": (cpus(OLDER, OLDER), cpus(ALL, ALL)),
    "lost": (cpus(ALL, ALL), cpus(STOLEN, STOLEN)),
    "uneven": (cpus(ALL, ALL), cpus(ALL, STOLEN)),
}
"""The CPUs of each kind of machine at boot and now."""

IN_A_THOUSAND = {"older": 80, "gained": 20, "lost": 5, "rare": 2, "uneven": 1}
"""How many of a thousand machines are of each kind; all others are usual."""

_SERIES = re.compile(r"^prometheus_tsdb_head_series (\S+)$", re.MULTILINE)
_RESIDENT = re.compile(r"^process_resident_memory_bytes (\S+)$", re.MULTILINE)
_SAMPLED = re.compile(r"^(kvm_exporter_sample_timestamp_seconds) .*$", re.MULTILINE)


class Times(NamedTuple):
    """Seconds between scrapes, and between evaluations of the rules."""

    scrape: int = 60
    evaluate: int = 15


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one fleet for Prometheus."""

    machines: int
    #: The number of series in memory.
    series: int
    #: Resident memory of Prometheus in bytes.
    resident: int
    #: The seconds of each evaluation, all rule groups together.
    rules: Sequence[float]
    #: The share of each rule and alert in those seconds, by name, largest first.
    shares: Mapping[str, float]
    #: The median seconds of each query of the fleet dashboard, by panel and name.
    queries: Mapping[str, float]
    #: The number of series of each family of the exporters, most first.
    families: Mapping[str, int]


def measure(machines: int, folder: Path, release: str, times: Times) -> Cost:
    """Run a fleet and measure its cost."""
    folder.mkdir()
    bodies = {kind: body(folder / kind, boot, now, BASELINE) for kind, (boot, now) in KINDS.items()}
    kinds = [bodies[kind_of(machine)] for machine in range(machines)]

    def body_at(path: str) -> bytes:
        return _SAMPLED.sub(rf"\1 {time.time()}", kinds[int(path[1:])]).encode()

    with ExitStack() as running:
        port = running.enter_context(crowd(body_at))
        server = start(release, "prometheus", *_prometheus(folder, port, machines, times))
        running.callback(server.process.stop)
        _wait_until_all_are_up(server.address, machines, 5 * times.scrape + PATIENCE_SECONDS)
        evaluations = [_evaluation(server.address, times.evaluate) for _ in range(EVALUATIONS)]
        seconds = sum(evaluations, Counter())
        shares = {rule: share / seconds.total() for rule, share in seconds.most_common()}
        with urllib.request.urlopen(f"http://{server.address}/metrics", timeout=60) as response:
            own = response.read().decode()
        rules = [evaluation.total() for evaluation in evaluations]
        return Cost(
            machines=machines,
            series=_number(_SERIES, own),
            resident=_number(_RESIDENT, own),
            rules=rules,
            shares=shares,
            queries=_queries(server.address),
            families=_families(server.address),
        )


def kind_of(machine: int) -> str:
    """Return the kind of a machine; machines are numbered from 0."""
    place = machine * 7 % 1000
    for kind, count in IN_A_THOUSAND.items():
        if place < count:
            return kind
        place -= count
    return "usual"


def _prometheus(folder: Path, port: int, machines: int, times: Times) -> list[str]:
    targets = [
        {
            "targets": [f"127.0.0.1:{port}"],
            "labels": {"instance": f"guest-{machine:05}:10401", "__metrics_path__": f"/{machine}"},
        }
        for machine in range(machines)
    ]
    (folder / "targets.json").write_text(json.dumps(targets))
    configuration = {
        "global": {"scrape_interval": f"{times.scrape}s", "evaluation_interval": f"{times.evaluate}s"},
        "rule_files": [str(path) for path in RULE_FILES],
        "scrape_configs": [{"job_name": JOB, "file_sd_configs": [{"files": [str(folder / "targets.json")]}]}],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    return [f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]


def _wait_until_all_are_up(server: str, machines: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not ask(server, "query", query=f'count(up{{job="{JOB}"}} == 1) == {machines}')["result"]:
        if time.monotonic() > end:
            raise TimeoutError(f"not all of {machines} machines were scraped within {seconds} s")
        time.sleep(1)


def _evaluation(server: str, seconds: float) -> Counter[str]:
    """Wait for the next evaluation of each rule group; return the seconds that each rule and alert took, by name."""
    time.sleep(seconds)
    took: Counter[str] = Counter()
    for group in ask(server, "rules")["groups"]:
        for rule in group["rules"]:
            took[rule["name"]] += rule["evaluationTime"]
    return took


def _queries(server: str) -> dict[str, float]:
    """Return the median seconds of each query, for all instances and the machines that the dashboard selects."""
    [shown] = (one for one in queries() if (one.dashboard, one.panel) == (FLEET, "variable machine"))
    machines = [found["metric"]["instance"] for found in ask(server, "query", query=shown.expression)["result"]]
    values = {**EVERYTHING, "machine": "|".join(map(re.escape, machines)).replace("\\", "\\\\")}
    asked = [one for one in queries(values) if one.dashboard == FLEET]
    return {f"{one.panel}: {one.name}": statistics.median(_seconds(server, one) for _ in range(ASKED)) for one in asked}


def _families(server: str) -> dict[str, int]:
    """Return the number of series of each family that the exporters serve, or Prometheus adds to a scrape."""
    query = f'sort_desc(count by (__name__) ({{job="{JOB}", instance!="", __name__!~".+:.+|ALERTS.*"}}))'
    return {one["metric"]["__name__"]: int(one["value"][1]) for one in ask(server, "query", query=query)["result"]}


def _seconds(server: str, query: PanelQuery) -> float:
    begin = time.perf_counter()
    if query.instant:
        ask(server, "query", query=query.expression)
    else:
        now = time.time()
        period = {"start": str(now - SHOWN_SECONDS), "end": str(now), "step": str(STEP_SECONDS)}
        ask(server, "query_range", query=query.expression, **period)
    return time.perf_counter() - begin


def _number(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.search(text)
    assert found is not None, pattern.pattern  # noqa: S101 - every Prometheus has it
    return round(float(found[1]))


def table(costs: Sequence[Cost]) -> str:
    """A row for each fleet, the share of each rule, and the series of each family of the last fleet."""
    lines = [f"{'machines':>9}{'series':>11}{'each':>7}{'RSS MiB':>9}{'rules s':>9}{'slowest query s':>17}  panel"]
    for cost in costs:
        panel = max(cost.queries, key=cost.queries.__getitem__, default="")
        lines.append(
            f"{cost.machines:>9}{cost.series:>11}{cost.series / cost.machines:>7.0f}{cost.resident / 2**20:>9.0f}"
            f"{statistics.median(cost.rules):>9.2f}{cost.queries.get(panel, 0):>17.2f}  {panel}"
        )
    for cost in costs:
        lines += ["", f"{cost.machines} machines: share of each rule and alert"]
        lines += [f"{share:>8.1%}  {rule}" for rule, share in cost.shares.items()]
    lines += ["", "series a machine of each family"]
    lines += [f"{series / costs[-1].machines:>8.3g}  {family}" for family, series in costs[-1].families.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure each size and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet.scale", allow_abbrev=False)
    parser.add_argument("machines", type=int, nargs="*", default=[1_000, 10_000], help="default: 1000 10000")
    parser.add_argument(
        "--release", default="sid", help="Debian release of Prometheus: bookworm or sid (default: %(default)s)"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        costs = [measure(size, Path(folder) / str(size), arguments.release, Times()) for size in arguments.machines]
    RESULT.write_text(json.dumps([asdict(cost) for cost in costs], indent=2) + "\n")
    sys.stdout.write(table(costs))


if __name__ == "__main__":
    main()
