"""kvm_exporter.config.files: atomic replacement of files, with concurrent readers and after failures."""

import json
import os
import re
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvm_exporter.config import files
from kvm_exporter.config.files import Reloaded, Watch, read_bounded, write_atomically
from kvm_exporter.errors import InputError
from tests.support.rooms.unprivileged import unprivileged

OLD, NEW = b"old\n" * 1000, b"new\n" * 100_000


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Limit the size of files that this process writes: writing more fails with EFBIG, for root as well."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An existing file that is alone in its directory."""
    found = tmp_path / "kvm.prom"
    found.write_bytes(OLD)
    return found


@pytest.mark.parametrize("content", [b"", b"new", NEW], ids=["empty", "short", "long"])
def test_a_file_is_replaced_by_the_new_content(path: Path, content: bytes) -> None:
    """The file has the whole new content, and no other file is left in the directory."""
    write_atomically(path, content)
    assert {found.name: found.read_bytes() for found in path.parent.iterdir()} == {"kvm.prom": content}


def test_a_file_is_made_where_there_is_none(tmp_path: Path) -> None:
    """A file that does not exist is created."""
    write_atomically(tmp_path / "new.prom", NEW)
    assert (tmp_path / "new.prom").read_bytes() == NEW


def test_who_reads_the_old_file_has_it_to_its_end(path: Path) -> None:
    """A reader that has the old file open reads the old content to its end, and never a mix of both."""
    with path.open("rb") as reader:
        start = reader.read(10)
        write_atomically(path, NEW)
        assert start + reader.read() == OLD
    assert path.read_bytes() == NEW


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000], ids=oct)
def test_every_user_may_read_the_file(path: Path, umask: int) -> None:
    """The mode does not depend on the umask or on the old file's mode, because node_exporter runs as another user."""
    path.chmod(0o640)
    before = os.umask(umask)
    try:
        write_atomically(path, NEW)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("size", [0, 1, 4096, len(NEW) - 1])
def test_a_failure_in_the_middle_leaves_the_old_file_whole(path: Path, size: int) -> None:
    """After a failed write, as on a full disk, the old file is unchanged and no temporary file is left."""
    with largest_file(size), pytest.raises(OSError, match="File too large"):
        write_atomically(path, NEW)
    assert {found.name: found.read_bytes() for found in path.parent.iterdir()} == {"kvm.prom": OLD}


def test_a_failure_to_rename_leaves_nothing_behind(tmp_path: Path) -> None:
    """If the rename fails, here because a directory has the name, no temporary file is left."""
    (tmp_path / "kvm.prom").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "kvm.prom", NEW)
    assert [found.name for found in tmp_path.iterdir()] == ["kvm.prom"]


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A missing directory is an error and is not created, so that a misspelt path is noticed."""
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "missing" / "kvm.prom", NEW)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_nobody_can_write_keeps_its_file() -> None:
    """A file in a directory that cannot be written keeps its content; under /proc/sys not even root creates files."""
    path = Path("/proc/sys/kernel/ostype")
    before = path.read_bytes()
    with pytest.raises(OSError, match=r"Permission denied|No such file|Operation not permitted|Read-only"):
        write_atomically(path, NEW)
    assert path.read_bytes() == before


AUDITED = """\
import json, sys
from pathlib import Path
from kvm_exporter.config.files import write_atomically

def watch(event, arguments):
    if event in {"tempfile.mkstemp", "os.rename"} and str(arguments[0]).startswith(folder):
        print(json.dumps([event, *map(str, arguments[:2])]))

folder = str(Path(sys.argv[1]).parent)
sys.addaudithook(watch)
write_atomically(Path(sys.argv[1]), b"new")
"""
"""A program that prints which files are created and renamed while it writes one."""


def test_no_collector_takes_the_temporary_file_for_one_of_its_own(path: Path) -> None:
    """The temporary file is hidden, has another suffix, and is renamed last, so that no collector reads it."""
    command = [sys.executable, "-c", AUDITED, str(path)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (made, temporary), renamed = (json.loads(line) for line in output.splitlines())
    assert made == "tempfile.mkstemp"
    assert renamed == ["os.rename", temporary, str(path)]
    assert re.fullmatch(re.escape(f"{path.parent}/.kvm.prom.") + r"\w+\.tmp", temporary)


@pytest.mark.parametrize("piped", ["main", "other"])
def test_a_reload_does_not_wait_for_the_writer_of_a_pipe(
    tmp_path: Path, piped: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A named pipe in place of a file keeps the previous value; at the start it is read, as in ``<(command)``."""
    main, other = tmp_path / "main", tmp_path / "other"
    read, write = os.pipe()
    main.symlink_to(f"/dev/fd/{read}")
    other.write_bytes(b"other")
    os.write(write, b"main")
    os.close(write)

    def load(_: bytes | None, watch: Watch) -> bytes:
        watch(other)
        return read_bounded(main, 9, "a test", "give one") + read_bounded(other, 9, "a test", "give one")

    file = Reloaded(main, "the test", load)
    os.close(read)
    assert (file.value, file.success) == (b"mainother", True)
    main.unlink()
    main.write_bytes(b"new")
    changed = tmp_path / piped
    changed.unlink()
    os.mkfifo(changed)
    file.refresh()
    assert (file.value, file.success) == (b"mainother", False)
    why = f"{changed}: is a pipe, which is read at the start only; replace it by a file"
    assert caplog.messages == [f"could not reload the test, keeping the previous one: {why}"]


def test_without_any_good_load_no_previous_value_is_promised(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is invalid from the start on leaves the default, whatever is reloaded."""

    def load(_: bytes | None, watch: Watch) -> bytes:
        watch(tmp_path)
        raise InputError("is wrong")

    file = Reloaded(tmp_path, "the test", load, default=b"")
    file.reload()
    assert (file.value, file.success, file.loaded) == (b"", False, False)
    assert caplog.messages == [
        "could not load the test, starting without it: is wrong",
        "could not reload the test: is wrong",
    ]


def test_a_credential_that_systemd_has_not_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is missing or closed, groups do not help: the message names the setting that passes it to the unit."""
    monkeypatch.setattr(files, "CREDENTIALS", tmp_path)
    path = tmp_path / "server.key"
    remedy = "only a unit's own processes can read its credentials; add LoadCredential=server.key:FILE to it"
    with pytest.raises(InputError) as missing:
        read_bounded(path, 1, "PEM", "give another file")
    assert str(missing.value) == f"cannot be read: No such file or directory; {remedy}"
    path.touch(mode=0)
    with unprivileged(), pytest.raises(InputError) as closed:
        read_bounded(path, 1, "PEM", "give another file")
    assert str(closed.value) == f"cannot be read: Permission denied; {remedy}"
