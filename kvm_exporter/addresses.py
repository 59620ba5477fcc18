"""Where to listen: from the text of --web.listen-address to sockets that listen.

Source: the Prometheus exporter toolkit's flags (docs/web-configuration.md of prometheus/exporter-toolkit).
"""

import errno
import socket
from dataclasses import dataclass

BACKLOG = 1024
MAX_PORT = 0xFFFF

Place = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
"""A socket address as getaddrinfo() gives it."""


class AddressError(Exception):
    """An address that is none, or on which nobody can listen; the message names it."""


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and a port; an empty host is all addresses of both families."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> TcpAddress:
    """``host:port``, ``[::1]:port`` or ``:port``. Raises AddressError."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise AddressError(f"{text!r} is not an address: write an IPv6 host in brackets, such as [::1]:10401")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > MAX_PORT:
        raise AddressError(f"{text!r} is not an address: give host:port or :port, such as 127.0.0.1:10401")
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise AddressError(f"{text!r} is not an address: {host!r} cannot be the name of a host") from error
    return TcpAddress(host, int(port))


def listen(address: TcpAddress) -> list[socket.socket]:
    """Sockets that listen, one per address that the host resolves to. Raises AddressError, and then leaves none."""
    sockets: list[socket.socket] = []
    try:
        for family, place in _resolve(address):
            sockets.append(_listen(family, place))
    except OSError as error:
        for opened in sockets:
            opened.close()
        reason = error.strerror or str(error)
        hint = (
            "stop the program that has it, or choose another" if error.errno == errno.EADDRINUSE else "choose another"
        )
        raise AddressError(f"cannot listen on {address}: {reason}; {hint} with --web.listen-address") from error
    return sockets


def _resolve(address: TcpAddress) -> list[tuple[int, Place]]:
    if not address.host:
        # One socket for both families, unless the machine has no IPv6.
        if _has_ipv6():
            return [(socket.AF_INET6, ("::", address.port))]
        return [(socket.AF_INET, ("0.0.0.0", address.port))]  # noqa: S104 - an empty host means all addresses
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # Once each, in the resolver's order.
    return list(dict.fromkeys((int(family), place) for family, _, _, _, place in found))


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _listen(family: int, place: Place) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(place[0] != "::"))
        listener.bind(place)
        listener.listen(BACKLOG)
        listener.setblocking(False)  # noqa: FBT003 - the parameter has no name
    except OSError:
        listener.close()
        raise
    return listener
