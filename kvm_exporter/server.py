"""Listening sockets and their connections: an accept loop that no burst and no shortage of descriptors stops."""

import asyncio
import errno
import logging
import socket
from collections.abc import Iterable

from kvm_exporter.connection import Connection, Deadlines
from kvm_exporter.http1 import MAX_HEADER_BYTES
from kvm_exporter.messages import Answer

ACCEPT_BATCH = 64
"""Connections accepted in one turn of the event loop, so that a burst of them does not keep answers waiting."""

BACK_OFF_SECONDS = 0.02

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

logger = logging.getLogger(__name__)


class Server:
    """Accepts connections and answers their requests until it is stopped. For one event loop."""

    def __init__(self, answer: Answer, deadlines: Deadlines | None = None) -> None:
        self.answer = answer
        self.deadlines = deadlines or Deadlines()
        self.buffer = bytearray(MAX_HEADER_BYTES)
        self.stopping = False
        self._listeners: list[socket.socket] = []
        self._connections: set[Connection] = set()
        self._openings: set[asyncio.Task[None]] = set()
        self._all_closed = asyncio.Event()
        self._short = False

    def start(self, listeners: Iterable[socket.socket]) -> None:
        """Accept from sockets that listen and do not block; they are the server's from now on."""
        for listener in listeners:
            self._listeners.append(listener)
            self._accept_from(listener)

    async def stop(self, grace: float) -> None:
        """Accept no more, let the answers that are on their way end within ``grace`` seconds, and close everything."""
        self.stopping = True
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        for connection in tuple(self._connections):
            connection.stop()
        self._check_closed()
        try:
            async with asyncio.timeout(grace):
                await self._all_closed.wait()
        except TimeoutError:
            logger.warning("%d connections did not end within %g s and are cut", len(self._connections), grace)
            for connection in tuple(self._connections):
                connection.cut()

    def opened(self, connection: Connection) -> None:
        """A connection begins."""
        self._connections.add(connection)
        if self.stopping:
            connection.stop()

    def closed(self, connection: Connection) -> None:
        """A connection is over."""
        self._connections.discard(connection)
        self._check_closed()

    def _opening_ended(self, opening: asyncio.Task[None]) -> None:
        self._openings.discard(opening)
        self._check_closed()

    def _check_closed(self) -> None:
        if self.stopping and not self._connections and not self._openings:
            self._all_closed.set()

    def _accept_from(self, listener: socket.socket) -> None:
        if not self.stopping:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPT_BATCH):
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
            opening = asyncio.get_running_loop().create_task(self._open(peer))
            self._openings.add(opening)
            opening.add_done_callback(self._opening_ended)

    async def _open(self, peer: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: Connection(self), peer)
        except OSError:
            peer.close()  # it left before it was begun with

    def _back_off(self, listener: socket.socket, error: OSError) -> None:
        """Leave the queue to the kernel for a moment, instead of asking for what there is not as fast as we can."""
        if not self._short:
            logger.error("connections have to wait: %s; raise the limit (LimitNOFILE=)", error.strerror)
        self._short = True
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(BACK_OFF_SECONDS, self._accept_from, listener)
