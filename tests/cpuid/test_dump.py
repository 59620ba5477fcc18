"""kvm_exporter.cpuid.dump: parsing and formatting the text of ``cpuid -r``, parse errors, and a dump as a Source."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.cpuid.dump import Dump, format_dump, parse_dump
from kvm_exporter.cpuid.registers import BASES, Registers
from kvm_exporter.errors import InputError
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, Kvm, Leaves, SignatureLeaf
from kvm_exporter.kvm.sample import Sample
from lab.readers import BASE, ZEROS
from lab.tree import DUMPS, HOST_DUMPS, dump

TWO_CPUS = """\
CPU 0:
   0x00000000 0x00: eax=0x0000000d ebx=0x68747541 ecx=0x444d4163 edx=0x69746e65
   0x00000001 0x00: eax=0x00a00f11 ebx=0x00020800 ecx=0xfffa3203 edx=0x178bfbff
   0x00000004 0x01: eax=0x00000001 ebx=0x00000002 ecx=0x00000003 edx=0xffffffff
CPU 10:
   0x00000001 0x00: eax=0x00a00f11 ebx=0x01020800 ecx=0xfffa3203 edx=0x178bfbff
"""

HOST = "CPU 0: KVM_GET_SUPPORTED_CPUID: what this host's KVM can offer to guests\n"
LEAF_1 = "   0x00000001 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x80000000 edx=0x00000000\n"
SIGNATURE = "   0x40000000 0x00: eax=0x40000001 ebx=0x4b4d564b ecx=0x564b4d56 edx=0x0000004d\n"
FEATURES = "   0x40000001 0x00: eax=0x0100007b ebx=0x00000000 ecx=0x00000000 edx=0x00000000\n"
UNUSED = "   0x40000000 0x00: eax=0x00000016 ebx=0x000012c0 ecx=0x00000064 edx=0x00000000\n"

RECORD = "record all leaves with cpuid -r (without -l) or kvm-exporter dump"
APART = "put each into a file of its own"
ALREADY = f"is there already; {APART}"
ONLY_ONE = f"two machines: a CPU without a number has to be the only one; {APART}"
ONE_HOST = f"two machines: a host's dump must contain nothing else; {APART}"
NO_LEAF_1 = f"CPU {{}} has no row for leaf 0x00000001: the dump is not whole; {RECORD}"
BETWEEN = "stands between rows; delete the line, or put each machine into a file of its own if a second one begins here"

WORDS = st.integers(0, 2**32 - 1)
REGISTERS = st.builds(Registers, WORDS, WORDS, WORDS, WORDS)
ROWS = st.builds(
    lambda rows, leaf_1: rows | {(1, 0): leaf_1},
    st.dictionaries(st.tuples(WORDS, WORDS), REGISTERS, max_size=5),
    REGISTERS,
)
NUMBERED = st.builds(Dump, st.dictionaries(st.integers(0, 999_999), ROWS, min_size=1, max_size=3))
UNNUMBERED = st.builds(lambda rows: Dump({0: rows}, unnumbered=True), ROWS)
HOSTS = st.builds(lambda rows, unnumbered: Dump({0: rows}, unnumbered=unnumbered, of_host=True), ROWS, st.booleans())

LEAVES = st.sampled_from([0, 1, *range(BASE, BASE + 3), BASE + 0x10, 0x4000_0100, 0x4000_0101, 2**32 - 1, 2**32])
LINES = st.one_of(
    st.sampled_from(["", "  ", "CPU:", "CPU 0:", "CPU 1:", "CPU 999999:", "CPU 1000000:", "CPU -1:", LEAF_1.strip()]),
    st.builds(
        "   {:#010x} {:#04x}: eax={:#010x} ebx={:#010x} ecx={:#010x} edx={:#010x}".format,
        LEAVES,
        st.integers(0, 1),
        st.sampled_from([0, BASE, BASE + 1, BASE + 0x10, 2**32 - 1, 2**32]),
        st.sampled_from([0, 0x4B4D564B]),
        st.sampled_from([0, 0x564B4D56, 1 << 31]),
        st.sampled_from([0, 0x4D]),
    ),
    st.text(max_size=20),
)
"""Strategy: valid lines of a dump, and lines that are nearly valid."""


def damaged(line: str) -> str:
    """Return the message on a line that is not a whole row."""
    expected = "'0x40000001 0x00: eax=0x… ebx=0x… ecx=0x… edx=0x…'"
    return f"expected {expected}, found {line.strip()[:40]!r}; join a wrapped row, or record the dump again"


def test_every_row_of_every_cpu_is_read() -> None:
    """parse_dump() returns each leaf and subleaf under its CPU's number, and the line number of each CPU's header."""
    assert parse_dump(TWO_CPUS.encode()) == Dump(
        {
            0: {
                (0, 0): Registers(0xD, 0x68747541, 0x444D4163, 0x69746E65),
                (1, 0): Registers(0xA00F11, 0x20800, 0xFFFA3203, 0x178BFBFF),
                (4, 1): Registers(1, 2, 3, 0xFFFF_FFFF),
            },
            10: {(1, 0): Registers(0xA00F11, 0x1020800, 0xFFFA3203, 0x178BFBFF)},
        }
    )
    assert parse_dump(TWO_CPUS.encode()).lines == {0: 1, 10: 5}


def test_a_dump_of_one_cpu_may_lack_its_number() -> None:
    """``cpuid -1 -r`` prints the header 'CPU:'; that CPU gets the number 0."""
    assert parse_dump(f"CPU:\n{LEAF_1}".encode()) == Dump({0: {(1, 0): Registers(0, 0, 1 << 31, 0)}}, unnumbered=True)


@pytest.mark.parametrize(("header", "of_host"), [(HOST, True), ("CPU 0: KVM_GET_SUPPORTED\n", False)])
def test_a_host_is_told_by_what_follows_its_number(header: str, of_host: bool) -> None:  # noqa: FBT001
    """The name of KVM's ioctl makes a dump a host's; another text there makes it that of a CPU without a header."""
    assert parse_dump(f"{header}{LEAF_1}".encode()).of_host is of_host
    assert (
        parse_dump(f"$ kvm-exporter dump --host >host\n$ kvm-exporter dump\nCPU 0:\n{LEAF_1}".encode()).of_host is False
    )


@pytest.mark.parametrize(
    "text",
    [
        f"CPU 0:\n{LEAF_1}",
        f"\n\nCPU 0:\n\n{LEAF_1}\n",
        f"CPU 0:\r\n{LEAF_1.strip()}\r\n",
        f"  CPU 0:  \n\t{LEAF_1.strip()}",
        f"CPU 0:\n{LEAF_1.replace('0x80000000', '0X80000000'.lower())}",
        f"CPU 0:\n{LEAF_1.strip().upper().replace('0X', '0x')}",
        "CPU 0:\n0x1 0x0: eax=0x0 ebx=0x0 ecx=0x080000000 edx=0x0",
    ],
    ids=["plain", "empty lines", "CR LF", "indented", "lower case", "upper case", "other widths"],
)
def test_white_space_case_and_width_do_not_matter(text: str) -> None:
    """Blank lines, CR LF, indentation, the case of hex digits and leading zeros do not change the result."""
    assert parse_dump(text.encode()) == Dump({0: {(1, 0): Registers(0, 0, 1 << 31, 0)}})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", f"line 1: no CPU in it; {RECORD}"),
        ("\n\n", f"line 3: no CPU in it; {RECORD}"),
        ("hello", f"line 1: expected 'CPU 0:' or a row of cpuid -r, found 'hello'; {RECORD}"),
        ("7" * 50, f"line 1: expected 'CPU 0:' or a row of cpuid -r, found '{'7' * 40}'; {RECORD}"),
        ("CPU 0:\n", f"line 1: no row follows 'CPU 0:'; {RECORD}"),
        ("> CPU 0:\n", f"line 1: no row follows '> CPU 0:'; {RECORD}"),
        (f"CPU 0:\n{LEAF_1}CPU 1:\n", f"line 3: {NO_LEAF_1.format(1)}"),
        (f"CPU 0:\nCPU 1:\n{LEAF_1}", f"line 1: {NO_LEAF_1.format(0)}"),
        (f"CPU 0:\n{LEAF_1}CPU 1:\nKilled\n", f"line 3: {NO_LEAF_1.format(1)}"),
        (f"CPU 0:\n{LEAF_1}CPU 1:\n{SIGNATURE}", f"line 3: {NO_LEAF_1.format(1)}"),
        (f"CPU 3:\n{LEAF_1}CPU 3:\n{LEAF_1}", f"line 3: two machines: CPU 3 is in line 1 already; {APART}"),
        (f"CPU 3:\nCPU 3:\n{LEAF_1}", f"line 2: two machines: CPU 3 is in line 1 already; {APART}"),
        (f"CPU:\n{LEAF_1}CPU 1:\n{LEAF_1}", f"line 3: {ONLY_ONE}"),
        (f"CPU 1:\n{LEAF_1}CPU:\n{LEAF_1}", f"line 3: {ONLY_ONE}"),
        (f"CPU:\n{LEAF_1}CPU:\n{LEAF_1}", f"line 3: {ONLY_ONE}"),
        (f"{LEAF_1}CPU 1:\n{LEAF_1}", f"line 2: {ONLY_ONE}"),
        (f"{HOST}{LEAF_1}CPU 1:\n{LEAF_1}", f"line 3: {ONE_HOST}"),
        (f"CPU 1:\n{LEAF_1}{HOST}{LEAF_1}", f"line 3: {ONE_HOST}"),
        (f"{HOST}{LEAF_1}{HOST}{LEAF_1}", f"line 3: two machines: CPU 0 is in line 1 already; {APART}"),
        (f"A\n\n{LEAF_1}\nB\n\n{LEAF_1}", f"line 7: two machines: leaf 0x00000001 subleaf 0x00 {ALREADY}"),
        (f"CPU 0:\n{LEAF_1}{LEAF_1}", f"line 3: two machines: leaf 0x00000001 subleaf 0x00 of CPU 0 {ALREADY}"),
        (f"CPU 0:\n{LEAF_1}   leaf 2\n{SIGNATURE}", f"line 3: 'leaf 2' {BETWEEN}"),
        (f"CPU 0:\n{LEAF_1}Title\nCPU 1:\n{LEAF_1}", f"line 3: 'Title' {BETWEEN}"),
        (f"CPU 0:\n{LEAF_1}CPU 1:\nTitle\n{LEAF_1}", f"line 4: 'Title' {BETWEEN}"),
        (
            f"CPU 0:\n{LEAF_1.strip()} !\n{SIGNATURE}{FEATURES}",
            "line 3: the text after the row is '', and '!' in line 2; remove the text after the rows",
        ),
        (
            f"{LEAF_1.strip()}\n{SIGNATURE.strip()} !\n{FEATURES}",
            "line 2: the text after the row is '!', and '' in line 1; remove the text after the rows",
        ),
        (
            f"-{LEAF_1}+{SIGNATURE}",
            "line 2: the text before the row is '+', and '-' in line 1; remove the text before the rows",
        ),
        (f"CPU 0:\n{LEAF_1}{SIGNATURE[:53]}", f"line 3: {damaged(SIGNATURE[:53])}"),
        (f"CPU 0:\n{LEAF_1}{SIGNATURE[:53]}\n{FEATURES}", f"line 3: {damaged(SIGNATURE[:53])}"),
        (f"{SIGNATURE[:53]}\n{LEAF_1}", f"line 1: {damaged(SIGNATURE[:53])}"),
        (f"CPU 0:\n{LEAF_1}   0x40\n", f"line 3: {damaged('0x40')}"),
        (f"{LEAF_1.replace('=0x8', '=8')}", f"line 1: {damaged(LEAF_1)}"),
        (f"{LEAF_1.strip()} 0", f"line 1: {damaged(LEAF_1)}"),
        (f"0x1 {LEAF_1}", f"line 1: {damaged('0x1 ' + LEAF_1)}"),
        (f"{LEAF_1.strip()}\n{SIGNATURE.strip()}{FEATURES}", f"line 2: {damaged(SIGNATURE)}"),
        (f"CPU:\n{LEAF_1.replace(' edx', chr(10) + 'edx')}", f"line 2: {damaged(LEAF_1)}"),
        (f"CPU 0:\n{LEAF_1.replace('=0x8', '=0x18')}", "line 2: 0x180000000 is over 32 bits"),
        (f"CPU 0:\n{LEAF_1}0x100000001 0x00: eax=0x0 ebx=0x0 ecx=0x0 edx=0x0", "line 3: 0x100000001 is over 32 bits"),
        (f"CPU 0:\n{LEAF_1.replace('=0x8', '=0x10')}", "line 2: 0x100000000 is over 32 bits"),
        (
            f"CPU 0: {UNUSED.replace('0x40000000', '0x00000000').strip()} {LEAF_1.strip()}",
            "line 1: several rows in one line; put each on a line of its own",
        ),
        (f"CPU 0:\n{FEATURES}", f"line 2: leaf 0x40000001 is there, but neither 0x00000001 nor 0x40000000; {RECORD}"),
        (f"CPU 0:\n{UNUSED}", f"line 1: CPU 0 has neither leaf 0x00000001 nor a hypervisor's signature; {RECORD}"),
        (
            f"CPU 0:\n{SIGNATURE}CPU 1:\n{FEATURES}",
            f"line 3: CPU 1 has neither leaf 0x00000001 nor a hypervisor's signature; {RECORD}",
        ),
        ("\n\udcff", "line 2: byte 0xff is not UTF-8; is this a text file?"),
        ("\x1f\udc8b\x08", "line 1: byte 0x8b is not UTF-8; is this a text file?"),
    ],
)
def test_a_malformed_dump_is_refused_with_the_line(text: str, message: str) -> None:
    """The error has the line number, the text that was found, and what to do."""
    with pytest.raises(InputError) as caught:
        parse_dump(text.encode(errors="surrogateescape"))
    assert str(caught.value) == message


def outcome(data: bytes) -> Sample | InputError:
    """Return the sample that is decoded from a dump, or the error that parsing or decoding raised."""
    try:
        return sweep(parse_dump(data), CpuSelection(), None)
    except InputError as error:
        return error


@given(
    st.one_of(
        st.binary(),
        st.text().map(str.encode),
        st.text().map(lambda text: f"CPU 0:\n{LEAF_1}{text}".encode()),
        st.lists(LINES, max_size=8).map("\n".join).map(str.encode),
        st.lists(LINES, max_size=8).map(lambda lines: "\n".join(["CPU 0:", LEAF_1, *lines]).encode()),
    )
)
def test_any_bytes_end_in_a_value_or_a_dump_error(data: bytes) -> None:
    """For any input, parsing and decoding either succeed or raise InputError with a line number."""
    result = outcome(data)
    if isinstance(result, InputError):
        assert str(result).startswith("line ")
    else:
        assert set(result.sampled) == set(parse_dump(data).cpus)


@given(st.one_of(NUMBERED, UNNUMBERED, HOSTS))
def test_a_dump_survives_its_text(dump: Dump) -> None:
    """Parsing a formatted dump returns an equal dump with its rows in the same order."""
    again = parse_dump(format_dump(dump).encode())
    assert again == dump
    assert {cpu: list(rows) for cpu, rows in again.cpus.items()} == {cpu: list(r) for cpu, r in dump.cpus.items()}


@pytest.mark.parametrize("path", [*DUMPS, *HOST_DUMPS], ids=lambda path: path.stem)
def test_a_recorded_dump_is_written_as_it_was_read(path: Path) -> None:
    """Parsing and formatting a recorded dump returns the same bytes."""
    assert format_dump(parse_dump(path.read_bytes())).encode() == path.read_bytes()


def test_a_dump_is_a_machine() -> None:
    """The CPUs of a dump are online, no CPU is isolated, and an unpinned read is of the CPU with the lowest number."""
    dump = parse_dump(f"CPU 12:\n{LEAF_1}{LEAF_1.replace('0x00000001', '0x00000007')}CPU 3:\n{LEAF_1}".encode())
    assert (dump.online(), dump.isolated()) == ((3, 12), frozenset())
    assert dump.anywhere(1, 0) == Registers(0, 0, 1 << 31, 0)
    assert dump.on(12)(7, 0) == Registers(0, 0, 1 << 31, 0)
    with pytest.raises(InputError):
        dump.anywhere(7, 0)


@pytest.mark.parametrize("base", [BASES[1], BASES[-1]], ids=hex)
def test_a_base_without_a_row_is_unused(base: int) -> None:
    """A base that has no row reads as zeros, so a dump need not contain 256 rows of zeros."""
    assert parse_dump(f"CPU 0:\n{LEAF_1}".encode()).on(0)(base, 0) == ZEROS


def test_the_first_base_has_a_row_or_another_a_signature() -> None:
    """A dump that ends after leaf 1 is cut: it does not read as a hypervisor without a signature."""
    with pytest.raises(InputError, match=r"^line 1: CPU 0 has no row for leaf 0x40000000: the dump is not whole; "):
        parse_dump(f"CPU 0:\n{LEAF_1}".encode()).on(0)(BASES.start, 0)
    elsewhere = SIGNATURE.replace("0x40000000 0x00", "0x40000100 0x00")
    assert parse_dump(f"CPU 0:\n{LEAF_1}{elsewhere}".encode()).on(0)(BASES.start, 0) == ZEROS


def test_a_dump_that_was_not_read_has_one_line() -> None:
    """In a dump that was recorded and not parsed, every error names line 1."""
    with pytest.raises(InputError, match=r"^line 1: CPU 0 has no row for leaf 0x00000001: "):
        Dump({0: {}}).on(0)(1, 0)


def test_a_missing_leaf_names_the_line_of_its_cpu() -> None:
    """A row that is missing from a truncated dump is an error, and does not read as zeros."""
    text = f"CPU 0:\n{LEAF_1}{SIGNATURE}{FEATURES}CPU 1:\n{LEAF_1}{SIGNATURE}"
    assert str(outcome(text.encode())) == (
        f"line 5: CPU 1 has no row for leaf 0x40000001: the dump is not whole; {RECORD}"
    )


def test_a_dump_is_decoded_like_a_machine() -> None:
    """A dump is decoded to the same leaves as a CPU with those registers."""
    path = dump("firecracker-amd-milan-2cpu")
    sample = sweep(parse_dump(path.read_bytes()), CpuSelection(), None)
    leaves = Leaves(
        hypervisor_bit=True,
        hypervisors=(SignatureLeaf(BASE, KVM_SIGNATURE, BASE + 1),),
        kvm=Kvm(BASE, 0x01007EFB, 0),
    )
    assert (dict(sample.sampled), sample.anywhere) == ({0: leaves, 1: leaves}, leaves)
