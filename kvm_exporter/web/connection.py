"""One HTTP/1.1 connection on asyncio's streams, with a deadline on everything that a peer can delay.

Knows nothing of what is served: the server has a function from a Request to a Response.
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

PIECE_BYTES = 1 << 16
"""Written at a time: asyncio's TLS encrypts all that it is given, and keeps it until the kernel takes it."""

_INT = Struct("i")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a peer may take, in seconds."""

    #: For a TLS handshake.
    handshake: float = 5.0
    #: For a whole header: from its first byte, or for the first request from the start of the connection.
    header: float = 10.0
    #: For a write during which the peer's kernel acknowledges nothing.
    write: float = 10.0
    #: Between requests.
    idle: float = 75.0
    #: For the peer to read the last response, or to end TLS, before the connection is cut.
    linger: float = 1.0


class Connection:
    """One peer, from accept to close. At most one request is being answered; the next one waits in a bounded buffer."""

    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    def __init__(self, server: "Server", peer: socket.socket) -> None:
        self._server = server
        self._peer = peer
        self._http = Http1()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        #: Whether no request is being answered.
        self.idle = True
        #: When it was accepted, then when the last response was sent, on the event loop's clock.
        self.last_used = asyncio.get_running_loop().time()

    def start(self, context: ssl.SSLContext | None) -> None:
        """Serve it in a task of its own, over TLS if there is a context."""
        self._task = asyncio.get_running_loop().create_task(self._run(context))
        self._task.add_done_callback(self._ended)

    def stop(self) -> None:
        """Close; a request that is being answered is answered first."""
        if self._transport is None:
            self.cut()
        elif self.idle:
            self._transport.close()

    def cut(self) -> None:
        """End it now, whatever is going on."""
        if self._task is not None:
            self._task.cancel()

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._task = None  # a cancelled task holds the frames that hold this connection
        self._server.closed(self)

    async def _run(self, context: ssl.SSLContext | None) -> None:
        try:
            await self._open(context)
            if self._server.admits(self._writer.get_extra_info("ssl_object")):
                await self._serve()
        except OSError as error:
            # The peer left, missed a deadline (TimeoutError), or does not speak TLS (SSLError). The traceback's frames
            # hold the error: a flood would take tens of megabytes until a rare garbage collection.
            error.__traceback__ = None
        finally:
            if self._transport is not None:
                self._transport.abort()
            self._peer.close()

    async def _open(self, context: ssl.SSLContext | None) -> None:
        """Take over the accepted socket, with a TLS handshake if there is a context. Raises OSError."""
        loop, deadlines = asyncio.get_running_loop(), self._server.deadlines
        self._reader = asyncio.StreamReader(MAX_HEADER_BYTES // 2, loop)  # it stops reading at twice that
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
        # drain() waits until the kernel has everything. With 0 as the mark, asyncio's TLS would pause and resume for an
        # empty buffer, in turns.
        transport.set_write_buffer_limits(high=1, low=0)
        self._transport = transport
        self._writer = asyncio.StreamWriter(transport, protocol, self._reader, loop)

    async def _serve(self) -> None:
        """Answer one request after the other. Raises OSError."""
        first = True
        while (received := await self._receive(first=first)) is not None:
            if isinstance(received, Refusal):
                await self._refuse(received.response)
                return
            self.idle = False
            await self._send(self._http.send(await self._handle(received), last=self._server.stopping))
            self.idle, self.last_used = True, asyncio.get_running_loop().time()
            self._server.served(self)
            if self._server.stopping or not self._http.go_on():
                break
            first = False
        await self._close()

    async def _receive(self, *, first: bool) -> Request | Refusal | None:
        """The next request, or why it is refused; None if the peer sends no more. Raises TimeoutError."""
        deadlines = self._server.deadlines
        received = self._http.take()
        if not isinstance(received, Pending):
            return received
        begun = first
        async with asyncio.timeout(deadlines.header if first else deadlines.idle) as deadline:
            while isinstance(received, Pending):
                if received is Pending.CLOSED:
                    return None
                if received is Pending.HEADER and not begun:
                    begun = True
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
        """Write it, and wait until the kernel has it. Raises TimeoutError if the peer takes nothing for too long."""
        for start in range(0, len(data), PIECE_BYTES):
            self._writer.write(data[start : start + PIECE_BYTES])
            await self._drain()

    async def _drain(self) -> None:
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
        """Bytes that wait here, and in the kernel for the peer to acknowledge them: tcp(7), SIOCOUTQ."""
        try:
            queued = fcntl.ioctl(self._peer, termios.TIOCOUTQ, _INT.pack(0))
        except (OSError, ValueError):  # of another kind of socket, or closed already
            return 0
        return self._writer.transport.get_write_buffer_size() + int(_INT.unpack(queued)[0])

    async def _refuse(self, response: Response) -> None:
        """Say what is wrong and end the connection, after a moment in which the peer may read it.

        Closing with bytes of the peer unread would make the kernel reset the connection, and drop the response.
        """
        self._writer.write(self._http.send(response, last=True))
        if self._writer.can_write_eof():
            self._writer.write_eof()
            async with asyncio.timeout(self._server.deadlines.linger):
                while await self._reader.read(MAX_HEADER_BYTES):
                    pass
        await self._close()

    async def _close(self) -> None:
        """Close it once everything is written. Raises TimeoutError if the peer does not end TLS."""
        self._writer.close()
        async with asyncio.timeout(self._server.deadlines.linger):
            await self._writer.wait_closed()
