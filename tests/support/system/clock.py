"""Clocks that jump while a program runs: Debian's libfaketime between it and the C library."""

import sysconfig
from pathlib import Path

from tests.support.tools import missing

LIBRARY = Path("/usr/lib") / str(sysconfig.get_config_var("MULTIARCH")) / "faketime" / "libfaketime.so.1"


class Clock:
    """A program's own, which is right at first."""

    def __init__(self, folder: Path, *, monotonic: bool) -> None:
        if not LIBRARY.exists():
            missing("libfaketime")
        self._file = folder / "clock"
        self.jump("+0")
        self.environment = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": str(int(not monotonic)),
        }
        """What a program starts with whose wall clock jumps, and with ``monotonic`` all of its clocks."""

    def jump(self, offset: str) -> None:
        """From now on the clock is this far from the right time: ``+365d``, ``-10y``."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.replace(self._file)
