"""The order in which one worker does the waiting jobs of many peers: peers take turns, so that none shuts out another.

No I/O. A flood from one address delays a job of another address by one job at most.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_OF_PEER = 16
MAX_WAITING = 64
"""Most jobs that may wait, of one peer and of all."""

MAX_PEERS = 4096
"""Most peers whose jobs are counted while the queue never becomes empty."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[T]):
    """A job with its place: ``number`` counts the jobs in the order in which they were added."""

    job: T
    peer: str
    rank: int
    number: int


class Turns(Generic[T]):
    """A bounded queue of jobs.

    The next job is of the peer with the fewest jobs done since the queue was last empty. Of equal peers, and among the
    jobs of one peer, it is the job of the lowest rank, then the oldest.
    """

    def __init__(self) -> None:
        self._waiting: list[_Waiting[T]] = []
        self._done: Counter[str] = Counter()
        self._added = 0

    def add(self, job: T, peer: str, rank: int) -> T | None:
        """Add a job. If too many wait, return the job that loses its place, which may be this one; else None.

        It is a job of the peer with the most waiting jobs: that peer's last in turn.
        """
        self._added += 1
        self._waiting.append(_Waiting(job, peer, rank, self._added))
        crowd = Counter(waiting.peer for waiting in self._waiting)
        if crowd[peer] > MAX_OF_PEER:
            last = max((waiting for waiting in self._waiting if waiting.peer == peer), key=self._turn)
        elif len(self._waiting) > MAX_WAITING:
            last = max(self._waiting, key=lambda waiting: (crowd[waiting.peer], *self._turn(waiting)))
        else:
            return None
        self._waiting.remove(last)
        return last.job

    def next(self) -> T | None:
        """Remove the next job and return it, or return None if none waits."""
        if not self._waiting or len(self._done) >= MAX_PEERS:
            self._done.clear()
        if not self._waiting:
            return None
        first = min(self._waiting, key=self._turn)
        self._waiting.remove(first)
        self._done[first.peer] += 1
        return first.job

    def _turn(self, waiting: _Waiting[T]) -> tuple[int, int, int]:
        """Return the sort key of a job: the smallest is next."""
        return self._done[waiting.peer], waiting.rank, waiting.number
