"""Real servers of a Debian release on the loopback: Prometheus with the rules of dashboards/, and Alertmanager."""

import re
import socket
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import yaml

from lab.pace import hurried
from lab.process import MORTAL, LogError, Process
from lab.tools import MissingToolError
from lab.tree import DASHBOARDS, REPOSITORY, RULE_FILES

TOOLS = REPOSITORY / "build" / "tools"
"""The folder into which scripts/monitoring-tools unpacks Prometheus, Alertmanager and VictoriaMetrics."""

RELEASES = ("bookworm", "sid")
"""Debian 12, and the newest release."""

JOB = "kvm"

_EXAMPLE_URL = "http://127.0.0.1:9095"
"""The URL to which dashboards/alertmanager.example.yaml sends messages."""

_INSIDE = ("unshare", "--map-root-user", "--mount", "sh", "-c", 'mount --bind "$0" /usr/share && exec "$@"')
"""Both servers need templates and pages in /usr/share; a mount namespace puts them there without root."""

_LISTENING = re.compile(r"address=(127\.0\.0\.1:\d+)")
_READY = {"prometheus": "ready to receive web requests", "prometheus-alertmanager": "Listening on"}
"""The line that each server logs when it is ready for requests."""


class Server(NamedTuple):
    """A running server; ``address`` is host:port."""

    process: Process
    address: str


def tool(release: str, name: str) -> Path:
    """Return the path of a program that scripts/monitoring-tools has unpacked. Raises MissingToolError."""
    path = TOOLS / release / "usr" / "bin" / name
    if not path.exists():
        raise MissingToolError(f"{path} is missing; run scripts/monitoring-tools {TOOLS.relative_to(REPOSITORY)}")
    return path


def unless_taken(port: int) -> int:
    """Return a port of the loopback; 0, which stands for any free one, if something listens on it."""
    with closing(socket.socket()) as probe:
        # As servers do: a connection of an earlier server does not keep the port from the next one.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


def start(release: str, name: str, *flags: str, port: int = 0) -> Server:
    """Start a server on a port of the loopback, by default a free one. Raises MissingToolError, LogError."""
    program = tool(release, name)
    share = program.parents[1] / "share"
    command = [*_INSIDE, str(share), *MORTAL, str(program), *flags, f"--web.listen-address=127.0.0.1:{port}"]
    process = Process(command, group=0)
    try:
        line = process.wait_for_log('msg="Listening on"')
        process.wait_for_log(_READY[name])
    except LogError:
        process.stop()
        raise
    found = _LISTENING.search(line)
    assert found is not None, line
    return Server(process, found[1])


def start_alertmanager(release: str, folder: Path, url: str, pace: float) -> Server:
    """Start an Alertmanager with the flags of alertmanager_flags(). Raises MissingToolError, LogError."""
    return start(release, "prometheus-alertmanager", *alertmanager_flags(folder, url, pace))


def alertmanager_flags(folder: Path, url: str, pace: float) -> tuple[str, ...]:
    """Return the flags of an Alertmanager as in the example, with waits divided by ``pace``.

    It sends its messages to ``url``, and keeps its files in a folder, which is made.
    """
    folder.mkdir()
    example = (DASHBOARDS / "alertmanager.example.yaml").read_text(encoding="utf-8")
    configuration = folder / "alertmanager.yaml"
    configuration.write_text(hurried(example, pace).replace(_EXAMPLE_URL, url))
    return f"--config.file={configuration}", f"--storage.path={folder / 'data'}", "--cluster.listen-address="


def start_prometheus(
    release: str, folder: Path, machines: Mapping[str, str], alertmanager: str, pace: float, every: int = 1
) -> Server:
    """Start a Prometheus with the flags of prometheus_flags(). Raises MissingToolError, LogError."""
    return start(release, "prometheus", *prometheus_flags(folder, machines, alertmanager, pace, every))


def prometheus_flags(
    folder: Path, machines: Mapping[str, str], alertmanager: str, pace: float, every: int = 1
) -> tuple[str, ...]:
    """Return the flags of a Prometheus with all rules and alerts, waits divided by ``pace``.

    It scrapes every ``every`` seconds. ``machines`` maps instances to addresses, with https:// before those that want
    TLS, and a path after those that have another than /metrics. It keeps its files in a folder, which is made.
    """
    folder.mkdir()
    rules = []
    for path in RULE_FILES:
        rules.append(folder / path.name)
        rules[-1].write_text(hurried(path.read_text(encoding="utf-8"), pace))
    targets = [_target(name, address) for name, address in machines.items()]
    configuration = folder / "prometheus.yaml"
    configuration.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": f"{every}s", "evaluation_interval": "1s"},
                "rule_files": [str(path) for path in rules],
                "scrape_configs": [
                    {"job_name": JOB, "static_configs": targets, "tls_config": {"insecure_skip_verify": True}}
                ],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
            }
        )
    )
    return f"--config.file={configuration}", f"--storage.tsdb.path={folder / 'data'}"


def _target(instance: str, address: str) -> dict[str, object]:
    scheme = "https" if address.startswith("https://") else "http"
    host, _, path = address.removeprefix("https://").partition("/")
    labels = {"instance": instance, "__scheme__": scheme, "__metrics_path__": f"/{path or 'metrics'}"}
    return {"targets": [host], "labels": labels}
