"""Sockets that listen: bound here or handed over, and what is said where that cannot be."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvm_exporter.web.addresses import AddressError, TcpAddress, UnixAddress, address_of, parse_address
from kvm_exporter.web.listeners import adopt, close, listen

LOOPBACK6 = Path("/proc/net/if_inet6")

needs_ipv6 = pytest.mark.skipif(
    not (LOOPBACK6.exists() and "00000001 01" in LOOPBACK6.read_text()), reason="this machine has no IPv6"
)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of the loopback that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


@pytest.mark.parametrize(
    ("host", "families"),
    [
        ("127.0.0.1", [socket.AF_INET]),
        pytest.param("::1", [socket.AF_INET6], marks=needs_ipv6),
        pytest.param("", [socket.AF_INET6], marks=needs_ipv6),
        pytest.param("::", [socket.AF_INET6], marks=needs_ipv6),
    ],
)
def test_listening(host: str, families: list[int]) -> None:
    """One socket for each address of the host, which listens and does not block."""
    listeners = listen([TcpAddress(host, 0)])
    try:
        assert [listener.family for listener in listeners] == families
        for listener in listeners:
            assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            assert not listener.getblocking()
    finally:
        close(listeners)


@needs_ipv6
@pytest.mark.parametrize(
    ("host", "reaches"),
    [("", {"127.0.0.1": True, "::1": True}), ("::1", {"127.0.0.1": False, "::1": True})],
    ids=["all", "one"],
)
def test_both_families_by_one_socket(host: str, reaches: dict[str, bool]) -> None:
    """An empty host takes IPv4 and IPv6, an IPv6 host that alone."""
    listeners = listen([TcpAddress(host, 0)])
    try:
        port = listeners[0].getsockname()[1]
        assert {peer: connects(peer, port) for peer in reaches} == reaches
    finally:
        close(listeners)


def connects(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((host, port)).close()
    except ConnectionRefusedError:
        return False
    return True


def resolver(*found: tuple[int, str]) -> Callable[..., list[tuple[object, ...]]]:
    """A name service that knows one name."""

    def resolve(_: str, port: int, **__: object) -> list[tuple[object, ...]]:
        return [(family, socket.SOCK_STREAM, 0, "", (host, port)) for family, host in found]

    return resolve


@needs_ipv6
def test_a_name_listens_on_all_that_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host's name may have addresses of both families, and name services may repeat themselves."""
    both = (socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")
    monkeypatch.setattr(socket, "getaddrinfo", resolver(*both, *both))
    listeners = listen([TcpAddress("name", 0)])
    assert [listener.getsockname()[0] for listener in listeners] == ["::1", "127.0.0.1"]
    close(listeners)


def test_an_address_in_use(taken: int) -> None:
    """The message says so, and what can be done."""
    with pytest.raises(AddressError) as caught:
        listen([TcpAddress("127.0.0.1", taken)])
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{taken}: Address already in use; "
        "stop the program that has it, or choose another with --web.listen-address"
    )


@pytest.mark.parametrize("address", ["192.0.2.1:9100", pytest.param("[::2]:9100", marks=needs_ipv6)])
def test_an_address_that_is_not_ours(address: str) -> None:
    """The message names the address and the reason."""
    with pytest.raises(AddressError) as caught:
        listen([parse_address(address)])
    assert str(caught.value) == (
        f"cannot listen on {address}: Cannot assign requested address; choose another with --web.listen-address"
    )


def test_a_name_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names it, and says what the name service says."""

    def resolve(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(AddressError) as caught:
        listen([TcpAddress("nobody", 1)])
    expected = "cannot listen on nobody:1: Name or service not known; choose another with --web.listen-address"
    assert str(caught.value) == expected


def test_all_addresses_or_none(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one of a name's addresses cannot be had, the others are given back."""
    found = (socket.AF_INET, "127.0.0.2"), (socket.AF_INET, "127.0.0.1")
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", resolver(*found))
        with pytest.raises(AddressError):
            listen([TcpAddress("name", taken)])
    assert not connects("127.0.0.2", taken)


def test_without_ipv6_all_addresses_are_those_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose kernel knows no IPv6 listens all the same."""
    real = socket.socket

    def refuse(family: int = -1, kind: int = -1) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return real(family, kind)

    monkeypatch.setattr(socket, "socket", refuse)
    [listener] = listen([TcpAddress("", 0)])
    with listener:
        assert (listener.family, listener.getsockname()[0]) == (socket.AF_INET, "0.0.0.0")  # noqa: S104 - that is meant


# Sockets in the file system.


def test_a_socket_in_the_file_system(tmp_path: Path) -> None:
    """It is there while somebody listens, and taken away with the listener."""
    path = tmp_path / "kvm.sock"
    listeners = listen([UnixAddress(path)])
    assert [address_of(listener) for listener in listeners] == [UnixAddress(path)]
    assert path.is_socket()
    close(listeners)
    assert not path.exists()


def test_a_socket_that_was_left_is_replaced(tmp_path: Path) -> None:
    """A process that was killed leaves its socket; nobody listens on it."""
    path = tmp_path / "kvm.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.is_socket()
    listeners = listen([UnixAddress(path)])
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
    close(listeners)


def test_a_socket_that_is_listened_on_is_left_alone(tmp_path: Path) -> None:
    """Two do not share one."""
    path = tmp_path / "kvm.sock"
    listeners = listen([UnixAddress(path)])
    with pytest.raises(AddressError) as caught:
        listen([UnixAddress(path)])
    assert str(caught.value) == (
        f"cannot listen on unix:{path}: Address already in use; "
        "stop the program that has it, or choose another with --web.listen-address"
    )
    assert path.is_socket()
    close(listeners)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file", "Address already in use; stop the program that has it, or choose another"),
        ("nowhere/kvm.sock", "No such file or directory; choose another"),
        ("x" * 108, "AF_UNIX path too long; choose another"),
    ],
    ids=["file", "no folder", "too long"],
)
def test_where_no_socket_can_be(tmp_path: Path, name: str, reason: str) -> None:
    """The message names the path, and what is there stays."""
    (tmp_path / "file").write_text("precious")
    path = tmp_path / name
    with pytest.raises(AddressError) as caught:
        listen([UnixAddress(path)])
    assert str(caught.value) == f"cannot listen on unix:{path}: {reason} with --web.listen-address"
    assert (tmp_path / "file").read_text() == "precious"


# Sockets that were handed over.


def test_sockets_that_were_handed_over() -> None:
    """They listen already; from now on they do not block."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        adopted = adopt([os.dup(bound.fileno())])
        assert [address_of(listener) for listener in adopted] == [address_of(bound)]
        assert not adopted[0].getblocking()
        close(adopted)


def test_a_name_that_was_handed_over_stays(tmp_path: Path) -> None:
    """It is the service manager's, who still listens there, and hands the socket to the next process."""
    path = tmp_path / "kvm.sock"
    with socket.socket(socket.AF_UNIX) as bound, socket.socket(socket.AF_UNIX) as peer:
        bound.bind(str(path))
        bound.listen()
        close(adopt([os.dup(bound.fileno())]))
        assert path.is_socket()
        peer.connect(str(path))


def test_nothing_was_handed_over() -> None:
    """The message says what to do."""
    with pytest.raises(AddressError) as caught:
        adopt([])
    expected = "no socket was handed over; start the .socket unit, or leave --web.systemd-socket out"
    assert str(caught.value) == expected


def test_a_descriptor_that_is_no_socket() -> None:
    """The message names it."""
    read, write = os.pipe()
    try:
        with pytest.raises(AddressError) as caught:
            adopt([read])
        assert str(caught.value) == f"descriptor {read} is no socket: Socket operation on non-socket; see ListenStream="
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["not listening", "datagrams"])
def test_a_socket_that_takes_no_connections(kind: socket.SocketKind) -> None:
    """Such as one of Accept=yes, or of ListenDatagram=."""
    with socket.socket(socket.AF_INET, kind) as given:
        descriptor = os.dup(given.fileno())
        with pytest.raises(AddressError) as caught:
            adopt([descriptor])
    message = f"descriptor {descriptor} does not listen for connections; see ListenStream=, Accept=no"
    assert str(caught.value) == message
