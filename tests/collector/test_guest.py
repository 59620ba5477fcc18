"""kvm_exporter.collector.guest: evidence from the guest kernel's files, which never raises an error."""

import gzip
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kvm_exporter.collector.conditions import Found
from kvm_exporter.collector.guest import ALWAYS_THERE, Evidence, read_evidence
from kvm_exporter.collector.in_use import features_in_use
from lab.readers import guest
from tests.support.rooms.kernel import (
    AVAILABLE,
    COMMAND_LINE,
    CONFIGURATION,
    CPU_INFO,
    CURRENT,
    IDLE_DRIVER,
    INTERRUPTS,
    KVM_GUEST,
    POSSIBLE,
    RELEASE,
    SEV_SNP,
    STAT,
    Content,
    kernel,
)
from tests.support.rooms.unprivileged import unprivileged

WHOLE = Evidence(
    available_clocksources=frozenset({"kvm-clock", "tsc", "hpet", "acpi_pm"}),
    current_clocksource="kvm-clock",
    parameters=frozenset({"BOOT-IMAGE", "root", "ro", "quiet", "console"}),
    steal_ticks=94 - 48,
    hypervisor_interrupts=37 + 77,
    cpuidle_driver="haltpoll",
    cpu_flags=frozenset({"fpu", "vme", "de", "pse", "tsc", "msr", "hypervisor", "cpuid_fault"}),
    possible_cpus=2,
    release="6.1.0-28-amd64",
    has_pv_spinlocks=True,
)

FIELDS = {
    AVAILABLE: "available_clocksources",
    CURRENT: "current_clocksource",
    COMMAND_LINE: "parameters",
    STAT: "steal_ticks",
    INTERRUPTS: "hypervisor_interrupts",
    IDLE_DRIVER: "cpuidle_driver",
    CPU_INFO: "cpu_flags",
    POSSIBLE: "possible_cpus",
    RELEASE: "release",
    CONFIGURATION: "has_pv_spinlocks",
}
"""The field of Evidence that each file determines."""


def test_everything_is_read(tmp_path: Path) -> None:
    """All evidence is read from the files of a KVM guest with kvm-clock and haltpoll."""
    assert read_evidence(kernel(tmp_path)) == WHOLE


@pytest.mark.parametrize(("content", "expected"), [("0\n", True), ("3\n", True), (None, False)])
def test_a_guest_under_sev_snp_has_a_file_of_its_own(tmp_path: Path, content: Content, expected: bool) -> None:  # noqa: FBT001
    """The privilege level that it holds does not matter."""
    assert read_evidence(kernel(tmp_path, {SEV_SNP: content})) == replace(WHOLE, sev_snp=expected)


def test_no_file_is_no_evidence(tmp_path: Path) -> None:
    """An empty root gives no evidence."""
    assert read_evidence(tmp_path) == Evidence(unread=ALWAYS_THERE)


def test_this_machine_shows_itself() -> None:
    """The kernel of this machine has the evidence that every x86 machine has."""
    found = read_evidence()
    assert found.current_clocksource in (found.available_clocksources or ())
    assert "tsc" in (found.cpu_flags or ())
    assert None not in {found.parameters, found.steal_ticks, found.possible_cpus, found.version}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (AVAILABLE, "tsc kvm-clock \n", frozenset({"tsc", "kvm-clock"})),
        (AVAILABLE, "\n", frozenset()),
        (CURRENT, "tsc\n", "tsc"),
        (CURRENT, "\n", None),
        (CURRENT, "", None),
        (COMMAND_LINE, "", frozenset()),
        (COMMAND_LINE, "ro no-kvmclock quiet\n", frozenset({"ro", "no-kvmclock", "quiet"})),
        (COMMAND_LINE, "nopv=1 no_kvmapf=x=y\n", frozenset({"nopv", "no-kvmapf"})),
        (COMMAND_LINE, "-- no-kvmclock\n", frozenset()),
        (COMMAND_LINE, "ro -- no-kvmclock -- nopvspin\n", frozenset({"ro"})),
        (COMMAND_LINE, "ro --no-kvmclock\n", frozenset({"ro", "--no-kvmclock"})),
        (STAT, "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 0 0 0 0 0 0 0 99 0 0\n", 8),
        (STAT, "cpu  1 2 3 4 5 6 7 8\n", 8),
        (STAT, "cpu  1 2 3 4 5 6 7 18446744073709551615 9 10\n", 2**64 - 1),
        (STAT, "cpu  1 2 3 4 5 6 7\n", None),
        (STAT, "cpu  1 2 3 4 5 6 7 -8 9 10\n", None),
        (STAT, "cpu  1 2 3 4 5 6 7 eight 9 10\n", None),
        (STAT, f"cpu  1 2 3 4 5 6 7 {'8' * 5000} 9 10\n", None),
        (STAT, "cpu0 1 2 3 4 5 6 7 8 9 10\n", None),
        (STAT, "cpu\n", None),
        (STAT, "", None),
        (INTERRUPTS, "     CPU0\nHYP:          0   Hypervisor callback interrupts\n", 0),
        (INTERRUPTS, "     CPU0\nHYP: 3 4 5 6 7 8   Hypervisor callback interrupts\n", 33),
        (INTERRUPTS, "     CPU0\n HYP: 3\nHYP: 4\n", 3),
        (INTERRUPTS, "     CPU0\nHYP:\n", 0),
        (INTERRUPTS, f"     CPU0 CPU1\nHYP: {'9' * 5000} 1   Hypervisor callback interrupts\n", 1),
        (INTERRUPTS, "     CPU0\nLOC:     218930     225411   Local timer interrupts\n", None),
        (INTERRUPTS, "", None),
        (IDLE_DRIVER, "intel_idle\n", "intel_idle"),
        (IDLE_DRIVER, "none\n", "none"),
        (IDLE_DRIVER, "", None),
        (CPU_INFO, "processor : 0\nflags : a b\n\nprocessor : 1\nflags : c\n", frozenset({"a", "b"})),
        (CPU_INFO, "flags\t\t:\n", frozenset()),
        (CPU_INFO, "flags\n", frozenset()),
        (CPU_INFO, "processor\t: 0\nFeatures\t: fp asimd\n", None),
        (CPU_INFO, "", None),
        (POSSIBLE, "0\n", 1),
        (POSSIBLE, "0-3,8\n", 5),
        (POSSIBLE, "\n", None),
        (POSSIBLE, "", None),
        (POSSIBLE, "0-\n", None),
        (POSSIBLE, "many\n", None),
        (RELEASE, "7.2.13\n", "7.2.13"),
        (RELEASE, "6.18.44-fc-v782\n", "6.18.44-fc-v782"),
        (RELEASE, "5.10\n", "5.10"),
        (RELEASE, "6\n", None),
        (RELEASE, "", None),
        (RELEASE, "6.1/../../etc\n", None),
        (RELEASE, "6.1\0\n", None),
        (RELEASE, f"{'6' * 5000}.1\n", None),
        (CONFIGURATION, "CONFIG_PARAVIRT_SPINLOCKS=y\n", None),
        (CONFIGURATION, "", None),
    ],
)
def test_a_file(tmp_path: Path, name: str, content: str, expected: object) -> None:
    """A file's evidence is parsed; content that does not match the kernel's documentation is no evidence."""
    found = read_evidence(kernel(tmp_path, {name: content}))
    unread = (name,) if name in ALWAYS_THERE and not content else ()
    assert asdict(found) == {**asdict(WHOLE), FIELDS[name]: expected, "unread": unread}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("CONFIG_PARAVIRT_SPINLOCKS=y", True),
        ("# CONFIG_PARAVIRT_SPINLOCKS is not set", False),
        ("CONFIG_SMP=y", None),
        ("# CONFIG_PARAVIRT_SPINLOCKS=y", None),
    ],
)
def test_the_kernels_configuration(tmp_path: Path, line: str, expected: bool | None) -> None:  # noqa: FBT001 - a table
    """It is in /proc, compressed, or in /boot; what it does not mention is unknown."""
    text = f"#\n# Linux/x86 6.1.0 Kernel Configuration\n#\nCONFIG_X86=y\n{line}\n".encode()
    packed = gzip.compress(text)
    in_proc = kernel(tmp_path / "proc", {CONFIGURATION: packed})
    assert read_evidence(in_proc).has_pv_spinlocks is expected
    in_boot = kernel(tmp_path / "boot", {CONFIGURATION: None, "boot/config-6.1.0-28-amd64": text})
    assert read_evidence(in_boot).has_pv_spinlocks is expected
    of_another = kernel(tmp_path / "another", {CONFIGURATION: None, "boot/config-6.1.0-27-amd64": text})
    assert read_evidence(of_another).has_pv_spinlocks is None
    damaged = kernel(tmp_path / "damaged", {CONFIGURATION: packed[:-40]})
    assert read_evidence(damaged).has_pv_spinlocks is None


def test_the_configuration_is_read_once(tmp_path: Path) -> None:
    """It cannot change while the kernel runs; one that could not be read is tried again."""
    kernel(tmp_path, {CONFIGURATION: None})
    before = read_evidence(tmp_path)
    assert before.has_pv_spinlocks is None
    kernel(tmp_path)
    known = read_evidence(tmp_path, before)
    assert known.has_pv_spinlocks
    (tmp_path / CONFIGURATION).unlink()
    assert read_evidence(tmp_path, known) == known


def _missing(path: Path) -> None:
    path.unlink()


def _a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _a_link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nothing")


def _a_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("spoil", [_missing, _a_directory, _a_link_to_nothing, _a_link_to_itself])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, spoil: Callable[[Path], None]) -> None:
    """A file that cannot be read is no evidence, and the other files are read."""
    spoil(kernel(tmp_path) / name)
    unread = (name,) if name in ALWAYS_THERE else ()
    assert asdict(read_evidence(tmp_path)) == {**asdict(WHOLE), FIELDS[name]: None, "unread": unread}


def test_files_that_may_not_be_read() -> None:
    """Files without read permission are no evidence."""
    # pytest's directory is no use here: other users cannot reach it.
    with TemporaryDirectory() as name:
        root = kernel(Path(name))
        for path in (root, *root.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0)
        with unprivileged():
            found = read_evidence(root)
    assert found == Evidence(unread=ALWAYS_THERE)


def test_huge_files(tmp_path: Path) -> None:
    """Files as large as on a machine with thousands of CPUs are parsed."""
    crowd = "1 " * (1 << 16)
    found = read_evidence(
        kernel(
            tmp_path,
            {
                AVAILABLE: crowd,
                COMMAND_LINE: crowd,
                CURRENT: "x" * (1 << 22),
                INTERRUPTS: f"{crowd}\nHYP: {crowd}Hypervisor callback interrupts\n",
                STAT: f"cpu  {crowd}\n{crowd}",
                CPU_INFO: f"flags : {crowd}",
            },
        )
    )
    assert found.hypervisor_interrupts == 1 << 16
    assert found.steal_ticks == 1
    assert (found.available_clocksources, found.cpu_flags, found.parameters) == (frozenset({"1"}),) * 3
    assert found.current_clocksource not in {None, "kvm-clock"}


def test_files_without_an_end(tmp_path: Path) -> None:
    """Files of a gigabyte without a newline are no evidence, and are not read into memory."""
    for name in FIELDS:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, 1 << 30)
    tracemalloc.start()
    try:
        found = read_evidence(tmp_path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 16 << 20
    assert (found.steal_ticks, found.hypervisor_interrupts, found.cpu_flags) == (None, None, None)
    assert found.current_clocksource not in {None, "kvm-clock"}


WORDS = st.sampled_from(
    ["cpu ", "HYP:", "flags", ":", "\n", " ", "\t", "--", "-", "0", "9" * 5000, "kvm-clock", "²", "٣", "\x1c", "\x85"]
)
CONTENTS = (
    st.binary()
    | st.text().map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.lists(WORDS, max_size=30).map(lambda words: "".join(words).encode())
)


@given(st.fixed_dictionaries(dict.fromkeys(FIELDS, CONTENTS)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@example({**dict.fromkeys(FIELDS, b""), STAT: "cpu  1 2 3 4 5 6 7 ² 9".encode()})
@example({**dict.fromkeys(FIELDS, b""), INTERRUPTS: b"HYP: " + b"9" * 5000})
def test_no_content_stops_the_exporter(tmp_path: Path, contents: dict[str, bytes]) -> None:
    """Whatever the files contain, reading and evaluating them raises no error."""
    found = read_evidence(kernel(tmp_path, dict[str, Content](contents)))
    features_in_use(found, Found(guest(0x01007EFB)), guest(0x01007EFB))
    for field in ("steal_ticks", "hypervisor_interrupts"):
        assert asdict(found)[field] is None or asdict(found)[field] >= 0


def test_the_table_of_files_is_whole() -> None:
    """Every file of the simulated guest has a field of Evidence, and every field has a file."""
    assert FIELDS.keys() == KVM_GUEST.keys()
    assert {*FIELDS.values(), "sev_snp", "unread"} == set(asdict(Evidence()))
