"""What a text without usable rows of ``cpuid -r`` is instead, and which command makes a dump."""

import re
from collections.abc import Sequence

from kvm_exporter.cpuid.rows import damaged, find_damaged, find_header, find_rows, has_several_rows, quote
from kvm_exporter.errors import InputError

RECORD = "record all leaves with cpuid -r (without -l) or kvm-exporter dump"

_OTHERS = (
    (r".*\((?:0x)?[0-9a-f]+/e[abcd]x\)|\W*(?:hypervisor_id\b|vendor_id = )", "the decoded output of cpuid, without -r"),
    (r"\W*(?:Architecture|CPU op-mode\(s\)|CPU\(s\)|Model name|Hypervisor vendor):\s", "the output of lscpu"),
    (r"\W*(?:processor|vendor_id|cpu family|model name|flags)\s*:\s", "/proc/cpuinfo"),
    (r"\W*(?:x86info v|eax in: 0x)", "the output of x86info"),
    (r"\W*EAX=0x[0-9a-f]+, EBX=|.*0x[0-9a-f]+: EAX=0x|.*\b[0-9]+: EAX=0x", "the output of kcpuid"),
    (r"\W*(?:basic_cpuid|ext_cpuid|intel_fn4)\[", "the output of cpuid_tool"),
    (r"\W*CPUID [0-9A-Fa-f]{8}[:(]", "the output of another program than cpuid"),
    (r"\W*[0-9A-Fa-f]{8} (?:[0-9A-Fa-f]{8}|\*{8}) =>", "the output of another program than cpuid"),
    (r"\W*[0-9a-f]{8}:[0-9a-f]{8} ->", "the output of xen-cpuid"),
    (r"(?:# (?:HELP|TYPE) )?kvm_[a-z_]+[ {]|(?:no )?KVM(?:$| at 0x|[,:])", "a report of kvm-exporter"),
    (r"<(?:\?xml|!doctype|html|domain|capabilities|cpu|host)", "XML, such as virsh prints"),
    (r"[\s{[]*\"[^\"]+\"\s*:", "JSON"),
)
"""By what a line begins with, in the order of the search."""

_FORMATS = tuple((re.compile(pattern), name) for pattern, name in _OTHERS)
_MAIL_SOURCE = re.compile(r"=3D0x")


def not_a_dump(data: bytes, lines: Sequence[str]) -> InputError:
    """The error for a text without leaf 1 and without a base: what the text is, in which line, and what to do."""
    for number, line in enumerate(lines, 1):
        if _MAIL_SOURCE.search(line):
            return InputError(f"line {number}: this is the source of a mail; save the text that the mail program shows")
        for pattern, name in _FORMATS:
            if pattern.match(line):
                return InputError(f"line {number}: this is {name}; {RECORD}, and give its output")
    if (part := find_damaged(lines)) is not None:
        return damaged(part, lines[part - 1])
    if (row := next(find_rows(lines), None)) is not None:
        number, leaf = row
        if has_several_rows(lines[number - 1]):
            problem = "several rows in one line; put each on a line of its own"
        else:
            problem = f"leaf {leaf:#010x} is there, but neither 0x00000001 nor 0x40000000; {RECORD}"
        return InputError(f"line {number}: {problem}")
    if (header := find_header(lines)) is not None:
        return InputError(f"line {header}: no row follows {quote(lines[header - 1])}; {RECORD}")
    return _no_text(data, lines)


def _no_text(data: bytes, lines: Sequence[str]) -> InputError:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        return InputError(f"line {number}: byte {data[error.start]:#04x} is not UTF-8; is this a text file?")
    for number, line in enumerate(lines, 1):
        if line:
            return InputError(f"line {number}: expected 'CPU 0:' or a row of cpuid -r, found {quote(line)}; {RECORD}")
    return InputError(f"line {len(lines)}: no CPU in it; {RECORD}")
