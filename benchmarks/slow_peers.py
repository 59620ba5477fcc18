"""Peers that come and go beside the scrapes: silent, or sending half, nonsense, or much that they read no answer to."""

import socket
import ssl
import time
from collections.abc import Generator
from contextlib import ExitStack, suppress
from itertools import cycle

HALF = b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: "
UNAUTHORIZED = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
NONSENSE = b"nonsense\r\n\r\n"

STAY_SECONDS = 12
"""Longer than any deadline that the exporter has for a peer that it waits for."""

PATIENCE_SECONDS = 10
"""No call of a peer's own takes longer."""


def visit_slowly(port: int, context: ssl.SSLContext) -> Generator[int, None, None]:
    """A new peer at each step, which stays for a while; how many came so far. Closed, it ends those that are left."""
    arrived: list[tuple[float, ExitStack]] = []
    try:
        for count, (tls, data) in enumerate(cycle(KINDS), 1):
            stack = ExitStack()
            arrived.append((time.monotonic(), stack))
            # The exporter may end the connection first: that is what it is there for.
            with suppress(OSError):
                peer = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS))
                if tls:
                    peer = stack.enter_context(context.wrap_socket(peer, server_hostname="127.0.0.1"))
                peer.sendall(data)
            while arrived and (time.monotonic() - arrived[0][0] > STAY_SECONDS):
                arrived.pop(0)[1].close()
            yield count
    finally:
        for _, stack in arrived:
            stack.close()


KINDS = (
    (False, b""),
    (False, HALF),
    (False, b"\x16\x03\x01"),
    (True, b""),
    (True, HALF),
    (True, UNAUTHORIZED * 100),
    (True, NONSENSE),
)
"""With TLS or without, and what they send."""
