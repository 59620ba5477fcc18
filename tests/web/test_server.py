"""kvm_exporter.web.server: bursts of connections, a shortage of descriptors, and a graceful stop."""

import asyncio
import errno
import logging
import os
import socket
from contextlib import AsyncExitStack, ExitStack, suppress
from http import HTTPStatus
from pathlib import Path

import pytest

from kvm_exporter.web import server
from kvm_exporter.web.http import Request, Response, text_response
from kvm_exporter.web.server import MAX_BATCH, Server
from lab.exporter import exporter
from lab.patience import NEVER, PATIENCE_SECONDS
from lab.proc import errors
from lab.secure import until_the_end
from tests.support.rooms.loop import in_loop
from tests.support.rooms.wire import GET, Peer, serving

SHORT = 0.1


async def yes(_: Request) -> Response:
    """Answer 200."""
    return text_response(HTTPStatus.OK, "yes")


class FailingListener(socket.socket):
    """A listening socket whose next accept() fails if it has a failure."""

    failure: OSError | None = None

    def __init__(self) -> None:
        super().__init__()
        self.bind(("127.0.0.1", 0))
        self.listen()
        self.setblocking(False)  # noqa: FBT003 - the parameter has no name

    def accept(self) -> tuple[socket.socket, object]:
        """Fail once, or accept."""
        if (failure := self.failure) is not None:
            self.failure = None
            raise failure
        return super().accept()

    async def peer(self) -> Peer:
        """Connect a client."""
        return Peer(*await asyncio.open_connection(*self.getsockname()))


class Held:
    """A handler that signals a request, and answers when the test allows it."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        """Signal the request, and wait."""
        self.asked.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return await yes(request)


@in_loop
async def test_a_burst_is_answered() -> None:
    """More connections than one turn of the event loop accepts are all answered."""
    async with serving(yes) as served:

        async def ask() -> int:
            async with served.peer() as peer:
                await peer.send(GET)
                return (await peer.reply()).status

        statuses = await asyncio.gather(*(ask() for _ in range(5 * MAX_BATCH)))
    assert statuses == [200] * 5 * MAX_BATCH


@in_loop
async def test_a_request_has_the_address_of_its_peer() -> None:
    """Also the second one of a connection, which is parsed from the cache."""
    peers = []

    async def note(request: Request) -> Response:
        peers.append(request.peer)
        return await yes(request)

    async with serving(note) as served, served.peer() as peer:
        for _ in range(2):
            await peer.send(GET)
            await peer.reply()
    assert peers == ["127.0.0.1"] * 2


# More connections than the limit.


@in_loop
async def test_who_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit go: the longest unused idle one, who sent ahead, the oldest without a request, the oldest answered.

    Each new connection is served at once.
    """
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 6)
    held = Held()

    async def answer(request: Request) -> Response:
        return await (held if request.path == "/held" else yes)(request)

    async with serving(answer) as served, AsyncExitStack() as stack:
        busy, idle, silent, half, used, ahead = [await stack.enter_async_context(served.peer()) for _ in range(6)]
        await half.send(GET[:9])
        for peer in (busy, used, idle, used):
            await peer.send(GET)
            assert (await peer.reply()).status == 200
        await busy.send(GET.replace(b"GET /", b"GET /held"))
        await held.asked.wait()
        held.asked.clear()
        await ahead.send(GET + GET.replace(b"GET /", b"GET /held"))
        assert (await ahead.reply()).status == 200
        await held.asked.wait()
        for goes in (idle, used, ahead, silent, half, busy):
            held.asked.clear()
            new = await stack.enter_async_context(served.peer())
            assert await goes.rest() == b""
            await new.send(GET.replace(b"GET /", b"GET /held"))
            await held.asked.wait()
        assert served.server.traffic.dropped["limit"] == 6


@in_loop
async def test_requests_that_were_sent_ahead_wait_for_others() -> None:
    """A new peer is answered after few of those that many peers have sent ahead."""
    answered = 0

    async def answer(request: Request) -> Response:
        nonlocal answered
        answered += request.path == "/ahead"
        return await yes(request)

    async with serving(answer) as served, AsyncExitStack() as stack:
        crowd = [await stack.enter_async_context(served.peer()) for _ in range(50)]
        for peer in crowd:
            await peer.send(GET.replace(b"GET /", b"GET /ahead") * 100)
        for peer in crowd:
            await peer.reply()  # the first ones are answered at once
        before = answered
        async with served.peer() as new:
            await new.send(GET)
            assert (await new.reply()).status == 200
        assert answered - before < 50


def open_descriptors() -> int:
    """Return the number of open descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


@in_loop
async def test_a_burst_of_silent_connections_is_no_burst_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that are closed while they are being set up leave no descriptor open."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 4)
    async with serving(yes) as served:
        before = open_descriptors()
        silent = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(50)]
        async with served.peer() as peer:
            await peer.send(GET)
            assert (await peer.reply()).status == 200
            assert open_descriptors() <= before + len(silent) + 1 + 4
        for connection in silent:
            connection.close()


# Stopping.


@in_loop
async def test_a_running_answer_ends() -> None:
    """A request before the stop gets a whole response with Connection: close; then the server stops."""
    held = Held()
    async with serving(held) as served, served.peer() as peer:
        await peer.send(GET + GET)
        await held.asked.wait()
        stopping = asyncio.create_task(served.server.stop(NEVER))
        await asyncio.sleep(0)
        held.go.set()
        reply = await peer.reply()
        assert (reply.status, reply.body, reply.headers["connection"]) == (200, b"yes\n", "close")
        assert await peer.rest() == b""
        await stopping


@in_loop
async def test_an_answer_on_its_way_arrives() -> None:
    """A response that is being sent when the stop begins is sent to its end, and the connection is closed."""
    body = b"x" * (16 << 20)

    async def large(_: Request) -> Response:
        return Response(HTTPStatus.OK, body)

    async with serving(large) as served, served.peer() as peer:
        await peer.send(GET)
        head = await peer.read(1)
        stopping = asyncio.create_task(served.server.stop(NEVER))
        await asyncio.sleep(0)
        assert (head + await peer.rest()).endswith(body)
        await stopping


@in_loop
async def test_who_has_connected_is_answered() -> None:
    """A request that was sent before the stop is answered even if its connection was not accepted yet."""
    async with serving(yes) as served:
        asked = [socket.create_connection(("127.0.0.1", served.port)) for _ in range(3)]
        for connection in asked:
            connection.sendall(GET)
        # The event loop has had no turn: they are not even accepted.
        await served.server.stop(NEVER)
        for connection in asked:
            with connection:
                connection.settimeout(PATIENCE_SECONDS)
                reply = until_the_end(connection)
                assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
                assert reply.endswith(b"\r\n\r\nyes\n")


@in_loop
async def test_connections_without_a_request_end_soon() -> None:
    """New connections, incomplete requests and idle connections do not delay the stop."""
    async with serving(yes) as served, served.peer() as new, served.peer() as half, served.peer() as idle:
        await half.send(b"GET / HT")
        await idle.send(GET)
        assert (await idle.reply()).status == 200
        await served.server.stop(NEVER)
        for peer in (new, half, idle):
            assert await peer.rest() == b""


@in_loop
async def test_nobody_is_accepted_any_more() -> None:
    """After the stop begins, new connections are refused."""
    held = Held()
    async with serving(held) as served, served.peer() as peer:
        await peer.send(GET)
        await held.asked.wait()
        stopping = asyncio.create_task(served.server.stop(NEVER))
        await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", served.port)
        held.go.set()
        await stopping


@pytest.mark.parametrize("turns", range(6))
@in_loop
async def test_a_connection_that_is_just_being_made_is_ended(turns: int) -> None:
    """A connection that is being set up does not delay the stop, however many turns of the event loop it had."""
    async with serving(yes) as served:
        with socket.create_connection(("127.0.0.1", served.port)) as connection:
            for _ in range(turns):
                await asyncio.sleep(0)
            await served.server.stop(NEVER)
            connection.settimeout(PATIENCE_SECONDS)
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""


@in_loop
async def test_a_peer_that_leaves_before_it_is_accepted_is_passed_over() -> None:
    """A connection that ends before accept(2) returns ECONNABORTED, and the next one is accepted."""
    listener = FailingListener()
    listener.failure = ConnectionAbortedError()
    passing = Server(yes)
    passing.start([listener])
    peer = await listener.peer()
    await peer.send(GET)
    assert (await peer.reply()).status == 200
    await peer.close()
    await passing.stop(NEVER)


@in_loop
async def test_what_takes_longer_than_the_grace_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    """After the grace period open connections are cancelled and closed, and their number is logged."""
    held = Held()
    async with serving(held) as served, served.peer() as peer:
        await peer.send(GET)
        await held.asked.wait()
        await served.server.stop(SHORT)
        assert await peer.rest() == b""
        await held.cancelled.wait()
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (
        logging.WARNING,
        "closing 1 connection(s) still open after 0.1 s",
    )


# A shortage of descriptors.

SHORTAGE = "cannot accept connections: Too many open files; raise the limit (LimitNOFILE=)"


@pytest.mark.parametrize("idle", [True, False], ids=["idle", "answered"])
@in_loop
async def test_where_descriptors_run_out(*, idle: bool, caplog: pytest.LogCaptureFixture) -> None:
    """An idle connection makes room, one being answered does not; new ones are served, and it is logged once."""
    held = Held()

    async def answer(request: Request) -> Response:
        return await (held if request.path == "/held" else yes)(request)

    listener, short = FailingListener(), Server(answer)
    short.start([listener])
    async with AsyncExitStack() as stack:
        peers: list[Peer] = []
        for path in ("/" if idle else "/held", "/held", "/"):
            if peers:
                listener.failure = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            peers.append(await listener.peer())
            stack.push_async_callback(peers[-1].close)
            await peers[-1].send(GET.replace(b"GET /", f"GET {path}".encode()))
            if path == "/":
                assert (await peers[-1].reply()).status == 200
            else:
                await held.asked.wait()
        held.go.set()
        for peer in peers[idle:2]:
            assert (await peer.reply()).status == 200
        assert not idle or await peers[0].rest() == b""
        assert short.traffic.dropped["limit"] == idle
        await short.stop(NEVER)
    assert [record.getMessage() for record in caplog.records] == [SHORTAGE]


def test_few_descriptors() -> None:
    """Where few files may be open, that is said at the start; peers that stay are dropped, and scrapes go on."""
    with exporter(under=["prlimit", "--nofile=64:64"]) as running, ExitStack() as stack:
        running.wait_for_log("connections at a time: the limit on open files is low; raise it (LimitNOFILE=)")
        for _ in range(80):
            peer = stack.enter_context(socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE_SECONDS))
            peer.sendall(GET.replace(b"GET /", b"GET /-/healthy"))
            assert peer.recv(1 << 16).startswith(b"HTTP/1.1 200 OK\r\n")
        scrape = running.scrape()
        assert scrape.value("kvm_exporter_sample_success") == 1
        assert scrape.value("kvm_exporter_http_connections_dropped_total", reason="limit") > 40
        assert errors(running) == []
