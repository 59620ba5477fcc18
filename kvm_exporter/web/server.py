"""Listening sockets and their connections: an accept loop that no burst and no shortage of descriptors stops."""

import asyncio
import errno
import logging
import resource
import socket
import ssl
from asyncio import sslproto
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kvm_exporter.web.connection import Connection, Deadlines
from kvm_exporter.web.http import MAX_HEADER_BYTES, Handler
from kvm_exporter.web.listeners import close

if TYPE_CHECKING:
    from kvm_exporter.web.guard import Guard


ACCEPT_BATCH = 64
"""Connections accepted in one turn of the event loop, so that a burst of them does not keep answers waiting."""

MAX_CONNECTIONS = 512
MAX_TLS_CONNECTIONS = 64
"""Far more than scrapers have, and no more than 10 MB of memory; beyond it, each new one ends an old one."""

SPARE_DESCRIPTORS = 64
"""Left for everything that is no connection, where LimitNOFILE= is low."""

BACK_OFF_SECONDS = 0.02

TIME_TO_ASK_SECONDS = 0.1
"""For a handshake and a request, before a connection may have to make room or the end: a flood washes nobody away."""

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

# asyncio gives each TLS connection a buffer of 256 KiB, idle ones too; what we read is never longer than a header.
sslproto.SSLProtocol.max_size = MAX_HEADER_BYTES

logger = logging.getLogger(__name__)


class Server:
    """Accepts connections and answers their requests until it is stopped. For one event loop."""

    def __init__(self, handle: Handler, deadlines: Deadlines | None = None, guard: "Guard | None" = None) -> None:
        self.handle = handle
        self.deadlines = deadlines or Deadlines()
        self.stopping = False
        self._guard = guard
        self._listeners: list[socket.socket] = []
        #: By age: those that have not been answered yet, the first to go, with when they came; and those that have.
        self._fresh: dict[Connection, float] = {}
        self._served: dict[Connection, None] = {}
        self._all_closed = asyncio.Event()
        self._short = False

    def start(self, listeners: Iterable[socket.socket]) -> None:
        """Accept from sockets that listen and do not block; they are the server's from now on."""
        for listener in listeners:
            self._listeners.append(listener)
            self._accept_from(listener)

    async def stop(self, grace: float) -> None:
        """Accept no more, let the answers that are on their way end within ``grace`` seconds, and close everything."""
        loop = asyncio.get_running_loop()
        self.stopping = True
        for listener in self._listeners:
            self._accept(listener)
            loop.remove_reader(listener)
        close(self._listeners)
        self._stop(self._served)
        # Who has connected, but not been answered yet, has a moment to ask.
        loop.call_later(TIME_TO_ASK_SECONDS, self._stop, self._fresh)
        self._check_closed()
        try:
            async with asyncio.timeout(grace):
                await self._all_closed.wait()
        except TimeoutError:
            left = (*self._fresh, *self._served)
            logger.warning("%d connections did not end within %g s and are cut", len(left), grace)
            for connection in left:
                connection.cut()
        if self._guard is not None:
            self._guard.close()

    def admits(self, peer: ssl.SSLObject | None) -> bool:
        """Whether a peer may stay after its handshake, if there was one."""
        return self._guard is None or self._guard.admits(peer)

    def served(self, connection: Connection) -> None:
        """A request was answered."""
        if connection in self._fresh:
            del self._fresh[connection]
            self._served[connection] = None

    def closed(self, connection: Connection) -> None:
        """A connection is over, or never began."""
        self._fresh.pop(connection, None)
        self._served.pop(connection, None)
        self._check_closed()

    def _stop(self, connections: Iterable[Connection]) -> None:
        for connection in tuple(connections):
            connection.stop()

    def _check_closed(self) -> None:
        if self.stopping and not self._fresh and not self._served:
            self._all_closed.set()

    def _accept_from(self, listener: socket.socket) -> None:
        if not self.stopping:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        context = self._guard.context() if self._guard is not None else None
        most = min(MAX_CONNECTIONS if context is None else MAX_TLS_CONNECTIONS, _descriptors())
        for _ in range(ACCEPT_BATCH):
            if self._is_crowded(most):
                self._pause(listener)
                return
            try:
                peer, _ = listener.accept()
            except BlockingIOError:
                self._short = False  # nobody waits any more
                return
            except OSError as error:
                if error.errno in _SHORTAGES:
                    self._back_off(listener, error)
                    return
                continue  # a peer that left again while it waited: accept(2) says to try the next
            peer.setblocking(False)  # noqa: FBT003 - the parameter has no name
            self._make_room(most)
            connection = Connection(self, peer)
            self._fresh[connection] = loop.time()
            connection.start(context)

    def _is_full(self, most: int) -> bool:
        return len(self._fresh) + len(self._served) >= most

    def _is_crowded(self, most: int) -> bool:
        """Whether there are as many as there may be, and who would have to go first has only just come."""
        oldest = next(iter(self._fresh.values()), None)
        now = asyncio.get_running_loop().time()
        return self._is_full(most) and oldest is not None and now - oldest < TIME_TO_ASK_SECONDS

    def _make_room(self, most: int) -> None:
        """End the connection that is missed least, if there are as many as there may be."""
        if not self._is_full(most):
            return
        idle = (connection for connection in self._served if connection.idle)
        oldest = next(iter(self._fresh), None) or next(idle, None) or next(iter(self._served))
        self.closed(oldest)
        oldest.cut()

    def _back_off(self, listener: socket.socket, error: OSError) -> None:
        """Say once that there is nothing to accept connections with, and do not ask for it as fast as we can."""
        if not self._short:
            logger.error("connections have to wait: %s; raise the limit (LimitNOFILE=)", error.strerror)
        self._short = True
        self._pause(listener)

    def _pause(self, listener: socket.socket) -> None:
        """Leave the queue to the kernel for a moment."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(BACK_OFF_SECONDS, self._accept_from, listener)


def _descriptors() -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, limit - SPARE_DESCRIPTORS)
