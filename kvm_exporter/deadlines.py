"""How long the peers of a server may take for each thing that they can delay."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a peer may take, in seconds."""

    #: For a TLS handshake.
    handshake: float = 5.0
    #: For a whole header: from its first byte, or from the connection's begin.
    header: float = 10.0
    #: For a write that makes no progress.
    write: float = 10.0
    #: Between requests.
    idle: float = 75.0
    #: For a refused peer to read why, before the connection is cut.
    linger: float = 1.0
