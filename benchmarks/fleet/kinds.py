"""The machines of a fleet by kind: what a real exporter serves on one of each, and how many there are."""

import re
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.fleet.bodies import body, cpus

ALL, OLDER, OLDEST, STOLEN = 0x0100_7EFB, 0x0100_7AFB, 0x0100_007B, 0x0100_7EDB

BASELINE = "features: {required: [clocksource2, steal_time, clocksource_stable_bit], forbidden: [hints_realtime]}\n"

KINDS = {
    "usual": (cpus(ALL, ALL), cpus(ALL, ALL)),
    "older": (cpus(OLDER, OLDER), cpus(OLDER, OLDER)),
    "rare": (cpus(OLDEST, OLDEST), cpus(OLDEST, OLDEST)),
    "gained": (cpus(OLDER, OLDER), cpus(ALL, ALL)),
    "lost": (cpus(ALL, ALL), cpus(STOLEN, STOLEN)),
    "uneven": (cpus(ALL, ALL), cpus(ALL, STOLEN)),
}
"""The CPUs of each kind of machine at boot and now."""

IN_A_THOUSAND = {"older": 80, "gained": 20, "lost": 5, "rare": 2, "uneven": 1}
"""How many of a thousand machines are of each kind; all others are usual."""

_SAMPLED = re.compile(r"^(kvm_exporter_sample_timestamp_seconds) .*$", re.MULTILINE)


def kind_of(machine: int) -> str:
    """Return the kind of a machine; machines are numbered from 0."""
    place = machine * 7 % 1000
    for kind, count in IN_A_THOUSAND.items():
        if place < count:
            return kind
        place -= count
    return "usual"


def name(machine: int) -> str:
    """Return the name of a machine."""
    return f"guest-{machine:05}"


def bodies(folder: Path) -> Callable[[str], bytes]:
    """Run an exporter on a machine of each kind; return a function: the body of a kind, sampled now."""
    found = {kind: body(folder / kind, boot, now, BASELINE) for kind, (boot, now) in KINDS.items()}
    return lambda kind: _SAMPLED.sub(rf"\1 {time.time()}", found[kind]).encode()
