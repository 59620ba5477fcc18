"""kvm_exporter.app.cli: each command's exit code, its output on stdout, its messages on stderr, and no tracebacks."""

import io
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kvm_exporter import __version__
from kvm_exporter.app import commands
from kvm_exporter.app.cli import main
from kvm_exporter.app.console import MAX_DUMP_BYTES
from lab.exporter import UNMEASURED, exporter
from lab.patience import PATIENCE_SECONDS
from lab.readers import guest, sample_of
from lab.scrape import Scrape
from lab.tree import REPOSITORY

DUMPS = REPOSITORY / "lab" / "dumps"
KVM_DUMP = DUMPS / "firecracker-amd-milan-2cpu.txt"
PROGRAM = (sys.executable, "-m", "kvm_exporter")

Captured = pytest.CaptureFixture[str]


def run(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run the program in a child process."""
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [*PROGRAM, *arguments], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False, **settings
    )


def exit_code(arguments: Sequence[str]) -> object:
    """Return the exit code of main(), whether it returns or raises SystemExit."""
    try:
        return main(arguments)
    except SystemExit as ended:
        return ended.code


def test_the_process_ends_likewise() -> None:
    """The process has the exit code and the output of main()."""
    ended = run("decode", "nowhere")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("kvm-exporter: nowhere: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("wrong", ["--nonsense", "decode nowhere"])
def test_an_error_in_the_journal(wrong: str, tmp_path: Path) -> None:
    """A line has the priority err, sd-daemon(3), and not the program's name, which the journal has."""
    with (tmp_path / "stream").open("w+") as stream:
        status = os.fstat(stream.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        command = [*PROGRAM, *wrong.split()]
        ended = subprocess.run(command, stderr=stream, env=environment, timeout=PATIENCE_SECONDS, check=False)
        stream.seek(0)
        [line] = stream
    assert ended.returncode == 2
    assert line.startswith("<3>")
    assert "kvm-exporter:" not in line


# Version and help.


def test_version() -> None:
    """--version prints the version and the revision of the build."""
    ended = run("--version")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.fullmatch(rf"kvm-exporter {re.escape(__version__)} \(revision (?:[0-9a-f]+|unknown)\)\n", ended.stdout)


@pytest.mark.parametrize(
    ("arguments", "mentions"),
    [
        (
            ["--help"],
            ["serve", "show", "decode", "baseline", "check", "compare", "dump", "textfile", "units", "--version"],
        ),
        (["--help"], ["--web.listen-address", "--sample.max-age", "--collector.host", "--log.level"]),
        (["-h"], ["serve"]),
        (["serve", "--help"], ["--web.listen-address", "--sample.max-age", "--baseline.file", "--log.format"]),
        (["show", "--help"], ["--format"]),
        (["decode", "--help"], ["FILE", "--format"]),
        (["check", "--help"], ["--baseline", "--dump"]),
        (["compare", "--help"], ["A", "B"]),
        (["dump", "--help"], ["--host"]),
        (["textfile", "--help"], ["PATH", ".prom", "--sample.max-age"]),
        (["units", "--help"], ["--prefix", "/usr/local", "--root"]),
    ],
    ids=" ".join,
)
def test_help(arguments: list[str], mentions: list[str], capsys: Captured) -> None:
    """The help is on stdout and has every command and flag."""
    assert exit_code(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [word for word in mentions if word not in out] == []


# This machine.


def on_kvm() -> bool:
    """Return whether the kernel detected KVM at boot."""
    lscpu = subprocess.run(["lscpu", "-J"], capture_output=True, text=True, check=True).stdout
    fields = {entry["field"]: entry["data"] for entry in json.loads(lscpu)["lscpu"]}
    return fields.get("Hypervisor vendor:") == "KVM"


@pytest.mark.parametrize("output", ["table", "json", "prometheus"])
def test_show(output: str) -> None:
    """The exit code is 0 on KVM and 3 elsewhere, in every format; stderr is empty."""
    ended = run("show", f"--format={output}")
    assert (ended.returncode, ended.stderr) == (0 if on_kvm() else 3, "")
    if output == "table":
        assert ended.stdout.startswith("KVM at 0x400" if on_kvm() else "no KVM")
    elif output == "json":
        assert json.loads(ended.stdout)["kvm"] is on_kvm()
    else:
        assert Scrape(ended.stdout).value("kvm_present") == on_kvm()


def test_show_compares_with_the_reference_that_the_daemon_keeps(tmp_path: Path) -> None:
    """The reference is read and not written; a directory without one is named."""
    ended = run("show", f"--reference.directory={tmp_path}")
    assert ended.stderr == (
        f"kvm-exporter: {tmp_path} has no boot reference; name the directory of the daemon's --reference.directory\n"
    )
    with exporter(f"--reference.directory={tmp_path}") as running:
        assert running.scrape().value("kvm_boot_reference_persistent") == 1
        assert "in memory only" not in "".join(running.log)
    [kept] = tmp_path.iterdir()
    before = kept.read_bytes()
    ended = run("show", f"--reference.directory={tmp_path}")
    assert (ended.stderr, kept.read_bytes()) == ("", before)
    assert "  boot reference: the first sample of this boot, " in ended.stdout


def test_cpus_that_the_machine_cannot_have() -> None:
    """--sample.cpus without a possible CPU is an error at the start."""
    ended = run("serve", "--web.listen-address=127.0.0.1:0", "--sample.cpus=1048575")
    assert ended.returncode == 2
    assert ended.stderr.startswith("kvm-exporter: --sample.cpus: this machine has none of these CPUs; it can have ")


def test_every_file_is_validated(tmp_path: Path) -> None:
    """--config.check names each valid file, and exits with 2 for one that is not valid, or without files."""
    web, baseline = tmp_path / "web.yml", tmp_path / "baseline.yml"
    web.write_text("{}")
    baseline.write_text("features: {}")
    files = (f"--web.config.file={web}", f"--baseline.file={baseline}")
    valid = run("serve", "--config.check", *files)
    assert (valid.returncode, valid.stdout) == (0, f"{web} is valid\n{baseline} is valid\n")
    assert run("serve", "--config.check").returncode == 2
    for path, other in ((web, baseline), (baseline, web)):
        content = path.read_text()
        path.write_text("nonsense: 1")
        broken = run("serve", "--config.check", *files)
        assert (broken.returncode, broken.stdout) == (2, f"{other} is valid\n")
        assert broken.stderr.startswith(f"kvm-exporter: {path}: line 1: ")
        path.write_text(content)


def test_a_dump_decodes_to_what_is_shown() -> None:
    """For this machine ``dump | decode -`` and ``show`` print the same metrics, but for the pvclock page's."""
    dumped = run("dump")
    assert (dumped.returncode, dumped.stderr) == (0, "")
    decoded = run("decode", "-", "--format=prometheus", input=dumped.stdout)
    assert (decoded.returncode, decoded.stderr) == (0, "")
    shown = run("show", "--format=prometheus").stdout.splitlines()
    assert decoded.stdout.splitlines() == [line for line in shown if "kvm_clock_" not in line]


REMEDY = "run this where all CPUs may be used, or check a dump with --dump"


@pytest.mark.parametrize("baseline", ["", "features: {required: [steal_time]}\n"])
def test_a_check_does_not_pass_for_cpus_that_could_not_be_read(
    baseline: str, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are named, and the verdict is on the others."""
    sample = sample_of({0: guest(0x01007EFB)}, failed={1: "held", 2: "held"})
    monkeypatch.setattr(commands, "sweep", lambda *_: sample)
    path = tmp_path / "baseline.yml"
    path.write_text(baseline)
    assert main(["check", *([f"--baseline={path}"] if baseline else [])]) == 1
    verdict = "matches the baseline" if baseline else "no contradictions"
    assert capsys.readouterr() == (f"not checked: CPU 1-2: held; {REMEDY}\n{verdict} on the CPUs that were read\n", "")


def test_without_kvm_there_is_no_dump_of_a_host(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without /dev/kvm ends in exit code 1 and one line that says what to do."""
    monkeypatch.setattr(commands, "supported_cpuid", lambda: None)
    assert main(["dump", "--host"]) == 1
    remedy = "load the module kvm_intel or kvm_amd, or run this on a hypervisor host"
    problem = f"/dev/kvm does not exist, so this machine cannot run KVM guests; {remedy}"
    assert capsys.readouterr() == ("", f"kvm-exporter: {problem}\n")


def test_textfile(tmp_path: Path) -> None:
    """The file has mode 0644, no other file is left beside it, and it has gauges of the machine only."""
    path = tmp_path / "kvm.prom"
    for _ in range(2):
        ended = run("textfile", str(path), umask=0o077)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    scrape = Scrape(path.read_text())
    assert scrape.value("kvm_present") == on_kvm()
    assert not [name for name in scrape.names if name.endswith("_total") or name.startswith(("process_", "python_"))]


@pytest.mark.parametrize(("flags", "seconds"), [([], 60), (["--sample.max-age=15m"], 900)])
def test_a_textfile_says_when_it_is_due_again(flags: list[str], seconds: float, tmp_path: Path) -> None:
    """Every minute, as the packaged timer writes it, or as the flag says."""
    path = tmp_path / "kvm.prom"
    assert run("textfile", *flags, str(path)).returncode == 0
    assert Scrape(path.read_text()).value("kvm_exporter_sample_max_age_seconds") == seconds


def test_a_textfile_that_cannot_be_written(tmp_path: Path) -> None:
    """After a failed write the exit code is 1, stderr has the reason, and the old file is unchanged and alone."""
    path = tmp_path / "kvm.prom"
    path.write_text("old\n")
    command = ["prlimit", "--fsize=100", *PROGRAM, "textfile", str(path)]
    ended = subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False, env={**os.environ, **UNMEASURED}
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (
        1,
        "",
        f"kvm-exporter: {path}: cannot be written: File too large; the previous file is unchanged\n",
    )
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("kvm.prom", "old\n")]


def test_a_textfile_in_place_of_a_directory(tmp_path: Path) -> None:
    """A directory with the file's name is not replaced, and no file is left beside it."""
    path = tmp_path / "kvm.prom"
    path.mkdir()
    ended = run("textfile", str(path))
    message = f"kvm-exporter: {path}: cannot be written: Is a directory; the previous file is unchanged\n"
    assert (ended.returncode, ended.stderr) == (1, message)
    assert list(tmp_path.iterdir()) == [path]


# Dumps.


@pytest.mark.parametrize("path", sorted(DUMPS.glob("*.txt")), ids=lambda path: path.stem)
def test_decode(path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dump is decoded the same from a file and from stdin, with exit code 0 with KVM and without."""
    assert main(["decode", str(path)]) == 0
    from_file = capsys.readouterr()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(path.read_bytes())))
    assert main(["decode", "-"]) == 0
    assert capsys.readouterr() == from_file
    assert from_file.out.startswith(("KVM at ", "no KVM"))
    assert from_file.err == ""


EXPECTED_ROW = "'0x40000001 0x00: eax=0x… ebx=0x… ecx=0x… edx=0x…'"
APART = "put each into a file of its own"
JOIN = "join a wrapped row, or record the dump again"
RECORD = "record all leaves with cpuid -r (without -l) or kvm-exporter dump"
ROW = "   0x00000001 0x00: eax=0x00000000 ebx=0x00000000 ecx=0x80000000 edx=0x00000000\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", f"line 1: no CPU in it; {RECORD}"),
        (b"\n\n", f"line 3: no CPU in it; {RECORD}"),
        (b"CPU 0:\n", f"line 1: no row follows 'CPU 0:'; {RECORD}"),
        (b"hello\n", f"line 1: expected 'CPU 0:' or a row of cpuid -r, found 'hello'; {RECORD}"),
        (
            f"CPU 0:\n{ROW}CPU 0:\n{ROW}".encode(),
            "line 3: two machines: CPU 0 is in line 1 already; " + APART,
        ),
        (
            f"CPU 0:\n{ROW}{ROW}".encode(),
            f"line 3: two machines: leaf 0x00000001 subleaf 0x00 of CPU 0 is there already; {APART}",
        ),
        (
            f"CPU 0:\n{ROW[:50]}".encode(),
            f"line 2: expected {EXPECTED_ROW}, found '0x00000001 0x00: eax=0x00000000 ebx=0x00'; {JOIN}",
        ),
        (b"hello\n\xff\n", "line 2: byte 0xff is not UTF-8; is this a text file?"),
        (b"\x7fELF\x02\x01\x01" + bytes(40) + b"\x90\n", "line 1: byte 0x90 is not UTF-8; is this a text file?"),
    ],
    ids=[
        "empty",
        "blank",
        "no row",
        "text",
        "CPU twice",
        "row twice",
        "half a row",
        "not UTF-8",
        "binary",
    ],
)
def test_what_is_no_dump(data: bytes, message: str, tmp_path: Path, capsys: Captured) -> None:
    """An invalid dump ends in exit code 2 and one line with the file, the line number and the remedy."""
    path = tmp_path / "dump"
    path.write_bytes(data)
    assert main(["decode", str(path)]) == 2
    assert capsys.readouterr() == ("", f"kvm-exporter: {path}: {message}\n")


def test_what_is_assumed_is_said(tmp_path: Path, capsys: Captured) -> None:
    """The hypervisor's leaves alone are decoded; stderr names the file, what is assumed and why."""
    path, text = tmp_path / "dump", KVM_DUMP.read_text()
    path.write_text("".join(line for line in text.splitlines(keepends=True) if "   0x0" not in line))
    assert main(["decode", str(KVM_DUMP)]) == 0
    whole = capsys.readouterr().out
    assert main(["decode", str(path)]) == 0
    because = "assuming that a hypervisor is present, because leaf 0x40000000 holds the signature 'KVMKVMKVM'"
    assert capsys.readouterr() == (whole, f"kvm-exporter: {path}: leaf 1 is missing; {because}\n")


def test_a_truncated_dump(tmp_path: Path, capsys: Captured) -> None:
    """A missing row of an existing leaf is an error, and does not read as zeros."""
    path, text = tmp_path / "dump", KVM_DUMP.read_text()
    path.write_text(text[: text.rindex("0x40000001")])
    assert main(["decode", str(path)]) == 2
    line = text[: text.index("CPU 1:")].count("\n") + 1
    problem = f"CPU 1 has no row for leaf 0x40000001: the dump is not whole; {RECORD}"
    assert capsys.readouterr() == ("", f"kvm-exporter: {path}: line {line}: {problem}\n")


@pytest.mark.parametrize("source", ["{}", "-"], ids=["file", "stdin"])
def test_a_dump_without_an_end(tmp_path: Path, source: str) -> None:
    """A file of a terabyte is rejected without being read into memory."""
    path = tmp_path / "dump"
    path.touch()
    os.truncate(path, 1 << 40)
    with path.open("rb") as stdin:
        ended = run("decode", name := source.format(path), stdin=stdin)
    message = f"kvm-exporter: {name}: is larger than {MAX_DUMP_BYTES} bytes; check that it is the output of cpuid -r\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", message)


# Failures of stdout.


@pytest.mark.parametrize("arguments", [["show"], ["dump"], ["show", "--format=prometheus"], ["decode", str(KVM_DUMP)]])
def test_a_reader_that_has_enough(arguments: list[str]) -> None:
    """If the reader closes the pipe, as in ``kvm-exporter show | head -c 1``, the exit code is 1 without a message."""
    read, write = os.pipe()
    os.close(read)
    try:
        ended = subprocess.run(
            [*PROGRAM, *arguments],
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    finally:
        os.close(write)
    assert (ended.returncode, ended.stderr) == (1, "")


@pytest.mark.parametrize(
    "arguments", [["show"], ["dump"], ["decode", str(KVM_DUMP)], ["--help"], ["show", "--help"], ["--version"]]
)
def test_an_output_that_cannot_be_written(arguments: list[str]) -> None:
    """If stdout cannot be written, as on a full disk, the exit code is 1 with one line."""
    with Path("/dev/full").open("w", encoding="ascii") as full:
        ended = subprocess.run(
            [*PROGRAM, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    message = "kvm-exporter: cannot write to standard output: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (1, message)
