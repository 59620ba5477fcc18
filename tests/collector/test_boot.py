"""kvm_exporter.collector.boot: the boot reference is taken once per boot, kept in a file, and replaced if unusable."""

import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kvm_exporter.collector.boot import (
    CLOCK_STEP_SECONDS,
    FILE_NAME,
    Boot,
    BootReference,
    BootReferenceKeeper,
    format_reference,
    parse_reference,
    read_boot,
)
from kvm_exporter.cpuid.registers import BASES
from kvm_exporter.errors import InputError
from kvm_exporter.kvm.clock import PvClock
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, Kvm, Leaves, SignatureLeaf, Timing
from kvm_exporter.kvm.sample import Sample
from lab.readers import guest, sample_of
from tests.support.rooms.unprivileged import PERMISSION, unprivileged

BOOT_ID = "0f7b5ff4-9d4e-4a0b-9c39-9a3c4d3f3d8e"
BOOT = Boot(BOOT_ID, 1704066200.0, 1100.0)
NEXT_BOOT = Boot("9bbdb0d2-5f0c-4c55-8a5e-1a6f1c1b2c3d", 1704069000.0, 20.0)

WORDS = st.integers(0, 2**32 - 1)
HYPERVISORS = st.builds(SignatureLeaf, WORDS, st.binary(min_size=12, max_size=12), WORDS)
LEAVES = st.builds(
    Leaves,
    st.booleans(),
    st.lists(HYPERVISORS, max_size=4).map(tuple),
    st.none() | st.builds(Kvm, WORDS, WORDS, WORDS),
)
TIMES = st.floats(allow_nan=False, allow_infinity=False)
REFERENCES = st.one_of(
    st.builds(BootReference, LEAVES, TIMES, st.none() | TIMES, st.none() | WORDS, changed=TIMES, change=st.text()),
    LEAVES.map(lambda leaves: BootReference(leaves, 0.0, has_timing=False)),
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=8), values, max_size=4),
)

AT_BOOT = sample_of({0: guest(0x01007EFB)})
LATER = sample_of({0: guest(0x0100007B)})


READABLE = "make it readable by the exporter's user); starting a new one"
REFUSED = f"{PERMISSION}); starting a new one"


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log, from the level DEBUG on."""
    caplog.set_level(logging.DEBUG)
    return caplog


def leaves_of(keeper: BootReferenceKeeper, sample: Sample) -> Leaves:
    """Return the leaves of the reference that a keeper has at a sample."""
    reference = keeper.reference(sample)
    assert reference is not None
    return reference.leaves


def kept(directory: Path) -> bytes:
    """Return the content of the directory's only file."""
    [path] = directory.iterdir()
    assert path.name == FILE_NAME
    return path.read_bytes()


def test_the_first_sample_is_the_reference(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    """The first sample's common leaves and time become the reference; later samples do not change it."""
    keeper = BootReferenceKeeper(tmp_path, BOOT)
    first = sample_of({0: guest(1), 1: guest(0x01007EFB), 2: guest(0x01007EFB)})
    reference = keeper.reference(first)
    assert reference == BootReference(guest(0x01007EFB), 1704067200.0, uptime=1000.0)
    assert parse_reference(kept(tmp_path), BOOT) == reference
    assert leaves_of(keeper, LATER) == reference.leaves
    assert log.messages == []


def test_nothing_is_kept_before_the_first_sample(tmp_path: Path) -> None:
    """No file is written before the first sample."""
    BootReferenceKeeper(tmp_path, BOOT)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "leaves",
    [
        guest(0x01007EFB),
        guest(0xFFFF_FFFF, 0xFFFF_FFFF, base=0x4000_FF00),
        guest(0x0100000B, max_leaf=0),
        Leaves(hypervisor_bit=False),
        Leaves(hypervisor_bit=True, hypervisors=(SignatureLeaf(0x4000_0000, b"\xff\0;\\'\" \n\t\x7f\0\0", 0),)),
    ],
    ids=["KVM", "all ones", "old host", "bare metal", "odd signature"],
)
def test_it_outlives_the_exporter(tmp_path: Path, log: pytest.LogCaptureFixture, leaves: Leaves) -> None:
    """A second process of the same boot has the same reference, whatever it samples, and does not rewrite the file."""
    sample = sample_of({0: leaves})
    reference = BootReferenceKeeper(tmp_path, BOOT).reference(sample)
    before = (tmp_path / FILE_NAME).stat()
    assert BootReferenceKeeper(tmp_path, BOOT).reference(sample) == reference
    assert leaves_of(BootReferenceKeeper(tmp_path, BOOT), sample) == leaves
    after = (tmp_path / FILE_NAME).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert log.messages == []


def test_another_boot_takes_another(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    """After a reboot the reference is replaced, because the kernel has read the leaves again; this happens once."""
    BootReferenceKeeper(tmp_path, BOOT).reference(AT_BOOT)
    assert leaves_of(BootReferenceKeeper(tmp_path, NEXT_BOOT), LATER) == LATER.common
    why = f"it belongs to another boot, '{BOOT_ID}'"
    assert log.messages == [f"ignoring unusable boot reference {tmp_path / FILE_NAME} ({why}); starting a new one"]
    assert leaves_of(BootReferenceKeeper(tmp_path, NEXT_BOOT), AT_BOOT) == LATER.common


def test_who_only_reads_takes_no_other(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    """After a reboot the old reference does not count, and stays where it is."""
    BootReferenceKeeper(tmp_path, BOOT).reference(AT_BOOT)
    before = (tmp_path / FILE_NAME).read_bytes()
    assert BootReferenceKeeper(tmp_path, NEXT_BOOT, read_only=True).reference(LATER) is None
    assert [message.rpartition("; ")[2] for message in log.messages] == ["changes since boot are not known"]
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_without_a_directory_it_lives_in_memory(log: pytest.LogCaptureFixture) -> None:
    """Without a directory the reference lasts as long as its keeper, and nothing is logged."""
    keeper = BootReferenceKeeper(None, BOOT)
    assert leaves_of(keeper, AT_BOOT) == AT_BOOT.common
    assert leaves_of(keeper, LATER) == AT_BOOT.common
    assert leaves_of(BootReferenceKeeper(None, BOOT), LATER) == LATER.common
    assert log.messages == []


GOOD: dict[str, Any] = {
    "boot_id": BOOT_ID,
    "timestamp": 1704067200.0,
    "hypervisor_bit": True,
    "hypervisors": [{"base": 0x4000_0000, "signature": KVM_SIGNATURE.hex(), "max_leaf": 0x4000_0001}],
    "kvm": {"base": 0x4000_0000, "eax": 0x01007EFB, "edx": 0},
}


NOW = {
    **GOOD,
    "boot_time": BOOT.began,
    "uptime": 1000.0,
    "changed": 1704067300.0,
    "change": "gained x",
    "tsc_khz": None,
    "clock_khz": None,
}
"""GOOD is a file of version 0.1.0, NOW one of this version."""


def changed(*path: str | int, to: object) -> bytes:
    """Return the text of a valid file with the value at one path replaced."""
    value = json.loads(json.dumps(GOOD))
    place = value
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return json.dumps(value).encode()


def without(name: str) -> bytes:
    """Return the text of a valid file without one value."""
    return json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()


def test_the_format_is_frozen() -> None:
    """The format is frozen, so that a newer exporter reads the file of an older one of the same boot."""
    reference = BootReference(guest(0x01007EFB), 1704067200.0, 1000.0, changed=1704067300.0, change="gained x")
    assert json.loads(format_reference(reference, BOOT)) == NOW
    assert parse_reference(json.dumps(NOW).encode(), BOOT) == reference
    older = BootReference(guest(0x01007EFB), 1704067200.0, has_timing=False)
    assert parse_reference(json.dumps(GOOD).encode(), BOOT) == older


DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "JSONDecodeError Expecting value: line 1 column 1 (char 0)"),
    "truncated": (json.dumps(GOOD).encode()[:-30], "JSONDecodeError "),
    "not JSON": (b"eax=0x01007efb\n", "JSONDecodeError Expecting value: line 1 column 1 (char 0)"),
    "NULs": (b"\0" * 512, "JSONDecodeError Expecting value: line 1 column 1 (char 0)"),
    "binary": (b"\x80\xff" * 40, "UnicodeDecodeError "),
    "two values": (json.dumps(GOOD).encode() * 2, "JSONDecodeError Extra data: "),
    "a list": (b"[]", "TypeError list indices must be integers or slices, not str"),
    "a number": (b"7", "TypeError 'int' object is not subscriptable"),
    "null": (b"null", "TypeError 'NoneType' object is not subscriptable"),
    "an empty object": (b"{}", "KeyError 'boot_id'"),
    "no time": (without("timestamp"), "KeyError 'timestamp'"),
    "no KVM at all": (without("kvm"), "KeyError 'kvm'"),
    "a date": (changed("timestamp", to="2024-01-01"), "TypeError '2024-01-01' is not of type float"),
    "a time that is no number": (
        changed("timestamp", to=float("nan")),
        "ValueError nan is not a finite number of seconds",
    ),
    "a time without end": (changed("timestamp", to=float("inf")), "ValueError inf is not a finite number of seconds"),
    "a bit that is a number": (changed("hypervisor_bit", to=1), "TypeError 1 is not of type bool"),
    "hypervisors as an object": (changed("hypervisors", to={}), "TypeError {} is not of type list"),
    "hypervisors as text": (changed("hypervisors", to="KVM"), "TypeError 'KVM' is not of type list"),
    "a hypervisor as text": (changed("hypervisors", to=["KVM"]), "TypeError "),
    "KVM as text": (changed("kvm", to="KVM"), "TypeError "),
    "a word of 33 bits": (changed("kvm", "eax", to=2**32), "ValueError 4294967296 is not a 32-bit word"),
    "a negative word": (changed("kvm", "edx", to=-1), "ValueError -1 is not a 32-bit word"),
    "a word as text": (changed("kvm", "eax", to="0x1"), "TypeError '0x1' is not of type int"),
    "a broken word": (changed("kvm", "eax", to=1.0), "TypeError 1.0 is not of type int"),
    "a word that is a bit": (changed("kvm", "base", to=True), "TypeError True is not of type int"),
    "a base of 33 bits": (changed("hypervisors", 0, "base", to=2**32), "ValueError 4294967296 is not a 32-bit word"),
    "no highest leaf": (
        changed("hypervisors", 0, "max_leaf", to=None),
        "TypeError None is not of type int",
    ),
    "a short signature": (
        changed("hypervisors", 0, "signature", to="4b564d"),
        "ValueError '4b564d' is not a signature of 12 bytes",
    ),
    "a long signature": (
        changed("hypervisors", 0, "signature", to="4b" * 13),
        f"ValueError '{'4b' * 13}' is not a sig",
    ),
    "a signature in words": (changed("hypervisors", 0, "signature", to="KVMKVMKVM"), "ValueError non-hexadecimal "),
    "a signature as numbers": (
        changed("hypervisors", 0, "signature", to=[75, 86]),
        "TypeError [75, 86] is not of type str",
    ),
    "deep": (b"[" * 60_000, "RecursionError "),
    "a number of many digits": (
        json.dumps(GOOD).replace('"edx": 0', f'"edx": {"1" * 5000}').encode(),
        "ValueError Exceeds the limit",
    ),
    "huge": (json.dumps({**GOOD, "more": "x" * (1 << 24)}).encode(), "65536 bytes; check that it is a boot reference"),
}


@pytest.mark.parametrize(("text", "why"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_replaced(tmp_path: Path, log: pytest.LogCaptureFixture, text: bytes, why: str) -> None:
    """The current common leaves become the reference and replace the file; one log record states the reason."""
    path = tmp_path / FILE_NAME
    path.write_bytes(text)
    keeper = BootReferenceKeeper(tmp_path, BOOT)
    assert leaves_of(keeper, LATER) == LATER.common
    [message] = log.messages
    assert message.startswith(f"ignoring unusable boot reference {path} (")
    assert why in message
    assert len(message) < 1000
    log.clear()
    assert leaves_of(BootReferenceKeeper(tmp_path, BOOT), AT_BOOT) == LATER.common
    assert (log.messages, len(kept(tmp_path)) < 1000) == ([], True)


def test_signatures_at_every_base_are_read_back(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    """The largest possible reference, with a signature at every base, is stored and read back whole."""
    everywhere = tuple(SignatureLeaf(base, KVM_SIGNATURE, 0xFFFF_FFFF) for base in BASES)
    crowded = Leaves(hypervisor_bit=True, hypervisors=everywhere, kvm=Kvm(BASES[0], 0xFFFF_FFFF, 0xFFFF_FFFF))
    BootReferenceKeeper(tmp_path, BOOT).reference(sample_of({0: crowded}))
    assert len(kept(tmp_path)) < 1 << 15
    assert leaves_of(BootReferenceKeeper(tmp_path, BOOT), LATER) == crowded
    assert log.messages == []


@given(REFERENCES, st.text(min_size=1, max_size=40))
def test_format_and_parse_are_inverse(reference: BootReference, boot_id: str) -> None:
    """Every reference is read back equal, including the highest leaves, which comparisons ignore."""
    boot = BOOT._replace(id=boot_id)
    found = parse_reference(format_reference(reference, boot), boot)
    assert found == reference
    assert found.leaves.tsc_khz == (reference.leaves.tsc_khz if reference.has_timing else None)
    assert [hypervisor.max_leaf for hypervisor in found.leaves.hypervisors] == [
        hypervisor.max_leaf for hypervisor in reference.leaves.hypervisors
    ]


@given(REFERENCES, st.text(min_size=1, max_size=8), st.text(min_size=1, max_size=8))
def test_a_boot_has_its_own_file_only(reference: BootReference, boot_id: str, other: str) -> None:
    """A reference is valid only for the boot ID that it was written with."""
    if boot_id != other:
        with pytest.raises(InputError, match=r"^it belongs to another boot, "):
            parse_reference(format_reference(reference, BOOT._replace(id=other)), BOOT._replace(id=boot_id))


def _parsed_or_damaged(text: bytes) -> None:
    try:
        found = parse_reference(text, BOOT)
    except InputError:
        return
    assert parse_reference(format_reference(found, BOOT), BOOT) == found


@given(st.binary() | st.text().map(str.encode) | JSON.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b'{"boot_id": "\\ud800"}')
@example(b"1" * 5000)
def test_no_text_raises_anything_else(text: bytes) -> None:
    """Any text, any bytes and any JSON are parsed to a reference or raise InputError."""
    _parsed_or_damaged(text)


PLACES: list[tuple[str | int, ...]] = [
    *((name,) for name in GOOD),
    ("hypervisors", 0),
    *(("hypervisors", 0, name) for name in GOOD["hypervisors"][0]),
    *(("kvm", name) for name in GOOD["kvm"]),
]


@given(st.sampled_from(PLACES), JSON | WORDS)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_value_in_a_good_file_raises_anything_else(place: tuple[str | int, ...], value: object) -> None:
    """Whatever value replaces one of a valid file, parsing returns a reference or raises InputError."""
    _parsed_or_damaged(changed(*place, to=value))


@given(st.integers(0, 400), st.binary(max_size=4))
def test_a_file_with_a_scratch_is_a_reference_or_damaged(position: int, scratch: bytes) -> None:
    """A valid file with some bytes replaced or removed is parsed to a reference or raises InputError."""
    text = json.dumps(GOOD).encode()
    _parsed_or_damaged(text[:position] + scratch + text[position + 2 :])


def _as_a_directory(directory: Path) -> None:
    (directory / FILE_NAME).mkdir()


def _in_no_directory(directory: Path) -> None:
    directory.rmdir()


def _in_a_file(directory: Path) -> None:
    directory.rmdir()
    directory.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "complaints"),
    [
        (
            _as_a_directory,
            [
                f"ignoring unusable boot reference {{path}} (cannot be read: Is a directory; {READABLE}",
                "cannot write the boot reference {path}: Is a directory; it is lost when the exporter exits",
            ],
        ),
        (
            _in_no_directory,
            ["cannot write the boot reference {path}: No such file or directory; it is lost when the exporter exits"],
        ),
        (
            _in_a_file,
            [
                f"ignoring unusable boot reference {{path}} (cannot be read: Not a directory; {READABLE}",
                "cannot write the boot reference {path}: Not a directory; it is lost when the exporter exits",
            ],
        ),
    ],
    ids=["the file is a directory", "no directory", "the directory is a file"],
)
def test_where_no_file_can_be_kept_the_reference_lives_in_memory(
    tmp_path: Path, log: pytest.LogCaptureFixture, spoil: Callable[[Path], None], complaints: list[str]
) -> None:
    """If no file can be written, the reference stays in memory, and each problem is logged once."""
    directory = tmp_path / "run"
    directory.mkdir()
    spoil(directory)
    keeper = BootReferenceKeeper(directory, BOOT)
    assert [leaves_of(keeper, sample) for sample in (AT_BOOT, LATER)] == [AT_BOOT.common] * 2
    assert log.messages == [complaint.format(path=directory / FILE_NAME) for complaint in complaints]


@pytest.mark.parametrize(
    ("mode", "complaints"),
    [
        (
            0o000,
            [
                f"ignoring unusable boot reference {{path}} (cannot be read: Permission denied; {REFUSED}",
                "cannot write the boot reference {path}: Permission denied; it is lost when the exporter exits",
            ],
        ),
        (0o555, ["cannot write the boot reference {path}: Permission denied; it is lost when the exporter exits"]),
    ],
    ids=["unreadable", "unwritable"],
)
def test_a_directory_that_may_not_be_used_is_said_once(
    log: pytest.LogCaptureFixture, mode: int, complaints: list[str]
) -> None:
    """Without permission for the directory the reference stays in memory, and each problem is logged once."""
    # pytest's directory is no use here: other users cannot reach it, whatever its mode.
    with TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(mode)
        with unprivileged():
            keeper = BootReferenceKeeper(directory, BOOT)
            found = [leaves_of(keeper, sample) for sample in (AT_BOOT, LATER)]
        directory.chmod(0o700)
        assert list(directory.iterdir()) == []
    assert found == [AT_BOOT.common] * 2
    assert log.messages == [complaint.format(path=directory / FILE_NAME) for complaint in complaints]


def test_who_cannot_store_a_new_reference_has_the_old_one(log: pytest.LogCaptureFixture) -> None:
    """A valid file of this boot is used without write permission: all that a restart loses is the difference's time."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        BootReferenceKeeper(directory, BOOT).reference(AT_BOOT)
        directory.chmod(0o555)
        keeper = BootReferenceKeeper(directory, BOOT)
        with unprivileged():
            found = [leaves_of(keeper, sample) for sample in (LATER, LATER)]
        assert (found, keeper.persistent) == ([AT_BOOT.common] * 2, True)
        (directory / FILE_NAME).unlink()
        with unprivileged():
            keeper.reference(LATER)
        assert not keeper.persistent
    assert log.messages == [
        f"cannot write the boot reference {directory / FILE_NAME}: Permission denied; {lost} the exporter exits"
        for lost in ("since when it differs is lost when", "it is lost when")
    ]


def test_a_reference_that_is_not_in_its_file_is_written_at_the_next_sample(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    """A directory that can be written later, or a file that was removed, costs no reference; it is written once."""
    directory = tmp_path / "run"
    keeper = BootReferenceKeeper(directory, BOOT)
    keeper.reference(AT_BOOT)
    assert not keeper.persistent
    for _ in range(2):
        directory.mkdir()
        keeper.reference(AT_BOOT)
        assert keeper.persistent
        written = (directory / FILE_NAME).stat()
        keeper.reference(AT_BOOT)
        assert (directory / FILE_NAME).stat() == written
        assert leaves_of(BootReferenceKeeper(directory, BOOT), LATER) == AT_BOOT.common
        shutil.rmtree(directory)
        keeper.reference(AT_BOOT)
        assert not keeper.persistent
    cannot = f"cannot write the boot reference {directory / FILE_NAME}: "
    cannot += "No such file or directory; it is lost when the exporter exits"
    wrote = f"wrote the boot reference {directory / FILE_NAME}"
    assert log.messages == [cannot, wrote, cannot, wrote, cannot]


def test_everybody_may_read_the_file(tmp_path: Path) -> None:
    """The file has mode 0644 whatever the umask is, since it contains no secret."""
    before = os.umask(0o077)
    try:
        BootReferenceKeeper(tmp_path, BOOT).reference(AT_BOOT)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o644


def test_a_damaged_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    """A damaged file is replaced by a rename: a reader that has it open reads the old content to its end."""
    path = tmp_path / FILE_NAME
    path.write_bytes(b"damaged")
    with path.open("rb") as reader:
        BootReferenceKeeper(tmp_path, BOOT).reference(AT_BOOT)
        assert reader.read() == b"damaged"
    assert parse_reference(kept(tmp_path), BOOT).leaves == AT_BOOT.common


def test_the_kernel_names_this_boot() -> None:
    """The kernel of this machine has a boot ID in the form that random(4) documents, and it does not change."""
    boot_id = read_boot().id
    assert re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", boot_id)
    assert read_boot().id == boot_id


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe\n"], ids=["missing", "empty", "blank", "binary"])
def test_a_kernel_that_does_not_name_the_boot(tmp_path: Path, content: bytes | None) -> None:
    """Without a boot ID the result is an empty string and no error."""
    path = tmp_path / "proc/sys/kernel/random/boot_id"
    path.parent.mkdir(parents=True)
    if content is not None:
        path.write_bytes(content)
    assert read_boot(tmp_path).id == ""


# A boot without an id, late references, and references of older versions.

UNNAMED = BOOT._replace(id="")


@pytest.mark.parametrize(
    ("now", "same"),
    [
        (UNNAMED, True),
        (UNNAMED._replace(began=UNNAMED.began + CLOCK_STEP_SECONDS), True),
        (UNNAMED._replace(began=UNNAMED.began - CLOCK_STEP_SECONDS), True),
        (UNNAMED._replace(began=UNNAMED.began + CLOCK_STEP_SECONDS + 1), False),
        (UNNAMED._replace(began=UNNAMED.began + 20, uptime=999.0), False),
        (BOOT, True),
        (NEXT_BOOT, False),
    ],
    ids=["the same", "clock set forward", "clock set back", "clock set too far", "a quick reboot", "named", "another"],
)
def test_without_a_boot_id_the_time_of_the_boot_stands_for_it(
    tmp_path: Path, log: pytest.LogCaptureFixture, now: Boot, *, same: bool
) -> None:
    """A step of the wall clock within the tolerance changes nothing; in doubt the reference is new, which is logged."""
    BootReferenceKeeper(tmp_path, UNNAMED).reference(AT_BOOT)
    found = leaves_of(BootReferenceKeeper(tmp_path, now), LATER)
    assert found == (AT_BOOT if same else LATER).common
    assert [message.startswith("ignoring unusable boot reference") for message in log.messages] == (
        [] if same else [True]
    )


@pytest.mark.parametrize(("uptime", "late"), [(None, True), (0.0, False), (600.0, False), (600.1, True)])
def test_a_late_reference_says_so(uptime: float | None, *, late: bool) -> None:
    """A reference taken later than ten minutes after the boot, or at an unknown time, does not stand for the boot."""
    assert BootReference(AT_BOOT.common, 0.0, uptime).late == late


def test_the_uptime_is_that_of_the_sample(tmp_path: Path) -> None:
    """The uptime of the reference is CLOCK_BOOTTIME at its sample, and is kept."""
    taken = BootReferenceKeeper(tmp_path, BOOT).reference(AT_BOOT)
    assert taken is not None
    assert taken.uptime == AT_BOOT.boottime
    assert parse_reference(kept(tmp_path), BOOT).uptime == AT_BOOT.boottime


def with_tsc(khz: int | None, page_khz: int | None = None) -> Sample:
    """Return a sample whose timing leaf and pvclock page have a frequency; None: there is no such leaf or page."""
    leaves = guest(0x01007EFB)
    assert leaves.kvm is not None
    timing = Timing(khz, 1_000_000) if khz is not None else None
    clock = PvClock(stable=True, tsc_khz=page_khz) if page_khz is not None else None
    return sample_of({0: replace(leaves, kvm=replace(leaves.kvm, timing=timing))}, clock=clock)


@pytest.mark.parametrize(
    ("boot", "jitter", "other"),
    [
        (with_tsc(2_600_000), with_tsc(2_599_997), with_tsc(3_100_000)),
        (with_tsc(None, 2_600_000), with_tsc(None, 2_599_997), with_tsc(None, 3_100_000)),
        (with_tsc(2_600_000), with_tsc(None, 2_599_997), with_tsc(None, 3_100_000)),
        (with_tsc(None, 2_600_000), with_tsc(2_599_997), with_tsc(3_100_000)),
        (with_tsc(2_000_000, 2_600_000), with_tsc(2_000_000, 2_599_997), with_tsc(2_000_000, 3_100_000)),
    ],
    ids=["leaf", "page", "leaf, then page", "page, then leaf", "a page that the leaf contradicts"],
)
def test_the_tsc_frequency_is_kept_and_compared(tmp_path: Path, boot: Sample, jitter: Sample, other: Sample) -> None:
    """A frequency that moves by more than 250 ppm is a difference, after a restart too; jitter is not."""
    BootReferenceKeeper(tmp_path, BOOT).reference(boot)
    again = BootReferenceKeeper(tmp_path, BOOT)
    same, moved = again.reference(jitter), again.reference(other)
    assert same is not None
    assert moved is not None
    assert (same.change, same.changed) == ("", None)
    assert moved.change == "TSC 3100.000 MHz instead of 2600.000 MHz (+192308 ppm)"
    assert moved.changed == with_tsc(0).timestamp


def test_a_reference_of_an_older_version_is_read(tmp_path: Path, log: pytest.LogCaptureFixture) -> None:
    """A file of version 0.1.0 keeps its drift; what it lacks is unknown, and is not compared."""
    (tmp_path / FILE_NAME).write_text(json.dumps(GOOD))
    keeper = BootReferenceKeeper(tmp_path, BOOT)
    assert keeper.persistent
    found = keeper.reference(with_tsc(2_600_000))
    assert found is not None
    assert (found.uptime, found.late, found.has_timing) == (None, True, False)
    assert not found.difference(with_tsc(3_100_000))
    less = keeper.reference(LATER)
    assert less is not None
    assert less.change.startswith("lost ")
    assert less.changed == LATER.timestamp
    assert log.messages == []


def test_when_a_difference_was_first_seen_is_kept(tmp_path: Path) -> None:
    """The time stays over later samples and restarts; another difference has its own time, and none has none."""
    first = BootReferenceKeeper(tmp_path, BOOT)
    first.reference(AT_BOOT)
    drifted = replace(LATER, timestamp=1704067300.0)
    for keeper in (first, BootReferenceKeeper(tmp_path, BOOT)):
        for sample in (drifted, replace(drifted, timestamp=1704067400.0)):
            found = keeper.reference(sample)
            assert found is not None
            assert found.changed == 1704067300.0
    gone = replace(sample_of({0: guest(0)}), timestamp=1704067500.0)
    other, back = first.reference(gone), first.reference(AT_BOOT)
    assert other is not None
    assert back is not None
    assert (other.changed, back.changed, back.change) == (1704067500.0, None, "")


def test_where_no_cpu_could_be_read_there_is_no_reference(tmp_path: Path) -> None:
    """A read that was pinned nowhere becomes no reference, and is not compared with one."""
    nowhere = sample_of({}, anywhere=guest(0x0100007B), failed={0: "no"})
    keeper = BootReferenceKeeper(tmp_path, BOOT)
    assert keeper.reference(nowhere) is None
    assert list(tmp_path.iterdir()) == []
    kept_one = keeper.reference(AT_BOOT)
    assert keeper.reference(nowhere) is kept_one


@pytest.mark.parametrize(
    ("leaf", "then", "changed"),
    [(None, 3_100_000, False), (2_600_000, 2_600_000, False), (2_600_000, 3_100_000, True)],
)
def test_a_reference_that_does_not_know_the_page_is_read(
    tmp_path: Path, leaf: int | None, then: int, *, changed: bool
) -> None:
    """A version that read the leaf alone wrote null without one: that a page now states a frequency is no news."""
    (tmp_path / FILE_NAME).write_text(json.dumps({**GOOD, "uptime": 20.0, "tsc_khz": leaf}))
    found = BootReferenceKeeper(tmp_path, BOOT).reference(with_tsc(None, then))
    assert found is not None
    assert bool(found.difference(with_tsc(None, then)).tsc) == changed
