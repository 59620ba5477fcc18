"""What shards of any size send to the server for cohorts, made from what a real shard sends for a machine of each kind.

A sum of many machines is the sum of the sums of each. A ranking has the worst machines, each with what it has in the
ranking of a shard without other machines. The labels are the same, however large the shard is. A large shard has more
feature sets: one machine in a thousand gets a feature set of its own.
"""

import re
import time
import urllib.parse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fleet.bodies import samples
from benchmarks.fleet.client import page, wait_for
from benchmarks.fleet.crowd import crowd
from benchmarks.fleet.kinds import KINDS, bodies, kind_of, name
from lab.patience import PATIENCE_SECONDS
from lab.scaling import cohorts, shard, start_configured

RANKED = 50
"""How many machines a shard ranks at most."""

OWN = 1000
"""The last of so many machines has a feature set that no other machine has."""

HASTE = 3600
"""An hour of the rules' waits takes a second."""

EVALUATIONS = 5
"""An alert fires at the second evaluation; it is a problem at the third, which is ranked and sent by the fifth."""

ONE = "machine"
"""The name of the only machine of a shard."""

Series = tuple[str, str]
"""The name and the labels of a series as they are written."""

_MACHINE = f'instance="{ONE}"'
_FINGERPRINT = re.compile(r'fingerprint="[^"]+"')
_ITERATIONS = re.compile(r"^prometheus_rule_group_iterations_total\{.*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a shard sends for a machine of one kind."""

    sums: Mapping[Series, float]
    #: The series that name a machine as the example of its feature set.
    examples: Sequence[Series]
    #: The weight of each problem of the machine.
    ranked: Mapping[Series, float]

    @property
    def weight(self) -> float:
        """How bad the machine is."""
        return sum(self.ranked.values())


def answers(folder: Path, release: str) -> dict[str, Answer]:
    """Return what real shards send for one machine of each kind."""
    texts = sent(folder, release, [{ONE: kind} for kind in KINDS])
    return {kind: _answer(text) for kind, text in zip(KINDS, texts, strict=True)}


def sent(folder: Path, release: str, shards: Sequence[Mapping[str, str]]) -> list[str]:
    """Run several shards at a time, each with machines of kinds by name; return what each sends."""
    folder.mkdir()
    body = bodies(folder)
    with ExitStack() as running:
        port = running.enter_context(crowd(lambda path: body(path[1:])))
        servers = []
        for number, machines in enumerate(shards):
            configuration = shard(0, 1)
            [job] = configuration["scrape_configs"]
            del job["file_sd_configs"], job["relabel_configs"]
            job["static_configs"] = [
                {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": machine, "__metrics_path__": f"/{kind}"}}
                for machine, kind in machines.items()
            ]
            server = start_configured(release, folder / f"shard-{number}", configuration, HASTE, 1, 1)
            running.callback(server.process.stop)
            servers.append(server.address)
        for address, machines in zip(servers, shards, strict=True):
            _settle(address, len(machines))
        return [_federate(address) for address in servers]


def federated(of_kinds: Mapping[str, Answer], machines: Iterable[int], number: int) -> str:
    """Return what the shard with a number sends for these machines, but for timestamps."""
    alike: dict[tuple[str, int | None], list[int]] = defaultdict(list)
    for machine in machines:
        alike[kind_of(machine), machine if machine % OWN == OWN - 1 else None].append(machine)
    sums: dict[Series, float] = defaultdict(float)
    examples: dict[Series, int] = {}
    for (kind, own), members in alike.items():
        for series, value in of_kinds[kind].sums.items():
            sums[_with_own(series, own)] += value * len(members)
        for series in of_kinds[kind].examples:
            examples.setdefault(_with_own(series, own), members[0])
    bad = [machine for (kind, _), members in alike.items() if of_kinds[kind].ranked for machine in members]
    worst = sorted(bad, key=lambda machine: -of_kinds[kind_of(machine)].weight)[:RANKED]
    found = {**sums, **{_named(series, machine): 1.0 for series, machine in examples.items()}}
    for machine in worst:
        found |= {_named(series, machine): value for series, value in of_kinds[kind_of(machine)].ranked.items()}
    lines = [f"{metric}{{{labels}}} {value:g}\n" for (metric, labels), value in found.items()]
    return "".join(lines).replace('shard="0"', f'shard="{number}"')


def _federate(server: str) -> str:
    """Return what a shard sends, as the server for cohorts asks for it."""
    [job] = cohorts([])["scrape_configs"]
    query = urllib.parse.urlencode(job["params"], doseq=True)
    return page(server, f"{job['metrics_path']}?{query}")


def _settle(server: str, machines: int) -> None:
    """Return when all machines have been scraped, and then each group of rules evaluated often enough."""
    wait_for(server, f"sum(up) == {machines}", PATIENCE_SECONDS)
    enough = [count + EVALUATIONS for count in _iterations(server)]
    end = time.monotonic() + PATIENCE_SECONDS
    while any(count < least for count, least in zip(_iterations(server), enough, strict=True)):
        if time.monotonic() > end:
            raise TimeoutError(f"the rules were not evaluated {EVALUATIONS} times within {PATIENCE_SECONDS} s")
        time.sleep(0.2)


def _iterations(server: str) -> list[int]:
    """Return how often each group of rules has been evaluated."""
    return [int(float(count)) for count in _ITERATIONS.findall(page(server, "/metrics"))]


def _answer(text: str) -> Answer:
    """Divide what a shard sends for one machine."""
    found = {(metric, labels): float(value.split()[0]) for metric, labels, value in samples(text)}
    return Answer(
        sums={series: value for series, value in found.items() if _MACHINE not in series[1]},
        examples=[series for series in found if series[0].endswith(":example")],
        ranked={series: value for series, value in found.items() if series[0].startswith("ranked:")},
    )


def _with_own(series: Series, machine: int | None) -> Series:
    """Return the series of a machine with a feature set of its own; without a machine, the series as it is."""
    metric, labels = series
    return series if machine is None else (metric, _FINGERPRINT.sub(f'fingerprint="{machine:016x}"', labels))


def _named(series: Series, machine: int) -> Series:
    """Return the series with the name of a machine."""
    metric, labels = series
    return metric, labels.replace(_MACHINE, f'instance="{name(machine)}"')
