"""The Debian package: built from this tree, unpacked, and asked."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.tree import REPOSITORY
from tests.support.tools import program

NAME = "prometheus-kvm-exporter"

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
        """What tells of all that was built with it."""
        return self.deb.with_suffix(".changes")

    @property
    def source(self) -> Path:
        """The sdist that it was built from."""
        return self.deb.with_name(f"{NAME}_{self.field('Version').rpartition('-')[0]}.orig.tar.gz")


def build(folder: Path, version: str = "", *, tree: Path = REPOSITORY, **environment: str) -> DebianPackage:
    """Build the package into a folder, as ``make deb`` does, or another version of it, and unpack it there: 6 s."""
    for needed in ("dpkg-buildpackage", "dh", "dh_python3", "pybuild"):
        program(needed)
    run(tree / "scripts/build-deb", folder, *([version] if version else []), **environment)
    [deb] = folder.glob(f"{NAME}_*.deb")
    run("dpkg-deb", "--extract", deb, folder / "root")
    return DebianPackage(deb, folder / "root")


def run(*command: str | Path, **environment: str) -> str:
    """What one of Debian's programs prints; it must succeed."""
    ended = subprocess.run(
        command, env={"LC_ALL": "C.UTF-8", "PATH": PATH} | environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr
