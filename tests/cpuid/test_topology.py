"""kvm_exporter.cpuid.topology and cpulist: the kernel's CPU lists and their files in sysfs, under a test's own root."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.cpuid.cpulist import format_cpu_list, parse_cpu_list
from kvm_exporter.cpuid.topology import Topology
from kvm_exporter.errors import ReadError

LARGEST = (1 << 20) - 1

PAGE = 4096


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The sysfs folder of a machine whose CPUs 0 to 3 are online."""
    found = tmp_path / "sys" / "devices" / "system" / "cpu"
    found.mkdir(parents=True)
    (found / "online").write_text("0-3\n")
    return found


@pytest.fixture
def topology(folder: Path, tmp_path: Path) -> Topology:
    """The Topology of the machine under the test's root."""
    assert folder.is_dir()
    return Topology(tmp_path)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0\n", (0,)),
        ("0-3\n", (0, 1, 2, 3)),
        ("0,2-3,8\n", (0, 2, 3, 8)),
        ("8,2-3,0", (0, 2, 3, 8)),
        ("1-3,2-4", (1, 2, 3, 4)),
        ("7-7", (7,)),
        ("\n", ()),
        ("", ()),
        ("(null)\n", ()),
        ("0-1\n\0", (0, 1)),
        (f"{LARGEST}", (LARGEST,)),
    ],
)
def test_a_list_names_its_cpus(text: str, cpus: tuple[int, ...]) -> None:
    """The result is ascending and has no duplicates; an empty list and '(null)' contain no CPU."""
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize(
    "text",
    [
        *["a", "null", "0-", "-3", "0--3", "3-0", "0,,1", "0,", "0x3", "0-3:1/2", "+1", "1_0", "٣", "²", "0 1", "0\n1"],
        *[f"{LARGEST + 1}", f"0-{LARGEST + 1}", "0-99999999999999999999", "9" * 5000],
    ],
)
def test_what_is_no_list_is_refused(text: str) -> None:
    """A malformed list raises ValueError, and a huge range does so without allocating memory."""
    with pytest.raises(ValueError, match=r"."):
        parse_cpu_list(text)


@pytest.mark.parametrize(
    ("cpus", "text"),
    [((), ""), ((5,), "5"), ((0, 1), "0-1"), ((3, 1, 2, 0), "0-3"), ((8, 0, 2, 3), "0,2-3,8"), ((0, 2, 4), "0,2,4")],
)
def test_a_list_is_written_as_the_kernel_does(cpus: tuple[int, ...], text: str) -> None:
    """The text is ascending, and neighbouring CPUs are written as a range."""
    assert format_cpu_list(cpus) == text


@given(st.sets(st.integers(0, 200)))
def test_a_list_that_was_written_is_read(cpus: set[int]) -> None:
    """Parsing a formatted list returns the same CPUs."""
    assert parse_cpu_list(format_cpu_list(cpus) + "\n") == tuple(sorted(cpus))


@given(st.text(alphabet="0123456789-,() \nnul\0x"))
def test_any_text_is_a_list_or_a_value_error(text: str) -> None:
    """For any text, parse_cpu_list() returns an ascending list or raises ValueError."""
    try:
        cpus = parse_cpu_list(text)
    except ValueError:
        return
    assert list(cpus) == sorted(set(cpus))


def test_online_cpus_are_read_from_sysfs(topology: Topology, folder: Path) -> None:
    """online() returns the CPU numbers in ascending order, each time as the file has them."""
    assert topology.online() == (0, 1, 2, 3)
    (folder / "online").write_text("0-1,3\n")
    assert topology.online() == (0, 1, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no CPU"),
        ("\n", "lists no CPU"),
        ("(null)\n", "lists no CPU"),
        ("\0" * PAGE, "lists no CPU"),
        ("x," * (PAGE // 2), "'x' is not a CPU or a range of CPUs such as 0-3"),
        ("nonsense\n", "'nonsense' is not a CPU or a range of CPUs such as 0-3"),
        ("0-9999999\n", "'0-9999999' has a CPU of 1,048,576 or above"),
        ("\udcff\n", "'\N{REPLACEMENT CHARACTER}' is not a CPU or a range of CPUs such as 0-3"),
    ],
)
def test_an_online_file_that_names_no_cpus_is_an_error(
    topology: Topology, folder: Path, text: str, message: str
) -> None:
    """The error names the file and the problem on every call, and the next call after a repair succeeds."""
    before = topology.online()
    (folder / "online").write_text(text, errors="surrogateescape")
    for _ in range(2):
        with pytest.raises(ReadError) as caught:
            topology.online()
        assert str(caught.value) == f"{folder / 'online'}: {message}"
    (folder / "online").write_text("0-3\n")
    assert topology.online() == before


def present(folder: Path, online: Iterable[int], offline: Iterable[int], size: int) -> None:
    """Write a file per CPU as sysfs does (CPU 0 has none), and the first ``size`` bytes of the online list."""
    for cpu, text in [*((cpu, "1\n") for cpu in online), *((cpu, "0\n") for cpu in offline)]:
        (folder / f"cpu{cpu}").mkdir(exist_ok=True)
        if cpu:
            (folder / f"cpu{cpu}" / "online").write_text(text)
    (folder / "cpuidle").mkdir(exist_ok=True)
    (folder / "online").write_text((",".join(map(str, online)) + "\n")[:size])


@pytest.mark.parametrize("size", [PAGE - 1, 2 * PAGE], ids=["the kernel's", "whole"])
def test_a_list_that_the_kernel_cut_is_completed(topology: Topology, folder: Path, size: int) -> None:
    """A list that is longer than a page, which the kernel truncates, is completed from the files of the CPUs.

    A change beyond the first page is detected as well. A file system that returns the whole list gives the same result.
    """
    even = (0, *range(2048, 4096, 2))
    present(folder, even, range(2049, 2100, 2), size)
    assert topology.online() == even
    (folder / "cpu4094" / "online").write_text("0\n")
    assert topology.online() == even[:-1]


@pytest.mark.parametrize("size", [4, PAGE * 3 // 4, PAGE - 2])
def test_a_list_without_an_end_that_would_fit_is_whole(topology: Topology, folder: Path, size: int) -> None:
    """A list without a newline that is shorter than a page is complete: its last number is not cut."""
    for name in ("online", "isolated"):
        (folder / name).write_text("0," * (size // 2 - 1) + "33")
    assert topology.online() == (0, 33)
    assert topology.isolated() == {0, 33}


@pytest.mark.parametrize("last", [1023, 1024, 4095])
def test_a_list_that_just_fits_is_whole(topology: Topology, folder: Path, last: int) -> None:
    """A list that fills a page exactly is complete, whether or not its highest CPU fits a mask of 1,024 bits."""
    padding = "0," * ((PAGE - 2 - len(str(last))) // 2)
    text = f"{padding}{last}\n"
    (folder / "online").write_text(text)
    assert topology.online() == (0, last)


def test_a_list_of_isolated_cpus_that_was_cut_has_no_half_numbers(topology: Topology, folder: Path) -> None:
    """The last number of a truncated list is dropped: it could be the beginning of another number."""
    text = ",".join(map(str, range(998, 4096, 2)))[: PAGE - 1]
    (folder / "isolated").write_text(text)
    assert not text.endswith(",")
    assert topology.isolated() == set(map(int, text.split(",")[:-1]))


def test_an_isolated_file_without_an_end_names_none(topology: Topology, folder: Path) -> None:
    """A file of a gigabyte is not read to its end, and no CPU counts as isolated."""
    (folder / "isolated").touch()
    os.truncate(folder / "isolated", 1 << 30)
    assert topology.isolated() == frozenset()


def test_an_empty_online_file_is_an_error_from_the_start(folder: Path, tmp_path: Path) -> None:
    """A list without a CPU is an error, because every machine has one."""
    (folder / "online").write_text("")
    topology = Topology(tmp_path)
    with pytest.raises(ReadError, match="lists no CPU"):
        topology.online()


def test_a_missing_online_file_is_an_error(tmp_path: Path) -> None:
    """Without sysfs the online CPUs are unknown; the error asks whether /sys is mounted."""
    with pytest.raises(ReadError) as caught:
        Topology(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/sys/devices/system/cpu/online: No such file or directory; is /sys mounted?"
    )


def test_an_online_file_that_cannot_be_read_is_an_error(folder: Path, tmp_path: Path) -> None:
    """A directory in place of the file can be opened but not read; the error says so."""
    (folder / "online").unlink()
    (folder / "online").mkdir()
    topology = Topology(tmp_path)
    with pytest.raises(ReadError) as caught:
        topology.online()
    assert str(caught.value) == f"{folder / 'online'}: Is a directory"


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({}, set()),
        ({"isolated": "\n"}, set()),
        ({"isolated": "2-3\n"}, {2, 3}),
        ({"nohz_full": "1,3\n"}, {1, 3}),
        ({"isolated": "2-3\n", "nohz_full": "1,3\n"}, {1, 2, 3}),
        ({"isolated": "\n", "nohz_full": "(null)\n"}, set()),
        ({"isolated": "2\n", "nohz_full": "  (null)\n"}, {2}),
        ({"isolated": "nonsense\n", "nohz_full": "1\n"}, {1}),
        ({"isolated": "0-9999999\n", "nohz_full": "9" * 5000}, set()),
    ],
)
def test_isolated_cpus_are_those_of_both_files(
    topology: Topology, folder: Path, files: dict[str, str], cpus: set[int]
) -> None:
    """A missing, empty or malformed file or '(null)' contains no CPU: a visit of an isolated CPU does little harm."""
    for name, text in files.items():
        (folder / name).write_text(text)
    assert topology.isolated() == cpus


def test_isolated_cpus_are_read_again_each_time(topology: Topology, folder: Path) -> None:
    """The files are read on every call, because a cpuset partition can isolate CPUs while the exporter runs."""
    assert topology.isolated() == set()
    (folder / "isolated").write_text("1\n")
    assert topology.isolated() == {1}


def test_without_descriptors_the_isolated_cpus_stay(
    topology: Topology, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shortage of descriptors does not make an isolated CPU look like any other."""
    (folder / "isolated").write_text("1\n")
    assert topology.isolated() == {1}

    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Path, "open", refuse)
    assert topology.isolated() == {1}


def test_this_machine_has_cpus() -> None:
    """The CPUs of this machine are read from the real /sys."""
    topology = Topology()
    assert topology.online() == parse_cpu_list(Path("/sys/devices/system/cpu/online").read_text())
    assert topology.isolated() <= set(range(LARGEST))
