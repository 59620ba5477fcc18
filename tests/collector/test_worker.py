"""kvm_exporter.collector.worker: the thread that reads runs one job after the other, and stuck visits are given up."""

import asyncio
import threading
from functools import partial

import pytest

from kvm_exporter.collector import worker
from kvm_exporter.collector.worker import Worker
from lab.live import LiveMachine
from lab.patience import PATIENCE_SECONDS
from lab.proc import wait_until
from tests.support.rooms.loop import in_loop


@in_loop
async def test_jobs_run_one_after_the_other_in_a_thread_that_nobody_waits_for() -> None:
    """Jobs run in order in one daemon thread, which is not the thread of the event loop."""
    running = Worker(LiveMachine())
    ran: list[tuple[int, threading.Thread]] = []

    def job(number: int) -> None:
        ran.append((number, threading.current_thread()))

    await asyncio.gather(*(running.submit(partial(job, number)) for number in range(9)))
    assert [number for number, _ in ran] == list(range(9))
    [thread] = {thread for _, thread in ran}
    assert (thread.name, thread.daemon) == ("kvm-reader", True)
    assert thread is not threading.current_thread()


@in_loop
async def test_a_job_that_fails_tells_the_one_who_waits() -> None:
    """A job's exception is raised where its result is awaited, and the next job runs."""
    running = Worker(LiveMachine())
    with pytest.raises(ZeroDivisionError):
        await running.submit(lambda: 1 // 0)
    assert await running.submit(lambda: "well") == "well"


@in_loop
async def test_a_job_that_is_stuck_on_a_cpu_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A visit that is the same at two successive checks is given up, so that the job ends."""
    monkeypatch.setattr(worker, "VISIT_CHECK_SECONDS", 0.02)
    machine = LiveMachine()

    def job() -> str:
        machine.visit = object()
        assert machine.freed.wait(PATIENCE_SECONDS)
        machine.visit = None
        return "freed"

    assert await Worker(machine).submit(job) == "freed"


class Checked:
    """A machine that is at another visit whenever it is checked, or always at none, and counts the checks."""

    def __init__(self, *, visiting: bool) -> None:
        self._visiting = visiting
        self.checks = 0
        self.given_up = False

    @property
    def visit(self) -> object | None:
        """The visit to a CPU that goes on now."""
        self.checks += 1
        return object() if self._visiting else None

    def unstick(self) -> None:
        """End the visit that goes on."""
        self.given_up = True


@pytest.mark.parametrize("visiting", [True, False], ids=["visits", "no visit"])
@in_loop
async def test_a_job_that_takes_long_is_left_alone(monkeypatch: pytest.MonkeyPatch, *, visiting: bool) -> None:
    """A job with many short visits, and one without a visit, is not given up however long it takes."""
    monkeypatch.setattr(worker, "VISIT_CHECK_SECONDS", 0.01)
    machine = Checked(visiting=visiting)
    await Worker(machine).submit(lambda: wait_until(lambda: machine.checks > 5))
    assert not machine.given_up


def test_a_job_may_outlive_its_event_loop() -> None:
    """A job that ends after its event loop raises nothing in the thread, and jobs of the next loop run."""
    machine = LiveMachine()
    door, begun = threading.Event(), threading.Event()
    running: list[Worker] = []

    def job() -> None:
        begun.set()
        assert door.wait(PATIENCE_SECONDS)

    async def leave_it() -> None:
        running.append(Worker(machine))
        running[0].submit(job)
        await asyncio.get_running_loop().run_in_executor(None, begun.wait, PATIENCE_SECONDS)

    async def go_on() -> str:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await running[0].submit(lambda: "well")

    asyncio.run(leave_it())
    door.set()
    assert asyncio.run(go_on()) == "well"
