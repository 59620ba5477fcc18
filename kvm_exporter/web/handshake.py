"""The TLS handshake on an accepted connection: asyncio's, with what it lacks.

Source: Lib/asyncio/sslproto.py of CPython 3.11 to 3.14.
"""

import asyncio
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from contextlib import suppress

from kvm_exporter.web.http import MAX_HEADER_BYTES
from kvm_exporter.web.traffic import Reason

NO_LIMIT = 86_400
"""Seconds for asyncio's own timer of the handshake. The caller has a deadline."""

_CLIENT_CERTIFICATE = frozenset({"CERTIFICATE_VERIFY_FAILED", "PEER_DID_NOT_RETURN_A_CERTIFICATE"})


class _Protocol(SSLProtocol):
    """asyncio's TLS, which sends the alert when it fails, and whose read buffer is small."""

    _process_outgoing: Callable[[], None]  # typeshed leaves the private methods out
    _get_app_transport: Callable[[], asyncio.Transport]
    _transport: asyncio.Transport | None

    #: asyncio gives each connection 256 KiB, even when idle. Nothing larger than a header is read here.
    max_size = MAX_HEADER_BYTES

    def _fatal_error(self, exc: BaseException, message: str = "") -> None:
        if isinstance(exc, ssl.SSLError) and self._transport is not None:
            # asyncio throws away what OpenSSL wants to send (https://github.com/python/cpython/issues/98078).
            self._process_outgoing()
        super()._fatal_error(exc, message)

    def app_transport(self) -> asyncio.Transport:
        """Return the transport that encrypts."""
        return self._get_app_transport()


async def shake_hands(
    peer: socket.socket, protocol: asyncio.Protocol, context: ssl.SSLContext, linger: float
) -> asyncio.Transport:
    """Return the transport of a connection after its TLS handshake, which has no deadline here.

    The peer has ``linger`` seconds to shut down TLS at the end. Raises OSError; ssl.SSLError after the alert was sent,
    and the peer has closed its side or ``linger`` seconds have passed.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    tls = _Protocol(
        loop,
        protocol,
        context,
        done,
        server_side=True,
        ssl_handshake_timeout=NO_LIMIT,
        ssl_shutdown_timeout=linger,
    )
    with peer.dup() as still_open:
        transport, _ = await loop.connect_accepted_socket(lambda: tls, peer)
        try:
            await done
        except ssl.SSLError:
            await _linger(still_open, linger)
            raise
        except BaseException:
            transport.abort()
            raise
    return tls.app_transport()


async def _linger(peer: socket.socket, seconds: float) -> None:
    """Read and discard what a peer still sends, so that the kernel does not reset the connection before it is read."""
    loop = asyncio.get_running_loop()
    peer.setblocking(False)  # noqa: FBT003 - the parameter has no name
    with suppress(OSError):  # TimeoutError is one
        peer.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(seconds):
            while await loop.sock_recv(peer, MAX_HEADER_BYTES):
                pass


def why(error: ssl.SSLError) -> tuple[Reason, str]:
    """Return the reason for dropping a peer after a failed handshake, and OpenSSL's own words for it."""
    reason: Reason = "client_certificate" if error.reason in _CLIENT_CERTIFICATE else "handshake"
    words = (error.reason or str(error)).replace("_", " ").lower()
    detail = getattr(error, "verify_message", "")
    return reason, f"{words}: {detail}" if detail else words
