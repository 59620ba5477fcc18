"""Real KVM guests on any machine: QEMU emulates an AMD processor whose Linux runs QEMU with KVM.

The hypervisor is the emulated machine; a guest is a stock Linux in it. The guest's shell and its QEMU's monitor are the
hypervisor's third and fourth serial ports, so that both are reached from here like the hypervisor's own shell.
"""

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar

from tests.support.guests.images import SERVER
from tests.support.guests.monitor import Monitor
from tests.support.guests.qemu import BARE, COMMAND_LINE, Machine
from tests.support.guests.serial import Shell, SilentError

PROCESSOR = ("-cpu", "EPYC,+svm,+npt,check=off", "-m", "3072")

GUEST = (
    *(f"/{SERVER}", *BARE, "-M", "q35", "-accel", "kvm", "-m", "256"),
    *("-L", "/usr/share/seabios", "-L", "/usr/share/qemu", "-kernel", "/vmlinuz", "-initrd", "/guest.cpio"),
    *("-chardev", "serial,id=shell,path=/dev/ttyS2", "-chardev", "serial,id=monitor,path=/dev/ttyS3"),
    *("-mon", "monitor,mode=control"),
)

TWO_CPUS = ("-smp", "2")

T = TypeVar("T")


class Hypervisor:
    """An emulated machine that runs one guest at a time."""

    def __init__(self, image: Path, processors: int) -> None:
        self.processors = processors
        self._machine = Machine(image, 3, *PROCESSOR, "-smp", str(processors))
        self._guest_line, self._monitor_line = self._machine.lines[1:]
        self.shell = Shell(self._machine.lines[0])
        self.starts = 0
        try:
            self.shell.wait()
        except SilentError as error:
            error.add_note(self._machine.log())
            self.stop()
            raise

    @contextmanager
    def guest(self, cpu: str, cpus: Sequence[str] = TWO_CPUS, switches: str = "") -> Iterator["Guest"]:
        """A guest that has started, with QEMU's -cpu, flags for its CPUs, and boot switches; it is gone at the end."""
        for line in (self._guest_line, self._monitor_line):
            line.discard()
        guest = Guest(self, Shell(self._guest_line), Monitor(self._monitor_line), switches)
        guest.start(cpu, cpus)
        guest.shell.wait()
        yield guest
        guest.quit()

    def log(self) -> str:
        """What the guests and the machine itself have said."""
        try:
            guests = self.shell.run("tail -n 40 /log-* /console-* || true", seconds=10)
        except SilentError:
            guests = "the hypervisor does not answer"
        return f"{guests}\n{self._machine.log()}"

    def stop(self) -> None:
        """Pull the plug."""
        self._machine.stop()


class Guest:
    """A stock Linux with the exporter, in a hypervisor."""

    def __init__(self, hypervisor: Hypervisor, shell: Shell, monitor: Monitor, switches: str) -> None:
        self.shell = shell
        self.monitor = monitor
        self._hypervisor = hypervisor
        self._command_line = f"{COMMAND_LINE} {switches}".rstrip()
        self._process = ""

    def start(self, cpu: str, cpus: Sequence[str], *flags: str) -> None:
        """Start QEMU. Names of files are new at every start."""
        self._hypervisor.starts += 1
        number = self._hypervisor.starts
        ports = ("-serial", f"file:/console-{number}", "-serial", "chardev:shell")
        command = shlex.join((*GUEST, "-append", self._command_line, *ports, "-cpu", cpu, *cpus, *flags))
        self._process = self._hypervisor.shell.run(f"{command} >/log-{number} 2>&1 & echo $!").strip()
        self.monitor.greet()

    def move(self, cpu: str, cpus: Sequence[str] = TWO_CPUS) -> None:
        """Migrate to a file and on into another QEMU, as if to another host: what CPUID says may change."""
        state = f"/state-{self._hypervisor.starts}"
        self.monitor.save(state)
        self.quit()
        self.start(cpu, cpus, "-incoming", f"exec:cat {state}")
        self.monitor.resume()
        self._hypervisor.shell.run(f"rm {state}")

    def share_a_processor(self) -> None:
        """Have QEMU and its vCPUs take turns on one processor, until the guest moves: a host with too many guests."""
        self._hypervisor.shell.run(f"taskset -ap 1 {self._process}")

    def quit(self) -> None:
        """End QEMU, whatever the guest does."""
        self.monitor.run("quit")
        self._hypervisor.shell.run(f"wait {self._process}")


class Laboratory:
    """A hypervisor that is started again, once for each experiment, if it or its guest falls silent.

    Guests of an emulated hypervisor have been seen to stop for no cause that was found, which says nothing about the
    exporter. It is told; a second time it is the experiment's failure.
    """

    def __init__(self, image: Path, say: Callable[[str], None]) -> None:
        self._image = image
        self._say = say
        self._hypervisor: Hypervisor | None = None

    def attempt(self, experiment: Callable[[Hypervisor], T], processors: int = 1) -> T:
        """What the experiment returns. Raises SilentError if it fell silent twice.

        One processor is enough for most, although a guest has two CPUs: emulated ones wait for each other whenever this
        machine's are busy.
        """
        try:
            return self._once(experiment, processors)
        except SilentError as error:
            self._say("\n".join(["the emulated hypervisor is started once more:", str(error), *error.__notes__]))
            return self._once(experiment, processors)

    def _once(self, experiment: Callable[[Hypervisor], T], processors: int) -> T:
        if self._hypervisor is not None and self._hypervisor.processors != processors:
            self._stop()
        hypervisor = self._hypervisor or Hypervisor(self._image, processors)
        self._hypervisor = hypervisor
        try:
            return experiment(hypervisor)
        except Exception as error:
            # Whatever went wrong, the guest is still there: the next experiment gets a machine of its own.
            error.add_note(hypervisor.log())
            self._stop()
            raise

    def _stop(self) -> None:
        if self._hypervisor is not None:
            self._hypervisor.stop()
            self._hypervisor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
