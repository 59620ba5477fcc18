"""A unit of a container's systemd, and what is served there."""

import http.client
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from lab.patience import PATIENCE_SECONDS
from lab.scrape import Scrape
from lab.secure import Reply, ask_on
from tests.support.packaging.container import Container

PORT = 10401


class Unit:
    """One unit, by its name."""

    def __init__(self, system: Container, name: str) -> None:
        self.system = system
        self.name = name

    def start(self) -> None:
        """Start it, with a clean record: systemd refuses to start a unit that was started often."""
        self.system.run("systemctl", "reset-failed")
        self.system.run("systemctl", "restart", self.name)

    def stop(self) -> None:
        """Stop it."""
        self.system.run("systemctl", "stop", self.name)

    def reload(self) -> None:
        """Reload it."""
        self.system.run("systemctl", "reload", self.name)

    def signal(self, name: str) -> None:
        """Send its main process a signal."""
        self.system.run("systemctl", "kill", "--kill-whom=main", f"--signal={name}", self.name)

    def show(self, name: str) -> str:
        """One of its properties."""
        return self.system.run("systemctl", "show", f"--property={name}", "--value", self.name).rstrip("\n")

    def wait_for(self, name: str, *values: str) -> None:
        """Until a property has one of these values."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := self.show(name)) not in values:
            assert time.monotonic() < deadline, f"{name} is still {found!r}"
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """Its main process, as it is called in the container."""
        return int(self.show("MainPID"))

    def log(self, *options: str) -> str:
        """What it has written to the journal since it was started last."""
        return journal(self.system, *options, f"_SYSTEMD_INVOCATION_ID={self.show('InvocationID')}")

    @contextmanager
    def drop_in(self, settings: str) -> Iterator[None]:
        """Other settings while the block runs; they hold from the next start on."""
        path = f"/run/systemd/system/{self.name}.d/test.conf"
        self.system.write(path, settings)
        self.system.run("systemctl", "daemon-reload")
        try:
            yield
        finally:
            self.system.remove(path)
            self.system.run("systemctl", "daemon-reload")


def journal(system: Container, *options: str) -> str:
    """What the journal of a system has, with all that has been written; bare messages, unless told otherwise."""
    system.run("journalctl", "--sync")
    return system.run("journalctl", "--no-pager", "--output=cat", *options)


def connection(
    system: Container, context: ssl.SSLContext | None = None, name: str = "127.0.0.1"
) -> http.client.HTTPConnection:
    """A connection to the exporter in a system, whose certificate is for a name. Raises OSError."""
    made = http.client.HTTPConnection("127.0.0.1", PORT)
    peer = system.connect(PORT)
    made.sock = context.wrap_socket(peer, server_hostname=name) if context is not None else peer
    return made


def ask(
    system: Container,
    path: str = "/metrics",
    context: ssl.SSLContext | None = None,
    login: dict[str, str] | None = None,
) -> Reply:
    """Ask the exporter in a system, on a connection of its own."""
    with closing(connection(system, context)) as used:
        return ask_on(used, path, login)


def scrape_at(system: Container, path: str) -> Scrape:
    """What the metrics say at a socket in a system's files, as root reads them."""
    with closing(http.client.HTTPConnection("localhost", timeout=PATIENCE_SECONDS)) as used:
        used.sock = socket.socket(socket.AF_UNIX)
        used.sock.connect(str(system.root / path.lstrip("/")))
        return Scrape(ask_on(used).body)


def scrape(system: Container) -> Scrape:
    """What the metrics in a system say now."""
    return Scrape(ask(system).body)
