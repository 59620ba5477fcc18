"""Parses and formats the output of ``cpuid -r`` for one or many CPUs. A parsed Dump is a Source of registers.

A host's dump has the same rows, and says in its header that they are what KVM can offer. ``cpuid -f`` reads it too: it
ignores what follows ``CPU 0:``. Source: cpuid(1), options -r and -f.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from kvm_exporter.cpuid.other_formats import RECORD, not_a_dump
from kvm_exporter.cpuid.registers import BASES, HYPERVISOR_BIT, Reader, Registers
from kvm_exporter.cpuid.rows import HOST_MARK, Header, Row, Text, has_leaves, quote, read_entries, read_lines
from kvm_exporter.errors import InputError

Rows = Mapping[tuple[int, int], Registers]
"""The registers of one CPU by (leaf, subleaf), in the order of the text."""

_ZEROS = Registers(0, 0, 0, 0)
_LEAF_1 = (1, 0)
_ASSUMED_LEAF_1 = Registers(0, 0, HYPERVISOR_BIT, 0)


@dataclass(frozen=True, slots=True)
class Dump:
    """The rows of each CPU, readable as a Source.

    A base without a row reads as zeros, as an unused base does. The first base must have one, if no other has a
    signature: cpuid and ``kvm-exporter dump`` always write it under a hypervisor, so without it the dump is cut.
    """

    cpus: Mapping[int, Rows]
    #: The line number of each CPU's header, for error messages.
    lines: Mapping[int, int] = field(default_factory=dict, compare=False)
    #: True for a dump of one CPU without a number, as ``cpuid -1 -r`` prints it. That CPU has number 0 here.
    unnumbered: bool = False
    #: True for what the KVM of a host can offer to guests (KVM_GET_SUPPORTED_CPUID), in place of a CPU's leaves.
    of_host: bool = False
    #: What is taken for granted to decode it, a sentence each. Not compared: it follows from the rows.
    assumptions: tuple[str, ...] = field(default=(), compare=False)

    def online(self) -> tuple[int, ...]:
        """Return the numbers of the CPUs in the dump, ascending."""
        return tuple(sorted(self.cpus))

    def isolated(self) -> frozenset[int]:
        """Return an empty set: reading a dump does not disturb an isolated CPU."""
        return frozenset()

    def allowed(self) -> frozenset[int]:
        """The CPUs of the dump."""
        return frozenset(self.cpus)

    def reading(self) -> AbstractContextManager[None]:
        """Return a context manager that does nothing: a dump needs no preparation."""
        return nullcontext()

    def anywhere(self, leaf: int, subleaf: int) -> Registers:
        """Return the registers of the first CPU. Raises InputError if the dump has no row for the leaf."""
        return self.on(self.online()[0])(leaf, subleaf)

    def pvclock(self) -> None:
        """Return None: a dump has no pvclock page."""

    def on(self, cpu: int) -> Reader:
        """Return a Reader of one CPU's rows. The Reader raises InputError if the dump has no row for a leaf."""
        rows, line = self.cpus[cpu], self.lines.get(cpu, 1)

        def read(leaf: int, subleaf: int) -> Registers:
            if (found := rows.get((leaf, subleaf))) is not None:
                return found
            if leaf in BASES and (leaf != BASES.start or self.of_host or _signature(rows) is not None):
                return _ZEROS
            if (leaf, subleaf) == _LEAF_1 and self.assumptions:
                return _ASSUMED_LEAF_1
            raise _missing(line, cpu, leaf)

        return read


def parse_dump(data: bytes) -> Dump:
    """The dump in a text that holds exactly one machine. Raises InputError."""
    lines = read_lines(data)
    if not has_leaves(lines):
        raise not_a_dump(data, lines)
    machine = _Machine()
    for entry in read_entries(lines):
        machine.add(entry)
    assumptions = _assumptions(machine.cpus, machine.lines)
    return Dump(machine.cpus, machine.lines, machine.unnumbered, machine.of_host, assumptions)


def format_dump(dump: Dump) -> str:
    """Format a dump as ``cpuid -r`` prints it; parse_dump() reads it back."""
    text = []
    mark = f" {HOST_MARK}: what this host's KVM can offer to guests" if dump.of_host else ""
    for cpu, rows in dump.cpus.items():
        text.append(f"{'CPU' if dump.unnumbered else f'CPU {cpu}'}:{mark}")
        for (leaf, subleaf), (eax, ebx, ecx, edx) in rows.items():
            text.append(
                f"   {leaf:#010x} {subleaf:#04x}: eax={eax:#010x} ebx={ebx:#010x} ecx={ecx:#010x} edx={edx:#010x}"
            )
    return "\n".join(text) + "\n"


class _Machine:
    """The CPUs of one machine, as they are read. Raises InputError where a second machine begins."""

    def __init__(self) -> None:
        self.cpus: dict[int, dict[tuple[int, int], Registers]] = {}
        self.lines: dict[int, int] = {}
        self.unnumbered = False
        self.of_host = False
        self._cpu = 0
        self._has_rows = False
        #: A text after a row: no further row may follow.
        self._text: Text | None = None
        #: The error if a row follows: a header that this machine cannot have. Decoded output may have it as well.
        self._second: InputError | None = None

    def add(self, entry: Header | Row | Text) -> None:
        """Add what the next line holds."""
        match entry:
            case Header():
                self._add_header(entry)
            case Row():
                self._add_row(entry)
            case Text():
                self._text = self._text or (entry if self._has_rows else None)

    def _add_header(self, header: Header) -> None:
        cpu = header.cpu or 0
        if self._second is not None:
            return
        if cpu in self.cpus and header.cpu is not None and not self.unnumbered:
            self._second = _two_machines(header.line, f"CPU {cpu} is in line {self.lines[cpu]} already")
        elif self.cpus and (self.unnumbered or header.cpu is None):
            self._second = _two_machines(header.line, "a CPU without a number has to be the only one")
        elif self.cpus and (self.of_host or header.of_host):
            self._second = _two_machines(header.line, "a host's dump must contain nothing else")
        else:
            self._begin(header.line, header.cpu)
            self.of_host = header.of_host

    def _add_row(self, row: Row) -> None:
        if self._second is not None:
            raise self._second
        if not self.cpus:
            self._begin(row.line, None)
        rows = self.cpus[self._cpu]
        if (row.leaf, row.subleaf) in rows:
            of = "" if self.unnumbered else f" of CPU {self._cpu}"
            what = f"leaf {row.leaf:#010x} subleaf {row.subleaf:#04x}{of} is there already"
            raise _two_machines(row.line, what)
        self._refuse_text()
        rows[row.leaf, row.subleaf] = row.registers
        self._has_rows = True

    def _begin(self, line: int, cpu: int | None) -> None:
        self._refuse_text()
        self._cpu, self.unnumbered = cpu or 0, cpu is None
        self.cpus[self._cpu] = {}
        self.lines[self._cpu] = line

    def _refuse_text(self) -> None:
        if self._text is not None:
            raise InputError(
                f"line {self._text.line}: {quote(self._text.text)} stands between rows; delete the line, "
                "or put each machine into a file of its own if a second one begins here"
            )


def _two_machines(line: int, why: str) -> InputError:
    return InputError(f"line {line}: two machines: {why}; put each into a file of its own")


def _missing(line: int, cpu: int, leaf: int) -> InputError:
    return InputError(f"line {line}: CPU {cpu} has no row for leaf {leaf:#010x}: the dump is not whole; {RECORD}")


def _assumptions(cpus: Mapping[int, Rows], lines: Mapping[int, int]) -> tuple[str, ...]:
    """What stands for leaf 1 where no CPU has it. Raises InputError for a CPU that lacks it otherwise."""
    lacking = [cpu for cpu, rows in cpus.items() if _LEAF_1 not in rows]
    if not lacking:
        return ()
    signatures = [_signature(cpus[cpu]) for cpu in lacking]
    if len(lacking) < len(cpus):
        raise _missing(lines[lacking[0]], lacking[0], 1)
    if None in signatures:
        cpu = lacking[signatures.index(None)]
        raise InputError(
            f"line {lines[cpu]}: CPU {cpu} has neither leaf 0x00000001 nor a hypervisor's signature; {RECORD}"
        )
    return (f"leaf 1 is missing; assuming that a hypervisor is present, because {signatures[0]}",)


def _signature(rows: Rows) -> str | None:
    """Where a hypervisor's signature is, if there is one: 12 bytes of text, with NULs at the end (cpuid.rst)."""
    for (leaf, _), registers in rows.items():
        text = b"".join(word.to_bytes(4, "little") for word in registers[1:]).rstrip(b"\0").decode("latin-1")
        if leaf in BASES and text[4:] and text.isascii() and text.isprintable():
            return f"leaf {leaf:#010x} holds the signature {text!r}"
    return None
