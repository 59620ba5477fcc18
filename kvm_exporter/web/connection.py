"""One HTTP/1.1 connection on asyncio's streams, with a deadline on every operation that a peer can delay.

The server's handler turns each Request into a Response.
"""

import asyncio
import fcntl
import logging
import socket
import ssl
import termios
from dataclasses import dataclass
from http import HTTPStatus
from struct import Struct
from typing import TYPE_CHECKING

from kvm_exporter.web.http import MAX_HEADER_BYTES, Http1, Pending, Refusal, Request, Response, text_response

if TYPE_CHECKING:
    from kvm_exporter.web.server import Server

CHUNK_BYTES = 1 << 16
"""The most bytes written before waiting for the kernel to accept them.

asyncio's TLS encrypts and buffers everything it is given, so this bounds the memory of a slow connection.
"""

_INT = Struct("i")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a peer may take before its connection is closed, in seconds."""

    #: For the TLS handshake.
    handshake: float = 5.0
    #: For a complete request header, from its first byte; for the first request, from the start of the connection.
    header: float = 10.0
    #: For a write to make progress: the longest time without an acknowledgement from the peer.
    write: float = 10.0
    #: Between a response and the first byte of the next request.
    idle: float = 75.0
    #: For the peer to read the last response and to shut down TLS.
    linger: float = 1.0


class Connection:
    """One connection, from accept to close.

    Requests are handled one at a time; further bytes from the peer wait in a bounded buffer.
    """

    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    def __init__(self, server: "Server", peer: socket.socket) -> None:
        self._server = server
        self._peer = peer
        self._http = Http1()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        #: Whether no request is being handled.
        self.idle = True
        #: When the last response was sent, or the connection accepted, in seconds on the event loop's clock.
        self.last_used = asyncio.get_running_loop().time()

    def start(self, context: ssl.SSLContext | None) -> None:
        """Start a task that serves the connection, over TLS if ``context`` is given."""
        self._task = asyncio.get_running_loop().create_task(self._run(context))
        self._task.add_done_callback(self._on_done)

    def stop(self) -> None:
        """Close the connection once the request being handled, if any, has its response."""
        if self._transport is None:
            self.abort()
        elif self.idle:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection immediately, without sending pending data."""
        if self._task is not None:
            self._task.cancel()

    def _on_done(self, _: asyncio.Task[None]) -> None:
        self._task = None  # breaks a reference cycle: the frames of a cancelled task refer to this connection
        self._server.closed(self)

    async def _run(self, context: ssl.SSLContext | None) -> None:
        try:
            await self._open(context)
            if self._server.allows(self._writer.get_extra_info("ssl_object")):
                await self._serve()
        except OSError as error:
            # The peer disconnected, missed a deadline (TimeoutError) or failed the handshake (SSLError). The frames in
            # the traceback refer to the error; under a flood these cycles would hold tens of megabytes until the
            # garbage collector runs.
            error.__traceback__ = None
        finally:
            if self._transport is not None:
                self._transport.abort()
            self._peer.close()

    async def _open(self, context: ssl.SSLContext | None) -> None:
        """Create the streams of the accepted socket, after a TLS handshake if ``context`` is given. Raises OSError."""
        loop, deadlines = asyncio.get_running_loop(), self._server.deadlines
        self._reader = asyncio.StreamReader(MAX_HEADER_BYTES // 2, loop)  # pauses reading at twice this
        protocol = asyncio.StreamReaderProtocol(self._reader, loop=loop)
        if context is None:
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, self._peer)
        else:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                self._peer,
                ssl=context,
                ssl_handshake_timeout=deadlines.handshake,
                ssl_shutdown_timeout=deadlines.linger,
            )
        # With these limits, drain() waits until the kernel has accepted everything. With high=0, asyncio's TLS would
        # pause and resume writing repeatedly while its buffer is empty.
        transport.set_write_buffer_limits(high=1, low=0)
        self._transport = transport
        self._writer = asyncio.StreamWriter(transport, protocol, self._reader, loop)

    async def _serve(self) -> None:
        """Handle requests until the connection ends. Raises OSError."""
        first = True
        while (received := await self._receive(first=first)) is not None:
            if isinstance(received, Refusal):
                await self._refuse(received.response)
                return
            self.idle = False
            await self._send(self._http.send(await self._handle(received), last=self._server.stopping))
            self.idle, self.last_used = True, asyncio.get_running_loop().time()
            self._server.served(self)
            if self._server.stopping or not self._http.next_request():
                break
            first = False
        await self._close()

    async def _receive(self, *, first: bool) -> Request | Refusal | None:
        """Wait for the next request and return it.

        Returns a Refusal if the request is invalid, None if the peer has closed its side. Raises TimeoutError.
        """
        deadlines = self._server.deadlines
        received = self._http.take()
        if not isinstance(received, Pending):
            return received
        header_started = first
        async with asyncio.timeout(deadlines.header if first else deadlines.idle) as deadline:
            while isinstance(received, Pending):
                if received is Pending.CLOSED:
                    return None
                if received is Pending.HEADER and not header_started:
                    header_started = True
                    deadline.reschedule(asyncio.get_running_loop().time() + deadlines.header)
                self._http.receive(await self._reader.read(MAX_HEADER_BYTES))
                received = self._http.take()
        return received

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
            return  # the usual case: the kernel accepted everything at once, and there is nothing to wait for
        unsent = self._unsent()
        while True:
            try:
                async with asyncio.timeout(self._server.deadlines.write):
                    await self._writer.drain()
            except TimeoutError:
                before, unsent = unsent, self._unsent()
                if unsent >= before:
                    raise
            else:
                return

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
        self._writer.write(self._http.send(response, last=True))
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
