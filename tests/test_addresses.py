"""Where to listen: what is an address, and what happens if nobody can listen there."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvm_exporter.addresses import AddressError, TcpAddress, listen, parse_address

LOOPBACK6 = Path("/proc/net/if_inet6")

needs_ipv6 = pytest.mark.skipif(
    not (LOOPBACK6.exists() and "00000001 01" in LOOPBACK6.read_text()), reason="this machine has no IPv6"
)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":10401", TcpAddress("", 10401)),
        ("127.0.0.1:10401", TcpAddress("127.0.0.1", 10401)),
        ("localhost:0", TcpAddress("localhost", 0)),
        ("[::1]:65535", TcpAddress("::1", 65535)),
        ("[::]:10401", TcpAddress("::", 10401)),
        ("[fe80::1%lo]:1", TcpAddress("fe80::1%lo", 1)),
        ("exporter.example.:80", TcpAddress("exporter.example.", 80)),
        ("b\xfccher.example:80", TcpAddress("b\xfccher.example", 80)),
    ],
)
def test_addresses(text: str, address: TcpAddress) -> None:
    """A host, which may be left out or in brackets, and a port; written again it is what was read."""
    assert parse_address(text) == address
    assert str(address) == text


HINT = "give host:port or :port, such as 127.0.0.1:10401"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"'' is not an address: {HINT}"),
        ("10401", f"'10401' is not an address: {HINT}"),
        ("localhost", f"'localhost' is not an address: {HINT}"),
        ("localhost:", f"'localhost:' is not an address: {HINT}"),
        ("localhost:http", f"'localhost:http' is not an address: {HINT}"),
        ("localhost:-1", f"'localhost:-1' is not an address: {HINT}"),
        ("localhost:65536", f"'localhost:65536' is not an address: {HINT}"),
        ("localhost:\u0661", f"'localhost:\u0661' is not an address: {HINT}"),
        ("localhost:+1", f"'localhost:+1' is not an address: {HINT}"),
        ("[::1]", "'[::1]' is not an address: write an IPv6 host in brackets, such as [::1]:10401"),
        ("::1", "'::1' is not an address: write an IPv6 host in brackets, such as [::1]:10401"),
        ("::1:10401", "'::1:10401' is not an address: write an IPv6 host in brackets, such as [::1]:10401"),
        ("a..b:1", "'a..b:1' is not an address: 'a..b' cannot be the name of a host"),
        (f"{'a' * 64}:1", f"'{'a' * 64}:1' is not an address: '{'a' * 64}' cannot be the name of a host"),
    ],
)
def test_what_is_no_address(text: str, message: str) -> None:
    """The message names it and says how to write one."""
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert str(caught.value) == message


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of the loopback that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def close(listeners: list[socket.socket]) -> None:
    """Close all."""
    for listener in listeners:
        listener.close()


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
    listeners = listen(TcpAddress(host, 0))
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
    listeners = listen(TcpAddress(host, 0))
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
    listeners = listen(TcpAddress("name", 0))
    assert [listener.getsockname()[0] for listener in listeners] == ["::1", "127.0.0.1"]
    close(listeners)


def test_an_address_in_use(taken: int) -> None:
    """The message says so, and what can be done."""
    with pytest.raises(AddressError) as caught:
        listen(TcpAddress("127.0.0.1", taken))
    assert str(caught.value) == (
        f"cannot listen on 127.0.0.1:{taken}: Address already in use; "
        "stop the program that has it, or choose another with --web.listen-address"
    )


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            TcpAddress("192.0.2.1", 1),
            "cannot listen on 192.0.2.1:1: Cannot assign requested address; choose another with --web.listen-address",
        ),
        pytest.param(
            TcpAddress("::2", 1),
            "cannot listen on [::2]:1: Cannot assign requested address; choose another with --web.listen-address",
            marks=needs_ipv6,
        ),
    ],
)
def test_an_address_that_is_not_ours(address: TcpAddress, message: str) -> None:
    """The message names the address and the reason."""
    with pytest.raises(AddressError) as caught:
        listen(address)
    assert str(caught.value) == message


def test_a_name_that_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names it, and says what the name service says."""

    def resolve(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(AddressError) as caught:
        listen(TcpAddress("nobody", 1))
    expected = "cannot listen on nobody:1: Name or service not known; choose another with --web.listen-address"
    assert str(caught.value) == expected


def test_all_addresses_or_none(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one of a name's addresses cannot be had, the others are given back."""
    found = (socket.AF_INET, "127.0.0.2"), (socket.AF_INET, "127.0.0.1")
    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", resolver(*found))
        with pytest.raises(AddressError):
            listen(TcpAddress("name", taken))
    assert not connects("127.0.0.2", taken)


def test_without_ipv6_all_addresses_are_those_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose kernel knows no IPv6 listens all the same."""
    real = socket.socket

    def refuse(family: int = -1, kind: int = -1) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return real(family, kind)

    monkeypatch.setattr(socket, "socket", refuse)
    [listener] = listen(TcpAddress("", 0))
    with listener:
        assert (listener.family, listener.getsockname()[0]) == (socket.AF_INET, "0.0.0.0")  # noqa: S104 - that is meant
