"""Accepts connections from listening sockets, limits their number, and closes them at shutdown."""

import asyncio
import errno
import logging
import os
import resource
import socket
import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING

from kvm_exporter.web.addresses import peer_name, peer_network
from kvm_exporter.web.connection import Connection, Deadlines, State
from kvm_exporter.web.connections import ConnectionTable
from kvm_exporter.web.http import Handler, Response
from kvm_exporter.web.listeners import close
from kvm_exporter.web.traffic import QUIET_SECONDS, Traffic

if TYPE_CHECKING:
    from kvm_exporter.web.guard import Guard


MAX_BATCH = 32
"""Most connections accepted in one iteration of the event loop, so that a burst does not delay responses.

With fewer connections at most, a sixteenth of these: the event loop needs about five iterations to read a request that
has already arrived, and meanwhile a burst of new connections must not close its connection.
"""

MAX_CONNECTIONS = 512
MAX_TLS_CONNECTIONS = 64
"""Limits for all connections, and for those that use TLS: far more than scrapers open, in 10 MB of memory at most.

At the limit, each new connection closes an old one.
"""

SPARE_DESCRIPTORS = 64
"""File descriptors kept free for other uses than connections, but at most half of those that are free at the start."""

BACK_OFF_SECONDS = 0.02
"""How long accepting pauses after a failure for lack of descriptors or memory."""

FIRST_REQUEST_SECONDS = 0.1
"""Time in which a new connection may still send its first request after a shutdown has begun."""

HANDSHAKE_SECONDS = 0.5
REQUEST_SECONDS = 0.2
"""Times in which a TLS connection may finish its handshake, and then its first request, before another one closes it.

A handshake takes a round trip to the peer and several iterations of the event loop, the request another round trip at
most. A peer for which there is no room waits until one of these times has passed.
"""

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

logger = logging.getLogger(__name__)


class Server:
    """Accepts connections and serves them with a handler until stop(). For use in one event loop.

    Without a ``guard``, connections are plain HTTP, and each peer may send requests. ``traffic`` counts what is served.
    """

    def __init__(
        self,
        handle: Handler,
        deadlines: Deadlines | None = None,
        guard: "Guard | None" = None,
        traffic: Traffic | None = None,
    ) -> None:
        self.handle = handle
        self.deadlines = deadlines or Deadlines()
        self.stopping = False
        self._guard = guard
        self._listeners: list[socket.socket] = []
        self.traffic = traffic or Traffic()
        #: For requests that were sent ahead, so that one is handled in each iteration of the event loop: the peers with
        #: a first request have their turn in between.
        self.ahead = asyncio.Lock()
        self._connections = ConnectionTable()
        self._all_closed = asyncio.Event()
        self._limit = MAX_CONNECTIONS
        #: Until when a lack of descriptors or memory is not logged again, in seconds on the event loop's clock.
        self._quiet_until = 0.0

    def start(self, listeners: Iterable[socket.socket]) -> None:
        """Accept connections from non-blocking listening sockets. The server closes them in stop()."""
        self._limit = _max_connections()
        if self._limit < MAX_CONNECTIONS:
            text = "serving at most %d connections at a time: the limit on open files is low; raise it (LimitNOFILE=)"
            logger.warning(text, self._limit)
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
        self._stop_all(State.IDLE)
        # New connections, accepted just now or not, still have time to send their request.
        loop.call_later(FIRST_REQUEST_SECONDS, self._stop_all, State.UNFINISHED)
        self._check_closed()
        try:
            async with asyncio.timeout(grace):
                await self._all_closed.wait()
        except TimeoutError:
            logger.warning("closing %d connection(s) still open after %g s", len(self._connections), grace)
            for connection in tuple(self._connections):
                connection.abort()
        if self._guard is not None:
            self._guard.close()

    @property
    def context(self) -> ssl.SSLContext | None:
        """The TLS context for a connection that begins now; None for plain HTTP."""
        return self._guard.context if self._guard is not None else None

    def refresh(self) -> None:
        """Reload the web configuration if its files have changed.

        If that changed who may connect, the peers that were let in before have to connect again.
        """
        if self._guard is not None and self._guard.refresh():
            for connection in tuple(self._connections):
                connection.expire()

    def complete(self, response: Response, peer: str) -> Response:
        """Add the configured headers to a response to a peer, and count it."""
        self.traffic.respond(response.status, peer)
        return response if self._guard is None else self._guard.with_headers(response)

    def allows(self, peer: ssl.SSLObject | None) -> bool:
        """Return whether a peer may send requests, after its TLS handshake (None: a connection without TLS)."""
        return self._guard is None or self._guard.allows(peer)

    def entering(self, connection: Connection, state: State) -> None:
        """Note the state that a connection is about to enter."""
        self._connections.move(connection, state)

    def closed(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._connections.discard(connection)
        self.traffic.connections = len(self._connections)
        self._check_closed()

    async def make_room_for_tls(self, connection: Connection) -> None:
        """Count a connection as one with TLS. At the limit, close another one first, when its time has passed."""
        limit = min(MAX_TLS_CONNECTIONS, self._limit)
        while len(others := [other for other in self._connections if other.secure]) >= limit:
            # Of equal ones the first, in the order in which they are closed; one that is being answered is the last.
            other = min(others, key=lambda other: (other.state is State.ANSWERING, _time_left(other)))
            if left := _time_left(other):
                await asyncio.sleep(left)
            else:
                self._drop(other)
        connection.secure = True

    def _stop_all(self, state: State) -> None:
        for connection in tuple(self._connections):
            if connection.state is state:
                connection.stop()

    def _check_closed(self) -> None:
        if self.stopping and not self._connections:
            self._all_closed.set()

    def _accept_from(self, listener: socket.socket) -> None:
        if not self.stopping:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        family = listener.family
        for _ in range(max(1, min(MAX_BATCH, self._limit // 16))):
            try:
                peer, address = listener.accept()
            except BlockingIOError:
                return  # no more connections are waiting
            except OSError as error:
                if error.errno in _SHORTAGES:
                    self._make_room(listener, error)
                    return
                continue  # this peer has already disconnected: accept(2) says to retry
            peer.setblocking(False)  # noqa: FBT003 - the parameter has no name
            if len(self._connections) >= self._limit:
                self._drop(next(iter(self._connections)))
            name, network = peer_name(family, address), peer_network(family, address)
            self._connections.add(Connection(self, peer, name, network))
            self.traffic.connections = len(self._connections)

    def _drop(self, connection: Connection) -> None:
        """Close a connection to make room for another one."""
        self.traffic.drop("limit", connection.name, "it made room for a new connection")
        self.closed(connection)
        connection.abort()

    def _make_room(self, listener: socket.socket, error: OSError) -> None:
        """After a lack of descriptors or memory, close a connection, as at the limit. Log it at most once a minute.

        If all are being answered, stop accepting from the listener for BACK_OFF_SECONDS; meanwhile connections wait in
        the kernel's queue.
        """
        loop = asyncio.get_running_loop()
        if loop.time() >= self._quiet_until:
            self._quiet_until = loop.time() + QUIET_SECONDS
            logger.error("cannot accept connections: %s; raise the limit (LimitNOFILE=)", error.strerror)
        first = next(iter(self._connections), None)
        if first is not None and first.state is not State.ANSWERING:
            self._drop(first)
            return
        loop.remove_reader(listener)
        loop.call_later(BACK_OFF_SECONDS, self._accept_from, listener)


def _time_left(connection: Connection) -> float:
    """Return for how many seconds a TLS connection may not yet be closed to make room."""
    if connection.state is not State.UNFINISHED:
        return 0.0
    chance = HANDSHAKE_SECONDS if connection.shaking_hands else REQUEST_SECONDS
    return max(0.0, connection.since + chance - asyncio.get_running_loop().time())


def _max_connections() -> int:
    """Return how many connections may be open at a time, by the file descriptors that are free now."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        free = limit - len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only their number matters
    except OSError:  # /proc is not mounted
        free = limit
    return max(1, min(MAX_CONNECTIONS, free - min(SPARE_DESCRIPTORS, free // 2)))
