"""A machine that QEMU emulates on this one, with unix sockets for serial ports."""

import os
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from lab.patience import GUEST_PATIENCE_SECONDS
from tests.support.guests.images import ROOT, kernel
from tests.support.guests.initramfs import loaded
from tests.support.guests.serial import Line, SilentError

PROGRAM = "usr/bin/qemu-system-x86_64"
MODULES = "usr/lib/x86_64-linux-gnu/qemu"

COMMAND_LINE = "console=ttyS0 quiet panic=-1 no_timer_check tsc=nowatchdog"
"""What a kernel is told: messages to the first serial port, and an end at once if it cannot go on. It does not wait for
ticks of the timer to believe in it: on a busy machine they come too late, and the kernel would give up. It does not
judge its TSC by another clock either: a hypervisor that gives up its TSC has guests with an unstable kvm-clock."""

BARE = ("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot")
"""No devices but those that are asked for."""


class Machine:
    """A QEMU process without KVM that boots our kernel, with the kernel's console in a file and lines to talk over.

    Every start has a folder of its own: no socket or file is ever used twice.
    """

    def __init__(self, image: Path, lines: int, *flags: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="kvm-exporter-")
        folder = Path(self._folder.name)
        self._console = folder / "console"
        self._log = folder / "log"
        listeners = [_listen(folder / f"line{number}") for number in range(lines)]
        ports = [flag for number in range(lines) for flag in ("-serial", f"unix:{folder / f'line{number}'}")]
        firmware = [flag for name in ("qemu", "seabios") for flag in ("-L", str(ROOT / "usr/share" / name))]
        command = [
            # Not even tests that are killed leave it behind.
            *("setpriv", "--pdeathsig", "KILL"),
            *loaded(ROOT, PROGRAM, *BARE, *firmware, "-machine", "q35", "-accel", "tcg,thread=multi"),
            *("-kernel", str(kernel()), "-initrd", str(image), "-append", COMMAND_LINE),
            *("-serial", f"file:{self._console}", *ports, *flags),
        ]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "QEMU_MODULE_DIR": str(ROOT / MODULES)},
            )
        self.lines: list[Line] = []
        try:
            for listener in listeners:
                self.lines.append(Line(_accept(listener)))
        except SilentError as error:
            error.add_note(self.log())
            self.stop()
            raise

    def log(self) -> str:
        """What QEMU and the kernel have said."""
        return "".join(path.read_text(errors="replace") for path in (self._log, self._console) if path.exists())

    def stop(self) -> None:
        """Pull the plug."""
        self._process.kill()
        self._process.wait()
        for line in self.lines:
            line.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    listener.settimeout(GUEST_PATIENCE_SECONDS)
    return listener


def _accept(listener: socket.socket) -> socket.socket:
    with listener:
        try:
            return listener.accept()[0]
        except TimeoutError:
            raise SilentError("QEMU did not start") from None
