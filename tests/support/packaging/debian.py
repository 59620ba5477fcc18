"""The Debian packages: built from this tree, unpacked, and asked."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.tree import REPOSITORY
from tests.support.tools import program

NAME = "prometheus-kvm-exporter"
RULES = f"{NAME}-rules"

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
"""Where Debian's own programs are, and no others."""


@dataclass(frozen=True, slots=True)
class DebianPackage:
    """A built package, and a folder with what is in it."""

    deb: Path
    root: Path

    def field(self, name: str) -> str:
        """A field of the control file."""
        return run("dpkg-deb", "--field", self.deb, name).strip()

    @property
    def changes(self) -> Path:
        """The .changes file, which lists all files that were built."""
        return self.deb.with_suffix(".changes")

    @property
    def source(self) -> Path:
        """The sdist that it was built from."""
        return self.deb.with_name(f"{NAME}_{self.field('Version').rpartition('-')[0]}.orig.tar.gz")


def build(folder: Path, version: str = "", *, tree: Path = REPOSITORY, **environment: str) -> DebianPackage:
    """Build both into a folder, as ``make deb`` does, or another version of them: 6 s. Return the exporter's."""
    for needed in ("dpkg-buildpackage", "dh", "dh_python3", "pybuild"):
        program(needed)
    run(tree / "scripts/build-deb", folder, *([version] if version else []), **environment)
    return unpacked(folder, NAME)


def unpacked(folder: Path, name: str) -> DebianPackage:
    """One of the packages that were built into a folder, and unpack it there."""
    [deb] = folder.glob(f"{name}_*.deb")
    run("dpkg-deb", "--extract", deb, folder / name)
    return DebianPackage(deb, folder / name)


def run(*command: str | Path, **environment: str) -> str:
    """What one of Debian's programs prints; it must succeed."""
    ended = subprocess.run(
        command, env={"LC_ALL": "C.UTF-8", "PATH": PATH} | environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr
