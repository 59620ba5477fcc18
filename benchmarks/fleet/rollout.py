"""``python -m benchmarks.fleet.rollout``: count the alerts and the messages of the roll-out of a new host kernel.

A real Prometheus with the shipped rules and a real Alertmanager with the shipped example monitor the guests of
story.py, at a pace at which hours pass in minutes. Each message groups several alerts.
"""

import argparse
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks.fleet.bodies import body, cpus, samples
from benchmarks.fleet.client import ask
from benchmarks.fleet.crowd import crowd
from benchmarks.fleet.story import MINUTES, Rollout, State
from lab.scaling import Configuration, cohorts, shard, start_configured
from lab.servers import JOB, start_alertmanager
from lab.tree import RULE_FILES
from lab.webhook import Message, webhook

OLD, NEW, UNSTABLE = 0x0100_7AFB, 0x0100_7EFB, 0x0000_7EFB
"""EAX of the feature leaf on the old kernel, on the new one, and on a new one whose clock is not stable."""

WORDS = {State.OLD: OLD, State.MOVED: NEW, State.WORSE: UNSTABLE}
"""EAX of the feature leaf in each state; all guests booted on the old kernel."""


class Count(NamedTuple):
    """The number of alerts with one name that fired, and of the messages about them, firing or resolved."""

    alerts: int
    messages: int


def simulate(guests: int, pace: float, folder: Path, release: str, shards: int = 0) -> dict[str, Count]:
    """Run the story, ``pace`` minutes of it in each minute; return the counts by the name of the alert.

    Without shards, one server scrapes all guests; with some, each scrapes a part, and one more their sums.
    """
    fleet = _Fleet(Rollout(guests), pace, folder)
    messages: list[Message] = []
    seconds = round(MINUTES * 60 / pace)
    with ExitStack() as running:
        url = running.enter_context(webhook(messages.append))
        port = running.enter_context(crowd(lambda path: fleet.body(int(path[1:]), shards or 1)))
        alertmanager = start_alertmanager(release, folder / "alertmanager", url, pace)
        running.callback(alertmanager.process.stop)

        def server(name: str, configuration: Configuration) -> str:
            started = start_configured(release, folder / name, configuration, pace, 60 / pace, 60 / pace)
            running.callback(started.process.stop)
            return started.address

        told = [alertmanager.address]
        if shards:
            configurations = [{**shard(number, shards, told), **_part(port, number)} for number in range(shards)]
        else:
            everything = {"rule_files": [str(path) for path in RULE_FILES]}
            configurations = [{**cohorts([], told), **_part(port, 0), **everything}]
        servers = [server(f"prometheus-{number}", one) for number, one in enumerate(configurations)]
        if shards:
            servers.append(server("global", cohorts(servers, told)))
        fleet.begin()
        time.sleep(seconds)
        fired = sum((_fired(one, seconds) for one in servers), Counter())
    sent = Counter(message["groupLabels"]["alertname"] for message in messages)
    return {name: Count(fired[name], sent[name]) for name in sorted({*fired, *sent})}


def _part(port: int, number: int) -> Configuration:
    """Return the part of a server's configuration that scrapes the guests of a shard."""
    target = {"targets": [f"127.0.0.1:{port}"]}
    job = {"job_name": "fleet", "metrics_path": f"/{number}", "honor_labels": True, "static_configs": [target]}
    return {"scrape_configs": [job]}


def _fired(server: str, seconds: int) -> Counter[str]:
    """Return how many alerts have fired, by name."""
    query = f'count by (alertname) (count_over_time(ALERTS{{alertstate="firing"}}[{seconds}s]))'
    found = ask(server, "query", query=query)["result"]
    return Counter({one["metric"]["alertname"]: int(one["value"][1]) for one in found})


class _Fleet:
    """All guests as one target that sets their labels, because 10,000 targets would need 10,000 sockets."""

    def __init__(self, rollout: Rollout, pace: float, folder: Path) -> None:
        self._rollout = rollout
        self._pace = pace
        self._begun: float | None = None
        boot = cpus(OLD, OLD)
        templates = {
            state: _template(body(folder / state.name, boot, cpus(word, word))) for state, word in WORDS.items()
        }
        self._bodies = {
            state: [template.replace("{guest}", f"guest-{guest}").encode() for guest in range(rollout.guests)]
            for state, template in {**templates, State.SILENT: _line("up", "", "0")}.items()
        }

    def begin(self) -> None:
        """Start the story at minute 0."""
        self._begun = time.monotonic()

    def body(self, part: int, parts: int) -> bytes:
        """Return the current body of a part of the guests together."""
        minute = 0 if self._begun is None else (time.monotonic() - self._begun) / 60 * self._pace
        guests = range(part, self._rollout.guests, parts)
        return b"".join(self._bodies[self._rollout.state(guest, minute)][guest] for guest in guests)


def _template(text: str) -> str:
    """Return the series of a body that the rules use, with a placeholder for the name of the guest."""
    read = set(re.findall(r"\bkvm_[a-z_]+", "".join(path.read_text() for path in RULE_FILES)))
    # The body is fixed, so its timestamp would make the sample stale.
    read.discard("kvm_exporter_sample_timestamp_seconds")
    lines = [_line(name, labels, value) for name, labels, value in samples(text) if name in read]
    return "".join([_line("up", "", "1"), *lines])


def _line(name: str, labels: str, value: str) -> str:
    own = f'job="{JOB}",instance="{{guest}}"'
    return f"{name}{{{own}{',' if labels else ''}{labels}}} {value}\n"


def table(guests: int, counts: Mapping[str, Count]) -> str:
    """Return a table of the counts and their sums."""
    rows = [*counts.items(), ("all", Count(*map(sum, zip(*counts.values(), strict=True))))]
    lines = [f"{name:34}{count.alerts:>8}{count.messages:>10}" for name, count in rows]
    return "\n".join([f"{guests} guests, {MINUTES} minutes", f"{'':34}{'alerts':>8}{'messages':>10}", *lines]) + "\n"


def main() -> None:
    """Run the simulation and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet.rollout", allow_abbrev=False)
    parser.add_argument("--guests", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--pace", type=float, default=30, help="story minutes in a minute (default: %(default)s)")
    parser.add_argument("--shards", type=int, default=0, help="servers that share the guests (default: one for all)")
    parser.add_argument("--release", default="bookworm", help="Debian release of the servers (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = simulate(arguments.guests, arguments.pace, Path(folder), arguments.release, arguments.shards)
    sys.stdout.write(table(arguments.guests, counts))


if __name__ == "__main__":
    main()
