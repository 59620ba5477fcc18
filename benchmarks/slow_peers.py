"""Misbehaving peers: silent, or sending half a request, garbage, or many requests without reading the responses."""

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
"""How long a peer stays: longer than any deadline that the exporter has for a peer."""

PATIENCE_SECONDS = 10
"""The time limit for each socket call of a peer."""


def visit_slowly(port: int, context: ssl.SSLContext) -> Generator[int, None, None]:
    """Open a new connection at each step, which stays for a while; yield the number of connections so far.

    Closing the generator closes the remaining connections.
    """
    arrived: list[tuple[float, ExitStack]] = []
    try:
        for count, (tls, data) in enumerate(cycle(KINDS), 1):
            stack = ExitStack()
            arrived.append((time.monotonic(), stack))
            # The exporter may close the connection first, as it should.
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
"""For each kind of peer: whether it uses TLS, and the bytes that it sends."""
