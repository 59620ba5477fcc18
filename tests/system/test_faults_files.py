"""Disks that are full, a writer that is killed or refused at any system call, and files that are not what they seem."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvm_exporter.app.cli import main
from lab.exporter import UNMEASURED, exporter
from lab.patience import PATIENCE_SECONDS
from lab.proc import errors
from lab.scrape import Scrape
from lab.secure import USERS, ask, basic
from tests.support.system.mounts import seeing
from tests.support.system.traced import Call, calls, disturbed

PROGRAM = (sys.executable, "-m", "kvm_exporter")

OLD = "old\n"


# Full disks.

IN_A_FOLDER = 'echo old > "$0/kvm.prom"; "$@" "$0/kvm.prom"; code=$?; ls -A "$0"; cat "$0/kvm.prom"; exit $code'
"""Run by a shell with a folder and a program: what the program leaves in it."""


@pytest.mark.parametrize("room", ["size=4k", "size=8k", "nr_inodes=2"], ids=["no block", "one block", "no inode"])
def test_a_full_disk_keeps_the_old_textfile(tmp_path: Path, room: str) -> None:
    """A real one, with no room beside the old file: that is whole and alone, and the message says why."""
    disk = seeing(f"-t tmpfs -o {room} none '{tmp_path}'")
    command = [*disk, "sh", "-c", IN_A_FOLDER, str(tmp_path), *PROGRAM, "textfile"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert (ended.returncode, ended.stdout) == (1, f"kvm.prom\n{OLD}")
    why = "cannot be written: No space left on device; the previous file is unchanged"
    assert ended.stderr == f"kvm-exporter: {tmp_path}/kvm.prom: {why}\n"


def test_a_full_disk_keeps_no_boot_reference(tmp_path: Path) -> None:
    """The daemon compares with the one that it has in memory, and says once that this ends with it."""
    disk = seeing(f"-t tmpfs -o nr_inodes=1 none '{tmp_path}'")
    with exporter(under=disk, environment={"RUNTIME_DIRECTORY": str(tmp_path)}) as running:
        for _ in range(2):
            assert set(running.scrape().values("kvm_boot_feature_changes", "change").values()) == {0}
        assert running.stop() == 0
    why = "boot-reference.json: No space left on device; it is lost when the exporter exits"
    assert [why in line for line in running.log if "level=warn" in line] == [True]
    assert errors(running) == []


# The textfile's system calls.


def writing(path: Path) -> list[str]:
    """The command line that writes a textfile."""
    path.write_text(OLD)
    return [*PROGRAM, "textfile", str(path)]


def from_the_first_write(path: Path) -> list[Call]:
    """The system calls from the one that makes the temporary file to the end."""
    log = path.with_suffix(".strace")
    found = calls(writing(path), log)
    [start] = [
        place for place, call in enumerate(found) if call.name == "openat" and f"{path.parent}/.kvm" in call.rest
    ]
    return found[start:]


def test_a_kill_at_any_system_call_leaves_a_whole_file(tmp_path: Path) -> None:
    """The old one or the new, and beside it at most a temporary file that no collector reads."""
    path, outcomes = tmp_path / "kvm.prom", set()
    for call in from_the_first_write(path):
        command = writing(path)
        ended = disturbed(command, call, "signal=KILL", path.with_suffix(".strace"))
        text = path.read_text()
        assert text == OLD or is_whole(text)
        assert [found.name for found in tmp_path.glob("*.prom")] == ["kvm.prom"]
        left = [found for found in tmp_path.iterdir() if found.name.startswith(".")]
        assert all(found.suffix == ".tmp" for found in left)
        for found in left:
            found.unlink()
        outcomes.add((ended.returncode != 0, text == OLD, bool(left)))
    # It was killed before there was a temporary file, while there was one, and after it had got its name.
    assert outcomes >= {(True, True, False), (True, True, True), (True, False, False)}


def test_a_refusal_of_any_system_call_leaves_a_whole_file(tmp_path: Path) -> None:
    """Exit code 1 with the old one, or 0 with the new, and in either case nothing else."""
    path, outcomes = tmp_path / "kvm.prom", []
    found = from_the_first_write(path)
    [rename] = [place for place, call in enumerate(found) if call.name == "rename"]
    for call in found[: rename + 1]:
        ended = disturbed(writing(path), call, "error=EIO", path.with_suffix(".strace"))
        text = path.read_text()
        assert (ended.returncode, text) == (1, OLD) or (ended.returncode == 0 and is_whole(text)), (call, ended)
        assert sorted(found.name for found in tmp_path.iterdir()) == ["kvm.prom", "kvm.strace"]
        outcomes.append((call.name, ended.returncode))
    assert {("openat", 1), ("write", 1), ("fsync", 1), ("close", 1), ("rename", 1)} <= set(outcomes)


def is_whole(text: str) -> bool:
    """Whether all gauges are there, the first and the last."""
    return {"kvm_present", "kvm_exporter_collector_duration_seconds"} <= Scrape(text).names


# Files that people write.


def huge(path: Path) -> None:
    """More than any memory, and NUL all along."""
    path.touch()
    os.truncate(path, 1 << 40)


def bomb(path: Path) -> None:
    """YAML that would be 2 to the power of 40 names, were it written out."""
    levels = (f"- &l{level} [*l{level - 1}, *l{level - 1}]\n" for level in range(1, 40))
    path.write_text("features:\n  required:\n" + "".join(f"    {line}" for line in ("- &l0 [pv_eoi]\n", *levels)))


CORRUPTIONS: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(missing_ok=True),
    "directory": Path.mkdir,
    "not UTF-8": lambda path: path.write_bytes(b"features:\n  required: [pv_\xe9oi]\n"),
    "UTF-16": lambda path: path.write_bytes("CPU 0:\nfeatures:\n".encode("utf-16-le")),
    "truncated": lambda path: path.write_bytes(b"features:\n  required: [pv_eoi, pv_"),
    "NUL": lambda path: path.write_bytes(b"\0" * 4096),
    "a program": lambda path: path.write_bytes(Path(sys.executable).read_bytes()[: 1 << 20]),
    "huge": huge,
    "bomb": bomb,
    "deep": lambda path: path.write_bytes(b"features: " + b"[" * 5000),
    "deep in JSON": lambda path: path.write_bytes(b'{"features":' * 5000),
}

READERS = {
    "dump": ["decode", "{}"],
    "dump to check": ["check", "--baseline", "{good}", "--dump", "{}"],
    "dump to compare": ["compare", "{}", "{}"],
    "baseline": ["check", "--baseline", "{}"],
    "daemon's baseline": ["serve", "--config.check", "--baseline.file={}"],
    "web configuration": ["serve", "--web.config.file={}"],
}


@pytest.mark.parametrize("words", READERS.values(), ids=READERS)
@pytest.mark.parametrize("corrupt", CORRUPTIONS.values(), ids=CORRUPTIONS)
def test_a_corrupted_file_is_named(
    tmp_path: Path, corrupt: Callable[[Path], object], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command that reads it, and before anything is served: exit code 2 and a line."""
    path, good = tmp_path / "file", tmp_path / "good"
    good.write_text("features:\n  required: []\n")
    corrupt(path)
    assert main([word.format(path, path, good=good) for word in words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"kvm-exporter: {path}: ")
    assert printed.err.count("\n") == 1
    assert len(printed.err) < 1000


def test_a_running_daemon_holds_on_to_what_was_good(tmp_path: Path) -> None:
    """However baseline and web configuration are corrupted: passwords are asked for, and both are shown broken."""
    baseline, config = tmp_path / "baseline", tmp_path / "web"
    goods = {baseline: "features:\n  required: [pv_eoi]\n", config: USERS}
    for path, text in goods.items():
        path.write_text(text)
    flags = (f"--baseline.file={baseline}", f"--web.config.file={config}")
    with exporter(*flags, environment=UNMEASURED) as running:
        port = running.port
        for name, corrupt in CORRUPTIONS.items():
            for path in goods:
                path.unlink()
                corrupt(path)
            assert ask(port).status == 401
            scrape = Scrape(ask(port, login=basic("prometheus")).body)
            assert scrape.value("kvm_exporter_sample_success") == 1
            assert scrape.value("kvm_feature_expected", feature="pv_eoi") == 1, name
            assert scrape.value("kvm_exporter_collector_success", collector="baseline") == 0, name
            assert scrape.value("kvm_exporter_web_config_last_reload_successful") == 0, name
            for path, text in goods.items():
                path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
                path.write_text(text)
            scrape = Scrape(ask(port, login=basic("prometheus")).body)
            assert scrape.value("kvm_exporter_collector_success", collector="baseline") == 1, name
            assert scrape.value("kvm_exporter_web_config_last_reload_successful") == 1, name
        assert running.stop() == 0
    complaints = [line for line in running.log if "level=error" in line]
    assert len(complaints) == 2 * len(CORRUPTIONS)
    assert all("keeping the previous one" in line for line in complaints)
    assert "Traceback" not in "".join(running.log)
