"""What a sweep of all CPUs costs: the daemon's, a bare loop in C, the kernel's device files, and the program cpuid."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.effort import Effort
from benchmarks.figures import Figure, ratios
from benchmarks.programs import compiled, found
from kvm_exporter.cpuid import Machine
from kvm_exporter.leaves import BASES, survey
from kvm_exporter.registers import Reader, Registers
from kvm_exporter.sweep import Selection, look
from kvm_exporter.topology import Topology

NOBODYS_CPUS = 1000
"""So many, for what is spent on one of them."""

REST_SECONDS = 0.01

BLOCK = 10
"""Sweeps in a row."""

MICROSECONDS = 1e6
"""A second."""


class Took(NamedTuple):
    """Seconds: all of them, and those that the thread ran."""

    time: float
    cpu: float


class Block(NamedTuple):
    """Sweeps in a row: the first, and the median of the others."""

    first: Took
    again: Took


Way = Callable[[], Took]
"""Reads all CPUs once."""


def measure(effort: Effort) -> Iterator[Figure]:
    """Ratios, the sweep itself, and our own share of it."""
    # As in the daemon: not in the main thread, whose mask stays as it is.
    with ThreadPoolExecutor(1) as thread:
        took = thread.submit(in_turn, effort).result()
        own = thread.submit(own_overhead, max(effort.blocks // 2, 1)).result()
    for clock, what in ((0, "sweep"), (1, "sweep_cpu")):
        for name in took.keys() - {"exporter"} if clock == 0 else {"c_loop"}:
            mine, theirs = ([block.again[clock] for block in took[way]] for way in ("exporter", name))
            yield Figure(f"{what}_vs_{name}", ratios(mine, theirs), target=1.15 if name == "c_loop" else None)
    mine, theirs = ([block.first.cpu for block in took[way]] for way in ("exporter", "c_loop"))
    yield Figure("sweep_cpu_vs_c_loop_in_cold_caches", ratios(mine, theirs))
    yield Figure("sweep_own_overhead_per_cpu", own, "µs", 25)
    for name, blocks in took.items():
        yield Figure(f"sweep_of_{name}", [block.again.time * MICROSECONDS for block in blocks], "µs")


def in_turn(effort: Effort) -> dict[str, list[Block]]:
    """What each way takes, one after the other, in blocks; the first of these does not count."""
    machine = Machine(Topology())
    leaves = leaves_of(machine)
    loop = subprocess.Popen(
        [compiled("sweep", effort.folder), *map(hex, leaves)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with loop:
        ways: dict[str, Way] = {
            "exporter": lambda: timed(lambda: look(machine, Selection(), None)),
            "c_loop": lambda: looped(loop),
        }
        if Path("/dev/cpu/0/cpuid").exists():
            ways["dev_cpu"] = lambda: timed(lambda: read_devices(machine.online(), leaves))
        if program := found("cpuid"):
            command = [program, "-r"]
            ways["cpuid_program"] = lambda: timed(
                lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            )
        rounds = [{name: in_a_row(way) for name, way in ways.items()} for _ in range(effort.blocks + 1)]
    return {name: [took[name] for took in rounds[1:]] for name in ways}


def in_a_row(way: Way) -> Block:
    """The first after a sleep, as the daemon's thread has had, with nothing in the CPU's caches that it needs."""
    first, *again = (rested(way, REST_SECONDS if number == 0 else REST_SECONDS / 10) for number in range(BLOCK))
    return Block(first, Took(median(took.time for took in again), median(took.cpu for took in again)))


def rested(way: Way, seconds: float) -> Took:
    """The scheduler lets who has just run wait for a CPU: none of them has."""
    time.sleep(seconds)
    return way()


def timed(job: Callable[[], object]) -> Took:
    """What a job takes in this thread."""
    start, cpu = time.perf_counter(), time.thread_time()
    job()
    used = time.thread_time() - cpu
    return Took(time.perf_counter() - start, used)


def looped(loop: subprocess.Popen[bytes]) -> Took:
    """What one turn of sweep.c took, by its own clocks."""
    if loop.stdin is None or loop.stdout is None:
        raise RuntimeError("sweep.c is asked and answers over pipes")
    loop.stdin.write(b"\n")
    loop.stdin.flush()
    time_, cpu = (int(word) / 1e9 for word in loop.stdout.readline().split())
    return Took(time_, cpu)


def leaves_of(machine: Machine) -> list[int]:
    """The leaves that a sweep reads on a CPU where it finds what it has found elsewhere, leaf 1 first."""
    read: list[int] = []

    def note(leaf: int, subleaf: int) -> Registers:
        read.append(leaf)
        return machine.anywhere(leaf, subleaf)

    survey(note, look(machine, Selection(), None).anywhere.hypervisors)
    return read


def read_devices(cpus: Sequence[int], leaves: Sequence[int]) -> None:
    """The same leaves by the kernel's cpuid driver: one file a CPU, one read a leaf."""
    for place, cpu in enumerate(cpus):
        descriptor = os.open(f"/dev/cpu/{cpu}/cpuid", os.O_RDONLY)
        try:
            for leaf in (*(BASES if place == 0 else ()), *leaves):
                os.pread(descriptor, 16, leaf)
        finally:
            os.close(descriptor)


class LeaflessMachine:
    """A Source of CPUs that have no leaf to read: each of them is the same real CPU, to which the thread is pinned."""

    def __init__(self, cpus: int) -> None:
        self._machine = Machine(Topology())
        self._here = min(os.sched_getaffinity(0))
        self._online = tuple(range(cpus))

    def online(self) -> tuple[int, ...]:
        """So many."""
        return self._online

    def isolated(self) -> frozenset[int]:
        """None."""
        return frozenset()

    def reading(self) -> AbstractContextManager[None]:
        """As ever."""
        return self._machine.reading()

    def anywhere(self, leaf: int, subleaf: int) -> Registers:
        """There is no hypervisor."""
        del leaf, subleaf
        return Registers(0, 0, 0, 0)

    def on(self, cpu: int) -> Reader:
        """Pin the thread, and read nothing there."""
        del cpu
        self._machine.on(self._here)
        return self.anywhere


def own_overhead(times: int) -> list[float]:
    """Microseconds that a sweep spends on a CPU, its pin included, where there is no leaf to read."""
    machine = LeaflessMachine(NOBODYS_CPUS)
    took = [timed(lambda: look(machine, Selection(), None)) for _ in range(times + 1)]
    return [all_of_them.time * MICROSECONDS / NOBODYS_CPUS for all_of_them in took[1:]]
