"""The rows of ``cpuid -r`` in a text, whatever a terminal, mail, document or log has put around them.

Nothing is guessed. Text may stand before the first CPU and after the last row. What stands before or after a row on its
line has to be the same on every row, apart from digits and white space: quotes, comment signs, time stamps of a log.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kvm_exporter.cpuid.registers import BASES, Registers
from kvm_exporter.errors import InputError

WHOLE_ROW = "'0x40000001 0x00: eax=0x… ebx=0x… ecx=0x… edx=0x…'"

_ROW = re.compile(
    r"(?<!\w)0x([0-9a-f]++)\s+0x([0-9a-f]++):\s*"
    r"eax=0x([0-9a-f]++)\s+ebx=0x([0-9a-f]++)\s+ecx=0x([0-9a-f]++)\s+edx=0x([0-9a-f]++)(?!\w)",
    re.IGNORECASE,
)
_PART_OF_A_ROW = re.compile(r"0x[0-9a-f]++\s++0x[0-9a-f]++:|e[abcd]x=[^=]*e[abcd]x=", re.IGNORECASE)
_LEAF_FIRST = re.compile(r"\W*0x", re.IGNORECASE)
_HEADER = re.compile(r"(.*)(?<!\w)CPU(?:\s++([0-9]{1,6}))?:(.*)", re.DOTALL)
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
_NUMBER = re.compile(r"[0-9]+")

#: Colours, titles and modes of a terminal (ECMA-48: CSI, OSC, and the escape sequences of two or three characters).
_TERMINAL = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
#: Characters without width, and the NULs of UTF-16 without a byte order mark.
_INVISIBLE = dict.fromkeys((0, 0xAD, *range(0x200B, 0x2010), 0x2060, 0xFEFF))

_WORD_MAX = 0xFFFF_FFFF
_SHOWN = 40
"""How many characters of a line a message quotes."""


HOST_MARK = "KVM_GET_SUPPORTED_CPUID"
"""What follows ``CPU 0:`` in a host's dump: the rows are what KVM can offer, not what a CPU returned."""


class Header(NamedTuple):
    """A line such as ``CPU 3:``; the CPU is None in ``CPU:``."""

    line: int
    cpu: int | None
    #: Whether HOST_MARK follows.
    of_host: bool = False


class Row(NamedTuple):
    """What one leaf and subleaf returned."""

    line: int
    leaf: int
    subleaf: int
    registers: Registers


class Text(NamedTuple):
    """A line that is neither."""

    line: int
    text: str


class _Around(NamedTuple):
    """What stands before and after a row on its line."""

    before: str
    after: str


_NOTHING = _Around("", "")


def read_lines(data: bytes) -> list[str]:
    """The lines of a text in UTF-8, UTF-16 or Latin-1, without line ends and without what no reader sees."""
    text = _TERMINAL.sub("", _decode(data).translate(_INVISIBLE))
    return [line.strip() for line in text.split("\n")]


def quote(text: str) -> str:
    """The beginning of a line for a message."""
    return repr(text[:_SHOWN])


def find_rows(lines: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The line number and leaf of every row that is whole."""
    for number, line in enumerate(lines, 1):
        if row := _ROW.search(line):
            yield number, int(row[1], 16)


def has_several_rows(line: str) -> bool:
    """Whether a line has more than one row, as where a program has joined lines."""
    return len(_ROW.findall(line)) > 1


def find_damaged(lines: Sequence[str]) -> int | None:
    """The number of the first line that has only a part of a row."""
    return next((number for number, line in enumerate(lines, 1) if _is_damaged(line)), None)


def find_header(lines: Sequence[str]) -> int | None:
    """The number of the first line that is the header of a CPU."""
    headers = (_header(line, number, _NOTHING, anywhere=True) for number, line in enumerate(lines, 1))
    return next((header.line for header in headers if header), None)


def damaged(number: int, line: str) -> InputError:
    """The error for a row that is not whole."""
    return InputError(
        f"line {number}: expected {WHOLE_ROW}, found {quote(line)}; join a wrapped row, or record the dump again"
    )


def has_leaves(lines: Sequence[str]) -> bool:
    """Whether any row is of leaf 1, which has the hypervisor bit, or of a leaf where a signature may be."""
    return any(leaf == 1 or leaf in BASES for _, leaf in find_rows(lines))


def read_entries(lines: Sequence[str]) -> Iterator[Header | Row | Text]:
    """The entries of a text that has rows, from the header of its first CPU on, in order.

    Lines without a letter or digit are left out. Raises InputError for a row that is damaged, or that has another text
    around it than the first row.
    """
    first, around = next((number, _around(row)) for number, row in enumerate(map(_ROW.search, lines), 1) if row)
    start = _first_header(lines, first, around)
    odd: tuple[int, _Around] | None = None
    for number, line in enumerate(lines, 1):
        if row := _ROW.search(line):
            entry = _row(row, number)
            if odd:
                raise _surrounded(*odd, first, around)
            if not _is_like(here := _around(row), around):
                odd = number, here  # only the last row may have another text after it
                if not _is_like(here[:1], around[:1]):
                    raise _surrounded(*odd, first, around)
            yield entry
        elif _is_damaged(line) or (number > first and _LEAF_FIRST.match(line)):
            raise damaged(number, line)
        elif number >= start and (header := _header(line, number, around, anywhere=number == start)):
            yield header
        elif number > start and not _is_blank(line, around):
            yield Text(number, line)


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _around(row: re.Match[str]) -> _Around:
    return _Around(row.string[: row.start()].strip(), row.string[row.end() :].strip())


def _is_like(some: Sequence[str], others: Sequence[str]) -> bool:
    """Whether texts are the same apart from what differs between the lines of a log: numbers, and the width of gaps."""
    return some == others or all(_skeleton(one) == _skeleton(other) for one, other in zip(some, others, strict=True))


def _skeleton(text: str) -> str:
    return _NUMBER.sub("0", " ".join(text.split()))


def _first_header(lines: Sequence[str], first: int, around: _Around) -> int:
    """The line where the first CPU begins: the last header before the first row, or that row itself.

    A header that directly follows another is of a second CPU, so that the dump begins with the one above.
    """
    start = next((at for at in range(first - 1, 0, -1) if _header(lines[at - 1], at, around, anywhere=True)), first)
    while 1 < start < first and _header(lines[start - 2], start - 1, around):
        start -= 1
    return start


def _header(line: str, number: int, around: _Around, *, anywhere: bool = False) -> Header | None:
    """The header in a line, if the same stands around it as around the rows; before the first row, also behind text."""
    found = _HEADER.fullmatch(line)
    if not found:
        return None
    before, _, after = found.groups()
    of_host = after.lstrip().startswith(HOST_MARK)
    is_ended = of_host or _is_like([after], [around.after]) or not _LETTER_OR_DIGIT.search(after)
    if is_ended and (anywhere or _is_like([before], [around.before])):
        return Header(number, None if found[2] is None else int(found[2]), of_host)
    return None


def _row(row: re.Match[str], number: int) -> Row:
    """The values of a row. Raises InputError if they are too large, or if the row is a part of something else."""
    before, after = _around(row)
    if "0x" in before.lower() or after[:1].isalnum():
        raise damaged(number, row.string)
    leaf, subleaf, *words = (int(word, 16) for word in row.groups())
    for value in (leaf, subleaf, *words):
        if value > _WORD_MAX:
            raise InputError(f"line {number}: {value:#x} is over 32 bits")
    return Row(number, leaf, subleaf, Registers(*words))


def _surrounded(number: int, here: _Around, first: int, around: _Around) -> InputError:
    place, side = ("after", 1) if _is_like(here[:1], around[:1]) else ("before", 0)
    return InputError(
        f"line {number}: the text {place} the row is {quote(here[side])}, and {quote(around[side])} in line {first}; "
        f"remove the text {place} the rows"
    )


def _is_damaged(line: str) -> bool:
    return _PART_OF_A_ROW.search(line) is not None and not _ROW.search(line)


def _is_blank(line: str, around: _Around) -> bool:
    """Whether a line says nothing: a fence, dots, an empty line behind a comment sign or a time stamp."""
    return not _LETTER_OR_DIGIT.search(line) or _is_like([line], ["".join(around)])
