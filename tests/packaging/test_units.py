"""What ``kvm-exporter units`` writes: systemd accepts it, and in a booted Debian the exporter of a venv runs by it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pip
import pytest

from kvm_exporter.app.cli import main
from lab.scrape import Scrape
from lab.tree import UNITS
from tests.support.packaging.container import Container, container
from tests.support.packaging.debian import NAME, run
from tests.support.packaging.deploying import COMMANDS
from tests.support.packaging.unit import Unit, scrape
from tests.support.rooms.staged import VENV, stage
from tests.support.tools import program

SYSTEMS_OWN = Path("/lib/systemd/system")
"""Where the machine has systemd's units."""

PROGRAM = f"{VENV}/bin/kvm-exporter"
COLLECTED = "/var/lib/prometheus/node-exporter"


def page(what: str) -> str:
    """The commands in the page's only block that has a text in it."""
    [commands] = [block for block in COMMANDS if what in block]
    return commands


def test_systemd_accepts_the_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they are written, with nothing else of ours, there is nothing that it could say."""
    stage(tmp_path, monkeypatch)
    shutil.copytree(SYSTEMS_OWN, tmp_path / SYSTEMS_OWN.relative_to("/"), symlinks=True)
    (tmp_path / "bin").mkdir()
    for needed in ("bin/sh", "usr/bin/systemd-sysusers"):
        (tmp_path / needed).touch(0o755)
    assert main(["units", f"--root={tmp_path}"]) == 0
    names = [path.name for path in UNITS.iterdir() if path.suffix in {".service", ".socket", ".timer"}]
    assert run(program("systemd-analyze"), "verify", "--man=no", f"--root={tmp_path}", *names) == ""
    for unit in names:
        assert (tmp_path / "usr/local/lib/systemd/system" / unit).exists()


def install(machine: Container, wheel: Path, venv: str, python: str = "python3") -> None:
    """Install the wheel in a virtual environment made with one of the machine's Pythons."""
    machine.run(python, "-m", "venv", "--without-pip", "--system-site-packages", venv)
    of_the_venv = ("env", "PYTHONPATH=/pip", "python3", "-m", "pip", f"--python={venv}/bin/python3")
    machine.run(*of_the_venv, "install", "--no-index", "--no-deps", "--ignore-installed", f"/wheels/{wheel.name}")


@pytest.fixture(scope="module")
def machine(wheel: Path) -> Iterator[Container]:
    """A Debian 12 with the wheel in a virtual environment, after which the page's commands were run."""
    shared = {"/wheels": wheel.parent, "/pip/pip": Path(pip.__file__).parent}
    with container("bookworm", *(f"--bind-ro={folder}:{name}" for name, folder in shared.items())) as booted:
        install(booted, wheel, VENV)
        _, _, *commands = page(f"{PROGRAM} units").splitlines(keepends=True)
        booted.run("sh", "-e", "-c", "".join(commands))
        yield booted


@pytest.fixture
def service(machine: Container) -> Unit:
    """The service, as the commands have started it."""
    return Unit(machine, f"{NAME}.service")


def test_the_service_runs_from_the_venv(machine: Container, service: Unit) -> None:
    """In its sandbox, now and at the next boot; the journal knows the messages, and the program is on PATH."""
    assert service.show("FragmentPath") == f"/usr/local/lib/systemd/system/{NAME}.service"
    assert service.show("UnitFileState") == "enabled"
    assert f"path={PROGRAM} ;" in service.show("ExecStart")
    assert PROGRAM in machine.run("cat", f"/proc/{service.pid}/cmdline").split("\0")
    assert scrape(machine).value("kvm_exporter_sample_success") == 1
    assert machine.run("journalctl", "--list-catalog").count("kvm-exporter: ") == 3
    version = machine.run("sh", "-c", "PATH=/usr/local/bin:$PATH; kvm-exporter --version")
    assert version == machine.run(PROGRAM, "--version")


def test_it_says_what_to_do_next(machine: Container) -> None:
    """The commands are those of the page."""
    said = machine.run(PROGRAM, "units")
    assert f"\nkept /etc/default/{NAME}, with your flags\n" in said
    commands = page(f"{PROGRAM} units").partition(" units\n")[2].splitlines()
    assert [line.strip() for line in said.splitlines() if line.startswith("    ")] == commands


def test_flags_on_a_system_with_sysconfig(machine: Container, service: Unit) -> None:
    """As on RHEL: the file for the flags is there, and the services read it, after an upgrade too."""
    machine.run("mkdir", "/etc/sysconfig")
    assert f"\nwrote /etc/sysconfig/{NAME}\n" in machine.run(PROGRAM, "units")
    machine.write(f"/etc/sysconfig/{NAME}", 'ARGS="--web.disable-exporter-metrics"\n')
    assert f"\nkept /etc/sysconfig/{NAME}, with your flags\n" in machine.run(PROGRAM, "units")
    before = service.pid
    machine.run("sh", "-e", "-c", page("try-restart prometheus-kvm-exporter.service"))
    assert service.pid != before
    assert "process_cpu_seconds_total" not in scrape(machine).names


def test_a_python_outside_of_usr(machine: Container, service: Unit, wheel: Path) -> None:
    """One that was unpacked in /opt, with its libraries: the service of a venv that was made with it may load them."""
    own, venv = "/opt/python", "/srv/kvm-exporter"
    machine.run("mkdir", "--parents", f"{own}/bin", f"{own}/lib")
    machine.run("sh", "-e", "-c", f"cp /usr/bin/python3 {own}/bin; cp -r /usr/lib/python3* {own}/lib")
    install(machine, wheel, venv, f"{own}/bin/python3")
    try:
        machine.run(f"{venv}/bin/kvm-exporter", "units")
        machine.run("systemctl", "daemon-reload")
        service.start()
        assert machine.run("readlink", f"/proc/{service.pid}/exe") == f"{own}/bin/python3\n"
        assert f"{own}/lib/" in machine.run("cat", f"/proc/{service.pid}/maps")
        assert scrape(machine).value("kvm_exporter_sample_success") == 1
    finally:
        machine.run(PROGRAM, "units")
        machine.run("systemctl", "daemon-reload")
        service.start()


def test_the_other_variants(machine: Container) -> None:
    """On a socket, and as a timer for node_exporter, with the page's commands."""
    machine.run("sh", "-e", "-c", page("enable --now prometheus-kvm-exporter.socket"))
    assert scrape(machine).value("kvm_exporter_sample_success") == 1
    on_a_socket = Unit(machine, f"{NAME}-socket.service")
    assert PROGRAM in machine.run("cat", f"/proc/{on_a_socket.pid}/cmdline").split("\0")
    machine.run("systemctl", "disable", "--now", f"{NAME}.socket")

    machine.run("mkdir", "--parents", COLLECTED)
    machine.run("sh", "-e", "-c", page(f"{NAME}-textfile.timer"))
    machine.run("systemctl", "start", f"{NAME}-textfile.service")
    written = Scrape((machine.root / COLLECTED.lstrip("/") / "kvm.prom").read_text())
    assert written.value("kvm_exporter_sample_success") == 1
