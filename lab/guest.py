"""A guest that is a folder: its leaves, its kernel's files, and what an exporter that runs in it keeps."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from kvm_exporter.cpuid.dump import Dump, Rows, format_dump
from lab.process import Process

LEAVES, ROOT = "leaves.txt", "root"
"""In the folder: a dump, and where ``/proc`` and ``/sys`` are."""

EAGER = 1e-6
"""Seconds: every scrape finds the sample too old."""

_LISTENING = re.compile(r"listening on \S+:(\d+)")

_CLOCKSOURCE = "sys/devices/system/clocksource/clocksource0"

Cpus = Mapping[int, Rows]


class Guest:
    """What the folder says, its guest is from now on."""

    def __init__(self, folder: Path, cpus: Cpus) -> None:
        self.folder = folder
        self.runtime_directory = folder / "run"
        self.runtime_directory.mkdir(parents=True)
        self.change(cpus)

    def change(self, cpus: Cpus) -> None:
        """From now on the guest has these CPUs with these leaves, all at once."""
        new = self.folder / "leaves.new"
        new.write_text(format_dump(Dump(cpus)))
        new.replace(self.folder / LEAVES)

    def hide(self) -> None:
        """From now on nothing of CPUID can be read, until the leaves change."""
        (self.folder / LEAVES).unlink()

    def boot(self, switches: str = "") -> None:
        """Have a kernel that uses kvm-clock and steal time, and was given these switches."""
        files = {
            "proc/cmdline": f"root=/dev/vda1 {switches}\n",
            "proc/stat": "cpu  9000 0 4000 80000 500 0 100 42 0 0\n",
            f"{_CLOCKSOURCE}/available_clocksource": "tsc kvm-clock acpi_pm\n",
            f"{_CLOCKSOURCE}/current_clocksource": "kvm-clock\n",
        }
        for name, text in files.items():
            path = self.folder / ROOT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def exporter(self, *flags: str, max_age: float = EAGER) -> Sequence[str]:
        """The command line of the daemon in the guest; see lab/daemon.py for its flags."""
        return (sys.executable, "-m", "lab.daemon", str(self.folder), f"--max-age={max_age:f}", *flags)

    @property
    def environment(self) -> Mapping[str, str]:
        """What the daemon needs to be told beside its flags."""
        return {"RUNTIME_DIRECTORY": os.fspath(self.runtime_directory)}


def port_of(exporter: Process) -> int:
    """The port that an exporter listens on first, as its log says. Raises LogError."""
    found = _LISTENING.search(exporter.wait_for_log("listening on"))
    assert found is not None
    return int(found[1])
