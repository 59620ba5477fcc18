"""The exporter without a network: systemd listens for it, starts it with the first connection, and keeps the socket."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from lab.proc import wait_until
from lab.tree import REPOSITORY
from tests.support.packaging.container import Container
from tests.support.packaging.debian import NAME
from tests.support.packaging.unit import Unit, ask, scrape, scrape_at

PATH = "/run/kvm-exporter.sock"


@pytest.fixture
def service(system: Container) -> Unit:
    """The variant's service, which its socket is to start."""
    return Unit(system, f"{NAME}-socket.service")


@pytest.fixture
def socket_unit(system: Container, service: Unit) -> Iterator[Unit]:
    """The socket, listening; its service has not been started."""
    unit = Unit(system, f"{NAME}.socket")
    service.stop()
    unit.start()
    yield unit
    unit.stop()
    service.stop()


def test_the_first_connection_starts_it(system: Container, socket_unit: Unit, service: Unit) -> None:
    """The socket takes the place of the other service; who connects is answered, from a network of its own."""
    other = Unit(system, f"{NAME}.service")
    assert (other.show("ActiveState"), service.show("ActiveState")) == ("inactive", "inactive")
    assert socket_unit.show("ActiveState") == "active"
    found = scrape(system)
    assert (found.value("kvm_exporter_sample_success"), found.value("kvm_cpus", state="failed")) == (1, 0)
    service.wait_for("ActiveState", "active")
    assert "CPUs sampled, 0 differ" in service.show("StatusText")
    networks = {system.run("readlink", f"/proc/{pid}/ns/net") for pid in (1, service.pid)}
    assert len(networks) == 2


@pytest.mark.usefixtures("socket_unit")
@pytest.mark.parametrize(
    ("page", "before"),
    [
        ("kvm_exporter/app/kvm-exporter.1.in", r"for its status, its\nlog and a reload, name\n\.IR "),
        ("docs/runbooks.md", "Where the socket-activated variant runs, type\n`"),
    ],
    ids=["man page", "runbooks"],
)
def test_what_the_pages_have_typed(system: Container, service: Unit, page: str, before: str) -> None:
    """By the name that they give, systemctl shows the status and reloads, and journalctl has the log."""
    [name] = re.findall(rf"{before}([\w\\-]+)", (REPOSITORY / page).read_text(encoding="utf-8"))
    named = Unit(system, name.replace("\\", ""))
    assert scrape(system).value("kvm_exporter_samples_total", reason="signal") == 0
    assert f"{service.name} - Prometheus exporter" in system.run("systemctl", "status", "--no-pager", named.name)
    named.reload()
    wait_until(lambda: scrape(system).value("kvm_exporter_samples_total", reason="signal") == 1)
    assert "listening on " in system.run("journalctl", "--no-pager", "-u", named.name)


def test_the_other_service_takes_the_port_back(system: Container, socket_unit: Unit, service: Unit) -> None:
    """One of them has it; whichever is started last."""
    ask(system)
    other = Unit(system, f"{NAME}.service")
    other.start()
    assert (socket_unit.show("ActiveState"), service.show("ActiveState")) == ("inactive", "inactive")
    assert scrape(system).value("kvm_exporter_sample_success") == 1


def test_nobody_notices_a_restart(system: Container, socket_unit: Unit, service: Unit) -> None:
    """The socket goes on listening: no scrape is refused, cut off or lost when the service is restarted, or killed."""
    assert ask(system).status == 200
    stop, statuses = Event(), list[int]()

    def keep_asking() -> None:
        while not stop.is_set():
            statuses.append(ask(system).status)

    with ThreadPoolExecutor(2) as pool:
        scrapers = [pool.submit(keep_asking) for _ in range(2)]
        for _ in range(3):
            more = len(statuses) + 2 * len(scrapers)
            wait_until(lambda: len(statuses) >= more or any(one.done() for one in scrapers))  # noqa: B023 - at once
            service.start()
        stop.set()
        for scraper in scrapers:
            scraper.result()
    assert set(statuses) == {200}
    before = scrape(system)
    service.signal("KILL")
    assert scrape(system).value("kvm_boot_reference_timestamp_seconds") == before.value(
        "kvm_boot_reference_timestamp_seconds"
    )
    assert socket_unit.show("ActiveState") == "active"


def test_a_socket_in_the_file_system(system: Container, socket_unit: Unit, service: Unit) -> None:
    """It stays when the service ends, and the next connection starts the service again."""
    settings = f"[Socket]\nListenStream=\nListenStream={PATH}\n"
    with socket_unit.drop_in(settings):
        socket_unit.stop()
        socket_unit.start()
        assert scrape_at(system, PATH).value("kvm_exporter_sample_success") == 1
        service.stop()
        assert scrape_at(system, PATH).value("kvm_exporter_sample_success") == 1
        assert f"listening on unix:{PATH}" in service.log()
        socket_unit.stop()
