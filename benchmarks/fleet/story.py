"""A roll-out of a new host kernel over a fleet, minute by minute: which guest is in which state when.

The new kernel offers one feature more. Guests come to it by live migration, a wave of hosts at a time, after a first
few that are watched for longer than anybody needs to get used to them. On some hosts it finds the time stamp counter
unstable and takes a feature away; some guests are out of reach for a while when they move; a few are forgotten.
"""

from dataclasses import dataclass
from enum import Enum, auto

CANARY = 0.01
"""The share of the fleet that moves first."""

GUESTS_PER_HOST = 4
UNSTABLE = 50
"""On one host of so many the new kernel takes a feature away."""

FORGOTTEN = 0.01
OUT_OF_REACH = 0.005
"""Shares of the fleet: guests that stay where they are, and guests that are silent for a while after their move."""

SILENT_MINUTES = 15


class State(Enum):
    """What a guest is like."""

    #: On the old kernel.
    OLD = auto()
    #: Moved to the new one under its running kernel: it has gained a feature.
    MOVED = auto()
    #: And has lost one.
    WORSE = auto()
    #: Cannot be scraped.
    SILENT = auto()


@dataclass(frozen=True, slots=True)
class Wave:
    """The guests up to a share of the fleet move one after the other, in minutes of the story."""

    begin: int
    end: int
    share: float


WAVES = (Wave(10, 12, CANARY), *(Wave(100 + 30 * wave, 120 + 30 * wave, 0.25 * (wave + 1)) for wave in range(4)))
MINUTES = 300
"""The last wave is over after 210; who is still different then is rare for an hour, and is told of."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """The story of so many guests."""

    guests: int

    def state(self, guest: int, minute: float) -> State:
        """The state of a guest, numbered from 0, at a time."""
        moved = self._moves(guest)
        if minute < moved:
            return State.OLD
        if minute < moved + SILENT_MINUTES and _is_one_in(guest, OUT_OF_REACH):
            return State.SILENT
        return State.WORSE if guest // GUESTS_PER_HOST % UNSTABLE == UNSTABLE // 2 else State.MOVED

    def _moves(self, guest: int) -> float:
        """When a guest moves: spread evenly over its wave."""
        if _is_one_in(guest + 1, FORGOTTEN):
            return float("inf")
        place, first = guest / self.guests, 0.0
        for wave in WAVES:
            if place < wave.share:
                return wave.begin + (wave.end - wave.begin) * (place - first) / (wave.share - first)
            first = wave.share
        raise ValueError(f"guest {guest} is none of {self.guests}")


def _is_one_in(guest: int, share: float) -> bool:
    """Whether a guest is one of a share, spread evenly over the fleet."""
    return guest % round(1 / share) == 0
