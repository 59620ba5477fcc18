"""packaging/rpm: Debian's rpmbuild makes a package of the wheelhouse, which has what runs, at the paths where it is."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvm_exporter import __version__
from lab.tree import REPOSITORY
from tests.support.packaging.container import container
from tests.support.packaging.debian import NAME, run
from tests.support.packaging.unit import Unit, scrape
from tests.support.tools import program

SPEC = REPOSITORY / "packaging/rpm/kvm-exporter.spec"


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path: that of the build is in the first lines of scripts, whose length is limited."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.slow
def test_what_is_in_the_package_runs(wheelhouse_archive: Path, short: Path) -> None:
    """Nothing in it names the folder of the build; unpacked in a booted Debian, the service runs by its units."""
    defines = {
        "_topdir": short,
        "_sourcedir": wheelhouse_archive.parent,
        "python": "/usr/bin/python3",
        "pip": f"{sys.executable} -m pip",
    }
    flags = [f"--define={name} {value}" for name, value in defines.items()]
    run(program("rpmbuild"), "-bb", "--nodeps", *flags, SPEC)
    [package] = short.glob("RPMS/*/*.rpm")
    assert package.name.startswith(f"kvm-exporter-{__version__}-1.")
    assert run("rpm", "--query", "--configfiles", "--package", package) == f"/etc/default/{NAME}\n"

    root = short / "root"
    root.mkdir()
    run("sh", "-c", 'rpm2archive - <"$0" | tar -xz -C "$1"', package, root)
    files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in files if str(short).encode() in path.read_bytes()] == []
    with container("bookworm", f"--bind-ro={root}:/rpm") as machine:
        machine.run("cp", "--archive", "/rpm/opt", "/rpm/usr", "/rpm/etc", "/")
        machine.run("systemctl", "daemon-reload")
        service = Unit(machine, f"{NAME}.service")
        service.start()
        assert service.show("FragmentPath").endswith(f"/lib/systemd/system/{NAME}.service")
        assert "path=/opt/kvm-exporter/bin/kvm-exporter ;" in service.show("ExecStart")
        assert scrape(machine).value("kvm_exporter_sample_success") == 1
