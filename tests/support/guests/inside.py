"""The exporter inside a guest, by way of the guest's shell."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lab.patience import GUEST_PATIENCE_SECONDS
from lab.scrape import Scrape
from tests.support.guests.images import KERNEL_STATE, STALE_READS
from tests.support.guests.serial import Shell

PORT = 10401

AFTER_BOOT = """
import ctypes, os, sys

CLONE_NEWTIME = 0x80  # for children; before Linux 6.3 not for the next program of this process
assert ctypes.CDLL(None).unshare(CLONE_NEWTIME) == 0
with open("/proc/self/timens_offsets", "w") as offsets:
    offsets.write(f"boottime {sys.argv[1]} 0")
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""Runs a command in a time namespace, time_namespaces(7): CLOCK_BOOTTIME says so many seconds more."""

SHOW_CODES = (0, 3)
"""On KVM, and not."""


def show(shell: Shell) -> dict[str, Any]:
    """What ``kvm-exporter show`` says."""
    shown: dict[str, Any] = json.loads(shell.run("kvm-exporter show --format=json", SHOW_CODES))
    return shown


def read(shell: Shell, path: str) -> str:
    """A file of the guest, without white space around."""
    return shell.run(f"cat {path}").strip()


Msrs = Mapping[int, Mapping[int, int]]
"""The values of KVM's MSRs, by CPU and number."""


@dataclass(frozen=True, slots=True)
class KernelState:
    """What a guest's kernel has enabled, read by kernel_state.py."""

    msrs: Msrs
    #: Whether pv_ops has kvm_io_delay().
    io_delay: bool
    #: Whether pvclock's valid_flags have PVCLOCK_TSC_STABLE_BIT.
    stable_bit: bool


def kernel_state(shell: Shell) -> KernelState:
    """Read it in the guest."""
    program = f"(grep -qw ^msr /proc/modules || insmod /modules/msr.ko) && python3 /{KERNEL_STATE}"
    state = json.loads(shell.run(program))
    msrs = {int(cpu): {int(msr): value for msr, value in values.items()} for cpu, values in state.pop("msrs").items()}
    return KernelState(msrs, **state)


def msrs(shell: Shell) -> Msrs:
    """Read KVM's MSRs of each online CPU."""
    return kernel_state(shell).msrs


def stale_reads(shell: Shell, cpu: int, rounds: int) -> int:
    """Return in how many rounds a CPU could read a page after another one had taken it away; see stale_reads.c."""
    return int(shell.run(f"/{STALE_READS} {cpu} {rounds}"))


class ServingExporter:
    """A daemon without a runtime directory that serves in the guest, until the guest ends.

    With ``after_boot``, its clock says that the guest started so many seconds earlier.
    """

    def __init__(self, shell: Shell, *flags: str, port: int = PORT, after_boot: int = 0) -> None:
        self._shell = shell
        self._url = f"http://127.0.0.1:{port}"
        patient = f"--sample.timeout={GUEST_PATIENCE_SECONDS:.0f}s"
        command = ["kvm-exporter", "serve", f"--web.listen-address=127.0.0.1:{port}", patient, *flags]
        if after_boot:
            command = ["python3", "-c", AFTER_BOOT, str(after_boot), *command]
        self._log = f"/run/kvm-exporter-{port}.log"
        self.pid = shell.run(f"{shlex.join(command)} 2>{self._log} & echo $!").strip()
        # It has ended, or it serves.
        wait = f"while kill -0 {self.pid} && ! grep -q listening {self._log}; do sleep 0.1; done"
        shell.run(f"{wait}; cat {self._log}; kill -0 {self.pid}")

    def scrape(self) -> Scrape:
        """The series of ours; others and comments stay away, as the line is slow."""
        return Scrape(self._shell.run(f"wget -qO- {self._url}/metrics | grep ^kvm_"))

    def status(self) -> str:
        """The findings on the landing page, as HTML."""
        return self._shell.run(f"wget -qO- {self._url}/ | sed -n '/<section/,/<.section>/p'")

    def log(self) -> str:
        """What it has logged so far."""
        return read(self._shell, self._log)

    def identity(self) -> str:
        """Equal as long as it is the same process in the same boot."""
        return read(self._shell, f"/proc/sys/kernel/random/boot_id /proc/{self.pid}/stat").split("(")[0]

    def allowed_cpus(self) -> set[str]:
        """The CPUs that its threads may run on, as the kernel lists them."""
        listing = self._shell.run(f"grep -h Cpus_allowed_list /proc/{self.pid}/task/*/status")
        return {line.split()[1] for line in listing.splitlines()}
