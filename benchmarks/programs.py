"""Programs that are measured: how they are started, stopped, reached, and what the kernel says of them."""

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
"""What client.c sends, too."""


@dataclass(frozen=True, slots=True)
class Program:
    """A process that serves something."""

    process: subprocess.Popen[bytes]
    port: int
    path: str = "/metrics"

    @property
    def target(self) -> str:
        """As client.c wants it."""
        return f"{self.process.pid}:{self.port}:{self.path}"

    def get(self, headers: Mapping[str, str] = PROMETHEUS) -> bytes:
        """A body as it comes, compressed or not."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{self.path}", headers=dict(headers))
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 - always http
            return bytes(response.read())


@contextmanager
def running(
    command: Sequence[str | Path], port: int, path: str = "/metrics", environment: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """A process, once it accepts connections; it is stopped at the end."""
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
    """Until the process accepts connections, looking every millisecond. Raises RuntimeError if it does not."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.001)
    raise RuntimeError(f"{process.args!r} does not listen on port {port}")


def free_port() -> int:
    """One that nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def compiled(name: str, folder: Path) -> Path:
    """A program of this folder's C files."""
    program = folder / name
    if not program.exists():
        flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
        subprocess.run(["gcc", *flags, "-o", program, SOURCES / f"{name}.c"], check=True)
    return program


def peer(path: str) -> Path:
    """A program that we are compared with. Raises RuntimeError if it is missing."""
    program = PEERS / path
    if not program.exists():
        raise RuntimeError(f"{program.relative_to(REPOSITORY)} is missing; make build/peers/.unpacked")
    return program


def exporter(port: int, *flags: str) -> list[str]:
    """The command that starts ours, as users start it."""
    return [sys.executable, "-m", "kvm_exporter", "serve", f"--web.listen-address=127.0.0.1:{port}", *flags]


def node_exporter(port: int) -> list[str | Path]:
    """The command that starts node_exporter with its cpu collector alone, and all the flags that the CPUs have."""
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
    """The command that starts a bare loop of asyncio and h11 around a file."""
    return [sys.executable, SOURCES / "bare_server.py", str(port), file]


def nginx(port: int, file: Path) -> list[str | Path]:
    """The command that starts nginx, in one process, around a file that is compressed already."""
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
    """A program on PATH, or where root has them."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
