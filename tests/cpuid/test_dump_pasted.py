"""Dumps as people have them: what stands around the rows is passed over, and what is no dump is named.

The surroundings are those of public mails, documents, test data and logs; the rows are those of lab/dumps.
"""

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.cpuid.dump import Dump, format_dump, parse_dump
from kvm_exporter.cpuid.registers import HYPERVISOR_BIT, Registers
from kvm_exporter.errors import InputError
from lab.tree import DUMPS, HOST_DUMPS, REPOSITORY

ROW = "   0x00000001 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x80000000 edx=0x00000000\n"
RECORD = "record all leaves with cpuid -r (without -l) or kvm-exporter dump"

BARE = {path.stem: path.read_text(encoding="utf-8") for path in (*DUMPS, *HOST_DUMPS)}
"""The text of each recorded dump, by its name."""

ONE = BARE["qemu-default-invtsc"]
TWO = BARE["firecracker-amd-milan-2cpu"]

Paste = Callable[[str], str | bytes]


def each(form: str) -> Callable[[str], str]:
    """Return what writes every line in a form: ``{}`` is the line, and ``{n}`` its number."""
    return lambda text: "\n".join(form.format(line, n=n) for n, line in enumerate(text.splitlines(), 9))


def within(before: str, after: str) -> Callable[[str], str]:
    """Return what puts texts before and after the whole dump."""
    return lambda text: before + text + after


def java_string(text: str) -> str:
    """Return the declaration of a string of many lines, with the header on the line of its name."""
    return "static final String CPUID = " + " +\n    ".join(f'"{line}\\n"' for line in text.splitlines()) + ";\n}\n"


def html_page(text: str) -> str:
    """Return a page whose first and last lines of the dump have a tag."""
    return f"<!doctype html>\n<title>cpuid</title>\n<pre>{text.rstrip()}</pre>\n"


def docker_log(text: str) -> str:
    """Return the file that Docker's json-file driver writes."""
    lines = enumerate(text.splitlines())
    return "\n".join(
        f'{{"log":"{line}\\n","stream":"stdout","time":"2024-05-01T09:59:{n:02}.12Z"}}' for n, line in lines
    )


def paragraphs(text: str) -> str:
    """Return the lines with an empty one between them."""
    return text.replace("\n", "\n\n")


PASTES: dict[str, Paste] = {
    "quoted in a mail": each("> {}"),
    "quoted three times": each(">>> {}"),
    "quoted without a space": each(">{}"),
    "in an answer": lambda text: f"On Tuesday, A wrote:\n> Is it KVM?\n>\n{each('> {}')(text)}\n>\n\nIt is.\n-- \nB\n",
    "with cpuid's disclaimer": within("Disclaimer: cpuid may not support decoding of all cpuid registers.\n", ""),
    "under a title": within("c3.large, 2023-06-15\n====\n", ""),
    "under a title that ends like a header": within("What it says on my CPU:\n", ""),
    "comment of a shell": each("# {}"),
    "comment of C++": each("// {}"),
    "comment of Rust": each("/// {}"),
    "comment of SQL": each("-- {}"),
    "comment of C": lambda text: f"/*\n{each(' * {}')(text)}\n */\nint main(void);\n",
    "Markdown fence": within("Here it is:\n\n```text\n", "```\n\nThanks!\n"),
    "Markdown fence in a comment": lambda text: each("/// {}")(f"From `cpuid -r`:\n\n```\n{text}```"),
    "Markdown list": each("    {}  "),
    "table of a wiki": each("| {} |"),
    "added in a patch": each("+{}"),
    "syslog": each("May  {n} 09:59:01 web1 cpuid[4{n}]: {}"),
    "journal in ISO format": each("2024-05-01T09:59:{n:02}.123456+00:00 web1 run[7]: {}"),
    "kernel log": each("[    1.{n:06}] {}"),
    "docker compose": each("guest-1  | {}"),
    "Docker's JSON log": docker_log,
    "numbered by cat": each("{n:6}\t{}"),
    "numbered by grep": each("dump.txt:{n}:{}"),
    "tabs": lambda text: text.replace("   ", "\t").replace(" e", "\te"),
    "indented by tabs": each("\t\t{}"),
    "non-breaking spaces": lambda text: text.replace(" ", "\xa0"),
    "non-breaking spaces in Latin-1": lambda text: text.replace(" ", "\xa0").encode("latin-1"),
    "title in Latin-1": lambda text: f"Prüfung\n{text}".encode("latin-1"),
    "zero-width spaces": lambda text: text.replace(":", ":\u200b"),
    "CR LF": lambda text: text.replace("\n", "\r\n"),
    "CR CR LF": lambda text: text.replace("\n", "\r\r\n"),
    "byte order mark": lambda text: text.encode("utf-8-sig"),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16, big-endian": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "UTF-16 without a mark": lambda text: text.encode("utf-16-le"),
    "UTF-16 and CR LF": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    "colours": lambda text: text.replace("0x4", "\x1b[01;31m\x1b[K0x4").replace(": ", ":\x1b[m\x1b[K "),
    "session": within("\x1b[?2004h\x1b]0;a@b: ~\x07a@b:~$ cpuid -r\n\x1b[?2004l", "\x1b[?2004ha@b:~$ exit\n"),
    "prompts": within("[root@b ~]# cpuid -r\n", "[root@b ~]# \n"),
    "decoded output before it": within('CPU 0:\n   vendor_id = "GenuineIntel"\nCPU 1:\n   brand = 1\n\n', ""),
    "decoded output after it": within("", 'CPU 0:\n   vendor_id = "GenuineIntel"\n   (1/eax) = 0x1\n'),
    "lscpu before it": within("Architecture: x86_64\nCPU(s): 2\n", ""),
    "text of a program": lambda text: f'DUMP = """{text}"""\nprint(DUMP)\n',
    "text that ends behind the last row": lambda text: f'DUMP = """{text.rstrip()}"""\n',
    "here document": within("cat <<EOF >dump\n", "EOF\n"),
    "Java string": java_string,
    "block of YAML": lambda text: f"dump: |\n{each('  {}')(text)}\nname: x\n",
    "HTML page": html_page,
    "empty lines": paragraphs,
    "left out with dots": lambda text: text.replace("   0x40000000", "   ...\n   [...]\n   0x40000000"),
    "CPUs apart": lambda text: text.replace("CPU 1:", "---\n\nCPU 1:"),
    "no line end": str.rstrip,
    "upper case": lambda text: text.upper().replace("0X", "0x"),
}


def as_bytes(pasted: str | bytes) -> bytes:
    """Return what was pasted, in UTF-8 if it is text."""
    return pasted.encode() if isinstance(pasted, str) else pasted


@pytest.mark.parametrize("name", BARE)
@pytest.mark.parametrize("paste", PASTES)
def test_what_stands_around_the_rows_is_passed_over(name: str, paste: str) -> None:
    """Each recorded dump has the same CPUs and values in each surrounding, and nothing is assumed."""
    pasted = parse_dump(as_bytes(PASTES[paste](BARE[name])))
    assert pasted == parse_dump(BARE[name].encode())
    assert pasted.assumptions == ()


REALISTIC = st.one_of(
    st.sampled_from(
        ["", "> ", ">> ", "# ", "// ", "/// ", "; ", "-- ", "+", "|", " * ", "\t", "\xa0", '"', "REM ", "% "]
    ),
    st.builds(
        "{} {:2} {:02}:{:02}:00 {}[{}]: ".format,
        st.sampled_from(["May", "Dec"]),
        *[st.integers(1, 31)] * 3,
        st.sampled_from(["web1 a", "b"]),
        st.integers(1),
    ),
)
"""Strategy: what mails, programs and logs put before each line."""


@given(REALISTIC, st.sampled_from(["", " ", "\r", "  \\", "<br>", ' \\n" +', " |"]), st.sampled_from(sorted(BARE)))
def test_what_is_the_same_on_every_line_is_passed_over(before: str, after: str, name: str) -> None:
    """Any realistic prefix and suffix leaves the values of a dump as they are."""
    pasted = "\n".join(f"{before}{line}{after}" for line in BARE[name].splitlines())
    assert parse_dump(pasted.encode()) == parse_dump(BARE[name].encode())


def outcome(data: bytes) -> Dump | str:
    """Return the dump in a text, or the message of the error; any other exception is a failure of the test."""
    try:
        return parse_dump(data)
    except InputError as error:
        return str(error)


@given(st.sampled_from(sorted(BARE)), st.data())
def test_a_damaged_row_is_never_passed_over(name: str, data: st.DataObject) -> None:
    """If a row lacks a character, that is an error with a line, or only a digit is gone: no row is left out."""
    lines = BARE[name].splitlines()
    at = data.draw(st.sampled_from([at for at, line in enumerate(lines) if "0x" in line]))
    place = data.draw(st.integers(3, len(lines[at]) - 1))
    lines[at] = lines[at][:place] + lines[at][place + 1 :]
    parsed = outcome("\n".join(lines).encode())
    if isinstance(parsed, str):
        assert parsed.startswith("line ")
    else:
        assert sum(map(len, parsed.cpus.values())) == BARE[name].count("eax=")


@given(st.sampled_from(sorted(BARE)), st.sampled_from(sorted(PASTES)), st.data())
def test_a_pasted_dump_that_is_damaged_is_a_dump_or_an_error(name: str, paste: str, data: st.DataObject) -> None:
    """Nothing but InputError is raised, whatever is put into a pasted dump; what is read survives its text."""
    pasted = as_bytes(PASTES[paste](BARE[name]))
    place = data.draw(st.integers(0, len(pasted)))
    parsed = outcome(pasted[:place] + data.draw(st.binary(max_size=8)) + pasted[place:])
    if isinstance(parsed, str):
        assert parsed.startswith("line ")
        assert parsed.isprintable()
    else:
        assert parse_dump(format_dump(parsed).encode()) == parsed


def test_rows_without_a_header_are_of_one_cpu() -> None:
    """The leaves alone suffice: they are those of a CPU without a number."""
    rows = ONE.partition("\n")[2]
    assert parse_dump(rows.encode()) == Dump({0: parse_dump(ONE.encode()).cpus[0]}, unnumbered=True)


@pytest.mark.parametrize(("name", "signature"), [("qemu-default-invtsc", "KVMKVMKVM"), ("vmware", "VMwareVMware")])
def test_a_signature_stands_for_leaf_1(name: str, signature: str) -> None:
    """Where no CPU has leaf 1, a signature means that a hypervisor is present; the dump says so, and keeps its rows."""
    text = "".join(line for line in BARE[name].splitlines(keepends=True) if "0x00000001 0x00:" not in line)
    parsed = parse_dump(text.encode())
    because = f"because leaf 0x40000000 holds the signature {signature!r}"
    assert parsed.assumptions == (f"leaf 1 is missing; assuming that a hypervisor is present, {because}",)
    assert parsed.on(0)(1, 0) == Registers(0, 0, HYPERVISOR_BIT, 0)
    assert format_dump(parsed) == text
    assert parse_dump(text.encode()) == parsed


def refused(pasted: str | bytes) -> str:
    """Return the message of the error that a text raises."""
    with pytest.raises(InputError) as caught:
        parse_dump(as_bytes(pasted))
    return str(caught.value)


@pytest.mark.parametrize(
    ("pasted", "line", "why"),
    [
        (f"a\n\n{ONE}\n\nb\n\n{ONE}", ONE.count("\n") + 7, "CPU 0 is in line 3 already"),
        (f"{TWO}\n{ONE}", TWO.count("\n") + 2, "CPU 0 is in line 1 already"),
        (
            each("> ")(ONE) + "\n" + ONE + ONE,
            2 * ONE.count("\n") + 1,
            f"CPU 0 is in line {ONE.count(chr(10)) + 1} already",
        ),
        (ONE.replace(" 0:", ":") * 2, ONE.count("\n") + 1, "a CPU without a number has to be the only one"),
        (
            ONE.partition("\n")[2] * 2,
            ONE.count("\n"),
            "leaf 0x00000000 subleaf 0x00 is there already",
        ),
    ],
    ids=["titles", "two CPUs, then one", "behind an empty quote", "no numbers", "no headers"],
)
def test_two_machines_are_refused_as_such(pasted: str, line: int, why: str) -> None:
    """The message names the line where the second begins, and says to put each into a file of its own."""
    assert refused(pasted) == f"line {line}: two machines: {why}; put each into a file of its own"


@pytest.mark.parametrize(
    ("text", "line", "name"),
    [
        ('CPU 0:\n   vendor_id = "GenuineIntel"\n', 2, "the decoded output of cpuid, without -r"),
        ("CPU:\n   version information (1/eax):\n", 2, "the decoded output of cpuid, without -r"),
        ('CPU:\n   hypervisor_id (0x40000000) = "KVMKVMKVM\\0\\0\\0"\n', 2, "the decoded output of cpuid, without -r"),
        ("> CPU:\n>    hypervisor features (0x40000001/eax):\n", 2, "the decoded output of cpuid, without -r"),
        (
            "CPU:\n   brand id = 0\n   0x80860000 0x00: eax=0x0 ebx=0x0 ecx=0x0 edx=0x0\n   (1/ebx):\n",
            4,
            "the decoded output of cpuid, without -r",
        ),
        ("$ lscpu\nArchitecture:             x86_64\n  CPU op-mode(s): 32-bit\n", 2, "the output of lscpu"),
        ("CPU(s):  4\n", 1, "the output of lscpu"),
        ("processor\t: 0\nvendor_id\t: GenuineIntel\n", 1, "/proc/cpuinfo"),
        ("flags\t\t: fpu vme\n", 1, "/proc/cpuinfo"),
        ("x86info v1.31pre  Dave Jones 2001-2011\n", 1, "the output of x86info"),
        ("eax in: 0x00000000, eax = 0000000d ebx = 756e6547 ecx = 6c65746e\n", 1, "the output of x86info"),
        ("0x00000001: EAX=0x00a00f11, EBX=0x00020800, ECX=0x0, EDX=0x0\n", 1, "the output of kcpuid"),
        ("version=0.6.4\nbasic_cpuid[0]=00000010 68747541 444d4163 69746e65\n", 2, "the output of cpuid_tool"),
        ("CPUID 40000000: 40000001-54474354-43544743-47435447\n", 1, "the output of another program than cpuid"),
        ("40000000 ******** => 40000001 4B4D564B 564B4D56 0000004D #\n", 1, "the output of another program than cpuid"),
        ("  40000000:ffffffff -> 40000005:566e6558:65584d4d:4d4d566e\n", 1, "the output of xen-cpuid"),
        ("<domainCapabilities>\n  <path>/usr/bin/qemu</path>\n", 1, "XML, such as virsh prints"),
        ("<?xml version='1.0'?>\n<capabilities>\n", 1, "XML, such as virsh prints"),
        ('{\n  "kvm": true\n}\n', 2, "JSON"),
        ('{"lscpu": [{"field": "Architecture:"}]}', 1, "JSON"),
        ((REPOSITORY / "tests" / "golden" / "vmware.json").read_text(encoding="utf-8"), 2, "JSON"),
        ("KVM at 0x40000000, features EAX 0x0100007b\n", 1, "a report of kvm-exporter"),
        ("# HELP kvm_present 1 if\n# TYPE kvm_present gauge\nkvm_present 1.0\n", 1, "a report of kvm-exporter"),
    ],
)
def test_what_is_something_else_is_named(text: str, line: int, name: str) -> None:
    """The message says what the file is, and which commands to run instead."""
    assert refused(text) == f"line {line}: this is {name}; {RECORD}, and give its output"


def test_the_source_of_a_mail_is_named() -> None:
    """In quoted-printable, rows are wrapped and their signs encoded; the text of the mail is in the mail program."""
    row = "   0x00000001 0x00: eax=3D0x00000663 ebx=3D0x00000800 ecx=3D0xfffab223 edx=\n=3D0x0f8bfbff\n"
    assert refused(f"CPU 0:\n{row}") == (
        "line 2: this is the source of a mail; save the text that the mail program shows"
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda n: "0x" * n,
        lambda n: "0x0 " * n,
        lambda n: "0x" + "0" * n,
        lambda n: "0x0 0x0: eax=0x" + "0" * n,
        lambda n: "0x0" + " " * n,
        lambda n: "eax=" * n,
        lambda n: "CPU " * n,
        lambda n: "CPU" + " " * n,
        lambda n: "CPU:" * n,
        lambda n: "(0" * n,
        lambda n: " " * n + "x",
        lambda n: "-" * n,
        lambda n: "\r" * n,
        lambda n: "\x1b" * n,
        lambda n: "\x1b]" * n,
        lambda n: "\x1b[" + "0" * n,
        lambda n: "CPU 0:\n" * (n // 8),
        lambda n: "CPU 0:\nx\n" * (n // 8),
        lambda n: "".join(f"0x{leaf:x} 0x0: eax=0x0 ebx=0x0 ecx=0x0 edx=0x0\n" for leaf in range(n // 64)),
        lambda n: "".join(f"CPU {c % 999_999}:\n{ROW}" for c in range(n // 64)),
    ],
)
def test_the_time_is_linear(make: Callable[[int], str]) -> None:
    """Sixteen times the text takes about sixteen times as long; it would be 256 times where the time is quadratic.

    Each length is measured three times, and the shortest counts. The first row makes the rest follow a dump.
    """

    def seconds(length: int) -> float:
        texts = [made := make(length).encode(), ROW.encode() + made]
        return min(sum(_timed(text) for text in texts) for _ in range(3))

    assert seconds(160_000) / seconds(10_000) < 64


def _timed(text: bytes) -> float:
    start = time.process_time()
    outcome(text)
    return time.process_time() - start
