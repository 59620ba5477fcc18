"""What the server counts: responses, open connections, and connections that it ended itself, which it also logs."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Literal, get_args

Reason = Literal["limit", "deadline", "handshake", "client_certificate"]
REASONS: tuple[Reason, ...] = get_args(Reason)

USUAL = (
    HTTPStatus.OK,
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
"""The statuses that are counted from 0, so that an alert sees the first response of each."""

QUIET_SECONDS = 60.0
"""How long nothing more is logged at level info after a line."""

logger = logging.getLogger(__name__)


class Traffic:
    """Counts since the start.

    Dropped connections and refused logins are logged at level debug, and at info each at most once a minute. ``clock``
    returns seconds that never decrease.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        #: Responses by status code.
        self.responses: Counter[int] = Counter(dict.fromkeys(map(int, USUAL), 0))
        #: Connections that are open now.
        self.connections = 0
        #: Connections that the server ended, by reason.
        self.dropped: Counter[Reason] = Counter(dict.fromkeys(REASONS, 0))
        self._clock = clock
        self._drops, self._refusals = _Digest(), _Digest()

    def drop(self, reason: Reason, peer: str, why: str) -> None:
        """Record that a connection was dropped, with the address of the peer, and why."""
        self.dropped[reason] += 1
        logger.debug("dropped the connection of %s (%s): %s", peer, reason, why)
        if count := self._drops.add(self._clock()):
            logger.info("dropped %d connection(s), the last of %s (%s): %s", count, peer, reason, why)

    def respond(self, status: HTTPStatus, peer: str) -> None:
        """Record a response, with the address of the peer."""
        self.responses[status] += 1
        if status == HTTPStatus.UNAUTHORIZED:
            logger.debug("refused a request of %s without a valid login", peer)
            if count := self._refusals.add(self._clock()):
                logger.info("refused %d request(s) without a valid login, the last of %s", count, peer)


class _Digest:
    """Counts events for a line at level info that has all since the last such line."""

    def __init__(self) -> None:
        self._unlogged = 0
        self._quiet_until = 0.0

    def add(self, now: float) -> int:
        """Count an event. Return the number of events for the line that is due at ``now``, or 0 if no line is due."""
        self._unlogged += 1
        if now < self._quiet_until:
            return 0
        self._quiet_until = now + QUIET_SECONDS
        count, self._unlogged = self._unlogged, 0
        return count
