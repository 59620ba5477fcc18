"""Connections as peers see them: real sockets, requests in every form, and peers that are slow, silent or gone."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus

import pytest

from kvm_exporter.web.connection import Deadlines
from kvm_exporter.web.http import MAX_HEADER_BYTES, Request, Response, text_response
from lab.patience import NEVER
from tests.support.rooms.loop import in_loop
from tests.support.rooms.wire import GET, Serving, serving

SHORT = 0.1
"""Seconds of a deadline that a test waits for."""

PROGRESS = 1.0
"""Seconds of a deadline that a test never comes near, although it takes longer altogether."""

ENDLESS = Deadlines(handshake=NEVER, header=NEVER, write=NEVER, idle=NEVER, linger=NEVER)
"""Of which a test shortens the one that it is about: no other can be what ended a connection."""

LARGE = b"x" * (16 << 20)
"""More than the kernel takes for a peer that does not read."""


async def echo(request: Request) -> Response:
    """Answer with what was asked for."""
    return text_response(HTTPStatus.OK, f"{request.method} {request.path}")


def ask(path: str, *, version: str = "1.1") -> bytes:
    """A request for a path."""
    return f"GET {path} HTTP/{version}\r\nHost: test\r\n\r\n".encode()


class Held:
    """Answers when it is told to, and says when it has been asked."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.answering = 0
        self.most = 0

    async def __call__(self, request: Request) -> Response:
        """Wait to be told."""
        self.answering += 1
        self.most = max(self.most, self.answering)
        self.asked.set()
        try:
            await self.go.wait()
        finally:
            self.answering -= 1
        return await echo(request)


# Requests, one after the other.


@in_loop
async def test_a_connection_is_kept() -> None:
    """HTTP/1.1 goes on after an answer."""
    async with serving(echo) as served, served.peer() as peer:
        for path in ("/a", "/b", "/c"):
            await peer.send(ask(path))
            reply = await peer.reply()
            assert (reply.version, reply.status, reply.body) == ("HTTP/1.1", 200, f"GET {path}\n".encode())
            assert "connection" not in reply.headers


@in_loop
async def test_requests_sent_ahead_are_answered_in_order_one_at_a_time() -> None:
    """With pipelining, too, a peer has one request handled at a time."""
    held = Held()
    async with serving(held) as served, served.peer() as peer:
        paths = [f"/{number}" for number in range(20)]
        await peer.send(b"".join(map(ask, paths)))
        held.go.set()
        assert [(await peer.reply()).body for _ in paths] == [f"GET {path}\n".encode() for path in paths]
        assert held.most == 1


@in_loop
async def test_what_is_sent_ahead_waits_with_the_peer() -> None:
    """While an answer is in the making nothing more is read: a peer cannot fill our memory."""
    held = Held()
    async with serving(held) as served, served.peer() as peer:
        await peer.send(GET)
        await held.asked.wait()
        sending = asyncio.create_task(peer.send(LARGE))
        await asyncio.wait([sending], timeout=2 * SHORT)
        assert not sending.done()
        held.go.set()
        await asyncio.gather(sending, return_exceptions=True)


@in_loop
async def test_a_request_may_arrive_byte_by_byte() -> None:
    """Where a network cuts does not matter."""
    async with serving(echo) as served, served.peer() as peer:
        for byte in ask("/slow"):
            await peer.send(bytes([byte]))
        assert (await peer.reply()).body == b"GET /slow\n"


@in_loop
async def test_head_is_answered_as_get_without_the_body() -> None:
    """The length is that of the body that is left out, and the next answer follows at once."""
    async with serving(echo) as served, served.peer() as peer:
        await peer.send(b"HEAD /a HTTP/1.1\r\nHost: test\r\n\r\n" + ask("/b"))
        assert (await peer.reply(to_head=True)).headers["content-length"] == str(len("HEAD /a\n"))
        assert (await peer.reply()).body == b"GET /b\n"


@pytest.mark.parametrize(
    "request_",
    [ask("/", version="1.0"), GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")],
    ids=["HTTP/1.0", "Connection: close"],
)
@in_loop
async def test_some_connections_end_with_the_answer(request_: bytes) -> None:
    """Old clients, and those that say so, get one answer and the connection's end."""
    async with serving(echo) as served, served.peer() as peer:
        await peer.send(request_ + GET)
        assert (await peer.reply()).headers["connection"] == "close"
        assert await peer.rest() == b""


@in_loop
async def test_the_absolute_form_is_understood() -> None:
    """As a proxy sends it: RFC 9112 section 3.2.2."""
    async with serving(echo) as served, served.peer() as peer:
        await peer.send(ask("http://elsewhere:1/metrics"))
        assert (await peer.reply()).body == b"GET /metrics\n"


@in_loop
async def test_a_peer_that_sends_no_more_gets_its_answer() -> None:
    """A half-closed connection still takes what was asked for, then ends."""
    held = Held()
    async with serving(held) as served, served.peer() as peer:
        await peer.send(GET + GET)
        peer.send_no_more()
        await held.asked.wait()
        held.go.set()
        for _ in range(2):
            assert (await peer.reply()).status == 200
        assert await peer.rest() == b""


# What is refused.


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"what is this\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 16777216\r\n\r\n" + LARGE, 405),
        (b"HEAD / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody", 413),
        (b"GET / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: test\r\nX: " + b"x" * MAX_HEADER_BYTES + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * (1 << 20), 431),
        (b"GET / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    ],
    ids=["words", "TLS", "no host", "large body", "HEAD", "chunked body", "long header", "endless line", "coding"],
)
@in_loop
async def test_a_refused_peer_can_read_why(data: bytes, status: int) -> None:
    """However much it sent, the answer arrives whole, says that it is the last, and the connection ends."""
    async with serving(echo, ENDLESS) as served, served.peer() as peer:
        sending = asyncio.create_task(peer.send(data))
        reply = await peer.reply(to_head=data.startswith(b"HEAD"))
        assert (reply.status, reply.headers["connection"]) == (status, "close")
        assert await peer.rest() == b""
        await asyncio.gather(sending, return_exceptions=True)


@in_loop
async def test_a_refused_peer_that_stays_is_cut() -> None:
    """It has a moment to read why, not for ever to send."""
    async with serving(echo, replace(ENDLESS, linger=SHORT)) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"nonsense\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        with pytest.raises(ConnectionError):  # noqa: PT012 - which of the two finds out is the kernel's choice
            while True:
                writer.write(b"more")
                await writer.drain()
                await asyncio.sleep(SHORT / 10)
        writer.close()


@in_loop
async def test_a_refused_peer_that_leaves_is_forgotten() -> None:
    """Its connection ends with its farewell, without waiting for the deadline."""
    async with serving(echo, ENDLESS) as served, served.peer() as peer:
        await peer.send(b"nonsense\r\n\r\n")
        assert (await peer.reply()).status == 400
        peer.send_no_more()
        await served.server.one_closed.wait()


@in_loop
async def test_an_answer_that_fails_is_the_servers_fault(caplog: pytest.LogCaptureFixture) -> None:
    """The peer is told 500, the log how, and the connection goes on."""

    async def fail(request: Request) -> Response:
        if request.path == "/bad":
            raise ZeroDivisionError
        return await echo(request)

    async with serving(fail) as served, served.peer() as peer:
        await peer.send(ask("/bad") + ask("/good"))
        assert (await peer.reply()).status == 500
        assert (await peer.reply()).status == 200
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, "no response to GET /bad")


# Deadlines.


@asynccontextmanager
async def cut_after(deadlines: Deadlines) -> AsyncIterator[Serving]:
    """A server that cuts the connection which is made in the block, not before the short deadline."""
    clock = asyncio.get_running_loop()
    start = clock.time()
    async with serving(echo, deadlines) as served:
        yield served
        assert clock.time() - start >= SHORT


@in_loop
async def test_a_silent_peer_is_cut() -> None:
    """Without a request within the header's deadline there is no connection."""
    async with cut_after(replace(ENDLESS, header=SHORT)) as served, served.peer() as peer:
        assert await peer.rest() == b""


@in_loop
async def test_a_header_that_trickles_is_cut() -> None:
    """The deadline is for the whole header: a byte now and then does not put it off."""
    async with cut_after(replace(ENDLESS, header=SHORT)) as served, served.peer() as peer:
        ended = asyncio.create_task(peer.rest())
        await peer.send(b"GET / HTTP/1.1\r\n")
        while not ended.done():
            await peer.send(b"X: y\r\n")
            await asyncio.wait([ended], timeout=SHORT / 10)
        assert ended.result() == b""


@in_loop
async def test_an_idle_connection_is_closed() -> None:
    """Between requests another deadline holds."""
    async with cut_after(replace(ENDLESS, idle=SHORT)) as served, served.peer() as peer:
        await peer.send(GET)
        assert (await peer.reply()).status == 200
        assert await peer.rest() == b""


@in_loop
async def test_the_next_request_has_a_headers_time_again() -> None:
    """From its first byte on the deadline of a header holds, not that of an idle connection."""
    async with cut_after(replace(ENDLESS, header=SHORT)) as served, served.peer() as peer:
        await peer.send(GET)
        assert (await peer.reply()).status == 200
        await peer.send(b"GET")
        assert await peer.rest() == b""


@in_loop
async def test_an_answer_may_take_its_time() -> None:
    """No deadline of the peer's holds while we are the ones who make it wait."""
    held = Held()
    async with serving(held, Deadlines(header=SHORT, idle=SHORT, write=SHORT)) as served, served.peer() as peer:
        await peer.send(GET)
        await held.asked.wait()
        await asyncio.sleep(2 * SHORT)
        held.go.set()
        assert (await peer.reply()).status == 200


def slow_reader(port: int) -> socket.socket:
    """A connection whose peer takes little ahead."""
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    slow.setblocking(False)  # noqa: FBT003 - the parameter has no name
    slow.connect_ex(("127.0.0.1", port))
    return slow


@in_loop
async def test_a_peer_that_does_not_read_is_cut() -> None:
    """An answer that the peer does not read does not stay in memory for ever."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    async def large(_: Request) -> Response:
        asked.set()
        return Response(HTTPStatus.OK, LARGE)

    async with serving(large, replace(ENDLESS, write=SHORT)) as served:
        with slow_reader(served.port) as slow:
            await loop.sock_sendall(slow, GET)
            await asked.wait()
            await served.server.one_closed.wait()
            assert await received_by(slow) < len(LARGE)


@in_loop
async def test_a_peer_that_reads_slowly_is_served() -> None:
    """The deadline is for a write without progress, not for the whole answer."""
    loop = asyncio.get_running_loop()

    async def large(_: Request) -> Response:
        return Response(HTTPStatus.OK, LARGE)

    async with serving(large, replace(ENDLESS, write=PROGRESS), send_buffer=1 << 16) as served:
        with slow_reader(served.port) as slow:
            await loop.sock_sendall(slow, GET.replace(b"1.1", b"1.0"))
            start, received = loop.time(), 0
            while loop.time() < start + 2.5 * PROGRESS:
                received += len(await loop.sock_recv(slow, 1 << 16))
                await asyncio.sleep(PROGRESS / 20)
            assert received < len(LARGE)
            assert received + await received_by(slow) > len(LARGE)


async def received_by(connection: socket.socket) -> int:
    """How many bytes are still to come until the connection ends."""
    received = 0
    try:
        while data := await asyncio.get_running_loop().sock_recv(connection, 1 << 20):
            received += len(data)
    except ConnectionResetError:
        pass
    return received


# Peers that leave.


def reset(connection: socket.socket) -> None:
    """Leave without a farewell."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


@pytest.mark.parametrize("leave", [socket.socket.close, reset], ids=["closes", "resets"])
@pytest.mark.parametrize("sent", [b"", b"GET /", GET, GET + GET], ids=["nothing", "some", "one", "two"])
@in_loop
async def test_a_peer_may_leave_at_any_time(
    sent: bytes, leave: Callable[[socket.socket], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is logged, nothing remains of it, and others are served."""
    held = Held()
    async with serving(held) as served:
        connection = socket.create_connection(("127.0.0.1", served.port))
        connection.sendall(sent)
        if sent.startswith(GET):
            await held.asked.wait()
        leave(connection)
        await asyncio.sleep(0)
        held.go.set()
        await served.server.one_closed.wait()
        async with served.peer() as peer:
            await peer.send(GET)
            assert (await peer.reply()).status == 200
    assert caplog.records == []
