"""Listening sockets: bound here, or passed by the service manager."""

import contextlib
import errno
import logging
import socket
import stat
from collections.abc import Iterable
from pathlib import Path

from kvm_exporter.errors import ListenError
from kvm_exporter.web.addresses import Address, TcpAddress, UnixAddress, VsockAddress

logger = logging.getLogger(__name__)

BACKLOG = 4096
"""Connections that may wait in the kernel; further ones try again after a second. The kernel's own limit by default."""

SocketAddress = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes] | tuple[int, int] | str
"""A socket address as bind() takes it."""


def listen(addresses: Iterable[Address]) -> list[socket.socket]:
    """Return non-blocking listening sockets for addresses. A host name may resolve to several sockets.

    Of several addresses of a name, those that the machine does not have are left out with a warning: /etc/hosts may
    have ::1 for localhost where IPv6 is off. Raises ListenError, after closing the sockets that were already opened.
    """
    sockets: list[socket.socket] = []
    for address in addresses:
        try:
            sockets += _listen_on_each(_socket_addresses(address))
        except OSError as error:
            close(sockets)
            raise ListenError(f"cannot listen on {address}: {_reason(error)} with --web.listen-address") from error
    return sockets


def adopt(descriptors: Iterable[int]) -> list[socket.socket]:
    """Return the sockets that the service manager bound, from their file descriptors (sd_listen_fds(3)).

    Raises ListenError without a descriptor, or if one is not a listening stream socket.
    """
    sockets: list[socket.socket] = []
    for descriptor in descriptors:
        try:
            adopted = socket.socket(fileno=descriptor)
            listening = adopted.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            close(sockets)
            raise ListenError(
                f"descriptor {descriptor} is not a socket: {error.strerror}; see ListenStream="
            ) from error
        sockets.append(adopted)
        if not listening or adopted.type != socket.SOCK_STREAM:
            close(sockets)
            raise ListenError(f"descriptor {descriptor} does not listen for connections; see ListenStream=, Accept=no")
        adopted.setblocking(False)  # noqa: FBT003 - the parameter has no name
    if not sockets:
        raise ListenError("systemd passed no socket; start the .socket unit, or remove --web.systemd-socket")
    return sockets


def close(listeners: Iterable[socket.socket]) -> None:
    """Close listening sockets."""
    for listener in listeners:
        listener.close()


_REMEDIES = {
    errno.EADDRINUSE: "stop the program that uses it, or ",
    errno.EAFNOSUPPORT: (
        "allow its family in the unit (RestrictAddressFamilies=AF_VSOCK for vsock), or load its kernel module, or "
    ),
    # Of a TCP port below net.ipv4.ip_unprivileged_port_start, 1,024 by default, or of a directory.
    errno.EACCES: "give the user access, or let a .socket unit listen there (--web.systemd-socket), or ",
    errno.EROFS: "let a .socket unit listen there (--web.systemd-socket), or ",
}
"""What else can be done, by errno of socket(2) and bind(2)."""


class _OwnSocket(socket.socket):
    """A socket bound by this process. close() removes its file if it is a Unix socket, and not one of another process.

    The files of sockets passed by the service manager are left to the service manager.
    """

    #: The device and inode of the file: while the socket is open, no other file has them. None without a file.
    file: tuple[int, int] | None = None

    def close(self) -> None:
        if self.file is not None and self.fileno() >= 0:
            path = str(self.getsockname())
            with contextlib.suppress(OSError):
                if _identity(path) == self.file:
                    Path(path).unlink()
        super().close()


def _identity(path: str) -> tuple[int, int]:
    status = Path(path).lstat()
    return status.st_dev, status.st_ino


def _reason(error: OSError) -> str:
    return f"{error.strerror or error}; {_REMEDIES.get(error.errno or 0, '')}choose another"


def _socket_addresses(address: Address) -> list[tuple[int, SocketAddress]]:
    if isinstance(address, UnixAddress):
        return [(socket.AF_UNIX, str(address.path))]
    if isinstance(address, VsockAddress):
        return [(socket.AF_VSOCK, (socket.VMADDR_CID_ANY, address.port))]
    return _resolve(address)


def _resolve(address: TcpAddress) -> list[tuple[int, SocketAddress]]:
    if not address.host:
        # One socket for both families, unless the machine has no IPv6.
        if _has_ipv6():
            return [(socket.AF_INET6, ("::", address.port))]
        return [(socket.AF_INET, ("0.0.0.0", address.port))]  # noqa: S104 - an empty host means all addresses
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # Without duplicates, in the resolver's order.
    return list(dict.fromkeys((int(family), socket_address) for family, _, _, _, socket_address in found))


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _listen_on_each(addresses: Iterable[tuple[int, SocketAddress]]) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    absent: dict[str, OSError] = {}
    for family, socket_address in addresses:
        try:
            sockets.append(_listen(family, socket_address))
        except OSError as error:
            if error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}:
                close(sockets)
                raise
            absent[str(socket_address[0])] = error
    if not sockets:
        raise next(iter(absent.values()))
    for host, why in absent.items():
        logger.warning("not listening on %s: %s", host, why.strerror)
    return sockets


def _listen(family: int, socket_address: SocketAddress) -> socket.socket:
    listener = _OwnSocket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_UNIX:
            _remove_stale(str(socket_address))
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and isinstance(socket_address, tuple):
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(socket_address[0] != "::"))
        listener.bind(socket_address)
        if family == socket.AF_UNIX:
            listener.file = _identity(str(socket_address))
        listener.listen(BACKLOG)
        listener.setblocking(False)  # noqa: FBT003 - the parameter has no name
    except OSError:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """Remove the file of a Unix socket that no process listens on.

    Raises OSError if a process still does, or if the path is not that of a socket.
    """
    with contextlib.suppress(FileNotFoundError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            raise OSError(errno.EEXIST, "the path is not that of a socket")
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
        else:
            raise OSError(errno.EADDRINUSE, "Address already in use")
