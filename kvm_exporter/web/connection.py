"""One HTTP/1.1 connection on asyncio's streams, with a deadline on every operation that a peer can delay.

The server's handler turns each Request into a Response.
"""

import asyncio
import fcntl
import logging
import socket
import ssl
import string
import termios
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum, auto
from http import HTTPStatus
from struct import Struct
from typing import TYPE_CHECKING, TypeVar

from kvm_exporter.web.http import MAX_HEADER_BYTES, Http1, Pending, Request, Response, text_response

if TYPE_CHECKING:
    from kvm_exporter.web.server import Server

CHUNK_BYTES = 1 << 16
"""The most bytes written before waiting for the kernel to accept them.

asyncio's TLS encrypts and buffers everything it is given, so this bounds the memory of a slow connection.
"""

LATE_SECONDS = 1.0
"""A timer that is later than this was delayed by this process, which was stopped (SIGSTOP) or on a paused machine."""

_INT = Struct("i")

_TEXT = frozenset(string.printable)
"""What a peer of another protocol than TLS may begin with. Types of TLS records are 20 to 24 (RFC 8446 section 5.1)."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a peer may take before its connection is closed, in seconds."""

    #: For the TLS handshake, from its first byte.
    handshake: float = 5.0
    #: For a complete request header, from its first byte; for the first request, from the start of the connection.
    header: float = 10.0
    #: For a write to make progress: the longest time without an acknowledgement from the peer.
    write: float = 10.0
    #: Between a response and the first byte of the next request.
    idle: float = 75.0
    #: For the peer to read the last response and to shut down TLS.
    linger: float = 1.0


async def within(seconds: float, wait: Callable[[], Awaitable[T]]) -> T:
    """Return the result of ``wait()``, which may be cancelled and called again. Raises TimeoutError after ``seconds``.

    If this process was stopped meanwhile, the peer could not be heard, and has the time once more.
    """
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + seconds
        try:
            async with asyncio.timeout_at(due):
                return await wait()
        except TimeoutError:
            if clock() - due < LATE_SECONDS:
                raise


class State(IntEnum):
    """What a connection is doing. A smaller state is closed before a larger one to make room."""

    #: It has been answered, and its next request is not complete.
    IDLE = auto()
    #: It has been answered, and its next request was sent ahead of the response, which no scraper does.
    AHEAD = auto()
    #: Its first request is not complete.
    UNFINISHED = auto()
    #: A request is being handled, or its response is being sent.
    ANSWERING = auto()


class Connection:
    """One connection, from accept to close.

    Until the peer's first byte it is only watched, so that many silent peers take little time and memory. Then a task
    serves it. Requests are handled one at a time; further bytes from the peer wait in a bounded buffer.
    """

    _http: Http1
    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    def __init__(self, server: "Server", peer: socket.socket, name: str, network: str) -> None:
        """Watch a peer by its non-blocking socket. ``name`` is for the log, ``network`` for its requests."""
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._peer = peer
        self.name = name
        self._network = network
        #: Whether the rules on who may connect have changed since the peer was let in.
        self._expired = False
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        #: Whether it counts as a TLS connection, which takes much more memory than a plain one.
        self.secure = False
        self.state = State.UNFINISHED
        #: When the state was entered, in seconds on the event loop's clock.
        self.since = self._loop.time()
        # The selector looks a new socket up, and formats the socket's repr() into a KeyError that asyncio catches. That
        # takes four system calls for a socket object, and none for its number.
        self._loop.add_reader(peer.fileno(), self._on_readable)
        self._silence = self._loop.call_later(server.deadlines.header, self._on_silence)

    @property
    def shaking_hands(self) -> bool:
        """Whether the TLS handshake is not finished."""
        return self.secure and self._transport is None

    def stop(self) -> None:
        """Close the connection once the request being handled, if any, has its response."""
        if self._transport is None:
            self.abort()
        elif self.state in {State.IDLE, State.UNFINISHED}:
            self._transport.close()

    def expire(self) -> None:
        """Close the connection as stop() does. One whose peer has sent nothing yet stays: it has not been let in."""
        if self._task is not None:
            self._expired = True
            self.stop()

    def abort(self) -> None:
        """Close the connection immediately, without sending pending data."""
        if self._task is not None:
            self._task.cancel()
        else:
            self._unwatch()
            self._close_peer()

    def _enter(self, state: State) -> None:
        self._server.entering(self, state)
        self.state, self.since = state, self._loop.time()

    def _unwatch(self) -> None:
        self._loop.remove_reader(self._peer.fileno())
        self._silence.cancel()

    def _on_readable(self) -> None:
        """Start to serve a peer that has sent its first byte, or close the connection if it has left."""
        try:
            first = self._peer.recv(1, socket.MSG_PEEK)
        except OSError:
            first = b""
        if not first:
            self.abort()
            return
        self._unwatch()
        self._server.refresh()
        self._http = Http1(self._network)
        self._task = self._loop.create_task(self._run(self._server.context, plain_text=chr(first[0]) in _TEXT))
        self._task.add_done_callback(self._on_done)

    def _on_silence(self) -> None:
        if self._loop.time() - self._silence.when() < LATE_SECONDS:
            self._server.traffic.drop("deadline", self.name, "it sent nothing")
            self.abort()
        else:  # this process was stopped, as in within()
            self._silence = self._loop.call_later(self._server.deadlines.header, self._on_silence)

    def _on_done(self, _: asyncio.Task[None]) -> None:
        self._task = None  # breaks a reference cycle: the frames of a cancelled task refer to this connection
        self._close_peer()

    def _close_peer(self) -> None:
        self._peer.close()
        self._server.closed(self)

    async def _run(self, context: ssl.SSLContext | None, *, plain_text: bool) -> None:
        """Serve the connection, with TLS if there is a context.

        ``plain_text``: the first byte begins a line of text instead of a TLS record.
        """
        try:
            if context is not None and plain_text:
                await self._open(None)
                await self._refuse(text_response(HTTPStatus.BAD_REQUEST, "This port is for HTTPS: use https://."))
            else:
                await self._open(context)
                if self._is_allowed():
                    await self._serve()
                elif await self._receive(first=True) is not None:
                    # After the handshake OpenSSL offers no alert, so the peer is told in HTTP.
                    reason = "No name in the client certificate is in client_allowed_sans."
                    await self._refuse(text_response(HTTPStatus.FORBIDDEN, reason))
        except TimeoutError as error:
            error.__traceback__ = None
            self._server.traffic.drop("deadline", self.name, "it took too long")
        except OSError as error:
            # The peer disconnected or failed the handshake (SSLError). The frames in the traceback refer to the error;
            # under a flood these cycles would hold tens of megabytes until the garbage collector runs.
            error.__traceback__ = None
        finally:
            if self._transport is not None:
                self._transport.abort()

    def _is_allowed(self) -> bool:
        peer = self._writer.get_extra_info("ssl_object")
        allowed = self._server.allows(peer)
        if not allowed:
            self._server.traffic.drop("client_certificate", self.name, "no name is in client_allowed_sans")
        return allowed

    async def _open(self, context: ssl.SSLContext | None) -> None:
        """Create the streams of the accepted socket, after a TLS handshake if ``context`` is given. Raises OSError."""
        loop = self._loop
        self._reader = asyncio.StreamReader(MAX_HEADER_BYTES // 2, loop)  # pauses reading at twice this
        protocol = asyncio.StreamReaderProtocol(self._reader, loop=loop)
        if context is None:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, self._peer)
        else:
            await self._server.make_room_for_tls(self)
            self._enter(State.UNFINISHED)
            transport = await self._handshake(protocol, context)
            self._enter(State.UNFINISHED)
        # With these limits, drain() waits until the kernel has accepted everything. With high=0, asyncio's TLS would
        # pause and resume writing repeatedly while its buffer is empty.
        transport.set_write_buffer_limits(high=1, low=0)
        self._transport = transport
        self._writer = asyncio.StreamWriter(transport, protocol, self._reader, loop)

    async def _handshake(self, protocol: asyncio.Protocol, context: ssl.SSLContext) -> asyncio.Transport:
        """Return the transport after the TLS handshake. Raises OSError, after recording why the peer is dropped."""
        from kvm_exporter.web.handshake import shake_hands, why  # noqa: PLC0415 - asyncio's TLS, only if needed

        deadlines = self._server.deadlines
        handshake = asyncio.ensure_future(shake_hands(self._peer, protocol, context, deadlines.linger))
        try:
            # The handshake itself cannot be repeated after a timeout, but the wait for it can.
            return await within(deadlines.handshake, lambda: asyncio.shield(handshake))
        except ssl.SSLError as error:
            reason, words = why(error)
            self._server.traffic.drop(reason, self.name, words)
            raise
        finally:
            handshake.cancel()

    async def _serve(self) -> None:
        """Handle requests until the connection ends. Raises OSError."""
        first = True
        while (received := await self._receive(first=first)) is not None:
            if isinstance(received, Response):
                await self._refuse(received)
                return
            # Connections stay open for days: a user or authority that was removed is refused at the next request.
            self._server.refresh()
            if self._expired:
                break
            if self.state is not State.AHEAD:
                self._enter(State.ANSWERING)
            response = self._server.complete(await self._handle(received), self.name)
            await self._send(self._http.send(response, last=self._is_last()))
            if self._is_last() or not self._http.next_request():
                break
            first = False
        await self._close()

    def _is_last(self) -> bool:
        """Return whether the connection ends after the response to this request."""
        return self._server.stopping or self._expired

    async def _receive(self, *, first: bool) -> Request | Response | None:
        """Wait for the next request and return it.

        Returns the error response if the request is invalid, None if the peer has closed its side. Raises TimeoutError.
        """
        deadlines, now = self._server.deadlines, self._loop.time
        begun, until = first, now() + (deadlines.header if first else deadlines.idle)
        if not isinstance(received := self._http.take(), Pending):
            self._enter(State.AHEAD)
            async with self._server.ahead:
                await asyncio.sleep(0)
        elif not first:
            self._enter(State.IDLE)
        while isinstance(received, Pending):
            if received is Pending.CLOSED:
                return None
            if received is Pending.HEADER and not begun:
                begun, until = True, now() + deadlines.header
            self._http.receive(await within(until - now(), self._read))
            received = self._http.take()
        return received

    async def _read(self) -> bytes:
        return await self._reader.read(MAX_HEADER_BYTES)

    async def _handle(self, request: Request) -> Response:
        try:
            return await self._server.handle(request)
        except Exception:
            logger.exception("no response to %s %s", request.method, request.path)
            return text_response(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error; see the exporter's log.")

    async def _send(self, data: bytes) -> None:
        """Write data and wait until the kernel has accepted it. Raises TimeoutError if a write makes no progress."""
        for start in range(0, len(data), CHUNK_BYTES):
            self._writer.write(data[start : start + CHUNK_BYTES])
            await self._drain()

    async def _drain(self) -> None:
        """Wait until the write buffer is empty. Raises TimeoutError if the peer acknowledged nothing for a deadline."""
        transport = self._writer.transport
        if not transport.get_write_buffer_size() and not transport.is_closing():
            return None  # the usual case: the kernel accepted everything at once, and there is nothing to wait for
        unsent = self._unsent()
        while True:
            try:
                return await within(self._server.deadlines.write, self._writer.drain)
            except TimeoutError:
                before, unsent = unsent, self._unsent()
                if unsent >= before:
                    raise

    def _unsent(self) -> int:
        """Return the number of bytes in the write buffer and, unacknowledged, in the kernel: SIOCOUTQ, tcp(7)."""
        try:
            queued = fcntl.ioctl(self._peer, termios.TIOCOUTQ, _INT.pack(0))
        except (OSError, ValueError):  # not supported by this type of socket, or already closed
            return 0
        return self._writer.transport.get_write_buffer_size() + int(_INT.unpack(queued)[0])

    async def _refuse(self, response: Response) -> None:
        """Send an error response and close the connection. Raises OSError.

        What the peer still sends is read and discarded for up to ``linger`` seconds: closing a socket with unread data
        makes the kernel reset the connection, and the peer could lose the response.
        """
        self._writer.write(self._http.send(self._server.complete(response, self.name), last=True))
        if self._writer.can_write_eof():
            self._writer.write_eof()
            async with asyncio.timeout(self._server.deadlines.linger):
                while await self._reader.read(MAX_HEADER_BYTES):
                    pass
        await self._close()

    async def _close(self) -> None:
        """Close the connection once everything is written. Raises TimeoutError if the peer does not shut down TLS."""
        self._writer.close()
        async with asyncio.timeout(self._server.deadlines.linger):
            await self._writer.wait_closed()
