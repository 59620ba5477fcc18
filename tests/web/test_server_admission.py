"""kvm_exporter.web.server with a guard: who may connect changes, connections end; headers of errors."""

import asyncio
import ssl
from http import HTTPStatus
from pathlib import Path

import pytest

from kvm_exporter.web.http import Request, Response, text_response
from lab.certificates import Certificates
from lab.secure import MUTUAL, TLS, USERS, basic, web_config
from tests.support.rooms.certificates import certificates
from tests.support.rooms.loop import in_loop
from tests.support.rooms.secured import client, secured
from tests.support.rooms.wire import GET

HEADERS = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n"


async def yes(_: Request) -> Response:
    """Answer 200."""
    return text_response(HTTPStatus.OK, "yes")


async def fail(_: Request) -> Response:
    """Fail, as a handler with a bug does."""
    raise ZeroDivisionError


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    """A server, a client, and two authorities."""
    return certificates(tmp_path)


def known(made: Certificates) -> ssl.SSLContext:
    """A client with a good certificate."""
    context = ssl.create_default_context(cafile=str(made / "ca.crt"))
    context.load_cert_chain(made / "client.crt", made / "client.key")
    return context


@pytest.mark.parametrize(
    ("text", "status"), [(HEADERS, 500), (HEADERS + USERS, 401), (HEADERS, 400)], ids=["failure", "login", "request"]
)
@in_loop
async def test_configured_headers_are_on_every_error(tmp_path: Path, text: str, status: int) -> None:
    """Of a handler that fails, of a login that is refused, and of a malformed request; each is counted once."""
    async with secured(tmp_path, text, fail) as (server, port), client(port, None) as peer:
        await peer.send(GET if status != 400 else b"nonsense\r\n\r\n")
        reply = await peer.reply()
    assert (reply.status, reply.headers.get("x-frame-options")) == (status, "deny")
    assert {code: count for code, count in server.traffic.responses.items() if count} == {status: 1}


CHANGES = {
    "authority": (MUTUAL, MUTUAL, "stranger.crt"),
    "names": (MUTUAL, f"{MUTUAL}  client_allowed_sans: [elsewhere]\n", "ca.crt"),
    "certificates": (TLS, MUTUAL, "ca.crt"),
    "TLS": ("{}", TLS, "ca.crt"),
}
"""A web configuration, another one, and the authority of clients that replaces ca.crt then."""


def change(made: Certificates, text: str, authority: str) -> None:
    """Replace the authority of clients and the web configuration."""
    (made / "new").write_bytes((made / authority).read_bytes())
    (made / "new").replace(made / "ca.crt")
    web_config(made.folder, text)


@pytest.mark.parametrize("reloaded", [True, False], ids=["reload", "request"])
@pytest.mark.parametrize(("before", "after", "authority"), CHANGES.values(), ids=CHANGES)
@in_loop
async def test_idle_connections_end_when_who_may_connect_changes(
    made: Certificates, before: str, after: str, authority: str, *, reloaded: bool
) -> None:
    """At a reload, and at the next request without one; a request on such a connection is not answered any more."""
    context = known(made) if before != "{}" else None
    async with (
        secured(made.folder, before, yes) as (server, port),
        client(port, context) as idle,
        client(port, context) as asking,
    ):
        for peer in (idle, asking):
            await peer.send(GET)
            assert (await peer.reply()).status == 200
        change(made, after, authority)
        if reloaded:
            server.refresh()
        else:
            await asking.send(GET)
        assert [await peer.rest() for peer in (idle, asking)] == [b"", b""]
        assert server.traffic.responses[200] == 2


@in_loop
async def test_a_request_in_progress_is_answered(made: Certificates) -> None:
    """It was let in before; its response says that the connection ends."""
    asked, go = asyncio.Event(), asyncio.Event()

    async def later(request: Request) -> Response:
        asked.set()
        await go.wait()
        return await yes(request)

    async with secured(made.folder, MUTUAL, later) as (server, port), client(port, known(made)) as peer:
        await peer.send(GET)
        await asked.wait()
        change(made, MUTUAL, "stranger.crt")
        server.refresh()
        go.set()
        reply = await peer.reply()
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await peer.rest() == b""


@pytest.mark.parametrize("text", [MUTUAL + USERS, MUTUAL + HEADERS, MUTUAL], ids=["users", "headers", "certificate"])
@in_loop
async def test_other_changes_end_no_connection(made: Certificates, text: str) -> None:
    """A renewed certificate, other users and headers: the connection stays, and its next request follows the change."""
    async with secured(made.folder, MUTUAL, yes) as (server, port), client(port, known(made)) as peer:
        await peer.send(GET)
        assert (await peer.reply()).status == 200
        for kind in ("crt", "key"):
            (made / f"rsa.{kind}").replace(made / f"server.{kind}")
        web_config(made.folder, text)
        server.refresh()
        login = f"Authorization: {basic('prometheus')['Authorization']}\r\n\r\n".encode()
        await peer.send(GET.removesuffix(b"\r\n") + login)
        assert (await peer.reply()).status == 200
