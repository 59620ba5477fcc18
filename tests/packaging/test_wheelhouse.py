"""dist/wheelhouse: pip installs the exporter from it alone, in systems that have no index, compiler or headers."""

import re
import sys
from pathlib import Path

import pip
import pytest

from tests.support.packaging.container import SUITES, CommandError, container
from tests.support.packaging.debian import NAME
from tests.support.packaging.deploying import COMMANDS
from tests.support.packaging.distribution import OLDEST_GLIBC
from tests.support.packaging.unit import Unit, scrape

pytestmark = pytest.mark.slow

VENV = "/opt/kvm-exporter"
PIP = f"env PYTHONPATH=/pip python3 -m pip --python={VENV}/bin/python3"
"""Of the tests' own, in place of the one in the venv: the systems have no ensurepip."""


def test_every_wheel_is_for_old_systems_too(wheelhouse: Path) -> None:
    """Each runs with the C library of RHEL 9 and Ubuntu 22.04, or needs none; those of systemd-python are made here."""
    tags = {path.stem: path.stem.rpartition("-")[2] for path in wheelhouse.iterdir()}
    oldest = {name: min(map(int, re.findall(r"manylinux_2_(\d+)_", tag)), default=None) for name, tag in tags.items()}
    assert {name for name, tag in tags.items() if tag != "any" and oldest[name] is None} == set()
    assert max(minor for minor in oldest.values() if minor is not None) <= OLDEST_GLIBC
    pythons = {match[1] for name in tags if (match := re.match(r"systemd_python-\d+-(cp\d+)-", name))}
    assert f"cp3{sys.version_info.minor}" in pythons


@pytest.mark.parametrize("suite", SUITES)
def test_pip_installs_from_it_alone(wheelhouse: Path, suite: str) -> None:
    """In a bare system, by the page's commands; the service runs in its sandbox, with the libsystemd of the wheel."""
    shared = {"/dist/wheelhouse": wheelhouse, "/pip/pip": Path(pip.__file__).parent}
    with container(suite, *(f"--bind-ro={folder}:{name}" for name, folder in shared.items())) as machine:
        for missing in ("command -v cc gcc", "ls /usr/include/systemd", "tail -n +2 /proc/net/route | grep ."):
            with pytest.raises(CommandError):
                machine.run("sh", "-c", missing)
        [commands] = [block for block in COMMANDS if f"{VENV}/bin/kvm-exporter units" in block]
        commands = commands.replace("-m venv", "-m venv --without-pip").replace(f"{VENV}/bin/pip", PIP)
        machine.run("sh", "-e", "-c", commands)
        service = Unit(machine, f"{NAME}.service")
        assert scrape(machine).value("kvm_exporter_sample_success") == 1
        maps = machine.run("cat", f"/proc/{service.pid}/maps")
    [library] = set(re.findall(r"\S*/libsystemd\S*", maps))
    assert library.startswith(f"{VENV}/lib/")
