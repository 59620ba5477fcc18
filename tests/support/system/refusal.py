"""Runs a program to which the kernel says no: one system call fails, by a seccomp filter that it cannot take off.

A script of its own, so that the filter is in place before the program begins. Source: seccomp(2), the kernel's
include/uapi/linux/filter.h and arch/x86/entry/syscalls/syscall_64.tbl.
"""

import ctypes
import os
import struct
import sys

CALLS = {"sched_setaffinity": 203, "arch_prctl": 158}
"""Numbers on x86-64."""

ARCH_GET_CPUID = 0x1011

_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL = 0x7FFF_0000, 0x0005_0000
_NUMBER_OFFSET, _ARGUMENTS_OFFSET = 0, 16  # struct seccomp_data
_PR_SET_SECCOMP, _MODE_FILTER = 22, 2
_PR_SET_NO_NEW_PRIVS = 38


def refusing(call: str, error: int, argument: int | None = None) -> list[str]:
    """The beginning of a command line: what follows runs with a call failing by an errno value.

    Only calls with this first argument, if there is one. The value 0 makes the call succeed without doing anything.
    """
    words = [call, str(error)] if argument is None else [call, str(error), str(argument)]
    return [sys.executable, __file__, *words, "--"]


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def _filter(call: str, error: int, argument: int | None) -> bytes:
    """Classic BPF: struct sock_filter of code, jump if true, jump if false, operand."""
    conditions = [(_NUMBER_OFFSET, CALLS[call])]
    if argument is not None:
        conditions.append((_ARGUMENTS_OFFSET, argument))
    instructions: list[tuple[int, int, int, int]] = []
    for offset, value in reversed(conditions):
        to_the_end = len(instructions) + 1
        instructions[:0] = [(_LOAD_WORD, 0, 0, offset), (_JUMP_IF_EQUAL, 0, to_the_end, value)]
    instructions += [(_RETURN, 0, 0, _FAIL | error), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions)


def main() -> None:
    """``refusal.py CALL ERRNO [ARGUMENT] -- PROGRAM…``."""
    end = sys.argv.index("--")
    call, error, *argument = sys.argv[1:end]
    instructions = _filter(call, int(error), int(argument[0]) if argument else None)
    program = _Program(len(instructions) // 8, instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    for request in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0),
    ):
        if libc.prctl(*request) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    command = sys.argv[end + 1 :]
    os.execvp(command[0], command)  # noqa: S606 - what the test says, without a shell


if __name__ == "__main__":
    main()
