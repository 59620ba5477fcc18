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

import yaml

from benchmarks.fleet.bodies import body, cpus, samples
from benchmarks.fleet.client import ask
from benchmarks.fleet.crowd import crowd
from benchmarks.fleet.story import MINUTES, Rollout, State
from lab.pace import hurried
from lab.servers import JOB, start, start_alertmanager
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


def simulate(guests: int, pace: float, folder: Path, release: str) -> dict[str, Count]:
    """Run the story, ``pace`` minutes of it in each minute; return the counts by the name of the alert."""
    fleet = _Fleet(Rollout(guests), pace, folder)
    messages: list[Message] = []
    with ExitStack() as running:
        url = running.enter_context(webhook(messages.append))
        port = running.enter_context(crowd(lambda _: fleet.body()))
        alertmanager = start_alertmanager(release, folder / "alertmanager", url, pace)
        running.callback(alertmanager.process.stop)
        prometheus = start(release, "prometheus", *_prometheus(folder / "prometheus", port, alertmanager.address, pace))
        running.callback(prometheus.process.stop)
        fleet.begin()
        time.sleep(MINUTES * 60 / pace)
        seconds = round(MINUTES * 60 / pace)
        fired = ask(
            prometheus.address,
            "query",
            query=f'count by (alertname) (count_over_time(ALERTS{{alertstate="firing"}}[{seconds}s]))',
        )["result"]
    alerts = {one["metric"]["alertname"]: int(one["value"][1]) for one in fired}
    told = Counter(message["groupLabels"]["alertname"] for message in messages)
    return {name: Count(alerts.get(name, 0), told[name]) for name in sorted({*alerts, *told})}


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

    def body(self) -> bytes:
        """Return the current body of all guests together."""
        minute = 0 if self._begun is None else (time.monotonic() - self._begun) / 60 * self._pace
        states = (self._rollout.state(guest, minute) for guest in range(self._rollout.guests))
        return b"".join(self._bodies[state][guest] for guest, state in enumerate(states))


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


def _prometheus(folder: Path, port: int, alertmanager: str, pace: float) -> list[str]:
    """Write the configuration of a server that scrapes and evaluates every minute of the story; return its flags."""
    folder.mkdir()
    for path in RULE_FILES:
        (folder / path.name).write_text(hurried(path.read_text(encoding="utf-8"), pace))
    minute = f"{round(60_000 / pace)}ms"
    configuration = {
        "global": {"scrape_interval": minute, "scrape_timeout": minute, "evaluation_interval": minute},
        "rule_files": [str(folder / path.name) for path in RULE_FILES],
        "scrape_configs": [
            {"job_name": "fleet", "honor_labels": True, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        ],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    return [f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]


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
    parser.add_argument("--release", default="bookworm", help="Debian release of the servers (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = simulate(arguments.guests, arguments.pace, Path(folder), arguments.release)
    sys.stdout.write(table(arguments.guests, counts))


if __name__ == "__main__":
    main()
