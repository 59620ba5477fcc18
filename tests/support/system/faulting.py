"""``python -m tests.support.system.faulting …``: the program in a process where CPUID faults. Source: arch_prctl(2).

In the same process: the kernel makes a new program begin without it.
"""

import ctypes
import os
import sys

from kvm_exporter.app.cli import main as program

ARCH_SET_CPUID = 0x1012
ARCH_PRCTL = 158
"""The call's number on x86-64."""


def main() -> int:
    """Ask the kernel, then run the program. Raises OSError where the processor cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ARCH_PRCTL, ARCH_SET_CPUID, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return program()


if __name__ == "__main__":
    sys.exit(main())
