"""Connections that the server itself ended: counted by reason, and logged without letting a flood fill the log."""

import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import Literal, get_args

Reason = Literal["limit", "deadline", "handshake", "client_certificate"]
REASONS: tuple[Reason, ...] = get_args(Reason)

QUIET_SECONDS = 60.0
"""How long nothing more is logged at level info after a line."""

logger = logging.getLogger(__name__)


class Dropped:
    """Counts the dropped connections, with a log line for each at level debug and at most one a minute at info.

    ``clock`` returns seconds that never decrease.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts: Counter[Reason] = Counter(dict.fromkeys(REASONS, 0))
        self._clock = clock
        #: How many were dropped since the last line at level info.
        self._unlogged = 0
        self._quiet_until = clock()

    def add(self, reason: Reason, peer: str, why: str) -> None:
        """Record that a connection was dropped, with the address of the peer, and why."""
        self.counts[reason] += 1
        self._unlogged += 1
        logger.debug("dropped the connection of %s (%s): %s", peer, reason, why)
        now = self._clock()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET_SECONDS
            logger.info("dropped %d connection(s), the last of %s (%s): %s", self._unlogged, peer, reason, why)
            self._unlogged = 0
