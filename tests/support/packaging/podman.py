"""Containers that Podman runs from the image, with a storage and control groups of their own.

Source: podman(1), podman-run(1), podman-systemd.unit(5).
"""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import yaml

from lab.exporter import TIMEOUT, Exporter, exporter
from lab.patience import PATIENCE_SECONDS
from lab.tree import REPOSITORY
from tests.support.packaging.cgroups import Cgroups, cgroups
from tests.support.tools import missing, program

CONTAINER_FILES = REPOSITORY / "packaging/container"

STATE = "/run/kvm-exporter"
"""Where the unit and the manifests keep the boot reference on the machine."""

RUNTIME_DIRECTORY = "/run/prometheus-kvm-exporter"
"""Where the exporter in the image keeps it."""


def manifests(name: str) -> list[dict[str, Any]]:
    """The objects in a file."""
    return list(yaml.safe_load_all((CONTAINER_FILES / name).read_text(encoding="utf-8")))


[DAEMON_SET, SERVICE] = manifests("kubernetes.yaml")
[POD_MONITOR] = manifests("podmonitor.yaml")
POD = DAEMON_SET["spec"]["template"]["spec"]
[INIT], [EXPORTER] = POD["initContainers"], POD["containers"]

UNIT = CONTAINER_FILES / "prometheus-kvm-exporter.container"

QUADLET = {
    "DropCapability": "--cap-drop={}",
    "HealthCmd": "--health-cmd={}",
    "HealthInterval": "--health-interval={}",
    "HealthOnFailure": "--health-on-failure={}",
    "HealthTimeout": "--health-timeout={}",
    "NoNewPrivileges": "--security-opt=no-new-privileges:{}",
    "PidsLimit": "--pids-limit={}",
    "PublishPort": "--publish={}",
    "Notify": "--sdnotify=container",
    "ReadOnly": "--read-only={}",
    "ReadOnlyTmpfs": "--read-only-tmpfs={}",
    "Ulimit": "--ulimit={}",
    "Volume": "--volume={}",
}
"""What the keys of a [Container] section stand for on the command line."""


def unit() -> ConfigParser:
    """The sections of the Quadlet unit."""
    parser = ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign] # names of keys have capital letters
    parser.read(UNIT, encoding="utf-8")
    return parser


def unit_flags() -> dict[str, str]:
    """The flags of podman run that the Quadlet unit stands for, by the names of its keys."""
    return {name: QUADLET[name].format(value) for name, value in unit()["Container"].items() if name in QUADLET}


NOT_BOTH = '! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified; exec "$@"'
"""Run by a shell in a mount namespace. crun knows control groups of version 1 and of version 2, not both at a time."""


class Podman:
    """A Podman that has the image and nothing else."""

    def __init__(self, folder: Path, run: Path, groups: Cgroups, archive: Path) -> None:
        self._groups = groups
        folders = (f"--root={folder / 'storage'}", f"--runroot={run / 'run'}", f"--tmpdir={run / 'tmp'}")
        program("crun")
        self._command = (
            *(program("unshare"), "--mount", "sh", "-c", NOT_BOTH, "sh"),
            *(program("podman"), *folders, "--cgroup-manager=cgroupfs", "--events-backend=none"),
        )
        #: The image's name.
        self.image = self.ask("load", f"--input={archive}").strip().rpartition(" ")[2]

    def ask(self, *words: str) -> str:
        """What a command of Podman prints; it must succeed."""
        ended = subprocess.run(
            [*self._command, *words],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE_SECONDS,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def run(self, *flags: str, command: Sequence[str] = (), arguments: Sequence[str] = ()) -> str:
        """What a container prints, which runs our program with arguments, or a command in its place, and then ends."""
        entry = (f"--entrypoint={command[0]}",) if command else ()
        return self.ask("run", "--rm", *self._own, *entry, *flags, self.image, *command[1:], *arguments)

    @contextmanager
    def exporter(
        self,
        name: str,
        *flags: str,
        network: Literal["host", "none"] = "host",
        arguments: Sequence[str] = (),
        under: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Iterator[Exporter]:
        """An exporter in a container, with flags of podman run and arguments of its own.

        In the machine's network it listens on a free port of the loopback, in a network of its own on the usual one.
        """
        address = ("--web.listen-address=127.0.0.1:0",) if network == "host" else ()
        command = (*self._command, "run", "--rm", f"--name={name}", f"--network={network}", *self._own, *flags)
        with exporter(
            program=(*command, self.image, TIMEOUT, *address, *arguments),
            # Podman has systemd's timers run the health check, which are not there.
            environment={**(environment or {}), "DISABLE_HC_SYSTEMD": "true"},
            under=under,
        ) as running:
            yield running

    def pid(self, name: str) -> int:
        """The process of a container, as the machine counts."""
        return int(self.ask("inspect", "--format={{.State.Pid}}", name))

    @property
    def _own(self) -> tuple[str, ...]:
        """Groups of the test's own, and a limit that root can set without CAP_SYS_RESOURCE."""
        return (f"--cgroup-parent=/{self._groups.name}", "--cgroups=no-conmon", "--ulimit=nproc=1024:1024")


@contextmanager
def podman(folder: Path, archive: Path) -> Iterator[Podman]:
    """A Podman that has loaded an image; its containers are gone in the end."""
    if os.geteuid() != 0:
        missing("the right to run containers with limits (root)")
    # Podman refuses a path of more than 50 characters for its state, which pytest's folders may have.
    with cgroups() as groups, TemporaryDirectory(ignore_cleanup_errors=True) as run:
        made = Podman(folder, Path(run), groups, archive)
        try:
            yield made
        finally:
            made.ask("rm", "--force", "--all", "--time=0")


def cpu_quota(pid: int) -> tuple[float, int]:
    """The CPUs that a process may use at a time, by its control group, and how often it had to wait for more."""
    groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    root = Path("/sys/fs/cgroup")
    folder = root / "cpu" / groups["cpu"].lstrip("/") if "cpu" in groups else root / groups[""].lstrip("/")
    if (version_2 := folder / "cpu.max").exists():
        quota, period = version_2.read_text().split()
    else:
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
    waited = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())["nr_throttled"]
    return int(quota) / int(period), int(waited)
