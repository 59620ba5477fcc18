"""``python -m benchmarks.sweeper exporter|dev_cpu LEAF…``: reads all CPUs each time that a line comes in.

Prints the nanoseconds that it took, and those of them that the thread ran, as sweep.c does. A process of its own, as
that one is: the scheduler treats who has just run worse than who has slept.
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
    """Seconds: all of them, and those that the thread ran."""

    time: float
    cpu: float


def timed(job: Callable[[], object]) -> Took:
    """What a job takes in this thread."""
    start, cpu = time.perf_counter(), time.thread_time()
    job()
    used = time.thread_time() - cpu
    return Took(time.perf_counter() - start, used)


def read_devices(cpus: Sequence[int], leaves: Sequence[int]) -> None:
    """The leaves by the kernel's cpuid driver: one file a CPU, one read a leaf."""
    for place, cpu in enumerate(cpus):
        descriptor = os.open(f"/dev/cpu/{cpu}/cpuid", os.O_RDONLY)
        try:
            for leaf in (*(BASES if place == 0 else ()), *leaves):
                os.pread(descriptor, 16, leaf)
        finally:
            os.close(descriptor)


def main() -> None:
    """Until nothing more comes in."""
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
    # As in the daemon: not in the main thread, whose mask stays as it is.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(main).result()
