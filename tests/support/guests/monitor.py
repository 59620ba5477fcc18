"""QEMU's monitor: its machine protocol over a serial line."""

import json
import time
from typing import Any

from lab.patience import GUEST_PATIENCE_SECONDS
from tests.support.guests.serial import Line, SilentError


class MonitorError(Exception):
    """QEMU refused a command."""


class Monitor:
    """Commands to one QEMU."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def greet(self) -> None:
        """Wait for QEMU to start, and agree to speak."""
        self._line.until(r'\{"QMP": .*\n')
        self.run("qmp_capabilities")

    def run(self, command: str, **arguments: Any) -> Any:  # noqa: ANN401 - as JSON has it
        """The answer to a command. Raises MonitorError."""
        self._line.send(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        while True:
            answer = json.loads(self._line.until(r"\{.*\}\r?\n")[0])
            if "error" in answer:
                raise MonitorError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def save(self, path: str) -> None:
        """Migrate the guest to a file; it stays paused. Raises MonitorError, SilentError."""
        gigabyte = 1 << 30
        self.run("migrate-set-parameters", **{"max-bandwidth": gigabyte})
        self.run("migrate", uri=f"exec:cat > {path}")
        self._poll("query-migrate", "completed")

    def resume(self) -> None:
        """Wait until a guest has been migrated in, and let it run on if it was paused. Raises SilentError."""
        self._poll("query-status", "running", "paused")
        self.run("cont")

    def byte(self, address: int) -> int:
        """Return a byte of the guest's memory at a physical address."""
        text: str = self.run("human-monitor-command", **{"command-line": f"xp /1xb {address:#x}"})
        return int(text.partition(":")[2], 16)

    def _poll(self, command: str, *wanted: str) -> None:
        deadline = time.monotonic() + GUEST_PATIENCE_SECONDS
        while (status := self.run(command).get("status")) not in wanted:
            if status == "failed":
                raise MonitorError(f"{command} says that it failed")
            if time.monotonic() > deadline:
                raise SilentError(f"{command} still says {status}, not {' or '.join(wanted)}")
            time.sleep(0.1)
