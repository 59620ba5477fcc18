"""Control groups of a test's own, one in each hierarchy: what is started in them leaves nothing at the machine's root.

Source: the kernel's Documentation/admin-guide/cgroup-v1/cpusets.rst and cgroup-v2.rst.
"""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.proc import wait_until
from tests.support.tools import missing

HIERARCHIES = Path("/sys/fs/cgroup")
PREFIX = "kvm-exporter-"
INHERITED = ("cpuset.cpus", "cpuset.mems")
"""What a new cpuset of version 1 has to be told before anything can be in it."""

JOIN = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"'
"""Run by a shell with folders, --, and a command line."""

_numbers = itertools.count(1)


class Cgroups:
    """The folders."""

    def __init__(self, name: str, folders: list[Path]) -> None:
        #: Unique among the containers that run.
        self.name = name
        self._folders = folders

    @property
    def under(self) -> list[str]:
        """The beginning of a command line: what follows is in all of them."""
        return ["sh", "-c", JOIN, "sh", *map(str, self._folders), "--"]

    @contextmanager
    def only_on(self, cpus: str) -> Iterator[None]:
        """Leave a list of CPUs, such as 0-3,8, to the processes in them while the block runs."""
        for folder in self._folders:
            if (file := folder / "cpuset.cpus").exists():
                before = file.read_text()
                file.write_text(cpus)
                try:
                    yield
                finally:
                    file.write_text(before)
                return
        missing("a cpuset hierarchy of cgroup version 1")

    def kill(self) -> None:
        """End whatever is still in them."""
        for folder in self._folders:
            if (file := folder / "cgroup.kill").exists():
                file.write_text("1")


@contextmanager
def cgroups() -> Iterator[Cgroups]:
    """New folders in every hierarchy; whatever is still in them in the end is killed."""
    name = f"{PREFIX}{os.getpid()}-{next(_numbers)}"
    made: list[Path] = []
    _sweep()
    try:
        for hierarchy in _hierarchies():
            (hierarchy / name).mkdir()
            made.append(hierarchy / name)
            for file in INHERITED:
                if (hierarchy / name / file).exists():
                    (hierarchy / name / file).write_text((hierarchy / file).read_text())
        yield Cgroups(name, made)
    finally:
        Cgroups(name, made).kill()
        wait_until(lambda: all(_removed(folder) for folder in made))


def _sweep() -> None:
    """Remove what tests that were killed could not; their containers have ended with them."""
    for folder in (folder for hierarchy in _hierarchies() for folder in hierarchy.glob(f"{PREFIX}*")):
        process = folder.name.removeprefix(PREFIX).partition("-")[0]
        if not Path("/proc", process).exists():
            _removed(folder)


def _hierarchies() -> list[Path]:
    if (HIERARCHIES / "cgroup.procs").exists():
        return [HIERARCHIES]
    return sorted(path.parent for path in HIERARCHIES.glob("*/cgroup.procs"))


def _removed(folder: Path) -> bool:
    """Whether a folder is gone with those that were made in it; it cannot go before the last process."""
    try:
        for inner, _, _ in os.walk(folder, topdown=False):
            Path(inner).rmdir()
    except OSError:
        return False
    return True
