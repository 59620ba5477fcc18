"""Who may connect to a server, and over what: what it needs to know of that, and the answer where nobody says."""

import ssl
from typing import Protocol


class Gate(Protocol):
    """Who may connect, and over what."""

    def context(self) -> ssl.SSLContext | None:
        """What a connection that begins now is wrapped with; None: plain HTTP."""
        ...

    def admits(self, peer: ssl.SSLObject | None) -> bool:
        """Whether this peer, after the handshake if there was one, is let in."""
        ...

    def close(self) -> None:
        """Nobody comes any more."""
        ...


class OpenGate:
    """Everybody, over plain HTTP."""

    def context(self) -> None:
        """No TLS."""

    def admits(self, peer: ssl.SSLObject | None) -> bool:  # noqa: ARG002 - whoever it is
        """Everybody."""
        return True

    def close(self) -> None:
        """Nothing to end."""
