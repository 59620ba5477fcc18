"""kvm_exporter.web.handshake: what a peer, the counters and the log are told when a TLS connection is refused."""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import pytest

from kvm_exporter.web.http import Request, Response, text_response
from kvm_exporter.web.traffic import QUIET_SECONDS, Traffic
from lab.certificates import Certificates
from lab.patience import PATIENCE_SECONDS
from lab.secure import MUTUAL, TLS
from tests.support.rooms.certificates import certificates
from tests.support.rooms.loop import in_loop
from tests.support.rooms.secured import secured
from tests.support.rooms.wire import GET, Peer

NAMES = MUTUAL + "  client_allowed_sans: [elsewhere]\n"


async def yes(_: Request) -> Response:
    """Answer 200."""
    return text_response(HTTPStatus.OK, "yes")


def old(context: ssl.SSLContext, _: Certificates) -> None:
    """Speak no newer version than TLS 1.2."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2


def other_suite(context: ssl.SSLContext, _: Certificates) -> None:
    """Offer no suite that the server has."""
    old(context, _)
    context.set_ciphers("AES256-SHA256")


def unknown(context: ssl.SSLContext, made: Certificates) -> None:
    """Present a certificate of an authority that the server does not know."""
    context.load_cert_chain(made / "unknown.crt", made / "unknown.key")


def known(context: ssl.SSLContext, made: Certificates) -> None:
    """Present a good certificate."""
    context.load_cert_chain(made / "client.crt", made / "client.key")


def nothing(_: ssl.SSLContext, __: Certificates) -> None:
    """Present no certificate."""


class Refused(NamedTuple):
    """A client that is refused: the server's configuration, what the client does, and what it and the log are told."""

    text: str
    prepare: Callable[[ssl.SSLContext, Certificates], None]
    alert: str
    reason: str
    words: str


REFUSED = {
    "version": Refused(
        TLS + "  min_version: TLS13\n", old, "TLSV1_ALERT_PROTOCOL_VERSION", "handshake", "unsupported protocol"
    ),
    "suite": Refused(TLS, other_suite, "SSLV3_ALERT_HANDSHAKE_FAILURE", "handshake", "no shared cipher"),
    "authority": Refused(
        MUTUAL, unknown, "TLSV1_ALERT_UNKNOWN_CA", "client_certificate", "unable to get local issuer certificate"
    ),
    "certificate": Refused(
        MUTUAL, nothing, "TLSV13_ALERT_CERTIFICATE_REQUIRED", "client_certificate", "did not return a certificate"
    ),
    "name": Refused(NAMES, known, "HTTP/1.1 403 Forbidden", "client_certificate", "no name is in client_allowed_sans"),
}


def told(port: int, context: ssl.SSLContext) -> str:
    """Return the alert that a client receives, or the first line of the response to its request."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as peer:
        try:
            with context.wrap_socket(peer, server_hostname="localhost") as wrapped:
                wrapped.sendall(GET)
                return wrapped.recv(1 << 16).partition(b"\r\n")[0].decode()
        except ssl.SSLError as error:
            return error.reason if "ALERT" in error.reason else ""
        except ConnectionError:
            pass
    return ""


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
@in_loop
async def test_a_refused_peer_is_told_why(refused: Refused, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The peer receives OpenSSL's alert, the drop is counted, and the log has the peer and the reason.

    Names are compared after the handshake, when OpenSSL offers no alert any more: the peer gets a 403.
    """
    caplog.set_level(logging.INFO)
    made = certificates(tmp_path)
    context = ssl.create_default_context(cafile=str(made / "ca.crt"))
    refused.prepare(context, made)
    async with secured(tmp_path, refused.text, yes) as (server, port):
        assert await asyncio.to_thread(told, port, context) == refused.alert
    assert {name: count for name, count in server.traffic.dropped.items() if count} == {refused.reason: 1}
    [line] = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
    assert line.startswith("dropped 1 connection(s), the last of 127.0.0.1:")
    assert f"({refused.reason}): " in line
    assert refused.words in line


@pytest.mark.parametrize("data", [GET, b"SSH-2.0-OpenSSH_9.2\r\n"], ids=["HTTP", "SSH"])
@in_loop
async def test_a_peer_without_tls_is_told_so(data: bytes, tmp_path: Path) -> None:
    """A peer that sends text to the port of HTTPS gets a 400 in text at once."""
    certificates(tmp_path)
    async with secured(tmp_path, TLS, yes) as (_, port):
        peer = Peer(*await asyncio.open_connection("127.0.0.1", port))
        await peer.send(data)
        reply = await peer.reply()
        assert (reply.status, reply.body) == (400, b"This port is for HTTPS: use https://.\n")
        assert await peer.rest() == b""
        await peer.close()


def test_a_flood_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """At level info there is one line a minute, with the number of all since the one before."""
    caplog.set_level(logging.INFO)
    times = [0, 1, 2, QUIET_SECONDS - 1, QUIET_SECONDS, QUIET_SECONDS + 1]
    clock = iter(sorted(times * 2))
    traffic = Traffic(clock.__next__)
    for _ in times:
        traffic.drop("deadline", "192.0.2.1:4", "it sent nothing")
        traffic.respond(HTTPStatus.OK, "192.0.2.1:4")
        traffic.respond(HTTPStatus.UNAUTHORIZED, "192.0.2.2:5")
    assert (traffic.dropped["deadline"], traffic.responses[200], traffic.responses[401]) == (6, 6, 6)
    lines = (
        "dropped {} connection(s), the last of 192.0.2.1:4 (deadline): it sent nothing",
        "refused {} request(s) without a valid login, the last of 192.0.2.2:5",
    )
    assert [record.getMessage() for record in caplog.records] == [
        line.format(count) for count in (1, 4) for line in lines
    ]
