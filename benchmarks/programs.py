"""The programs that are measured: how to start, stop and reach them."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.effort import PEERS
from lab.tree import REPOSITORY

SOURCES = Path(__file__).parent

PROMETHEUS = {
    "Accept": "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
}
"""The headers of a scrape, the same as in client.c."""


@dataclass(frozen=True, slots=True)
class Program:
    """A process that serves HTTP on a port of the loopback."""

    process: subprocess.Popen[bytes]
    port: int
    path: str = "/metrics"

    @property
    def target(self) -> str:
        """The argument for client.c."""
        return f"{self.process.pid}:{self.port}:{self.path}"

    def get(self, headers: Mapping[str, str] = PROMETHEUS) -> bytes:
        """Return the body of a response without decompressing it."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{self.path}", headers=dict(headers))
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 - always http
            return bytes(response.read())


@contextmanager
def running(
    command: Sequence[str | Path], port: int, path: str = "/metrics", environment: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Start a process and wait until it accepts connections; stop it at the end."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    try:
        wait_for(process, port)
        yield Program(process, port, path)
    finally:
        process.terminate()
        process.wait(timeout=20)


def wait_for(process: subprocess.Popen[bytes], port: int, seconds: float = 30) -> None:
    """Wait until the process accepts connections, trying every millisecond. Raises RuntimeError if it does not."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.001)
    raise RuntimeError(f"{process.args!r} does not listen on port {port}")


def free_port() -> int:
    """Return a port of the loopback that is not in use."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def compiled(name: str, folder: Path) -> Path:
    """Compile a C file of this folder to ``folder``, unless it exists there; return the program."""
    program = folder / name
    if not program.exists():
        flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
        subprocess.run(["gcc", *flags, "-o", program, SOURCES / f"{name}.c"], check=True)
    return program


def peer(path: str) -> Path:
    """Return the path of a program to compare with. Raises RuntimeError if it is missing."""
    program = PEERS / path
    if not program.exists():
        raise RuntimeError(f"{program.relative_to(REPOSITORY)} is missing; run make build/peers/.unpacked")
    return program


def exporter(port: int, *flags: str) -> list[str]:
    """Return the command that starts the exporter, as users start it."""
    return [sys.executable, "-m", "kvm_exporter", "serve", f"--web.listen-address=127.0.0.1:{port}", *flags]


def node_exporter(port: int) -> list[str | Path]:
    """Return the command that starts node_exporter with only its cpu collector, and all flags of the CPUs."""
    return [
        peer("usr/bin/prometheus-node-exporter"),
        f"--web.listen-address=127.0.0.1:{port}",
        "--collector.disable-defaults",
        "--collector.cpu",
        "--collector.cpu.info",
        "--collector.cpu.info.flags-include=.*",
        "--collector.cpu.info.bugs-include=.*",
    ]


def bare_server(port: int, file: Path) -> list[str | Path]:
    """Return the command that starts bare_server.py with a file."""
    return [sys.executable, SOURCES / "bare_server.py", str(port), file]


def nginx(port: int, file: Path) -> list[str | Path]:
    """Return the command that starts nginx, in one process, with a compressed file."""
    folder = file.parent / "nginx"
    folder.mkdir(exist_ok=True)
    kinds = ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
    configuration = folder / "nginx.conf"
    configuration.write_text(
        f"""
        daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{ }}
        http {{
            access_log off; default_type text/plain; keepalive_requests 1000000000;
            {" ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)}
            server {{
                listen 127.0.0.1:{port};
                root {file.parent};
                location / {{ add_header Content-Encoding gzip; }}
            }}
        }}
        """
    )
    return [peer("usr/sbin/nginx"), "-p", folder, "-c", configuration]


def found(name: str) -> str | None:
    """Return the path of a program on PATH or in the sbin directories; None if it is missing."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
