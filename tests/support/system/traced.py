"""Programs that are stopped, or refused something, at a system call: Debian's strace. Source: strace(1), inject=."""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lab.exporter import UNMEASURED
from lab.patience import PATIENCE_SECONDS
from tests.support.tools import missing, program

_CALL = re.compile(r"(\d+) +(\w+)\((.*)")


class Call(NamedTuple):
    """A system call of a program's first thread: its name, how many of that name came before and it, and the rest."""

    name: str
    number: int
    rest: str


def calls(command: Sequence[str], log: Path) -> list[Call]:
    """The system calls of a run to its end."""
    ended = _strace([], command, log)
    if "ptrace" in ended.stderr:
        missing("the right to trace programs")
    assert ended.returncode == 0, ended.stderr
    lines = log.read_text(errors="replace").splitlines()
    first = lines[0].split()[0]
    found, numbers = [], Counter[str]()
    for match in map(_CALL.match, lines):
        if match is not None and match[1] == first:
            numbers[match[2]] += 1
            found.append(Call(match[2], numbers[match[2]], match[3]))
    return found


def disturbed(command: Sequence[str], call: Call, how: str, log: Path) -> subprocess.CompletedProcess[str]:
    """A run in which that call is disturbed: ``signal=KILL`` before it happens, or ``error=EIO`` instead."""
    return _strace([f"--trace={call.name}", f"--inject={call.name}:{how}:when={call.number}"], command, log)


def _strace(options: Sequence[str], command: Sequence[str], log: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("strace"), "--follow-forks", f"--output={log}", *options, *command],
        env={**os.environ, **UNMEASURED},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
