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
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.fleet.client import ask, wait_for
from benchmarks.fleet.cost import Cost, Shown, Times, cost, evaluations
from benchmarks.fleet.crowd import crowd
from benchmarks.fleet.kinds import bodies, kind_of, name
from lab.panels import EVERYTHING, PanelQuery, queries
from lab.patience import PATIENCE_SECONDS
from lab.scaling import start_configured
from lab.servers import JOB
from lab.tree import REPOSITORY, RULE_FILES

RESULT = REPOSITORY / "build" / "bench-fleet.json"

FLEET = "KVM fleet"


def measure(machines: int, folder: Path, release: str, times: Times) -> Cost:
    """Run a fleet and measure its cost."""
    folder.mkdir()
    body = bodies(folder)
    with ExitStack() as running:
        port = running.enter_context(crowd(lambda path: body(kind_of(int(path[1:])))))
        configuration = _configuration(folder / "targets.json", port, machines)
        server = start_configured(release, folder / "prometheus", configuration, 1, *times)
        running.callback(server.process.stop)
        wait_for(server.address, f'count(up{{job="{JOB}"}} == 1) == {machines}', 5 * times.scrape + PATIENCE_SECONDS)
        [evaluated] = evaluations([server.address], times.evaluate)
        return cost(server.address, machines, evaluated, _queries(server.address), Shown())


def _configuration(targets: Path, port: int, machines: int) -> dict[str, Any]:
    """Write a file of targets, and return the configuration of a server that scrapes them."""
    found = [
        {
            "targets": [f"127.0.0.1:{port}"],
            "labels": {"instance": f"{name(machine)}:10401", "__metrics_path__": f"/{machine}"},
        }
        for machine in range(machines)
    ]
    targets.write_text(json.dumps(found))
    return {
        "rule_files": [str(path) for path in RULE_FILES],
        "scrape_configs": [{"job_name": JOB, "file_sd_configs": [{"files": [str(targets)]}]}],
    }


def _queries(server: str) -> list[PanelQuery]:
    """Return the queries of the fleet dashboard, for all instances and the machines that the dashboard selects."""
    [shown] = (one for one in queries() if (one.dashboard, one.panel) == (FLEET, "variable machine"))
    machines = [found["metric"]["instance"] for found in ask(server, "query", query=shown.expression)["result"]]
    values = {**EVERYTHING, "machine": "|".join(map(re.escape, machines)).replace("\\", "\\\\")}
    return [one for one in queries(values) if one.dashboard == FLEET]


def table(costs: Sequence[Cost]) -> str:
    """A row for each fleet, the share of each rule, and the series of each family of the last fleet."""
    lines = [f"{'machines':>9}{'series':>11}{'each':>7}{'RSS MiB':>9}{'rules s':>9}{'slowest query s':>17}  panel"]
    for one in costs:
        panel = max(one.queries, key=one.queries.__getitem__, default="")
        lines.append(
            f"{one.machines:>9}{one.series:>11}{one.series / one.machines:>7.0f}{one.resident / 2**20:>9.0f}"
            f"{statistics.median(one.rules):>9.2f}{one.queries.get(panel, 0):>17.2f}  {panel}"
        )
    for one in costs:
        lines += ["", f"{one.machines} machines: share of each rule and alert"]
        lines += [f"{share:>8.1%}  {rule}" for rule, share in one.shares.items()]
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
    RESULT.write_text(json.dumps([asdict(one) for one in costs], indent=2) + "\n")
    sys.stdout.write(table(costs))


if __name__ == "__main__":
    main()
