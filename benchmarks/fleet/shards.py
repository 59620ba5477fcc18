"""``python -m benchmarks.fleet.shards``: measure servers that share the machines, and the one where their sums meet.

First, real shards with the files of docs/scaling.md share machines that this process serves, and a real server for
cohorts scrapes the shards. Then a server for cohorts scrapes a hundred shards, whose bodies this process serves as
federated.py makes them; an hour passes there in two minutes. It prints a table, and writes build/bench-shards.json.
"""

import argparse
import json
import re
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from benchmarks.fleet.client import ask, wait_for
from benchmarks.fleet.cost import Cost, Shown, Times, cost, evaluations
from benchmarks.fleet.crowd import crowd
from benchmarks.fleet.federated import Answer, answers, federated
from benchmarks.fleet.kinds import bodies, kind_of, name
from lab.panels import queries
from lab.patience import PATIENCE_SECONDS
from lab.scaling import cohorts, shard, start_configured
from lab.tree import REPOSITORY

RESULT = REPOSITORY / "build" / "bench-shards.json"

SYNTHETIC = 100
"""How many synthetic shards there are."""

PACE = 30
"""How many minutes pass in one for synthetic shards."""

MACHINES_OF_COHORTS = "sum(cohort:up:sum)"
RARE = 'ALERTS{alertname="KvmFingerprintRare", alertstate="firing"}'
"""The alert that waits longest: an hour."""

ASKED = [query for query in queries() if query.dashboard == "KVM shards"]

_NUMBER = re.compile(r"//guest-(\d+):")

Row = tuple[str, Cost]
"""What a server is, and what it costs."""


def real(shards: int, each: int, folder: Path, release: str, times: Times) -> list[Row]:
    """Run shards of about so many machines each, and a server for cohorts; measure all of them at the same time."""
    folder.mkdir()
    body = bodies(folder)
    machines = shards * each
    targets = folder / "targets.json"
    targets.write_text(json.dumps([{"targets": [f"{name(machine)}:10401" for machine in range(machines)]}]))
    with ExitStack() as running:
        proxy = f"http://127.0.0.1:{running.enter_context(crowd(lambda url: body(_kind_at(url))))}"
        servers = []
        for number in range(shards):
            configuration = shard(number, shards)
            [job] = configuration["scrape_configs"]
            job |= {"file_sd_configs": [{"files": [str(targets)]}], "proxy_url": proxy}
            server = start_configured(release, folder / f"shard-{number}", configuration, 1, *times)
            running.callback(server.process.stop)
            servers.append(server.address)
        whole = start_configured(release, folder / "global", cohorts(servers), 1, *times)
        running.callback(whole.process.stop)
        wait_for(whole.address, f"{MACHINES_OF_COHORTS} == {machines}", 5 * times.scrape + PATIENCE_SECONDS)
        *evaluated, of_whole = evaluations([*servers, whole.address], times.evaluate)
        rows = [
            (f"shard {number} of {shards}", cost(server, _machines(server), own, (), Shown()))
            for number, (server, own) in enumerate(zip(servers, evaluated, strict=True))
        ]
        return [*rows, (f"global of {shards}", cost(whole.address, machines, of_whole, ASKED, Shown()))]


def synthetic(shards: int, each: int, of_kinds: Mapping[str, Answer], folder: Path, release: str, pace: float) -> Row:
    """Run a server for cohorts that scrapes so many shards, until alerts have waited an hour; measure it."""
    folder.mkdir()
    sent = [federated(of_kinds, range(number * each, (number + 1) * each), number).encode() for number in range(shards)]
    times = Times(60 / pace, 60 / pace)
    with ExitStack() as running:
        port = running.enter_context(crowd(lambda path: sent[int(path.split("/")[1])]))
        configuration = cohorts([])
        configuration["scrape_configs"][0]["static_configs"] = [
            {
                "targets": [f"127.0.0.1:{port}"],
                "labels": {"instance": f"prometheus-{number}:9090", "__metrics_path__": f"/{number}/federate"},
            }
            for number in range(shards)
        ]
        server = start_configured(release, folder / "global", configuration, pace, *times)
        running.callback(server.process.stop)
        wait_for(server.address, f"{MACHINES_OF_COHORTS} == {shards * each} and on () {RARE}", PATIENCE_SECONDS)
        [evaluated] = evaluations([server.address], times.evaluate)
        shown = Shown(Shown().seconds / pace, Shown().step / pace)
        return f"global of {shards} synthetic", cost(server.address, shards * each, evaluated, ASKED, shown)


def _kind_at(url: str) -> str:
    """Return the kind of the machine that Prometheus asks a proxy for."""
    found = _NUMBER.search(url)
    assert found is not None, url  # noqa: S101 - how the targets are named
    return kind_of(int(found[1]))


def _machines(server: str) -> int:
    [counted] = ask(server, "query", query=MACHINES_OF_COHORTS)["result"]
    return int(counted["value"][1])


def table(rows: Sequence[Row]) -> str:
    """Return a table with a row for each server."""
    titles = f"{'machines':>9}{'series':>9}{'RSS MiB':>9}{'rules s':>9}{'missed':>8}{'slowest query s':>17}  panel"
    lines = [f"{'':25}{titles}"]
    for what, one in rows:
        panel = max(one.queries, key=one.queries.__getitem__, default="")
        lines.append(
            f"{what:25}{one.machines:>9}{one.series:>9}{one.resident / 2**20:>9.0f}{statistics.median(one.rules):>9.3f}"
            f"{one.missed:>8}{one.queries.get(panel, 0):>17.3f}  {panel}"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet.shards", allow_abbrev=False)
    parser.add_argument("--real", type=int, nargs="*", default=[1, 2, 4], help="numbers of shards (default: 1 2 4)")
    parser.add_argument("--machines", type=int, default=5_000, help="of each real shard (default: %(default)s)")
    parser.add_argument(
        "--synthetic", type=int, nargs="*", default=[1_000, 10_000], help="machines of each shard (default: 1000 10000)"
    )
    parser.add_argument(
        "--release", default="sid", help="Debian release of Prometheus: bookworm or sid (default: %(default)s)"
    )
    arguments = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for number in arguments.real:
            rows += real(number, arguments.machines, Path(folder) / f"real-{number}", arguments.release, Times())
        if arguments.synthetic:
            of_kinds = answers(Path(folder) / "kinds", arguments.release)
            for each in arguments.synthetic:
                path = Path(folder) / f"synthetic-{each}"
                rows.append(synthetic(SYNTHETIC, each, of_kinds, path, arguments.release, PACE))
    RESULT.write_text(json.dumps([{"server": what, **asdict(one)} for what, one in rows], indent=2) + "\n")
    sys.stdout.write(table(rows))


if __name__ == "__main__":
    main()
