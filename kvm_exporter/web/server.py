"""Accepts connections from listening sockets, limits their number, and closes them at shutdown."""

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
"""Most connections accepted in one iteration of the event loop, so that a burst does not delay responses."""

MAX_CONNECTIONS = 512
MAX_TLS_CONNECTIONS = 64
"""Limits for plain HTTP and for TLS: far more than scrapers open, in at limit 10 MB of memory.

At the limit, each new connection closes an old one.
"""

SPARE_DESCRIPTORS = 64
"""File descriptors reserved for other uses than connections, where RLIMIT_NOFILE is low."""

BACK_OFF_SECONDS = 0.02
"""How long accepting pauses at the connection limit, and after a failure for lack of descriptors or memory."""

FIRST_REQUEST_SECONDS = 0.1
"""Time in which a new connection may send its first request before the limit or a shutdown may close it.

Without it, a flood of connections would close those of scrapers before they can send a request.
"""

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

# asyncio gives each TLS connection a read buffer of 256 KiB, even when idle. Nothing larger than a header is read here.
sslproto.SSLProtocol.max_size = MAX_HEADER_BYTES

logger = logging.getLogger(__name__)


class Server:
    """Accepts connections and serves them with a handler until stop(). For use in one event loop."""

    def __init__(self, handle: Handler, deadlines: Deadlines | None = None, guard: "Guard | None" = None) -> None:
        self.handle = handle
        self.deadlines = deadlines or Deadlines()
        self.stopping = False
        self._guard = guard
        self._listeners: list[socket.socket] = []
        #: Connections that have had no response yet, oldest first, with their time on the event loop's clock.
        self._unanswered: dict[Connection, float] = {}
        #: Connections that have had a response, oldest first.
        self._answered: dict[Connection, None] = {}
        self._all_closed = asyncio.Event()
        #: Whether accept() last failed for lack of descriptors or memory; that is logged once.
        self._exhausted = False

    def start(self, listeners: Iterable[socket.socket]) -> None:
        """Accept connections from non-blocking listening sockets. The server closes them in stop()."""
        for listener in listeners:
            self._listeners.append(listener)
            self._accept_from(listener)

    async def stop(self, grace: float) -> None:
        """Stop accepting, wait up to ``grace`` seconds for requests in progress, and close all connections."""
        loop = asyncio.get_running_loop()
        self.stopping = True
        for listener in self._listeners:
            self._accept(listener)
            loop.remove_reader(listener)
        close(self._listeners)
        self._stop(self._answered)
        # New connections, accepted just now or not, still have time to send their request.
        loop.call_later(FIRST_REQUEST_SECONDS, self._stop, self._unanswered)
        self._check_closed()
        try:
            async with asyncio.timeout(grace):
                await self._all_closed.wait()
        except TimeoutError:
            left = (*self._unanswered, *self._answered)
            logger.warning("closing %d connection(s) still open after %g s", len(left), grace)
            for connection in left:
                connection.abort()
        if self._guard is not None:
            self._guard.close()

    def allows(self, peer: ssl.SSLObject | None) -> bool:
        """Return whether a peer may send requests, after its TLS handshake (None: a connection without TLS)."""
        return self._guard is None or self._guard.allows(peer)

    def served(self, connection: Connection) -> None:
        """Record that a connection has sent a response."""
        if connection in self._unanswered:
            del self._unanswered[connection]
            self._answered[connection] = None

    def closed(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._unanswered.pop(connection, None)
        self._answered.pop(connection, None)
        self._check_closed()

    def _stop(self, connections: Iterable[Connection]) -> None:
        for connection in tuple(connections):
            connection.stop()

    def _check_closed(self) -> None:
        if self.stopping and not self._unanswered and not self._answered:
            self._all_closed.set()

    def _accept_from(self, listener: socket.socket) -> None:
        if not self.stopping:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        context = self._guard.context() if self._guard is not None else None
        limit = min(MAX_CONNECTIONS if context is None else MAX_TLS_CONNECTIONS, _max_connections_by_descriptors())
        for _ in range(ACCEPT_BATCH):
            if self._must_wait(limit):
                self._pause(listener)
                return
            try:
                peer, _ = listener.accept()
            except BlockingIOError:
                self._exhausted = False  # no more connections are waiting
                return
            except OSError as error:
                if error.errno in _SHORTAGES:
                    self._back_off(listener, error)
                    return
                continue  # this peer has already disconnected: accept(2) says to retry
            peer.setblocking(False)  # noqa: FBT003 - the parameter has no name
            self._make_room(limit)
            connection = Connection(self, peer)
            self._unanswered[connection] = loop.time()
            connection.start(context)

    def _is_full(self, limit: int) -> bool:
        return len(self._unanswered) + len(self._answered) >= limit

    def _must_wait(self, limit: int) -> bool:
        """Return whether a new connection has to wait: the limit is reached, and no connection may be closed yet.

        The connection to close first is the oldest without a response; it has FIRST_REQUEST_SECONDS for its request.
        """
        oldest = next(iter(self._unanswered.values()), None)
        now = asyncio.get_running_loop().time()
        return self._is_full(limit) and oldest is not None and now - oldest < FIRST_REQUEST_SECONDS

    def _make_room(self, limit: int) -> None:
        """At the connection limit, close one connection.

        In order of preference: the oldest that has had no response yet, the oldest idle one, the oldest one.
        """
        if not self._is_full(limit):
            return
        idle = (connection for connection in self._answered if connection.idle)
        oldest = next(iter(self._unanswered), None) or next(idle, None) or next(iter(self._answered))
        self.closed(oldest)
        oldest.abort()

    def _back_off(self, listener: socket.socket, error: OSError) -> None:
        """Log a lack of descriptors or memory once, and pause accepting."""
        if not self._exhausted:
            logger.error("cannot accept connections: %s; raise the limit (LimitNOFILE=)", error.strerror)
        self._exhausted = True
        self._pause(listener)

    def _pause(self, listener: socket.socket) -> None:
        """Stop accepting from a listener for BACK_OFF_SECONDS; meanwhile connections wait in the kernel's queue."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(BACK_OFF_SECONDS, self._accept_from, listener)


def _max_connections_by_descriptors() -> int:
    soft_limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft_limit - SPARE_DESCRIPTORS)
