"""``python -m benchmarks.sweeper exporter|dev_cpu LEAF…``: read all CPUs for each line of standard input.

For each line it prints the wall time and the CPU time of its thread, in nanoseconds, as sweep.c does. It is a separate
process, as sweep.c is, because the scheduler favours a process that has slept over one that has just run.
"""

import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.cpuid.machine import Machine
from kvm_exporter.cpuid.registers import BASES
from kvm_exporter.cpuid.topology import Topology


class Took(NamedTuple):
    """Wall time and CPU time of the thread, in seconds."""

    time: float
    cpu: float


def timed(job: Callable[[], object]) -> Took:
    """Run a job in this thread; return the time that it took."""
    start, cpu = time.perf_counter(), time.thread_time()
    job()
    used = time.thread_time() - cpu
    return Took(time.perf_counter() - start, used)


def read_devices(cpus: Sequence[int], leaves: Sequence[int]) -> None:
    """Read the leaves with the kernel's cpuid driver: one file for each CPU, one read for each leaf."""
    for place, cpu in enumerate(cpus):
        descriptor = os.open(f"/dev/cpu/{cpu}/cpuid", os.O_RDONLY)
        try:
            for leaf in (*(BASES if place == 0 else ()), *leaves):
                os.pread(descriptor, 16, leaf)
        finally:
            os.close(descriptor)


def main() -> None:
    """Read all CPUs for each line of standard input, until it ends."""
    way, *words = sys.argv[1:]
    machine, leaves = Machine(Topology()), [int(word, 0) for word in words]
    jobs: dict[str, Callable[[], object]] = {
        "exporter": lambda: sweep(machine, CpuSelection(), None),
        "dev_cpu": lambda: read_devices(machine.online(), leaves),
    }
    for _ in sys.stdin:
        took = timed(jobs[way])
        sys.stdout.write(f"{took.time * 1e9:.0f} {took.cpu * 1e9:.0f}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    # As in the daemon, another thread reads, so that the affinity mask of the main thread does not change.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(main).result()
