"""kvm_exporter.web.listeners: sockets that are bound here or passed by systemd, and the errors if that fails."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvm_exporter.errors import ListenError
from kvm_exporter.web.addresses import TcpAddress, UnixAddress, address_of, parse_address
from kvm_exporter.web.listeners import adopt, close, listen

LOOPBACK6 = Path("/proc/net/if_inet6")

needs_ipv6 = pytest.mark.skipif(
    not (LOOPBACK6.exists() and "00000001 01" in LOOPBACK6.read_text()), reason="this machine has no IPv6"
)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of the loopback that another socket listens on."""
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
    """Each address of the host has a socket, which listens and is non-blocking."""
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
    """An empty host accepts IPv4 and IPv6, and an IPv6 host accepts IPv6 only."""
    listeners = listen([TcpAddress(host, 0)])
    try:
        port = listeners[0].getsockname()[1]
        assert {peer: connects(peer, port) for peer in reaches} == reaches
    finally:
        close(listeners)


def connects(host: str, port: int) -> bool:
    """Return whether a connection to the port succeeds."""
    try:
        socket.create_connection((host, port)).close()
    except ConnectionRefusedError:
        return False
    return True


def resolver(*found: tuple[int, str]) -> Callable[..., list[tuple[object, ...]]]:
    """Return a substitute of getaddrinfo() that returns these addresses for any name."""

    def resolve(_: str, port: int, **__: object) -> list[tuple[object, ...]]:
        return [(family, socket.SOCK_STREAM, 0, "", (host, port)) for family, host in found]

    return resolve


@needs_ipv6
def test_a_name_listens_on_all_that_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name listens on each of its addresses once, even if the name service repeats them."""
    both = (socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")
    monkeypatch.setattr(socket, "getaddrinfo", resolver(*both, *both))
    listeners = listen([TcpAddress("name", 0)])
    assert [listener.getsockname()[0] for listener in listeners] == ["::1", "127.0.0.1"]
    close(listeners)


@pytest.mark.parametrize("absent", ["192.0.2.1", "2001:db8::1"])
def test_an_address_of_a_name_that_the_machine_does_not_have(
    absent: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A name listens on those of its addresses that the machine has, and warns of others; without any it fails."""
    gone, here = (socket.AF_INET6 if ":" in absent else socket.AF_INET, absent), (socket.AF_INET, "127.0.0.1")
    for found in ((gone, here), (here, gone)):
        monkeypatch.setattr(socket, "getaddrinfo", resolver(*found))
        [listener] = listen([TcpAddress("name", 0)])
        assert listener.getsockname()[0] == "127.0.0.1"
        listener.close()
    assert [message.split(": ")[0] for message in caplog.messages] == [f"not listening on {absent}"] * 2
    monkeypatch.setattr(socket, "getaddrinfo", resolver(gone))
    with pytest.raises(ListenError, match=r"^cannot listen on name:0: .*; choose another with"):
        listen([TcpAddress("name", 0)])


def test_an_address_in_use(taken: int) -> None:
    """The error says that the address is in use, and what to do."""
    with pytest.raises(ListenError) as caught:
        listen([TcpAddress("127.0.0.1", taken)])
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{taken}: Address already in use; "
        "stop the program that uses it, or choose another with --web.listen-address"
    )


@pytest.mark.parametrize("address", ["192.0.2.1:9100", pytest.param("[::2]:9100", marks=needs_ipv6)])
def test_an_address_that_is_not_ours(address: str) -> None:
    """The error names the address and the reason."""
    with pytest.raises(ListenError) as caught:
        listen([parse_address(address)])
    assert str(caught.value) == (
        f"cannot listen on {address}: Cannot assign requested address; choose another with --web.listen-address"
    )


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (
            errno.EAFNOSUPPORT,
            "allow its family in the unit (RestrictAddressFamilies=AF_VSOCK for vsock), or load its kernel module, or ",
        ),
        (errno.EACCES, "give the user access, or let a .socket unit listen there (--web.systemd-socket), or "),
        (errno.EROFS, "let a .socket unit listen there (--web.systemd-socket), or "),
    ],
)
def test_what_a_sandbox_refuses(number: int, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which setting of the unit, or which other unit, lets it listen."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("kvm_exporter.web.listeners._listen", refuse)
    with pytest.raises(ListenError) as caught:
        listen([parse_address("vsock://:10401")])
    reason = f"{os.strerror(number)}; {remedy}choose another with --web.listen-address"
    assert str(caught.value) == f"cannot listen on vsock://:10401: {reason}"


def test_a_name_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the name and the name service's reason."""

    def resolve(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(ListenError) as caught:
        listen([TcpAddress("nobody", 1)])
    expected = "cannot listen on nobody:1: Name or service not known; choose another with --web.listen-address"
    assert str(caught.value) == expected


def test_all_addresses_or_none(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one address of a name cannot be bound, the sockets of the others are closed."""
    found = (socket.AF_INET, "127.0.0.2"), (socket.AF_INET, "127.0.0.1")
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", resolver(*found))
        with pytest.raises(ListenError):
            listen([TcpAddress("name", taken)])
    assert not connects("127.0.0.2", taken)


def test_without_ipv6_all_addresses_are_those_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a kernel without IPv6 an empty host listens on all IPv4 addresses."""
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
    """The socket file exists while the listener is open, and is removed when it is closed."""
    path = tmp_path / "kvm.sock"
    listeners = listen([UnixAddress(path)])
    assert [address_of(listener) for listener in listeners] == [UnixAddress(path)]
    assert path.is_socket()
    close(listeners)
    assert not path.exists()


def test_a_socket_that_was_left_is_replaced(tmp_path: Path) -> None:
    """A socket file that a killed process has left is replaced."""
    path = tmp_path / "kvm.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.is_socket()
    listeners = listen([UnixAddress(path)])
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
    close(listeners)


def test_a_socket_of_another_process_is_left_alone(tmp_path: Path) -> None:
    """If the file was removed, and another process listens on the same path now, closing does not remove its file."""
    path = tmp_path / "kvm.sock"
    first = listen([UnixAddress(path)])
    path.unlink()
    second = listen([UnixAddress(path)])
    close(first)
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(str(path))
    close(second)
    assert not path.exists()


def test_a_socket_that_is_listened_on_is_left_alone(tmp_path: Path) -> None:
    """A socket file that another process listens on is an error, and stays."""
    path = tmp_path / "kvm.sock"
    listeners = listen([UnixAddress(path)])
    with pytest.raises(ListenError) as caught:
        listen([UnixAddress(path)])
    assert str(caught.value) == (
        f"cannot listen on unix:{path}: Address already in use; "
        "stop the program that uses it, or choose another with --web.listen-address"
    )
    assert path.is_socket()
    close(listeners)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file", "the path is not that of a socket; choose another"),
        ("", "the path is not that of a socket; choose another"),
        ("nowhere/kvm.sock", "No such file or directory; choose another"),
        ("x" * 108, "AF_UNIX path too long; choose another"),
    ],
    ids=["file", "folder", "no folder", "too long"],
)
def test_where_no_socket_can_be(tmp_path: Path, name: str, reason: str) -> None:
    """The error names the path, and an existing file stays."""
    (tmp_path / "file").write_text("precious")
    path = tmp_path / name
    with pytest.raises(ListenError) as caught:
        listen([UnixAddress(path)])
    assert str(caught.value) == f"cannot listen on unix:{path}: {reason} with --web.listen-address"
    assert (tmp_path / "file").read_text() == "precious"


# Sockets passed by systemd.


def test_sockets_that_were_handed_over() -> None:
    """Passed sockets are listening already, and become non-blocking."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        adopted = adopt([os.dup(bound.fileno())])
        assert [address_of(listener) for listener in adopted] == [address_of(bound)]
        assert not adopted[0].getblocking()
        close(adopted)


def test_a_name_that_was_handed_over_stays(tmp_path: Path) -> None:
    """The file of a passed socket is not removed: the service manager still listens on it for the next process."""
    path = tmp_path / "kvm.sock"
    with socket.socket(socket.AF_UNIX) as bound, socket.socket(socket.AF_UNIX) as peer:
        bound.bind(str(path))
        bound.listen()
        close(adopt([os.dup(bound.fileno())]))
        assert path.is_socket()
        peer.connect(str(path))


def test_nothing_was_handed_over() -> None:
    """Without a passed socket the error says what to do."""
    with pytest.raises(ListenError) as caught:
        adopt([])
    expected = "systemd passed no socket; start the .socket unit, or remove --web.systemd-socket"
    assert str(caught.value) == expected


def test_a_descriptor_that_is_no_socket() -> None:
    """The error names a passed descriptor that is not a socket."""
    read, write = os.pipe()
    try:
        with pytest.raises(ListenError) as caught:
            adopt([read])
        problem = "is not a socket: Socket operation on non-socket"
        assert str(caught.value) == f"descriptor {read} {problem}; see ListenStream="
    finally:
        os.close(read)
        os.close(write)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["not listening", "datagrams"])
def test_a_socket_that_takes_no_connections(kind: socket.SocketKind) -> None:
    """A socket that does not listen, as with Accept=yes or ListenDatagram=, is an error."""
    with socket.socket(socket.AF_INET, kind) as given:
        descriptor = os.dup(given.fileno())
        with pytest.raises(ListenError) as caught:
            adopt([descriptor])
    message = f"descriptor {descriptor} does not listen for connections; see ListenStream=, Accept=no"
    assert str(caught.value) == message
