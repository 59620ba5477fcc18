"""The cost of a sweep of all CPUs: the daemon, a bare loop in C, the kernel's device files, and the program cpuid."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks.effort import Effort
from benchmarks.figures import Figure, ratios
from benchmarks.programs import compiled, found
from benchmarks.sweeper import Took, timed
from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.cpuid.machine import Machine
from kvm_exporter.cpuid.registers import Reader, Registers
from kvm_exporter.cpuid.topology import Topology
from kvm_exporter.kvm.leaves import read_cpu

LEAFLESS_CPUS = 1000
"""The number of CPUs in own_overhead(), large enough to measure the cost of one."""

REST_SECONDS = 0.01

BLOCK = 10
"""The number of sweeps in a block."""

MICROSECONDS = 1e6
"""Microseconds in a second."""


class Block(NamedTuple):
    """The times of consecutive sweeps: of the first one, and the median of the others."""

    first: Took
    again: Took


Way = Callable[[], Took]
"""A function that reads all CPUs once and returns the time that it took."""


def measure(effort: Effort) -> Iterator[Figure]:
    """Yield the ratios, the time of a sweep, and the exporter's own overhead for each CPU."""
    took = in_turn(effort)
    with ThreadPoolExecutor(1) as thread:
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
    """Return the blocks of each way, measured in turn. The first block is for warming up and does not count."""
    leaves = [hex(leaf) for leaf in leaves_of(Machine(Topology()))]
    commands: dict[str, list[str | Path]] = {
        "exporter": [sys.executable, "-m", "benchmarks.sweeper", "exporter"],
        "c_loop": [compiled("sweep", effort.folder), *leaves],
    }
    if Path("/dev/cpu/0/cpuid").exists():
        commands["dev_cpu"] = [sys.executable, "-m", "benchmarks.sweeper", "dev_cpu", *leaves]
    with ExitStack() as stack:
        ways: dict[str, Way] = {
            name: partial(
                answer, stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            )
            for name, command in commands.items()
        }
        if program := found("cpuid"):
            run = partial(subprocess.run, [program, "-r"], check=True, stdout=subprocess.DEVNULL)
            ways["cpuid_program"] = lambda: timed(run)
        rounds = [{name: in_a_row(way) for name, way in ways.items()} for _ in range(effort.blocks + 1)]
    return {name: [took[name] for took in rounds[1:]] for name in ways}


def in_a_row(way: Way) -> Block:
    """Measure one block after a sleep, so that the first sweep has cold caches, as in the daemon."""
    time.sleep(REST_SECONDS)
    first, *again = (way() for _ in range(BLOCK))
    return Block(first, Took(median(took.time for took in again), median(took.cpu for took in again)))


def answer(process: subprocess.Popen[bytes]) -> Took:
    """Let a process of sweep.c or sweeper.py do one sweep; return the time, by the clocks of that process."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the process needs pipes for standard input and output")
    process.stdin.write(b"\n")
    process.stdin.flush()
    nanoseconds = (int(word) / 1e9 for word in process.stdout.readline().split())
    return Took(*nanoseconds)


def leaves_of(machine: Machine) -> list[int]:
    """Return the leaves that a sweep reads on each CPU that equals the others, leaf 1 first."""
    read: list[int] = []

    def note(leaf: int, subleaf: int) -> Registers:
        read.append(leaf)
        return machine.anywhere(leaf, subleaf)

    read_cpu(note, sweep(machine, CpuSelection(), None).anywhere.hypervisors)
    return read


class LeaflessMachine:
    """A Source whose CPUs have no leaf to read. It pins the thread to the same real CPU for each of them."""

    def __init__(self, cpus: int) -> None:
        self._machine = Machine(Topology())
        self._here = min(os.sched_getaffinity(0))
        self._online = tuple(range(cpus))

    def online(self) -> tuple[int, ...]:
        """Return the numbers of all CPUs."""
        return self._online

    def isolated(self) -> frozenset[int]:
        """Return an empty set."""
        return frozenset()

    def pvclock(self) -> None:
        """Return None: it has no pvclock page."""

    def allowed(self) -> frozenset[int]:
        """Return the CPUs that the process may run on: those that are online."""
        return frozenset(self.online())

    def reading(self) -> AbstractContextManager[None]:
        """Return the context of the real machine."""
        return self._machine.reading()

    def anywhere(self, leaf: int, subleaf: int) -> Registers:
        """Return zeros: there is no hypervisor."""
        del leaf, subleaf
        return Registers(0, 0, 0, 0)

    def on(self, cpu: int) -> Reader:
        """Pin the thread to the real CPU; return a reader of zeros."""
        del cpu
        self._machine.on(self._here)
        return self.anywhere


def own_overhead(times: int) -> list[float]:
    """Return the microseconds of a sweep for each CPU without a leaf to read, pinning included, several times."""
    machine = LeaflessMachine(LEAFLESS_CPUS)
    took = [timed(lambda: sweep(machine, CpuSelection(), None)) for _ in range(times + 1)]
    return [all_of_them.time * MICROSECONDS / LEAFLESS_CPUS for all_of_them in took[1:]]
