"""The kernel's lists of CPUs, and the files that hold them, under a root of the test's own."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

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
    """The folder of a machine's CPUs, with CPUs 0 to 3 online."""
    found = tmp_path / "sys" / "devices" / "system" / "cpu"
    found.mkdir(parents=True)
    (found / "online").write_text("0-3\n")
    return found


@pytest.fixture
def topology(folder: Path, tmp_path: Path) -> Iterator[Topology]:
    """The machine under the test's own root."""
    assert folder.is_dir()
    found = Topology(tmp_path)
    yield found
    found.close()


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
    """Ascending, each once, with holes; an empty list and '(null)' name none."""
    assert parse_cpu_list(text) == cpus


@pytest.mark.parametrize(
    "text",
    [
        *["a", "null", "0-", "-3", "0--3", "3-0", "0,,1", "0,", "0x3", "0-3:1/2", "+1", "1_0", "٣", "²", "0 1", "0\n1"],
        *[f"{LARGEST + 1}", f"0-{LARGEST + 1}", "0-99999999999999999999", "9" * 5000],
    ],
)
def test_what_is_no_list_is_refused(text: str) -> None:
    """Nonsense is not taken for CPUs, and a huge range costs no memory."""
    with pytest.raises(ValueError, match=r"."):
        parse_cpu_list(text)


@pytest.mark.parametrize(
    ("cpus", "text"),
    [((), ""), ((5,), "5"), ((0, 1), "0-1"), ((3, 1, 2, 0), "0-3"), ((8, 0, 2, 3), "0,2-3,8"), ((0, 2, 4), "0,2,4")],
)
def test_a_list_is_written_as_the_kernel_does(cpus: tuple[int, ...], text: str) -> None:
    """Ascending, neighbours as a range."""
    assert format_cpu_list(cpus) == text


@given(st.sets(st.integers(0, 200)))
def test_a_list_that_was_written_is_read(cpus: set[int]) -> None:
    """Any set of CPUs comes out as it went in."""
    assert parse_cpu_list(format_cpu_list(cpus) + "\n") == tuple(sorted(cpus))


@given(st.text(alphabet="0123456789-,() \nnul\0x"))
def test_any_text_is_a_list_or_a_value_error(text: str) -> None:
    """Nothing else comes out of a broken file."""
    try:
        cpus = parse_cpu_list(text)
    except ValueError:
        return
    assert list(cpus) == sorted(set(cpus))


def test_online_cpus_are_read_from_sysfs(topology: Topology) -> None:
    """Their numbers, ascending."""
    assert topology.online() == (0, 1, 2, 3)


def test_online_cpus_are_the_same_object_until_they_change(topology: Topology, folder: Path) -> None:
    """Whoever compares them at each scrape compares two pointers."""
    first = topology.online()
    assert topology.online() is first
    (folder / "online").write_text("0-1,3\n")
    second = topology.online()
    assert second == (0, 1, 3)
    assert topology.online() is second


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no CPU"),
        ("\n", "names no CPU"),
        ("(null)\n", "names no CPU"),
        ("\0" * PAGE, "names no CPU"),
        ("x," * (PAGE // 2), "'x' is not a CPU or a range of CPUs such as 0-3"),
        ("nonsense\n", "'nonsense' is not a CPU or a range of CPUs such as 0-3"),
        ("0-9999999\n", "'0-9999999' is not an ascending range below 1048576"),
        ("\udcff\n", "'\N{REPLACEMENT CHARACTER}' is not a CPU or a range of CPUs such as 0-3"),
    ],
)
def test_an_online_file_that_names_no_cpus_is_an_error(
    topology: Topology, folder: Path, text: str, message: str
) -> None:
    """It says which file and what is wrong, each time it is asked, and is over when the file is right again."""
    before = topology.online()
    (folder / "online").write_text(text, errors="surrogateescape")
    for _ in range(2):
        with pytest.raises(ReadError) as caught:
            topology.online()
        assert str(caught.value) == f"{folder / 'online'}: {message}"
    (folder / "online").write_text("0-3\n")
    assert topology.online() == before


def present(folder: Path, online: Iterable[int], offline: Iterable[int], size: int) -> None:
    """A file for each CPU, as sysfs has it, but for CPU 0; and of the online ones so much of their list."""
    for cpu, text in [*((cpu, "1\n") for cpu in online), *((cpu, "0\n") for cpu in offline)]:
        (folder / f"cpu{cpu}").mkdir(exist_ok=True)
        if cpu:
            (folder / f"cpu{cpu}" / "online").write_text(text)
    (folder / "cpuidle").mkdir(exist_ok=True)
    (folder / "online").write_text((",".join(map(str, online)) + "\n")[:size])


@pytest.mark.parametrize("size", [PAGE - 1, 2 * PAGE], ids=["the kernel's", "whole"])
def test_a_list_that_the_kernel_cut_is_completed(topology: Topology, folder: Path, size: int) -> None:
    """A thousand CPUs whose siblings are offline: that list is longer than a page, and the kernel writes no more.

    A change that the page does not show is seen all the same. A file system that writes more is no other case.
    """
    even = (0, *range(2048, 4096, 2))
    present(folder, even, range(2049, 2100, 2), size)
    found = topology.online()
    assert found == even
    assert topology.online() is found
    (folder / "cpu4094" / "online").write_text("0\n")
    assert topology.online() == even[:-1]


@pytest.mark.parametrize("size", [4, PAGE * 3 // 4, PAGE - 2])
def test_a_list_without_an_end_that_would_fit_is_whole(topology: Topology, folder: Path, size: int) -> None:
    """Its last number is no part of another."""
    for name in ("online", "isolated"):
        (folder / name).write_text("0," * (size // 2 - 1) + "33")
    assert topology.online() == (0, 33)
    assert topology.isolated() == {0, 33}


@pytest.mark.parametrize("last", [1023, 1024, 4095])
def test_a_list_that_just_fits_is_whole(topology: Topology, folder: Path, last: int) -> None:
    """A page with its end, in which the highest CPU is one that a mask of 1,024 bits has, or has not."""
    padding = "0," * ((PAGE - 2 - len(str(last))) // 2)
    text = f"{padding}{last}\n"
    (folder / "online").write_text(text)
    assert topology.online() == (0, last)


def test_a_list_of_isolated_cpus_that_was_cut_has_no_half_numbers(topology: Topology, folder: Path) -> None:
    """To visit a CPU too many harms little; to leave one alone that nobody isolated would be wrong."""
    text = ",".join(map(str, range(998, 4096, 2)))[: PAGE - 1]
    (folder / "isolated").write_text(text)
    assert not text.endswith(",")
    assert topology.isolated() == set(map(int, text.split(",")[:-1]))


def test_an_isolated_file_without_an_end_names_none(topology: Topology, folder: Path) -> None:
    """A gigabyte: nobody reads it to its end."""
    (folder / "isolated").touch()
    os.truncate(folder / "isolated", 1 << 30)
    assert topology.isolated() == frozenset()


def test_an_empty_online_file_is_an_error_from_the_start(folder: Path, tmp_path: Path) -> None:
    """No machine has no CPU."""
    (folder / "online").write_text("")
    topology = Topology(tmp_path)
    with pytest.raises(ReadError, match="names no CPU"):
        topology.online()
    topology.close()


def test_a_missing_online_file_is_an_error(tmp_path: Path) -> None:
    """Without sysfs nobody knows which CPUs there are."""
    with pytest.raises(ReadError) as caught:
        Topology(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/sys/devices/system/cpu/online: No such file or directory; is /sys mounted?"
    )


def test_an_online_file_that_cannot_be_read_is_an_error(folder: Path, tmp_path: Path) -> None:
    """Here a directory has its name: it can be opened, but not read."""
    (folder / "online").unlink()
    (folder / "online").mkdir()
    topology = Topology(tmp_path)
    with pytest.raises(ReadError) as caught:
        topology.online()
    assert str(caught.value) == f"{folder / 'online'}: Is a directory"
    topology.close()


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
    """What is missing, empty, '(null)' or nonsense names none: to visit a CPU too many harms little."""
    for name, text in files.items():
        (folder / name).write_text(text)
    assert topology.isolated() == cpus


def test_isolated_cpus_are_read_again_each_time(topology: Topology, folder: Path) -> None:
    """A cpuset partition isolates CPUs while the exporter runs."""
    assert topology.isolated() == set()
    (folder / "isolated").write_text("1\n")
    assert topology.isolated() == {1}


def test_this_machine_has_cpus() -> None:
    """The real /sys is read."""
    topology = Topology()
    assert topology.online() == parse_cpu_list(Path("/sys/devices/system/cpu/online").read_text())
    assert topology.isolated() <= set(range(LARGEST))
    topology.close()
