"""The processes of the demonstration: an exporter for each machine, a Prometheus and an Alertmanager."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from demo.cast import CAST, Character
from lab.guest import Guest, port_of
from lab.process import MORTAL, Process
from lab.servers import alertmanager_flags, prometheus_flags, start, unless_taken
from lab.webhook import Message, webhook

RELEASE = "bookworm"
"""The Debian release of the servers: the last one whose Prometheus has web pages."""

PACE = 60
"""The factor by which all waits are shorter: a minute takes a second."""

FIRST_PORT, PROMETHEUS_PORT, ALERTMANAGER_PORT = 10411, 9090, 9093
"""The ports on the loopback: of the first machine's exporter, with those of the others after it, and of the servers.

Where one is taken, the program gets a free one."""

Ended = Callable[[str, Process], None]
"""A callback for a process that exited, with its name and itself; called in any thread."""


class Fleet:
    """Starts all processes; the exit stack stops them. Raises LogError, MissingToolError."""

    def __init__(self, folder: Path, running: ExitStack, told: Callable[[Message], None], ended: Ended) -> None:
        self._running = running
        self._ended = ended
        self.guests = {one.name: Guest(folder / one.name, one.cpus) for one in CAST}
        # Start all exporters before waiting for the first.
        self.exporters = {one.name: self._exporter(one, port) for port, one in enumerate(CAST, FIRST_PORT)}
        self.addresses = {name: f"127.0.0.1:{port_of(exporter)}" for name, exporter in self.exporters.items()}
        url = running.enter_context(webhook(told))
        flags = alertmanager_flags(folder / "alertmanager", url, PACE)
        self.alertmanager = self._server("prometheus-alertmanager", flags, ALERTMANAGER_PORT)
        flags = prometheus_flags(folder / "prometheus", self.addresses, self.alertmanager, PACE)
        self.prometheus = self._server("prometheus", flags, PROMETHEUS_PORT)

    def _server(self, name: str, flags: Sequence[str], port: int) -> str:
        """Start a server, and return its address."""
        server = start(RELEASE, name, *flags, port=unless_taken(port))
        self._keep(name, server.process)
        return server.address

    def _exporter(self, character: Character, port: int) -> Process:
        guest, flags = self.guests[character.name], [f"--port={unless_taken(port)}"]
        guest.boot()
        if character.baseline:
            path = guest.folder / "baseline.yaml"
            path.write_text(character.baseline)
            flags.append(f"--baseline={path}")
        process = Process([*MORTAL, *guest.exporter(*flags)], guest.environment, group=0)
        self._keep(f"the exporter on {character.name}", process)
        return process

    def _keep(self, name: str, process: Process) -> None:
        self._running.callback(process.stop)
        process.when_ended(partial(self._ended, name, process))
