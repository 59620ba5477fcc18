"""kvm_exporter.web.addresses: the addresses to listen on, the errors of invalid ones, and how peers are told apart."""

import re
import socket
from pathlib import Path

import pytest

from kvm_exporter.web.addresses import (
    Address,
    TcpAddress,
    UnixAddress,
    VsockAddress,
    parse_address,
    peer_network,
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
        ("unix:/run/kvm.sock", UnixAddress(Path("/run/kvm.sock"))),
        ("unix:kvm.sock", UnixAddress(Path("kvm.sock"))),
        ("vsock://:10401", VsockAddress(10401)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    """An address is a host and a port, a path, or a port of vsock; formatting it returns the same text."""
    assert parse_address(text) == address
    assert str(address) == text


HINT = "give host:port or :port, such as 127.0.0.1:10401"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"'' is not a valid address; {HINT}"),
        ("10401", f"'10401' is not a valid address; {HINT}"),
        ("localhost", f"'localhost' is not a valid address; {HINT}"),
        ("localhost:", f"'localhost:' is not a valid address; {HINT}"),
        ("localhost:http", f"'localhost:http' is not a valid address; {HINT}"),
        ("localhost:-1", f"'localhost:-1' is not a valid address; {HINT}"),
        ("localhost:65536", f"'localhost:65536' is not a valid address; {HINT}"),
        ("localhost:\u0661", f"'localhost:\u0661' is not a valid address; {HINT}"),
        ("localhost:+1", f"'localhost:+1' is not a valid address; {HINT}"),
        ("[::1]", "'[::1]' is not a valid address; put an IPv6 host in brackets, such as [::1]:10401"),
        ("::1", "'::1' is not a valid address; put an IPv6 host in brackets, such as [::1]:10401"),
        ("::1:10401", "'::1:10401' is not a valid address; put an IPv6 host in brackets, such as [::1]:10401"),
        ("unix:", "'unix:' is not a valid address; give the path of a socket, such as unix:/run/kvm-exporter.sock"),
        ("vsock://10401", "'vsock://10401' is not a valid address; give only a port, such as vsock://:10401"),
        ("vsock://2:10401", "'vsock://2:10401' is not a valid address; give only a port, such as vsock://:10401"),
        (
            "vsock://:4294967295",
            "'vsock://:4294967295' is not a valid address; give only a port, such as vsock://:10401",
        ),
        ("a..b:1", "'a..b:1' is not a valid address: 'a..b' is not a valid host name"),
        (f"{'a' * 64}:1", f"'{'a' * 64}:1' is not a valid address: '{'a' * 64}' is not a valid host name"),
    ],
)
def test_what_is_no_address(text: str, message: str) -> None:
    """The error names the address and says how to write one."""
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_address(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("family", "address", "network"),
    [
        (socket.AF_INET, ("192.0.2.1", 4), "192.0.2.1"),
        (socket.AF_INET6, ("::ffff:192.0.2.1", 4, 0, 0), "192.0.2.1"),
        (socket.AF_INET6, ("2001:db8:1:2:3:4:5:6", 4, 0, 0), "2001:db8:1:2::/64"),
        (socket.AF_INET6, ("2001:db8:1:2::9", 5, 0, 0), "2001:db8:1:2::/64"),
        (socket.AF_INET6, ("fe80::1%eth0", 4, 0, 2), "fe80::/64"),
        (socket.AF_VSOCK, (2, 4), "2"),
        (socket.AF_UNIX, "", ""),
        (socket.AF_UNIX, b"\0bound", ""),
    ],
)
def test_peers_that_are_told_apart(family: int, address: object, network: str) -> None:
    """By their address without the port, in IPv6 by its /64; local processes are one peer, whatever they bind."""
    assert peer_network(family, address) == network
