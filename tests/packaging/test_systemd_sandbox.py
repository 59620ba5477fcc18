"""What the units take away: as systemd rates it, and as a program finds that runs in place of the exporter."""

import json
import re
import shutil

import pytest

from kvm_exporter.cpuid.machine import Machine
from kvm_exporter.cpuid.topology import Topology
from kvm_exporter.kvm.clock import decode_pvclock
from lab.tree import UNITS
from tests.support.packaging import probe
from tests.support.packaging.container import Container
from tests.support.packaging.debian import NAME
from tests.support.packaging.probe import WORKED
from tests.support.packaging.unit import Unit, journal, scrape

SERVICE, SOCKET, SOCKET_SERVICE = f"{NAME}.service", f"{NAME}.socket", f"{NAME}-socket.service"
GROUP_SERVICE = f"{NAME}-group.service"
TEXTFILE_SERVICE, TEXTFILE_TIMER = f"{NAME}-textfile.service", f"{NAME}-textfile.timer"

PROBE = "/usr/lib/kvm-exporter-probe.py"

IN_PLACE = f"""
[Service]
Type=oneshot
Restart=no
WatchdogSec=0
ExecStart=
ExecStart=/usr/bin/python3 {PROBE}
"""

RUNTIME_DIRECTORY = f"/run/private/{NAME}"

REFUSED = {
    "read /etc/shadow": "EACCES",
    "see process 1": "ENOENT",
    "become root": "EPERM",
    "packet socket": "EAFNOSUPPORT",
    "netlink socket": "EAFNOSUPPORT",
    "execute /bin/sh": "EACCES",
    "execute /usr/bin/env": "EACCES",
    "execute what it wrote": "EACCES",
    "program in memory": "EPERM",
    "namespace": "EPERM",
    "io_uring": "EPERM",
    "real-time priority": "EPERM",
    "lower nice value": "EPERM",
    "pin to a CPU": WORKED,
}

SOCKETS = {
    SERVICE: {"IPv4 socket": WORKED, "IPv6 socket": WORKED, "raw socket": "EPERM"},
    SOCKET_SERVICE: dict.fromkeys(("IPv4 socket", "IPv6 socket", "raw socket"), "EAFNOSUPPORT"),
}


@pytest.mark.parametrize(("unit", "most"), [(SERVICE, 1.5), (SOCKET_SERVICE, 0.5), (TEXTFILE_SERVICE, 0.5)])
def test_systemds_own_rating(system: Container, unit: str, most: float) -> None:
    """Nobody else's exporter is below 7."""
    rating = system.run("systemd-analyze", "security", "--no-pager", f"--threshold={most * 10:.0f}", unit)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", rating)
    assert found is not None
    assert 0 < float(found[1]) <= most


def test_every_directive_is_known(system: Container) -> None:
    """Neither when they are checked nor when the service manager reads them does systemd have anything to say."""
    units = f"{SERVICE} {SOCKET} {SOCKET_SERVICE} {GROUP_SERVICE} {TEXTFILE_SERVICE} {TEXTFILE_TIMER}"
    assert system.run("sh", "-c", f"systemd-analyze verify --man=no {units} 2>&1") == ""
    system.run("systemctl", "daemon-reload")
    system.run("systemctl", "show", *units.split())
    # What it says of a directive begins with the file and the line.
    assert re.findall(rf".*/{NAME}[^ ]*:[0-9]+: .*", journal(system, "_PID=1")) == []


@pytest.mark.parametrize("unit", [SERVICE, SOCKET_SERVICE])
def test_what_a_program_in_there_may_do(system: Container, unit: str) -> None:
    """As the service's user it reads no secret, writes nowhere, starts nothing; in the second, it opens no socket."""
    shutil.copy(probe.__file__, system.root / PROBE.lstrip("/"))
    exporter = Unit(system, unit)
    with exporter.drop_in(IN_PLACE):
        exporter.start()
    found = json.loads(journal(system, "--lines=1", f"_SYSTEMD_UNIT={unit}"))
    # The kernel refuses it, or a filter in front of it, depending on systemd's version.
    assert found.pop("writable code") in {"EPERM", "EACCES"}
    assert found.pop("folders") == [RUNTIME_DIRECTORY]
    # systemd 254 and later hand over the file in which a service may ask to be told of a shortage of memory.
    pressure = f"/sys/fs/cgroup/system.slice/{unit}/memory.pressure"
    assert set(found.pop("files")) <= {f"{RUNTIME_DIRECTORY}/boot-reference.json", pressure}
    assert found == REFUSED | SOCKETS[unit]


@pytest.mark.parametrize("unit", [SERVICE, SOCKET])
def test_the_pvclock_page_is_read_in_there(system: Container, unit: str) -> None:
    """In a container and in either sandbox, without root, what KVM states is what it states outside."""
    page = Machine(Topology()).pvclock()
    clock = decode_pvclock(page) if page is not None else None
    expected = {}
    if clock is not None:
        expected = {"kvm_clock_stable": clock.stable, "kvm_clock_tsc_frequency_hertz": clock.tsc_khz * 1000}
    Unit(system, unit).start()
    found = scrape(system)
    Unit(system, unit).stop()
    assert {name: found.value(name) for name in found.names if name.startswith("kvm_clock_")} == expected


def test_the_probe_finds_what_is_allowed(system: Container) -> None:
    """Without the sandbox, as root, what the container itself allows does work: it is the unit that refuses."""
    shutil.copy(probe.__file__, system.root / PROBE.lstrip("/"))
    found = json.loads(system.run("env", "RUNTIME_DIRECTORY=/run", "python3", PROBE))
    refused = {name for name, result in found.items() if isinstance(result, str) and result != WORKED}
    assert refused <= {"io_uring", "namespace", "real-time priority", "lower nice value"}
    assert {"/etc", "/usr/bin", "/tmp", "/run/lock"} <= set(found["folders"])  # noqa: S108 - it is about them


def settings(unit: str) -> list[str]:
    """The lines of a unit that mean something."""
    lines = (UNITS / unit).read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_the_variant_has_all_of_the_sandbox() -> None:
    """The two services differ in nothing but where their sockets come from: what is added to one is for both."""
    service, variant = set(settings(SERVICE)), set(settings(SOCKET_SERVICE))
    assert service - variant == {
        "Description=Prometheus exporter for the KVM CPUID leaves",
        "ExecStart=/usr/bin/kvm-exporter serve $WEB_CONFIG $ARGS",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
    }
    assert variant - service == {
        "Description=Prometheus exporter for the KVM CPUID leaves (socket-activated)",
        f"Conflicts={SERVICE}",
        f"Requires={SOCKET}",
        f"After={SERVICE}",
        f"Also={SOCKET}",
        "ExecStart=/usr/bin/kvm-exporter serve --web.systemd-socket $WEB_CONFIG $ARGS",
        f"User={NAME}",
        "PrivateNetwork=yes",
        "IPAddressDeny=any",
        "RestrictAddressFamilies=AF_UNIX",
    }


def test_the_textfile_service_has_all_of_the_sandbox() -> None:
    """It is the variant without a network, and differs in how it runs, in its user, and in where it writes."""
    sandbox = "".join((UNITS / SOCKET_SERVICE).read_text().partition("MemoryMax=")[1:]).partition("[Install]")[0]
    lines = {line for line in sandbox.splitlines() if line and not line.startswith("#")}
    assert lines - set(settings(TEXTFILE_SERVICE)) == {f"NoExecPaths=/ /run {RUNTIME_DIRECTORY}"}
    assert {line for line in settings(TEXTFILE_SERVICE) if "Paths=" in line} - lines == {
        "ReadWritePaths=/var/lib/prometheus/node-exporter",
        f"NoExecPaths=/ /run /run/{NAME}-textfile",
    }
