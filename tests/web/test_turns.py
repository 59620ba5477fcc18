"""kvm_exporter.web.turns: whose job is next, which job loses its place, and what an empty queue forgets."""

from collections.abc import Iterator

import pytest

from kvm_exporter.web import turns
from kvm_exporter.web.turns import MAX_OF_PEER, MAX_WAITING, Turns


def add(queue: Turns[str], *jobs: str) -> list[str]:
    """Add jobs, each named by its peer, rank and number, such as a0-1; return those that lose their place."""
    lost = (queue.add(job, job[0], int(job[1])) for job in jobs)
    return [job for job in lost if job is not None]


def drained(queue: Turns[str]) -> Iterator[str]:
    """Yield the jobs in their order."""
    while (job := queue.next()) is not None:
        yield job


@pytest.mark.parametrize(
    ("jobs", "order"),
    [
        ("a0-1 a0-2 a0-3", "a0-1 a0-2 a0-3"),
        ("a2-1 a0-2 a1-3 a0-4", "a0-2 a0-4 a1-3 a2-1"),
        ("a0-1 a0-2 a0-3 b0-4", "a0-1 b0-4 a0-2 a0-3"),
        ("a0-1 a0-2 b2-3 b1-4 c0-5", "a0-1 c0-5 b1-4 a0-2 b2-3"),
    ],
    ids=["one peer", "ranks of one peer", "two peers", "ranks of several peers"],
)
def test_the_order(jobs: str, order: str) -> None:
    """The peer that was served least comes first; of equals the lowest rank, then the oldest job."""
    queue = Turns[str]()
    assert add(queue, *jobs.split()) == []
    assert list(drained(queue)) == order.split()


def test_a_new_peer_comes_before_a_flood() -> None:
    """A peer that comes while others are served waits for none of their jobs, however many addresses they have."""
    queue = Turns[str]()
    add(queue, *(f"{peer}0-{number}" for peer in "abc" for number in range(3)))
    assert [queue.next() for _ in range(3)] == ["a0-0", "b0-0", "c0-0"]
    add(queue, "d2-1", "e0-1")
    assert [queue.next() for _ in range(3)] == ["e0-1", "d2-1", "a0-1"]


def test_an_empty_queue_forgets() -> None:
    """What was done counts only until no job waits any more."""
    queue = Turns[str]()
    add(queue, "a0-1")
    assert list(drained(queue)) == ["a0-1"]
    add(queue, "a0-2", "b0-1")
    assert list(drained(queue)) == ["a0-2", "b0-1"]


def test_what_is_counted_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that is never empty forgets as well, so that peers with ever new addresses take no memory."""
    monkeypatch.setattr(turns, "MAX_PEERS", 1)
    queue = Turns[str]()
    add(queue, "a0-1", "a0-2", "b0-1")
    assert list(drained(queue)) == ["a0-1", "a0-2", "b0-1"]


def test_a_peer_may_have_so_many_jobs() -> None:
    """One more takes the place of that peer's last in turn, or loses its own; no other peer loses any."""
    queue = Turns[str]()
    assert add(queue, "b2-1", *(f"a1-{number}" for number in range(MAX_OF_PEER))) == []
    assert add(queue, "a1-x", "a2-y", "a0-z") == ["a1-x", "a2-y", f"a1-{MAX_OF_PEER - 1}"]


def test_all_may_have_so_many_jobs() -> None:
    """One more takes a place of the peer that has most; where all have equally many, the last in turn loses its own."""
    queue = Turns[str]()
    crowd = [f"{chr(0x100 + number)}1-{number}" for number in range(MAX_WAITING - 2)]
    assert add(queue, *crowd, "a0-1", "a2-2") == []
    assert add(queue, "b1-1") == ["a2-2"]
    assert add(queue, "c1-1") == ["c1-1"]
    assert queue.next() == "a0-1"
    assert queue.next() == crowd[0]
    assert add(queue, "d1-1", crowd[0], "e1-1") == [crowd[0]]
