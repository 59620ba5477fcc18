"""One HTTP/1.1 connection: h11 parses, this drives it on asyncio, with a deadline on everything that a peer can delay.

Knows nothing of what is served: its owner has a function from a Request to a Response. Source: RFC 9112.
"""

import asyncio
import logging
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol

import h11

from kvm_exporter.messages import Answer, Request, Response, plain

MAX_HEADER_BYTES = 16 * 1024

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a peer may take, in seconds."""

    #: For a whole header: from its first byte, or from the connection's begin.
    header: float = 10.0
    #: For a write that makes no progress.
    write: float = 10.0
    #: Between requests.
    idle: float = 75.0
    #: For a refused peer to read why, before the connection is cut.
    linger: float = 1.0


class Owner(Protocol):
    """Who keeps account of connections."""

    #: Shared by all connections: filled and emptied within one turn of the event loop.
    buffer: bytearray
    answer: Answer
    deadlines: Deadlines
    stopping: bool

    def opened(self, connection: "Connection") -> None:
        """A connection begins."""
        ...

    def closed(self, connection: "Connection") -> None:
        """A connection is over."""
        ...


class Connection(asyncio.BufferedProtocol):
    """One peer, from accept to close. At most one request is being answered, and meanwhile nothing is read."""

    _transport: asyncio.Transport

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        self._reply: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._idle = False
        self._refused = False
        self._written = asyncio.Event()
        self._written.set()

    def stop(self) -> None:
        """Close; a request that is being answered is answered first."""
        if self._reply is None:
            self._transport.close()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The peer is there."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's promise, told to the type checker
        self._transport = transport
        # Written means with the kernel: pause_writing() says when it is not, resume_writing() when it is again.
        transport.set_write_buffer_limits(high=0)
        self._owner.opened(self)
        self._expect_within(self._owner.deadlines.header)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The peer is gone, or we are."""
        self._expect_nothing()
        if self._reply is not None:
            self._reply.cancel()
        self._owner.closed(self)

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 - asyncio's signature
        """Where to put what arrives."""
        return self._owner.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """So much arrived."""
        if not self._refused:
            self._http.receive_data(bytes(memoryview(self._owner.buffer)[:nbytes]))
            self._advance()

    def eof_received(self) -> bool:
        """The peer sends no more, but may still wait for an answer: True keeps the connection open for that."""
        if self._refused:
            return False
        self._http.receive_data(b"")
        if self._reply is None:
            self._advance()
        return self._reply is not None or self._refused

    def pause_writing(self) -> None:
        """The peer does not read as fast as we write."""
        self._written.clear()

    def resume_writing(self) -> None:
        """Everything written is with the kernel."""
        self._written.set()

    # Reading.

    def _advance(self) -> None:
        """Take from h11 what has arrived, up to the end of one request."""
        request: Request | None = None
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                self._refuse(HTTPStatus(error.error_status_hint), f"Not an HTTP/1.1 request: {error}.")
                return
            if isinstance(event, h11.Request):
                request = _request(event)
                if _size(event) > MAX_HEADER_BYTES:
                    self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The header is over 16 KiB.")
                    return
            elif isinstance(event, h11.Data):
                self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "This server reads no request bodies.")
                return
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                self._begin(request)
                return
            elif event is h11.NEED_DATA:
                self._await_rest()
                return
            else:
                self._transport.close()
                return

    def _await_rest(self) -> None:
        """The header's deadline begins with its first byte."""
        if self._idle and self._http.trailing_data[0]:
            self._idle = False
            self._expect_within(self._owner.deadlines.header)

    # Answering.

    def _begin(self, request: Request) -> None:
        self._expect_nothing()
        # What the peer sends ahead waits in its own kernel.
        self._transport.pause_reading()
        self._reply = asyncio.get_running_loop().create_task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        try:
            response = await self._owner.answer(request)
        except Exception:
            logger.exception("no answer to %s %s", request.method, request.path)
            response = plain(HTTPStatus.INTERNAL_SERVER_ERROR, "The exporter failed; its log says how.")
        self._send(response, head=request.method == "HEAD", last=self._owner.stopping)
        await self._drain()
        self._reply = None
        self._next()

    def _next(self) -> None:
        """After an answer: the next request, or the end."""
        if self._http.our_state is not h11.DONE or self._owner.stopping:
            self._transport.close()
        if self._transport.is_closing():
            return
        self._http.start_next_cycle()
        self._transport.resume_reading()
        self._idle = True
        self._expect_within(self._owner.deadlines.idle)
        self._advance()

    def _send(self, response: Response, *, head: bool, last: bool) -> None:
        headers = [
            ("Date", formatdate(usegmt=True)),
            *response.headers,
            ("Content-Length", str(len(response.body))),
            *([("Connection", "close")] if last else []),
        ]
        status = response.status
        events: list[h11.Event] = [h11.Response(status_code=status, headers=headers, reason=status.phrase)]
        if not head:
            events.append(h11.Data(data=response.body))
        events.append(h11.EndOfMessage())
        self._transport.write(b"".join(self._http.send(event) or b"" for event in events))

    async def _drain(self) -> None:
        """Wait until the kernel has everything; abort when a whole deadline passes without progress."""
        left = self._transport.get_write_buffer_size()
        while not self._written.is_set() and not self._transport.is_closing():
            try:
                async with asyncio.timeout(self._owner.deadlines.write):
                    await self._written.wait()
            except TimeoutError:
                before, left = left, self._transport.get_write_buffer_size()
                if left >= before:
                    self._transport.abort()

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        """Say what is wrong and end the connection, leaving the peer a moment to read it.

        Closing at once, with something of the peer's unread, would make its kernel throw the answer away.
        """
        if self._http.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self._send(plain(status, why), head=False, last=True)
        self._refused = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._expect_within(self._owner.deadlines.linger)
        else:
            self._transport.close()

    # Deadlines.

    def _expect_within(self, seconds: float) -> None:
        self._expect_nothing()
        self._deadline = asyncio.get_running_loop().call_later(seconds, self._transport.abort)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()


def _request(event: h11.Request) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in event.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Request(event.method.decode("ascii"), _path(event.target.decode("latin-1")), headers)


def _path(target: str) -> str:
    """A request target's path: without its query, and without the scheme and host of the absolute form."""
    if not target.startswith("/"):
        _, _, rest = target.partition("://")
        target = "/" + rest.partition("/")[2] if rest else target
    return target.partition("?")[0]


def _size(event: h11.Request) -> int:
    return len(event.target) + sum(len(name) + len(value) + 4 for name, value in event.headers)
