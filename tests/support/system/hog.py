"""A real-time task that holds a CPU, on which nothing else runs until the task is ended.

Source: sched(7). The kernel keeps a little of each second for others, so that they run there sometimes, but late.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lab.process import MORTAL
from lab.tree import REPOSITORY

PRIORITY = 10
SPINNING = "spinning\n"


@contextmanager
def hog(cpu: int) -> Iterator[None]:
    """Hold a CPU while the block runs. Raises PermissionError where real-time tasks are not permitted."""
    with subprocess.Popen(
        [*MORTAL, sys.executable, "-m", __name__, str(cpu)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != SPINNING:
                raise PermissionError("real-time tasks need CAP_SYS_NICE")
            yield
        finally:
            process.kill()


def main() -> None:
    """``python -m tests.support.system.hog CPU``."""
    os.sched_setaffinity(0, {int(sys.argv[1])})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except PermissionError:
        return
    sys.stdout.write(SPINNING)
    sys.stdout.flush()
    while True:
        pass


if __name__ == "__main__":
    main()
