"""What docs/deploying.md has to be copied, in a booted Debian: as it stands there, and it does what the page says."""

import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import groupby
from pathlib import Path
from threading import Event

import pytest

from lab.certificates import Certificates
from lab.proc import wait_until
from lab.scrape import Scrape
from lab.secure import ask_on, basic, client, make_server
from tests.support.packaging.container import CommandError, Container
from tests.support.packaging.debian import NAME, DebianPackage
from tests.support.packaging.deploying import COMMANDS, FILES, UNIT_FILES
from tests.support.packaging.installed import PACKAGES, apt, install, system_with
from tests.support.packaging.unit import PORT, Unit, ask, connection, scrape

SERVICE = f"{NAME}.service"
SOCKET = f"{NAME}.socket"
KEYS = f"/etc/{NAME}"
DROP_INS = "/etc/systemd/system"
COPIED = (f"{SERVICE}.d/tls.conf", f"{SERVICE}.d/host.conf", f"{NAME}-socket.service.d/tls.conf")
"""Drop-ins that the page's commands copy."""

COLLECTED = "/var/lib/prometheus/node-exporter"


@pytest.fixture(scope="module")
def booted(debian_package: DebianPackage) -> Iterator[Container]:
    """A Debian 12 with the package."""
    with system_with("bookworm", debian_package.deb.parent) as machine:
        install(machine, Path(debian_package.deb.name))
        yield machine


@pytest.fixture
def machine(booted: Container) -> Iterator[Container]:
    """The same; afterwards the page's files are taken away, and the service runs as it is installed."""
    yield booted
    booted.run("systemctl", "disable", "--now", SOCKET)
    for path in (*UNIT_FILES, *(f"{DROP_INS}/{drop_in}" for drop_in in COPIED)):
        booted.remove(path)
    booted.run("systemctl", "daemon-reload")
    booted.run("systemctl", "enable", "--now", SERVICE)


def give(machine: Container, *paths: str) -> None:
    """Write files of the page to where they belong."""
    for path in paths:
        machine.write(path, FILES[path])
    machine.run("systemctl", "daemon-reload")


def do(machine: Container, what: str, *variables: str) -> None:
    """The commands of the page's only block that has a text in it, with environment variables; each has to succeed."""
    [commands] = [block for block in COMMANDS if what in block]
    machine.run("env", *variables, "sh", "-e", "-c", commands)


def give_keys(machine: Container, folder: Path) -> Certificates:
    """The page's web configuration, and a certificate; made in a folder with the authority that clients trust."""
    made = make_server(folder)
    machine.write(f"{KEYS}/web.yml", FILES[f"{KEYS}/web.yml"])
    for name in ("server.crt", "server.key"):
        machine.write(f"{KEYS}/{name}", (made / name).read_text())
    do(machine, "chgrp -R")
    return made


def test_tls_and_a_password(machine: Container) -> None:
    """The page's commands, one after the other: root and a group can read the key, and the service serves with it.

    A client that trusts the certificate is served under the machine's name.
    """
    machine.run("rm", "-rf", KEYS)
    do(machine, "openssl req")
    machine.write(f"{KEYS}/web.yml", FILES[f"{KEYS}/web.yml"])
    do(machine, "chgrp -R")
    do(machine, "systemd/tls.conf")
    assert machine.run("stat", "--format=%U %G %a", f"{KEYS}/server.key") == f"root {NAME}-tls 640\n"
    context = ssl.create_default_context(cafile=str(machine.root / KEYS.lstrip("/") / "server.crt"))
    name = machine.run("hostname").strip()
    with closing(connection(machine, context, name)) as used:
        assert ask_on(used).status == 401
        assert ask_on(used, login=basic("prometheus")).status == 200


def test_a_certificate_is_renewed_under_scrapes(machine: Container, tmp_path: Path) -> None:
    """As the page says, while a scraper asks ten times a second: each is answered, soon with the new certificate.

    A reload afterwards says what is true: that this one is served.
    """
    made = give_keys(machine, tmp_path)
    made.make("renewed", signer="ca", sans="IP:127.0.0.1")
    for name, kind in (("fullchain", "crt"), ("privkey", "key")):
        machine.write(f"/root/renewed/{name}.pem", (made / f"renewed.{kind}").read_text(), 0o600)
    do(machine, "systemd/tls.conf")
    service, context = Unit(machine, SERVICE), client(made)
    before = service.pid
    stop, seen = Event(), list[tuple[int, bytes | None]]()

    def keep_scraping() -> None:
        while not stop.wait(0.1):
            with closing(connection(machine, context)) as used:
                reply = ask_on(used, login=basic("prometheus"))
                assert isinstance(used.sock, ssl.SSLSocket)
                seen.append((reply.status, used.sock.getpeercert(binary_form=True)))

    with ThreadPoolExecutor(1) as pool:
        scraper = pool.submit(keep_scraping)

        def more() -> None:
            enough = len(seen) + 5
            wait_until(lambda: len(seen) >= enough or scraper.done())

        try:
            more()
            do(machine, "RENEWED_LINEAGE", "RENEWED_LINEAGE=/root/renewed")
            more()
            service.reload()
            more()
        finally:
            stop.set()
        scraper.result()
    old, new = (ssl.PEM_cert_to_DER_cert((made / f"{name}.crt").read_text()) for name in ("server", "renewed"))
    assert [one for one, _ in groupby(seen)] == [(200, old), (200, new)]
    assert service.pid == before
    served = [line for line in service.log().splitlines() if line.startswith("serving the certificate of ")]
    assert [line.partition(", issued by CN=ca, valid until ")[0].rpartition("=")[2] for line in served] == [
        *("server", "renewed", "renewed"),
    ]


def test_the_variant_on_a_socket(machine: Container, tmp_path: Path) -> None:
    """It takes over from the plain service, with TLS as well, and the first scrape starts it."""
    do(machine, "enable --now prometheus-kvm-exporter.socket")
    socket, service = Unit(machine, SOCKET), Unit(machine, f"{NAME}-socket.service")
    assert (Unit(machine, SERVICE).show("ActiveState"), service.show("ActiveState")) == ("inactive", "inactive")
    assert scrape(machine).value("kvm_exporter_sample_success") == 1
    assert service.show("ActiveState") == "active"
    service.stop()
    machine.run("systemctl", "start", "multi-user.target")  # as at boot
    service.wait_for("ActiveState", "active")

    context = client(give_keys(machine, tmp_path))
    machine.run("mkdir", f"{DROP_INS}/{service.name}.d")
    machine.run("cp", f"/usr/share/{NAME}/systemd/tls.conf", f"{DROP_INS}/{service.name}.d")
    machine.run("systemctl", "daemon-reload")
    service.start()
    assert ask(machine, context=context, login=basic("prometheus")).status == 200

    give(machine, f"{DROP_INS}/{SOCKET}.d/address.conf")
    do(machine, "restart prometheus-kvm-exporter.socket")
    assert socket.show("Listen") == "192.0.2.1:10401 (Stream)"


def test_a_host_without_the_group_kvm(machine: Container) -> None:
    """The drop-in alone is enough: it creates the group, without which systemd would not start the service."""
    with pytest.raises(CommandError):
        machine.run("getent", "group", "kvm")
    do(machine, "systemd/host.conf")
    service = Unit(machine, SERVICE)
    assert (service.show("SupplementaryGroups"), service.show("ActiveState")) == ("kvm", "active")
    assert machine.run("getent", "group", "kvm").startswith("kvm:")


def test_a_timer_for_node_exporter(machine: Container) -> None:
    """As a user of its own it writes the gauges where node_exporter looks, and keeps the first sample of this boot."""
    timer, service = f"{NAME}-textfile.timer", Unit(machine, f"{NAME}-textfile.service")
    machine.run("mkdir", "--parents", COLLECTED)
    do(machine, timer)
    machine.run("systemctl", "start", service.name)
    written = Scrape((machine.root / COLLECTED.lstrip("/") / "kvm.prom").read_text())
    assert written.value("kvm_exporter_sample_success") == 1
    assert written.value("kvm_boot_reference_timestamp_seconds") > 0
    assert machine.run("stat", "--format=%U %a", f"{COLLECTED}/kvm.prom") == "prometheus-kvm-textfile 644\n"
    assert machine.run("ls", f"/run/{NAME}-textfile") == "boot-reference.json\n"
    assert Unit(machine, timer).show("ActiveState") == "active"
    assert Unit(machine, SERVICE).show("ActiveState") == "inactive"
    machine.run("systemctl", "disable", "--now", timer)

    other = "/var/lib/node_exporter"
    machine.run("install", "--directory", "--group=prometheus-kvm-textfile", "--mode=775", other)
    give(machine, f"{DROP_INS}/{service.name}.d/directory.conf")
    machine.run("systemctl", "start", service.name)
    assert (machine.root / other.lstrip("/") / "kvm.prom").exists()


def test_the_variant_on_a_socket_outlives_an_upgrade_and_not_the_package(
    booted: Container, debian_package: DebianPackage
) -> None:
    """A new version serves on; what was not chosen stays off; and when the package is purged, nothing listens."""
    do(booted, "enable --now prometheus-kvm-exporter.socket")
    service = Unit(booted, f"{NAME}-socket.service")
    assert scrape(booted).value("kvm_exporter_sample_success") == 1
    before = service.pid
    apt(booted, "install", "--reinstall", f"{PACKAGES}/{debian_package.deb.name}")
    assert scrape(booted).value("kvm_exporter_sample_success") == 1
    assert service.pid not in {0, before}
    assert Unit(booted, SERVICE).show("ActiveState") == "inactive"

    apt(booted, "purge", NAME)
    with pytest.raises(ConnectionRefusedError):
        booted.connect(PORT)
    assert booted.run("systemctl", "list-units", "--all", "--no-legend", f"{NAME}*") == ""
    left = booted.run("find", "/etc", "/run", "/usr", "/var", "-name", "*kvm*exporter*")
    assert {path for path in left.split() if path != KEYS} == set()
