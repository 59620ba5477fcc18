"""Our HTTP server and its clients in one event loop, over real sockets on the loopback; tests write the raw bytes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kvm_exporter.web.addresses import TcpAddress
from kvm_exporter.web.connection import Connection, Deadlines
from kvm_exporter.web.http import Handler
from kvm_exporter.web.listeners import listen
from kvm_exporter.web.server import Server

GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Reply:
    """A response; the names of its headers are in lower case."""

    version: str
    status: int
    headers: dict[str, str]
    body: bytes


class Peer:
    """The client's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes, and wait until they are handed to the kernel."""
        self._writer.write(data)
        await self._writer.drain()

    def send_no_more(self) -> None:
        """Shut down the client's sending side."""
        self._writer.write_eof()

    async def reply(self, *, to_head: bool = False) -> Reply:
        """Read one whole response. Raises asyncio.IncompleteReadError if the connection ends too early."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
        version, status, _ = first.split(" ", 2)
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        assert len(headers) == len(lines), f"a header is there twice: {lines}"
        body = b"" if to_head else await self._reader.readexactly(int(headers["content-length"]))
        return Reply(version, int(status), headers, body)

    async def read(self, size: int) -> bytes:
        """Read at most ``size`` bytes."""
        return await self._reader.read(size)

    async def rest(self) -> bytes:
        """Read everything until the server closes or resets the connection."""
        received = b""
        try:
            while data := await self._reader.read(1 << 16):
                received += data
        except ConnectionError:
            pass
        return received

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except ConnectionError:
            return


class WatchedServer(Server):
    """A Server that sets an event when a connection has closed."""

    def __init__(self, answer: Handler, deadlines: Deadlines | None) -> None:
        super().__init__(answer, deadlines)
        self.one_closed = asyncio.Event()

    def closed(self, connection: Connection) -> None:
        """Note that a connection has closed."""
        super().closed(connection)
        self.one_closed.set()


@dataclass(frozen=True, slots=True)
class Serving:
    """A running server and its port."""

    server: WatchedServer
    port: int

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[Peer]:
        """Open a connection to the server; it is closed at the end of the block."""
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port))
        try:
            yield peer
        finally:
            await peer.close()


@asynccontextmanager
async def serving(
    answer: Handler, deadlines: Deadlines | None = None, *, send_buffer: int | None = None
) -> AsyncIterator[Serving]:
    """Run a server on a free port of the loopback, and stop it at the end; ``send_buffer`` sets SO_SNDBUF in bytes."""
    listeners = listen([TcpAddress("127.0.0.1", 0)])
    if send_buffer is not None:
        listeners[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    server = WatchedServer(answer, deadlines)
    server.start(listeners)
    try:
        yield Serving(server, listeners[0].getsockname()[1])
    finally:
        if not server.stopping:
            await server.stop(1)
