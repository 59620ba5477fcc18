"""Small Debian systems, booted: systemd-nspawn with a real systemd in it, over a tree that stays as it is.

Source: systemd-nspawn(1), sd_notify(3), nsenter(1), setns(2).
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lab.notifications import notifications
from lab.patience import PATIENCE_SECONDS
from lab.tree import REPOSITORY
from tests.support.packaging.cgroups import Cgroups, cgroups
from tests.support.packaging.debian import run
from tests.support.slow import slow_but_first
from tests.support.tools import missing, program

TREES = REPOSITORY / "build" / "trees"
"""Where scripts/system-trees makes them."""

SUITES = ("bookworm", "trixie")
"""Debian 12 with systemd 252 and Python 3.11, and Debian 13 with systemd 257 and Python 3.13."""

EACH_SUITE = slow_but_first(SUITES)
"""For tests that boot one system: make test boots Debian 12, make test-all the other too."""

PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
PROPAGATED = Path("/run/systemd/nspawn/propagate")
CLONE_NEWNET = 0x4000_0000

FLAGS = (
    *("--boot", "--volatile=overlay", "--private-network", "--console=pipe", "--notify-ready=yes"),
    *("--register=no", "--keep-unit", "--link-journal=no", "--resolv-conf=off", "--timezone=off"),
    # So that DeviceAllow= and IPAddressDeny=, which are programs in the kernel, do what they say.
    *("--system-call-filter=bpf", "--capability=CAP_BPF,CAP_NET_ADMIN"),
)


class CommandError(Exception):
    """A command in the container failed; the message has what it wrote."""


class Container:
    """A booted system, seen from outside."""

    def __init__(self, leader: int, groups: Cgroups) -> None:
        self._leader = leader
        self.cgroups = groups
        #: The beginning of a command line: what follows runs in there.
        self.enter = (
            *(program("nsenter"), "-t", str(leader), *("-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"), "--"),
            *("env", "-i", PATH, "LC_ALL=C.UTF-8"),
        )
        #: Its files. A link in there that begins with a slash leads out of it.
        self.root = Path(f"/proc/{leader}/root")

    def run(self, *command: str) -> str:
        """What a command in it writes to standard output. Raises CommandError if it fails."""
        ended = subprocess.run(
            [*self.enter, *command],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        if ended.returncode:
            raise CommandError(f"{' '.join(command)}: exit code {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
        return ended.stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """A file in it, with its folder."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def remove(self, path: str) -> None:
        """A file that may be there, and its folder if that is empty then."""
        file = self.root / path.lstrip("/")
        file.unlink(missing_ok=True)
        with suppress(OSError):
            file.parent.rmdir()

    def connect(self, port: int) -> socket.socket:
        """A connection to a port of its loopback. Raises OSError."""
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self._connect, port).result()

    def _connect(self, port: int) -> socket.socket:
        """A socket belongs to the network that the thread which makes it is in; this thread ends afterwards."""
        with Path(f"/proc/{self._leader}/ns/net").open("rb") as network:
            if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        return socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)


def tree(suite: str) -> Path:
    """The files of one of SUITES."""
    if os.geteuid() != 0:
        missing("the right to boot a system in a container (root)")
    if not (path := TREES / suite).exists():
        missing(f"a Debian {suite} to boot (scripts/system-trees)")
    return path


def bare(folder: Path, suite: str, *packages: str, recommended: bool = False) -> Path:
    """The files of a new system in a folder: what is essential, packages, and those that these recommend.

    They come from the mirrors of this machine.
    """
    root = folder / "-".join([suite, *packages[:1]])
    sources = (tree(suite) / "etc/apt/sources.list").read_text(encoding="utf-8").splitlines()
    security = run("apt-get", "indextargets", "--format=$(REPO_URI)", "Created-By: Packages", "Label: Debian-Security")
    sources += [f"deb {uri} {suite}-security main" for uri in {*security.split()}]
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}"]
    if recommended:
        command.append('--aptopt=APT::Install-Recommends "true"')
    run(program(command[0]), *command[1:], suite, root, *sources)
    return root


@contextmanager
def container(suite: str, *flags: str) -> Iterator[Container]:
    """A system of one of SUITES that has booted, as booted() has it."""
    with booted(tree(suite), *flags) as system:
        yield system


@contextmanager
def booted(directory: Path, *flags: str) -> Iterator[Container]:
    """The system in a directory; it is shut down in the end, and nothing is left of what it wrote."""
    # If the tests are killed, it is told so.
    command = [program("setpriv"), "--pdeathsig", "TERM", program("systemd-nspawn"), *FLAGS, *flags]
    with tempfile.TemporaryDirectory() as folder, cgroups() as groups, ExitStack() as at_the_end:
        log = Path(folder, "console")
        with notifications(Path(folder)) as manager, log.open("wb") as console:
            process = subprocess.Popen(
                [*groups.under, *command, f"--machine={groups.name}", f"--directory={directory}"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={**os.environ, **manager.environment, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )
            at_the_end.callback(_stop, process, groups)
            try:
                leader = int(manager.until("X_NSPAWN_LEADER_PID")["X_NSPAWN_LEADER_PID"])
                manager.until("READY")
            except TimeoutError as error:
                error.add_note(log.read_text(errors="replace"))
                raise
        # The socket is closed by now: nspawn would block on messages that are not read.
        yield Container(leader, groups)


def _stop(process: subprocess.Popen[bytes], groups: Cgroups) -> None:
    """Shut down. SIGTERM makes nspawn do it in order; SIGKILL would leave the container's first process behind."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        groups.kill()
        process.wait(PATIENCE_SECONDS)
    shutil.rmtree(PROPAGATED / groups.name, ignore_errors=True)
