"""Our HTTP server with a web configuration file, and a client that uses TLS, in one event loop over the loopback."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from kvm_exporter.web.addresses import TcpAddress
from kvm_exporter.web.guard import Guard, watch_web_config
from kvm_exporter.web.http import Handler
from kvm_exporter.web.listeners import listen
from kvm_exporter.web.server import Server
from lab.secure import web_config
from tests.support.rooms.wire import Peer


@asynccontextmanager
async def secured(folder: Path, text: str, answer: Handler) -> AsyncIterator[tuple[Server, int]]:
    """Run a server with a web configuration, and give it with its port."""
    guard = Guard(answer, watch_web_config(web_config(folder, text), None))
    server, listeners = Server(guard.handle, guard=guard), listen([TcpAddress("127.0.0.1", 0)])
    port = listeners[0].getsockname()[1]
    server.start(listeners)
    try:
        yield server, port
    finally:
        await server.stop(1)


@asynccontextmanager
async def client(port: int, context: ssl.SSLContext | None) -> AsyncIterator[Peer]:
    """Open a connection to the server, with TLS if there is a context; it is closed at the end of the block."""
    name = "localhost" if context is not None else None
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name))
    try:
        yield peer
    finally:
        await peer.close()
