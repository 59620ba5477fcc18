"""``python -m benchmarks.attackers NAME SHARE PORT [CA]``: many hostile peers, until standard input ends.

SHARE is the share of the peers that come. With CA, the file of an authority, they use TLS. A line on standard output
says that the first of them are all there.
"""

import resource
import select
import socket
import ssl
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

GET = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
HALF = b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: "

PATIENCE_SECONDS = 10
"""The time limit for each socket call of a peer."""


@dataclass(frozen=True, slots=True)
class Attack:
    """Peers that are answered and stay, then others at once, and further ones of the same kind at a steady rate."""

    #: What each of the others sends; it reads nothing.
    data: bytes
    #: Whether the others shake hands, where there is TLS.
    shakes_hands: bool = True
    #: How many are answered first: the exporter's limits without TLS, and with it.
    answered: tuple[int, int] = (512, 64)
    #: How many others come at once.
    burst: tuple[int, int] = (600, 200)
    #: How many come every second.
    rate: int = 34


ATTACKS = {
    "idle": Attack(GET, burst=(0, 0)),
    "silent": Attack(b"", shakes_hands=False),
    "half": Attack(HALF),
    "unread": Attack(GET * 100, burst=(1000, 200)),
    "crowd": Attack(b"", shakes_hands=False, burst=(1500, 1500)),
}
"""Further idle peers; silent ones; half requests; requests whose responses are not read; a crowd at once."""


class Attackers:
    """The peers of an attack on a port of the loopback, over TLS with a context."""

    def __init__(self, attack: Attack, share: float, port: int, context: ssl.SSLContext | None) -> None:
        self._attack = attack
        self._share = share
        self._port = port
        self._context = context
        self._peers: list[socket.socket] = []

    def gather(self) -> None:
        """Bring the first peers."""
        tls = self._context is not None
        for _ in range(int(self._share * self._attack.answered[tls])):
            self._come(GET, self._context, answered=True)
        for _ in range(int(self._share * self._attack.burst[tls])):
            self.bring_another()

    def bring_another(self) -> None:
        """Bring a further peer."""
        self._come(self._attack.data, self._context if self._attack.shakes_hands else None, answered=False)

    def _come(self, data: bytes, context: ssl.SSLContext | None, *, answered: bool) -> None:
        # The server may close the connection to make room for others, as it should.
        with suppress(OSError):
            peer = socket.create_connection(("127.0.0.1", self._port), PATIENCE_SECONDS)
            self._peers.append(peer)
            if context is not None:
                self._peers[-1] = peer = context.wrap_socket(peer, server_hostname="127.0.0.1")
            peer.sendall(data)
            while answered and (received := peer.recv(1 << 16)) and not received.endswith(b"\n"):
                pass


def main() -> None:
    """Attack until standard input ends."""
    name, share, port, *authority = sys.argv[1:]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    attack = ATTACKS[name]
    context = ssl.create_default_context(cafile=authority[0]) if authority else None
    attackers = Attackers(attack, float(share), int(port), context)
    attackers.gather()
    sys.stdout.write("all there\n")
    sys.stdout.flush()
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(due - time.monotonic(), 0))[0]:
        attackers.bring_another()
        due += 1 / attack.rate


if __name__ == "__main__":
    main()
