"""``compare`` and ``check`` on recorded and made-up machines: their output and their exit codes.

``make golden`` writes the texts again: read git diff before it is committed.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvm_exporter.app.cli import main
from kvm_exporter.cpuid.dump import Dump, Rows, format_dump
from lab.patience import PATIENCE_SECONDS
from lab.tree import HOST_DUMPS, REPOSITORY
from tests.support.rooms.golden import hold_against
from tests.support.rooms.layouts import AMD, BARE_METAL, kvm, signature
from tests.support.rooms.unprivileged import PERMISSION, unprivileged

DUMPS = REPOSITORY / "lab" / "dumps"
[HOST] = HOST_DUMPS
GOLDEN = REPOSITORY / "tests" / "golden" / "compare"

MAINLINE = 0x0100_7EFB
STEAL = 1 << 5
ASYNC_PF = 1 << 4

MACHINES: dict[str, dict[int, Rows]] = {
    "all": {0: kvm(), 1: kvm()},
    "without-steal-time": {0: kvm(MAINLINE & ~STEAL), 1: kvm(MAINLINE & ~STEAL)},
    "without-async-pf-int": {0: kvm(MAINLINE & ~(1 << 14))},
    "with-unassigned-bit": {0: kvm(MAINLINE | 1 << 30, 1 << 5)},
    "without-async-pf": {0: kvm(MAINLINE & ~ASYNC_PF)},
    "at-another-base": {0: kvm(base=0x4000_0100)},
    "beside-hyper-v": {0: {**kvm(base=0x4000_0100), **signature(0x4000_0000, 0x4000_0005, b"Microsoft Hv")}},
    "kvm-gone": {0: AMD},
    "no-hypervisor": {0: BARE_METAL},
    "one-cpu-less": {0: kvm(), 1: kvm(MAINLINE & ~STEAL), 2: kvm()},
    "most-cpus-less": {0: kvm(), 1: kvm(MAINLINE & ~STEAL), 2: kvm(MAINLINE & ~STEAL)},
}
"""Machines that are made up for this test."""


@pytest.fixture
def find(tmp_path: Path) -> Callable[[str], str]:
    """Return a function that gives the path of a dump, and writes it if the machine is made up."""

    def path(name: str) -> str:
        if name == "host":
            return str(HOST)
        if name not in MACHINES:
            return str(DUMPS / f"{name}.txt")
        made = tmp_path / f"{name}.txt"
        made.write_text(format_dump(Dump(MACHINES[name])))
        return str(made)

    return path


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
    ("all", "one-cpu-less"): 1,
    ("all", "most-cpus-less"): 1,
    ("kvm-3.x-max-leaf-zero", "qemu-default-invtsc"): 0,
    ("qemu-default-invtsc", "firecracker-amd-milan-2cpu"): 1,
    ("firecracker-amd-milan-2cpu", "qemu-default-invtsc"): 1,
    ("kvm-no-feature-leaf", "kvm-features-zero"): 0,
    ("kvm-unassigned-bits", "kvm-cpus-differ"): 1,
    ("qemu-hyperv-enlightenments", "kvm-cpus-differ"): 1,
    ("qemu-tcg", "vmware"): 1,
    ("bare-metal-intel-i5-10600k", "kvm-hidden-intel"): 1,
    ("firecracker-amd-milan-2cpu", "host"): 0,
    ("kvm-unassigned-bits", "host"): 1,
    ("host", "beside-hyper-v"): 1,
    ("host", "one-cpu-less"): 1,
}
"""The exit code for each pair of source and target."""


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_compare(find: Callable[[str], str], capsys: pytest.CaptureFixture[str], source: str, target: str) -> None:
    """The output has both summaries, each feature that a guest would lose or gain, and the verdict."""
    code = main(["compare", find(source), find(target)])
    output = capsys.readouterr()
    assert (code, output.err) == (PAIRS[source, target], "")
    hold_against(GOLDEN / f"{source}-to-{target}.txt", output.out)


def test_machines_without_kvm_cannot_be_compared(
    find: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Where neither dump has KVM's leaves and nothing differs there is no verdict."""
    name = find("no-hypervisor")
    code, output = main(["compare", name, name]), capsys.readouterr()
    assert (code, output.out) == (2, "")
    assert output.err == f"kvm-exporter: {name}: has no leaves of KVM to compare with those of {name}\n"


@pytest.mark.parametrize(
    ("source", "target", "code", "warnings"),
    [
        ("all", "all", 0, 0),
        ("without-steal-time", "all", 0, 0),
        ("without-async-pf-int", "all", 1, 1),
        ("all", "without-steal-time", 1, 0),
    ],
)
def test_strict_and_json(
    find: Callable[[str], str], capsys: pytest.CaptureFixture[str], source: str, target: str, code: int, warnings: int
) -> None:
    """--strict exits with 1 on a warning; JSON has the verdict, its scope, reasons, settings, what was not compared."""
    assert main(["compare", "--strict", "--format=json", find(source), find(target)]) == code
    value = json.loads(capsys.readouterr().out)
    assert (value["compatible"], value["warnings"]) == (target == "all", warnings)
    assert value["scope"] in value["verdict"]
    features = [name.removeprefix("without-").replace("-", "_") for name in (source, target) if name != "all"]
    assert [reason["feature"] for reason in value["reasons"]] == features
    for reason in value["reasons"]:
        assert reason["worst"] in {outcome["severity"] for outcome in reason["outcomes"]}
        assert reason["action"].endswith(".")
    settings = [reason["host_setting"] and reason["host_setting"]["qemu"] for reason in value["reasons"]]
    lost = (source, target) == ("all", "without-steal-time")
    assert settings == (["kvm-steal-time=on"] if lost else [None] * len(value["reasons"]))
    assert (value["not_compared"], value["host_dumps"]) == (["tsc frequency"], [])


def test_json_says_which_dump_is_a_hosts(find: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    """Its scope is what the host's VMM makes of it."""
    assert main(["compare", "--format=json", find("firecracker-amd-milan-2cpu"), str(HOST)]) == 0
    value = json.loads(capsys.readouterr().out)
    assert (value["host_dumps"], value["reasons"]) == (["to"], [])
    assert "if the host's VMM offers what its KVM can" in value["scope"]
    assert "hints_realtime" in value["not_compared"]


def test_a_host_is_not_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A baseline declares what a machine is offered, and a host's dump does not tell that."""
    path = tmp_path / "baseline.yml"
    path.write_text(BASELINES["nothing"])
    assert main(["check", "--baseline", str(path), "--dump", str(HOST)]) == 2
    problem = "is a host's dump: what its KVM can offer, not what a machine is offered; give the dump of a guest"
    assert capsys.readouterr() == ("", f"kvm-exporter: {HOST}: {problem}\n")


BASELINES = {
    "nothing": "features: {}\n",
    "steal-time": (
        "features:\n  required: [steal_time, clocksource2]\n  forbidden: [hints_realtime, eax_bit_29, eax_bit_30]\n"
    ),
    "no-features": "features: {forbidden: [clocksource, clocksource2, steal_time]}\n",
}

CHECKS = {
    ("nothing", "kvm-gone"): 0,
    ("nothing", "without-async-pf"): 1,
    ("nothing", "qemu-default-invtsc"): 0,
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
    (None, "all"): 0,
    (None, "without-async-pf"): 1,
    (None, "one-cpu-less"): 1,
    (None, "qemu-default-invtsc"): 0,
    (None, "kvm-no-feature-leaf"): 0,
}
"""The exit code for each pair of baseline, or none, and machine."""


@pytest.mark.parametrize(("baseline", "machine"), CHECKS)
def test_check(
    find: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str], baseline: str | None, machine: str
) -> None:
    """The output has violations with the settings that end them, contradictions and unused features, and a verdict.

    A feature that is merely unused does not change the exit code.
    """
    words = ["check", "--dump", find(machine)]
    if baseline is not None:
        path = tmp_path / "baseline.yml"
        path.write_text(BASELINES[baseline])
        words += ["--baseline", str(path)]
    code = main(words)
    output = capsys.readouterr()
    assert (code, output.err) == (CHECKS[baseline, machine], "")
    hold_against(GOLDEN / golden_check(baseline, machine), output.out)


def golden_check(baseline: str | None, machine: str) -> str:
    """Return the name of a golden text of ``check``."""
    return f"check-{baseline or 'alone'}-on-{machine}.txt"


def test_without_kvm_there_is_nothing_to_check(find: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without a baseline, a machine without KVM's leaves is bad input: neither good nor bad is known of it."""
    name = find("no-hypervisor")
    assert main(["check", "--dump", name]) == 2
    why = "no KVM: no hypervisor bit in leaf 1 (bare metal, or hidden); without KVM's leaves, check needs --baseline"
    assert capsys.readouterr() == ("", f"kvm-exporter: {name}: {why}\n")


def test_every_golden_text_has_its_test() -> None:
    """There is no golden text without a test."""
    expected = {f"{source}-to-{target}.txt" for source, target in PAIRS}
    expected |= {golden_check(*pair) for pair in CHECKS}
    assert {path.name for path in GOLDEN.iterdir()} == expected


RECORD = "record all leaves with cpuid -r (without -l) or kvm-exporter dump"


def _missing(path: Path) -> str:
    del path
    return "cannot be read: No such file or directory; give the file of a dump, or - for stdin"


def _directory(path: Path) -> str:
    path.mkdir()
    return "cannot be read: Is a directory; give the file of a dump, or - for stdin"


def _empty(path: Path) -> str:
    path.write_bytes(b"")
    return f"line 1: no CPU in it; {RECORD}"


def _binary(path: Path) -> str:
    path.write_bytes(b"\x7fELF\xff")
    return "line 1: byte 0xff is not UTF-8; is this a text file?"


def _other_text(path: Path) -> str:
    path.write_text("CPU 0:\n   vendor_id = GenuineIntel\n")
    return f"line 2: this is the decoded output of cpuid, without -r; {RECORD}, and give its output"


def _truncated(path: Path) -> str:
    whole = format_dump(Dump({0: kvm()}))
    path.write_text("".join(line for line in whole.splitlines(keepends=True) if "0x40000001 0x" not in line))
    return f"line 1: CPU 0 has no row for leaf 0x40000001: the dump is not whole; {RECORD}"


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
    """A dump that cannot be used ends in exit code 2, an empty stdout, and one line with file, line and remedy."""
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
        ("features: {required: [steal]}\n", "line 1: unknown feature 'steal'; did you mean steal_time?"),
        ("feature: {}\n", "line 1: unknown key 'feature'; use one of features"),
    ],
    ids=["missing", "unknown feature", "unknown key"],
)
def test_a_bad_baseline_is_bad_input(
    find: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, message: str
) -> None:
    """A baseline that cannot be used ends in exit code 2 and one line likewise."""
    path = tmp_path / "baseline.yml"
    if text is not None:
        path.write_text(text)
    assert main(["check", "--baseline", str(path), "--dump", find("all")]) == 2
    assert capsys.readouterr() == ("", f"kvm-exporter: {path}: {message}\n")


def test_a_dump_that_may_not_be_read_is_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A dump without read permission ends in exit code 2."""
    path = tmp_path / "dump.txt"
    path.touch(0)
    with unprivileged():
        assert main(["compare", str(path), str(path)]) == 2
    message = f"{path}: cannot be read: Permission denied; {PERMISSION}"
    assert capsys.readouterr() == ("", f"kvm-exporter: {message}\n")


@pytest.mark.parametrize(("words", "code"), [(["compare", "-", "{all}"], 1), (["compare", "{all}", "-"], 0)])
def test_a_dump_may_come_on_standard_input(find: Callable[[str], str], words: list[str], code: int) -> None:
    """A dump can be read from stdin, as from kvm-exporter dump over ssh."""
    command = [sys.executable, "-m", "kvm_exporter", *(word.format(all=find("all")) for word in words)]
    more = Path(find("with-unassigned-bit")).read_bytes()
    result = subprocess.run(command, input=more, capture_output=True, check=False, timeout=PATIENCE_SECONDS)
    assert (result.returncode, result.stderr) == (code, b"")
    assert b"eax_bit_30 (eax bit 30)" in result.stdout


def test_a_baseline_may_come_on_standard_input(find: Callable[[str], str]) -> None:
    """A baseline can be read from stdin, as from kvm-exporter baseline on another machine."""
    command = [sys.executable, "-m", "kvm_exporter", "check", "--baseline", "-", "--dump", find("without-steal-time")]
    baseline = "features:\n  required: [steal_time]\n"
    result = subprocess.run(
        command, input=baseline, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    assert (result.returncode, result.stderr) == (1, "")
    assert "steal_time" in result.stdout
