"""Parses and formats the output of ``cpuid -r`` for one or many CPUs. A parsed Dump is a Source of registers.

Source: cpuid(1), option -r.
"""

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from kvm_exporter.cpuid.registers import BASES, Reader, Registers
from kvm_exporter.errors import InputError

Rows = Mapping[tuple[int, int], Registers]
"""The registers of one CPU by (leaf, subleaf), in the order of the text."""

_HEADER = re.compile(r"CPU(?: ([0-9]{1,6}))?:")
_ROW = re.compile(
    r"0x([0-9a-f]+) 0x([0-9a-f]+): eax=0x([0-9a-f]+) ebx=0x([0-9a-f]+) ecx=0x([0-9a-f]+) edx=0x([0-9a-f]+)",
    re.IGNORECASE,
)
_WORD_MAX = 0xFFFF_FFFF
_ZEROS = Registers(0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Dump:
    """The rows of each CPU, readable as a Source. A base without a row reads as zeros, as an unused base does."""

    cpus: Mapping[int, Rows]
    #: The line number of each CPU's header, for error messages.
    lines: Mapping[int, int] = field(default_factory=dict, compare=False)
    #: True for a dump of one CPU without a number, as ``cpuid -1 -r`` prints it. That CPU has number 0 here.
    unnumbered: bool = False

    def online(self) -> tuple[int, ...]:
        """Return the numbers of the CPUs in the dump, ascending."""
        return tuple(sorted(self.cpus))

    def isolated(self) -> frozenset[int]:
        """Return an empty set: reading a dump does not disturb an isolated CPU."""
        return frozenset()

    def reading(self) -> AbstractContextManager[None]:
        """Return a context manager that does nothing: a dump needs no preparation."""
        return nullcontext()

    def anywhere(self, leaf: int, subleaf: int) -> Registers:
        """Return the registers of the first CPU. Raises InputError if the dump has no row for the leaf."""
        return self.on(self.online()[0])(leaf, subleaf)

    def on(self, cpu: int) -> Reader:
        """Return a Reader of one CPU's rows. The Reader raises InputError if the dump has no row for a leaf."""
        rows, line = self.cpus[cpu], self.lines.get(cpu, 1)

        def read(leaf: int, subleaf: int) -> Registers:
            if (found := rows.get((leaf, subleaf))) is not None:
                return found
            if leaf in BASES:
                return _ZEROS
            raise InputError(
                f"line {line}: CPU {cpu} has no row for leaf {leaf:#010x}: the dump is truncated; record it again"
            )

        return read


def parse_dump(data: bytes) -> Dump:
    """Parse the output of ``cpuid -r``. Raises InputError, which names the line, if the data is not such a dump."""
    cpus: dict[int, dict[tuple[int, int], Registers]] = {}
    lines: dict[int, int] = {}
    unnumbered = False
    rows: dict[tuple[int, int], Registers] | None = None
    all_lines = _lines(data)
    for number, line in enumerate(all_lines, 1):
        text = line.strip()
        if not text:
            continue
        if header := _HEADER.fullmatch(text):
            cpu = int(header[1] or 0)
            if cpu in cpus or (cpus and (unnumbered or header[1] is None)):
                raise InputError(f"line {number}: duplicate CPU {cpu}; keep one")
            unnumbered = header[1] is None
            rows = cpus[cpu] = {}
            lines[cpu] = number
        elif rows is None:
            raise InputError(f"line {number}: expected 'CPU 0:', found {text[:40]!r}; is this the output of cpuid -r?")
        else:
            _add_row(rows, text, number)
    if not cpus:
        raise InputError(f"line {len(all_lines)}: the dump has no CPU; record one with kvm-exporter dump or cpuid -r")
    for cpu, found in cpus.items():
        if (1, 0) not in found:
            raise InputError(f"line {lines[cpu]}: CPU {cpu} has no row for leaf 0x00000001; record the dump again")
    return Dump(cpus, lines, unnumbered)


def format_dump(dump: Dump) -> str:
    """Format a dump as ``cpuid -r`` prints it; parse_dump() reads it back."""
    text = []
    for cpu, rows in dump.cpus.items():
        text.append("CPU:" if dump.unnumbered else f"CPU {cpu}:")
        for (leaf, subleaf), (eax, ebx, ecx, edx) in rows.items():
            text.append(
                f"   {leaf:#010x} {subleaf:#04x}: eax={eax:#010x} ebx={ebx:#010x} ecx={ecx:#010x} edx={edx:#010x}"
            )
    return "\n".join(text) + "\n"


def _lines(data: bytes) -> list[str]:
    try:
        return data.decode().split("\n")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"line {number}: byte {data[error.start]:#04x} is not UTF-8; is this a text file?") from None


def _add_row(rows: dict[tuple[int, int], Registers], text: str, number: int) -> None:
    row = _ROW.fullmatch(text)
    if not row:
        raise InputError(
            f"line {number}: expected '0x40000001 0x00: eax=0x… ebx=0x… ecx=0x… edx=0x…', found {text[:40]!r}"
        )
    leaf, subleaf, *words = (int(word, 16) for word in row.groups())
    for value in (leaf, subleaf, *words):
        if value > _WORD_MAX:
            raise InputError(f"line {number}: {value:#x} does not fit into 32 bits; record the dump again")
    if (leaf, subleaf) in rows:
        raise InputError(f"line {number}: duplicate leaf {leaf:#010x} subleaf {subleaf:#04x}; keep one")
    rows[leaf, subleaf] = Registers(*words)
