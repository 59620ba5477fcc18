"""The turns that tests take: one that is to be alone meets no other, and is not overtaken."""

import fcntl
import threading
from pathlib import Path

import pytest

from lab.patience import PATIENCE_SECONDS
from lab.proc import wait_until
from tests.support import turn as turns
from tests.support.turn import turn


@pytest.fixture(autouse=True)
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Other files to lock than those by which this test has its own turn."""
    for name in ("DOOR", "ROOM"):
        (tmp_path / name).touch()
        monkeypatch.setattr(turns, name, tmp_path / name)
    return tmp_path / "DOOR"


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file."""
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.parametrize(("first", "second"), [(False, True), (True, False), (True, True)])
def test_one_that_is_to_be_alone_meets_no_other(door: Path, *, first: bool, second: bool) -> None:
    """The second waits for the end of the first."""
    entered = threading.Event()

    def enter() -> None:
        with turn(alone=second):
            entered.set()

    thread = threading.Thread(target=enter)
    with turn(alone=first):
        thread.start()
        wait_until(lambda: is_locked(door))
        assert not entered.is_set()
    assert entered.wait(PATIENCE_SECONDS)
    thread.join()


def test_others_go_side_by_side() -> None:
    """Nobody waits."""
    with turn(alone=False), turn(alone=False):
        pass
