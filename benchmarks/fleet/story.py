"""A roll-out of a new host kernel over a fleet: the state of each guest at each minute.

The new kernel offers one more feature. Guests migrate to it live, first a few canaries, and more than an hour later the
others in waves. On some hosts, the new kernel finds the time stamp counter unstable and does not offer the stable-clock
bit. Some guests cannot be scraped for a while after they migrate, and a few guests are forgotten.
"""

from dataclasses import dataclass
from enum import Enum, auto

CANARY = 0.01
"""The share of the fleet that migrates first."""

GUESTS_PER_HOST = 4
UNSTABLE = 50
"""On one in this number of hosts, the new kernel does not offer the stable-clock bit."""

FORGOTTEN = 0.01
OUT_OF_REACH = 0.005
"""Shares of the fleet: guests that never migrate, and guests that cannot be scraped for a while after they migrate."""

SILENT_MINUTES = 15


class State(Enum):
    """The state of a guest."""

    #: On the old host kernel.
    OLD = auto()
    #: Migrated to the new host kernel: the guest has gained a feature.
    MOVED = auto()
    #: Migrated to a host with an unstable counter: the guest has gained a feature and lost another.
    WORSE = auto()
    #: The guest cannot be scraped.
    SILENT = auto()


@dataclass(frozen=True, slots=True)
class Wave:
    """A wave, in minutes of the story: the guests up to a share of the fleet migrate one after the other."""

    begin: int
    end: int
    share: float


WAVES = (Wave(10, 12, CANARY), *(Wave(100 + 30 * wave, 120 + 30 * wave, 0.25 * (wave + 1)) for wave in range(4)))
MINUTES = 300
"""The length of the story. The last wave ends at 210, and KvmFingerprintRare waits an hour for the forgotten guests."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """The story for a number of guests."""

    guests: int

    def state(self, guest: int, minute: float) -> State:
        """Return the state of a guest at a minute; guests are numbered from 0."""
        moved = self._moves(guest)
        if minute < moved:
            return State.OLD
        if minute < moved + SILENT_MINUTES and _is_one_in(guest, OUT_OF_REACH):
            return State.SILENT
        return State.WORSE if guest // GUESTS_PER_HOST % UNSTABLE == UNSTABLE // 2 else State.MOVED

    def _moves(self, guest: int) -> float:
        """Return the minute at which a guest migrates, or infinity; guests spread evenly over their wave."""
        if _is_one_in(guest + 1, FORGOTTEN):
            return float("inf")
        place, first = guest / self.guests, 0.0
        for wave in WAVES:
            if place < wave.share:
                return wave.begin + (wave.end - wave.begin) * (place - first) / (wave.share - first)
            first = wave.share
        raise ValueError(f"guest {guest} is not one of {self.guests}")


def _is_one_in(guest: int, share: float) -> bool:
    """Return whether a guest belongs to a share of the fleet; its guests are spread evenly."""
    return guest % round(1 / share) == 0
