"""What a real Prometheus costs: its series, its memory, and the time of its rules and of the queries of a dashboard."""

import re
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.fleet.client import ask, page
from lab.panels import PanelQuery
from lab.servers import JOB

EVALUATIONS = 4
ASKED = 5

_SERIES = re.compile(r"^prometheus_tsdb_head_series (\S+)$", re.MULTILINE)
_RESIDENT = re.compile(r"^process_resident_memory_bytes (\S+)$", re.MULTILINE)
_MISSED = re.compile(r"^prometheus_rule_group_iterations_missed_total\{.*\} (\S+)$", re.MULTILINE)


class Times(NamedTuple):
    """Seconds between scrapes, and between evaluations of the rules."""

    scrape: float = 60
    evaluate: float = 15


class Shown(NamedTuple):
    """Seconds that a query over time covers, and between its steps."""

    seconds: float = 3600
    step: float = 15


@dataclass(frozen=True, slots=True)
class Cost:
    """What a number of machines costs one server."""

    machines: int
    #: The number of series in memory.
    series: int
    #: Resident memory of Prometheus in bytes.
    resident: int
    #: The seconds of each evaluation, all rule groups together.
    rules: Sequence[float]
    #: The number of evaluations of a group that were left out, because the one before was not over.
    missed: int
    #: The share of each rule and alert in the seconds of all evaluations, by name, largest first.
    shares: Mapping[str, float]
    #: The median seconds of each query of a dashboard, by panel and name.
    queries: Mapping[str, float]
    #: The number of series of each family of the exporters that it scrapes, most first.
    families: Mapping[str, int]


def evaluations(servers: Sequence[str], seconds: float) -> list[list[Counter[str]]]:
    """Wait for several evaluations of all rules; return for each server the seconds of each rule, by name."""
    found: list[list[Counter[str]]] = [[] for _ in servers]
    for _ in range(EVALUATIONS):
        time.sleep(seconds)
        for server, own in zip(servers, found, strict=True):
            own.append(_evaluation(server))
    return found


def cost(
    server: str, machines: int, evaluated: Sequence[Counter[str]], asked: Sequence[PanelQuery], shown: Shown
) -> Cost:
    """Return the cost of a server whose rules took so long in each evaluation; ask it each query several times."""
    own = page(server, "/metrics")
    seconds = sum(evaluated, Counter())
    return Cost(
        machines=machines,
        series=_total(_SERIES, own),
        resident=_total(_RESIDENT, own),
        rules=[one.total() for one in evaluated],
        missed=_total(_MISSED, own),
        shares={rule: share / seconds.total() for rule, share in seconds.most_common()},
        queries={
            f"{one.panel}: {one.name}": statistics.median(_seconds(server, one, shown) for _ in range(ASKED))
            for one in asked
        },
        families=_families(server),
    )


def _families(server: str) -> dict[str, int]:
    """Return the number of series of each family that the exporters serve, or Prometheus adds to a scrape."""
    query = f'sort_desc(count by (__name__) ({{job="{JOB}", instance!="", __name__!~".+:.+|ALERTS.*"}}))'
    return {one["metric"]["__name__"]: int(one["value"][1]) for one in ask(server, "query", query=query)["result"]}


def _evaluation(server: str) -> Counter[str]:
    """Return the seconds that each rule and alert took in its last evaluation, by name."""
    took: Counter[str] = Counter()
    for group in ask(server, "rules")["groups"]:
        for rule in group["rules"]:
            took[rule["name"]] += rule["evaluationTime"]
    return took


def _seconds(server: str, query: PanelQuery, shown: Shown) -> float:
    begin = time.perf_counter()
    if query.instant:
        ask(server, "query", query=query.expression)
    else:
        now = time.time()
        period = {"start": str(now - shown.seconds), "end": str(now), "step": str(shown.step)}
        ask(server, "query_range", query=query.expression, **period)
    return time.perf_counter() - begin


def _total(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.findall(text)
    assert found, pattern.pattern  # noqa: S101 - every Prometheus has it
    return round(sum(map(float, found)))
