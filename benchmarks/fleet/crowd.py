"""Many machines in one thread: an HTTP server on the loopback with one body for each path."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BodyAt = Callable[[str], bytes]
"""A function that returns the body for a path; called in the server's thread."""

_HEADER = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\r\n"
_END = b"\r\n\r\n"


class _Connection(asyncio.Protocol):
    """Responds to each request header; requests of Prometheus have no bodies."""

    def __init__(self, body_at: BodyAt) -> None:
        self._body_at = body_at
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport of the new connection."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a server's connections are
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Respond to each request that is complete; keep the rest."""
        *requests, self._received = (self._received + data).split(_END)
        for request in requests:
            path = request.split(b" ", 2)[1].decode("ascii")
            body = self._body_at(path)
            self._transport.writelines((_HEADER.format(len(body)).encode("ascii"), body))


@contextmanager
def crowd(body_at: BodyAt) -> Iterator[int]:
    """Serve the bodies on a port of the loopback; yield the port."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(lambda: _Connection(body_at), "127.0.0.1", 0, backlog=1024))
    thread = threading.Thread(target=loop.run_forever, name="crowd")
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()
