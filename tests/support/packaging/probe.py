"""What the process that runs this may do, as JSON: a name for each attempt, and the error it met or that it worked.

A script of its own, run in a sandbox by whatever Python is there. Nothing that it attempts does harm where it works.
"""

import ctypes
import errno
import json
import mmap
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

WORKED = "worked"

CLONE_NEWNS, CLONE_NEWUSER = 0x0002_0000, 0x1000_0000
IO_URING_SETUP = 425
"""Its number is the same on every architecture."""


def attempt(action: Callable[[], object]) -> str:
    """The name of the error, or WORKED."""
    try:
        action()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return WORKED


def execute(path: str) -> None:
    """Start a program. Raises OSError if that is refused."""
    child = os.fork()
    if child == 0:
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(nothing, descriptor)
        try:
            os.execv(path, [path])  # noqa: S606 - no shell is wanted
        except OSError as error:
            os._exit(error.errno or 255)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code in {errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOEXEC}:
        raise OSError(code, os.strerror(code))


def execute_own(folder: str) -> None:
    """Write a program and start it. Raises OSError if the second is refused."""
    path = Path(folder, "program")
    path.write_text("#!/usr/bin/python3\n")
    path.chmod(0o700)
    try:
        execute(str(path))
    finally:
        path.unlink()


def call(name: str, *arguments: int) -> None:
    """A function of the C library that returns -1 when it fails. Raises OSError."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)


def folders() -> Iterator[str]:
    """Every folder that can be seen, of processes only this one's."""
    for folder, inner, _ in os.walk("/"):
        yield folder
        if folder == "/proc":
            inner[:] = ["self", "sys"]


def can_write_in(folder: str) -> bool:
    """Whether a file can be made there."""
    path = Path(folder, ".probe")
    try:
        path.touch(exist_ok=False)
        path.unlink()
    except OSError:
        return False
    return True


def writable_files() -> Iterator[str]:
    """Files outside of /proc that could be opened for writing, devices aside."""
    for folder, inner, names in os.walk("/"):
        if folder == "/":
            inner.remove("proc")
        for path in (Path(folder, name) for name in names):
            if os.access(path, os.W_OK) and stat.S_ISREG(path.stat().st_mode):
                yield str(path)


def main() -> None:
    """Attempt everything."""
    runtime_directory = os.environ["RUNTIME_DIRECTORY"]
    attempts: dict[str, Callable[[], object]] = {
        "read /etc/shadow": lambda: Path("/etc/shadow").read_bytes(),
        "see process 1": lambda: Path("/proc/1/status").read_bytes(),
        "become root": lambda: os.setuid(0),
        "IPv4 socket": lambda: socket.socket(socket.AF_INET),
        "IPv6 socket": lambda: socket.socket(socket.AF_INET6),
        "raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        "packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
        "netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        "execute /bin/sh": lambda: execute("/bin/sh"),
        "execute /usr/bin/env": lambda: execute("/usr/bin/env"),
        "execute what it wrote": lambda: execute_own(runtime_directory),
        "program in memory": lambda: os.memfd_create("program"),
        "writable code": lambda: mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_WRITE | mmap.PROT_EXEC),
        "namespace": lambda: call("unshare", CLONE_NEWNS | CLONE_NEWUSER),
        "io_uring": lambda: call("syscall", IO_URING_SETUP, 1, 0),
        "real-time priority": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
        "lower nice value": lambda: os.nice(-1),
        "pin to a CPU": lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}),
    }
    found: dict[str, object] = {name: attempt(action) for name, action in attempts.items()}
    found["folders"] = sorted(folder for folder in folders() if can_write_in(folder))
    found["files"] = sorted(writable_files())
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
