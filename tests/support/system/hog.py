"""A real-time task that holds a CPU and lets nobody else run there, for a bounded time. A script of its own.

Source: sched(7). The kernel keeps a little of each second for others, so that they run there sometimes, but late.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

PRIORITY = 10
MOST_SECONDS = 60
SPINNING = "spinning\n"


@contextmanager
def hog(cpu: int) -> Iterator[None]:
    """Hold a CPU while the block runs. Raises PermissionError where nobody may."""
    with subprocess.Popen([sys.executable, __file__, str(cpu)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != SPINNING:
                raise PermissionError("real-time tasks need CAP_SYS_NICE")
            yield
        finally:
            process.kill()


def main() -> None:
    """``hog.py CPU``."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except PermissionError:
        return
    sys.stdout.write(SPINNING)
    sys.stdout.flush()
    end = time.monotonic() + MOST_SECONDS
    while time.monotonic() < end:
        pass


if __name__ == "__main__":
    main()
