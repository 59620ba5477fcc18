"""``compare`` and ``check`` on recorded machines, and on some that differ in one way: what they print, how they exit.

UPDATE_GOLDEN=1 make test PYTEST_FLAGS=tests/report/test_compare.py writes the texts and fails where one has changed:
read the difference with git diff before it is committed.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvm_exporter.app.cli import main
from kvm_exporter.cpuid.dump import Dump, Rows, format_dump
from lab.patience import PATIENCE_SECONDS
from lab.tree import REPOSITORY
from tests.support.rooms.layouts import AMD, BARE_METAL, kvm, signature
from tests.support.rooms.unprivileged import unprivileged

DUMPS = REPOSITORY / "lab" / "dumps"
GOLDEN = REPOSITORY / "tests" / "golden" / "compare"

UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"

MAINLINE = 0x0100_7EFB
STEAL = 1 << 5

MACHINES: dict[str, dict[int, Rows]] = {
    "all": {0: kvm(), 1: kvm()},
    "without-steal-time": {0: kvm(MAINLINE & ~STEAL), 1: kvm(MAINLINE & ~STEAL)},
    "with-unassigned-bit": {0: kvm(MAINLINE | 1 << 30, 1 << 5)},
    "at-another-base": {0: kvm(base=0x4000_0100)},
    "beside-hyper-v": {0: {**kvm(base=0x4000_0100), **signature(0x4000_0000, 0x4000_0005, b"Microsoft Hv")}},
    "kvm-gone": {0: AMD},
    "no-hypervisor": {0: BARE_METAL},
    "one-cpu-less": {0: kvm(), 1: kvm(MAINLINE & ~STEAL), 2: kvm()},
    "most-cpus-less": {0: kvm(), 1: kvm(MAINLINE & ~STEAL), 2: kvm(MAINLINE & ~STEAL)},
}
"""Machines that were never recorded."""


@pytest.fixture
def find(tmp_path: Path) -> Callable[[str], str]:
    """The path of a machine's dump, which is recorded or made up."""

    def path(name: str) -> str:
        if name not in MACHINES:
            return str(DUMPS / f"{name}.txt")
        made = tmp_path / f"{name}.txt"
        made.write_text(format_dump(Dump(MACHINES[name])))
        return str(made)

    return path


def hold_against(golden: Path, actual: str) -> None:
    """Compare with the committed text, to the last byte; or write it anew."""
    before = golden.read_text(encoding="utf-8") if golden.exists() else ""
    if UPDATE and actual != before:
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(actual, encoding="utf-8")
        pytest.fail(f"{golden.name} was written anew; read its difference, and run the test again")
    assert actual == before


PAIRS = {
    ("all", "all"): 0,
    ("all", "without-steal-time"): 1,
    ("without-steal-time", "all"): 0,
    ("all", "with-unassigned-bit"): 0,
    ("with-unassigned-bit", "all"): 1,
    ("all", "at-another-base"): 1,
    ("at-another-base", "beside-hyper-v"): 1,
    ("all", "kvm-gone"): 1,
    ("kvm-gone", "all"): 1,
    ("kvm-gone", "no-hypervisor"): 1,
    ("no-hypervisor", "no-hypervisor"): 0,
    ("all", "one-cpu-less"): 1,
    ("all", "most-cpus-less"): 1,
    ("kvm-3.x-max-leaf-zero", "qemu-default-invtsc"): 0,
    ("qemu-default-invtsc", "firecracker-amd-milan-2cpu"): 0,
    ("firecracker-amd-milan-2cpu", "qemu-default-invtsc"): 1,
    ("kvm-no-feature-leaf", "kvm-features-zero"): 0,
    ("kvm-unassigned-bits", "kvm-cpus-differ"): 1,
    ("qemu-hyperv-enlightenments", "kvm-cpus-differ"): 1,
    ("qemu-tcg", "vmware"): 1,
    ("bare-metal-intel-i5-10600k", "kvm-hidden-intel"): 1,
}
"""From one machine to another, with the exit code."""


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_compare(find: Callable[[str], str], capsys: pytest.CaptureFixture[str], source: str, target: str) -> None:
    """What both are, each feature that a guest would lose or gain, and whether it may move."""
    code = main(["compare", find(source), find(target)])
    output = capsys.readouterr()
    assert (code, output.err) == (PAIRS[source, target], "")
    hold_against(GOLDEN / f"{source}-to-{target}.txt", output.out)


BASELINES = {
    "nothing": "features: {}\n",
    "steal-time": (
        "features:\n  required: [steal_time, clocksource2]\n  forbidden: [hints_realtime, eax_bit_18, eax_bit_30]\n"
    ),
    "no-features": "features: {forbidden: [clocksource, clocksource2, steal_time]}\n",
}

CHECKS = {
    ("nothing", "kvm-gone"): 0,
    ("steal-time", "all"): 0,
    ("steal-time", "without-steal-time"): 1,
    ("steal-time", "with-unassigned-bit"): 1,
    ("steal-time", "at-another-base"): 0,
    ("steal-time", "one-cpu-less"): 1,
    ("steal-time", "most-cpus-less"): 1,
    ("steal-time", "kvm-gone"): 1,
    ("steal-time", "kvm-cpus-differ"): 1,
    ("steal-time", "firecracker-amd-milan-2cpu"): 0,
    ("no-features", "no-hypervisor"): 0,
    ("no-features", "most-cpus-less"): 1,
}
"""A baseline and a machine, with the exit code."""


@pytest.mark.parametrize(("baseline", "machine"), CHECKS)
def test_check(
    find: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str], baseline: str, machine: str
) -> None:
    """A line for each difference, or one that there is none."""
    path = tmp_path / "baseline.yml"
    path.write_text(BASELINES[baseline])
    code = main(["check", "--baseline", str(path), "--dump", find(machine)])
    output = capsys.readouterr()
    assert (code, output.err) == (CHECKS[baseline, machine], "")
    hold_against(GOLDEN / f"check-{baseline}-on-{machine}.txt", output.out)


def test_every_golden_text_has_its_test() -> None:
    """None is left over."""
    expected = {f"{source}-to-{target}.txt" for source, target in PAIRS}
    expected |= {f"check-{baseline}-on-{machine}.txt" for baseline, machine in CHECKS}
    assert {path.name for path in GOLDEN.iterdir()} == expected


def _missing(path: Path) -> str:
    del path
    return "cannot be read: No such file or directory; give a dump's file, or - for stdin"


def _directory(path: Path) -> str:
    path.mkdir()
    return "cannot be read: Is a directory; give a dump's file, or - for stdin"


def _empty(path: Path) -> str:
    path.write_bytes(b"")
    return "line 1: no CPU in it; record one with kvm-exporter dump or cpuid -r"


def _binary(path: Path) -> str:
    path.write_bytes(b"\x7fELF\xff")
    return "line 1: byte 0xff is not UTF-8; is this a text file?"


def _other_text(path: Path) -> str:
    path.write_text("CPU 0:\n   vendor_id = GenuineIntel\n")
    return "line 2: expected '0x40000001 0x00: eax=0x… ebx=0x… ecx=0x… edx=0x…', found 'vendor_id = GenuineIntel'"


def _truncated(path: Path) -> str:
    whole = format_dump(Dump({0: kvm()}))
    path.write_text("".join(line for line in whole.splitlines(keepends=True) if "0x40000001 0x" not in line))
    return "line 1: CPU 0 has no row for leaf 0x40000001: the dump is truncated; record it again"


BAD_DUMPS = [_missing, _directory, _empty, _binary, _other_text, _truncated]


@pytest.mark.parametrize("spoil", BAD_DUMPS)
@pytest.mark.parametrize("place", ["source", "target", "check"])
def test_a_bad_dump_is_bad_input(
    find: Callable[[str], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], str],
    place: str,
) -> None:
    """Exit code 2, nothing on stdout, and one line that names the file, its line, and what to do."""
    bad, baseline = tmp_path / "bad.txt", tmp_path / "baseline.yml"
    baseline.write_text(BASELINES["nothing"])
    message = spoil(bad)
    words = {
        "source": ["compare", str(bad), find("all")],
        "target": ["compare", find("all"), str(bad)],
        "check": ["check", "--baseline", str(baseline), "--dump", str(bad)],
    }
    assert main(words[place]) == 2
    assert capsys.readouterr() == ("", f"kvm-exporter: {bad}: {message}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file or directory; kvm-exporter baseline prints one"),
        ("features: {required: [steal]}\n", "line 1: no feature is called 'steal'; did you mean steal_time?"),
        ("feature: {}\n", "line 1: unknown key 'feature'; known here: features"),
    ],
    ids=["missing", "unknown feature", "unknown key"],
)
def test_a_bad_baseline_is_bad_input(
    find: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, message: str
) -> None:
    """The same of the other file."""
    path = tmp_path / "baseline.yml"
    if text is not None:
        path.write_text(text)
    assert main(["check", "--baseline", str(path), "--dump", find("all")]) == 2
    assert capsys.readouterr() == ("", f"kvm-exporter: {path}: {message}\n")


def test_a_dump_that_may_not_be_read_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever owns it."""
    path = tmp_path / "dump.txt"
    path.touch(0)
    with unprivileged():
        assert main(["compare", str(path), str(path)]) == 2
    message = f"{path}: cannot be read: Permission denied; give a dump's file, or - for stdin"
    assert capsys.readouterr() == ("", f"kvm-exporter: {message}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare"], "the following arguments are required: A, B; see kvm-exporter compare --help"),
        (["compare", "one"], "the following arguments are required: B; see kvm-exporter compare --help"),
        (["compare", "a", "b", "c"], "unrecognized arguments: c; see kvm-exporter --help"),
        (["check"], "the following arguments are required: --baseline; see kvm-exporter check --help"),
        (["check", "--base", "x"], "the following arguments are required: --baseline; see kvm-exporter check --help"),
    ],
)
def test_missing_words_are_bad_input(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    """Exit code 2, and one line."""
    with pytest.raises(SystemExit) as error:
        main(words)
    assert error.value.code == 2
    assert capsys.readouterr() == ("", f"kvm-exporter: {message}\n")


@pytest.mark.parametrize(("words", "code"), [(["compare", "-", "{all}"], 1), (["compare", "{all}", "-"], 0)])
def test_a_dump_may_come_on_standard_input(find: Callable[[str], str], words: list[str], code: int) -> None:
    """As from kvm-exporter dump on another machine, through ssh."""
    command = [sys.executable, "-m", "kvm_exporter", *(word.format(all=find("all")) for word in words)]
    more = Path(find("with-unassigned-bit")).read_bytes()
    result = subprocess.run(command, input=more, capture_output=True, check=False, timeout=PATIENCE_SECONDS)
    assert (result.returncode, result.stderr) == (code, b"")
    assert b"eax_bit_30 (eax bit 30)" in result.stdout
