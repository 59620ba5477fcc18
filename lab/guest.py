"""A guest that is simulated by a folder: its leaves, its kernel's files, and its exporter's runtime directory."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from kvm_exporter.cpuid.dump import Dump, Rows, format_dump
from lab.machine import PVCLOCK
from lab.process import Process
from lab.pvclock import pvclock_page

LEAVES, ROOT = "leaves.txt", "root"
"""Names in the folder: the dump of the CPUs, and the root of ``/proc`` and ``/sys``."""

EAGER = 1e-6
"""A max-age in seconds, so short that every scrape takes a new sample."""

_LISTENING = re.compile(r"listening on \S+:(\d+)")

_CLOCKSOURCE = "sys/devices/system/clocksource/clocksource0"

Cpus = Mapping[int, Rows]


class Guest:
    """A simulated guest; its exporter reads the folder, so a change of the folder is a change of the guest."""

    def __init__(self, folder: Path, cpus: Cpus) -> None:
        self.folder = folder
        self.runtime_directory = folder / "run"
        self.runtime_directory.mkdir(parents=True)
        self.change(cpus)

    def change(self, cpus: Cpus) -> None:
        """Replace the guest's CPUs and their leaves atomically."""
        new = self.folder / "leaves.new"
        new.write_text(format_dump(Dump(cpus)))
        new.replace(self.folder / LEAVES)

    def hide(self) -> None:
        """Make CPUID unreadable until the next call of change()."""
        (self.folder / LEAVES).unlink()

    def boot(self, switches: str = "") -> None:
        """Write the files of a kernel that uses kvm-clock and steal time and has these switches on its command line.

        KVM's pvclock page is there from then on, and says stable.
        """
        self.set_clock()
        files = {
            "proc/cmdline": f"root=/dev/vda1 {switches}\n",
            "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu hypervisor\n",
            "proc/stat": "cpu  9000 0 4000 80000 500 0 100 42 0 0\n",
            "proc/sys/kernel/osrelease": "6.1.0-50-cloud-amd64\n",
            "sys/devices/system/cpu/possible": "0-1\n",
            f"{_CLOCKSOURCE}/available_clocksource": "tsc kvm-clock acpi_pm\n",
            f"{_CLOCKSOURCE}/current_clocksource": "kvm-clock\n",
        }
        for name, text in files.items():
            path = self.folder / ROOT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def set_clock(self, *, tsc_khz: int = 2_600_000, stable: bool = True) -> None:
        """Replace KVM's pvclock page."""
        (self.folder / PVCLOCK).write_bytes(pvclock_page(tsc_khz=tsc_khz, flags=int(stable)))

    def exporter(self, *flags: str, max_age: float = EAGER) -> Sequence[str]:
        """Return the command line of the daemon in the guest; lab/daemon.py lists its flags."""
        return (sys.executable, "-m", "lab.daemon", str(self.folder), f"--max-age={max_age:f}", *flags)

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment variables of the daemon."""
        return {"RUNTIME_DIRECTORY": os.fspath(self.runtime_directory)}


def port_of(exporter: Process) -> int:
    """Return the first port that an exporter listens on, read from its log. Raises LogError."""
    found = _LISTENING.search(exporter.wait_for_log("listening on"))
    assert found is not None
    return int(found[1])
