"""Parse listen addresses and format them: TCP, Unix and vsock.

Source: the Prometheus exporter toolkit's flags (docs/web-configuration.md of prometheus/exporter-toolkit); vsock(7).
"""

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_PORT = 0xFFFF
VSOCK_SCHEME = "vsock://"
UNIX_SCHEME = "unix:"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host name or IP address, and a port. An empty host means all addresses, IPv4 and IPv6."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a Unix socket in the file system."""

    path: Path

    def __str__(self) -> str:
        return f"{UNIX_SCHEME}{self.path}"


@dataclass(frozen=True, slots=True)
class VsockAddress:
    """A vsock port of this guest, on any context identifier (CID). Its host connects to it."""

    port: int

    def __str__(self) -> str:
        return f"{VSOCK_SCHEME}:{self.port}"


Address = TcpAddress | UnixAddress | VsockAddress


def parse_address(text: str) -> Address:
    """Parse ``host:port``, ``[::1]:port``, ``:port``, ``unix:PATH`` or ``vsock://:port``. Raises ValueError."""
    if text.startswith(UNIX_SCHEME):
        return UnixAddress(_unix_path(text))
    if text.startswith(VSOCK_SCHEME):
        cid, colon, port = text.removeprefix(VSOCK_SCHEME).rpartition(":")
        if cid or not colon or not _is_number(port, socket.VMADDR_PORT_ANY - 1):
            raise ValueError(f"{text!r} is not a valid address; give only a port, such as vsock://:10401")
        return VsockAddress(int(port))
    if text.startswith("/"):
        raise ValueError(f"{text!r} is not a valid address; give the path of a socket as {UNIX_SCHEME}{text}")
    if "/" in text:
        raise ValueError(
            f"{text!r} is a URL or has a path; give host:port or :port, such as 127.0.0.1:10401, and the path with "
            "--web.telemetry-path"
        )
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} is not a valid address; put an IPv6 host in brackets, such as [::1]:10401")
    if not colon or not _is_number(port, MAX_PORT):
        raise ValueError(f"{text!r} is not a valid address; give host:port or :port, such as 127.0.0.1:10401")
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise ValueError(f"{text!r} is not a valid address: {host!r} is not a valid host name") from error
    return TcpAddress(host, int(port))


def address_of(listener: socket.socket) -> Address:
    """Return the address that a listening socket is bound to."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return UnixAddress(Path(name if isinstance(name, str) else name.decode("utf-8", "backslashreplace")))
    if listener.family == socket.AF_VSOCK:
        return VsockAddress(name[1])
    return TcpAddress(name[0], name[1])


def peer_name(family: int, address: Any) -> str:  # noqa: ANN401 - as accept() returns it, by family
    """Return the address of a peer, which accept() returned for a socket of a family, for a log line."""
    if family == socket.AF_UNIX:
        return "a local process"
    if family == socket.AF_VSOCK:
        return f"vsock://{address[0]}:{address[1]}"
    return str(TcpAddress(address[0], address[1]))


def peer_network(family: int, address: Any) -> str:  # noqa: ANN401 - as accept() returns it, by family
    """Return what tells a peer from others that must not suffer from it, by the address that accept() returned.

    That is an IPv4 address, the /64 of an IPv6 address, which one machine may use as a whole, or the CID of a vsock
    peer. Unix sockets have no address: all local processes are one peer.
    """
    if family == socket.AF_UNIX:
        return ""
    if family != socket.AF_INET6:
        return str(address[0])
    packed = socket.inet_pton(socket.AF_INET6, address[0].partition("%")[0])
    if packed.startswith(_MAPPED):  # an IPv4 peer of a listener for both families
        return socket.inet_ntop(socket.AF_INET, packed[len(_MAPPED) :])
    return f"{socket.inet_ntop(socket.AF_INET6, packed[:8] + bytes(8))}/64"


_MAPPED = bytes(10) + b"\xff\xff"
"""How an IPv6 address begins that stands for an IPv4 address (RFC 4291 section 2.5.5.2)."""


def _is_number(text: str, maximum: int) -> bool:
    return text.isascii() and text.isdecimal() and int(text) <= maximum


def _unix_path(text: str) -> Path:
    path = text.removeprefix(UNIX_SCHEME)
    if not path or "\0" in path:
        raise ValueError(
            f"{text!r} is not a valid address; give the path of a socket, such as unix:/run/kvm-exporter.sock"
        )
    return Path(path)
