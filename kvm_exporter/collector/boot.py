"""The boot reference: the feature set of the first good sample of this boot, kept across restarts of the exporter.

It stands for what the guest kernel found when it booted, as far as it was taken early: the kernel decides at boot what
it uses, and reads some bits again when a CPU comes online and after a resume (arch/x86/kernel/kvm.c).
"""

import json
import logging
import math
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from kvm_exporter.config.files import read_bounded, write_atomically
from kvm_exporter.errors import InputError
from kvm_exporter.kvm.drift import LATE_SECONDS, Difference, difference
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, Kvm, Leaves, SignatureLeaf, Timing
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.kvm.words import describe, duration_words

FILE_NAME = "boot-reference.json"

CLOCK_STEP_SECONDS = 30.0
"""How far the wall clock may have been set since the reference was taken, where the boot's time stands for its id. Two
boots that are closer together are told apart by the uptime."""

_WORD_MAX = 0xFFFF_FFFF
_MAX_BYTES = 1 << 16
"""Twice the size with signatures at all 256 bases; a longer file is damaged."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Boot(NamedTuple):
    """What tells one boot from another."""

    #: The kernel's name for it; empty if /proc does not have it.
    id: str
    #: When it began, in seconds since the epoch.
    began: float
    #: How long it has lasted, in seconds of CLOCK_BOOTTIME.
    uptime: float


@dataclass(frozen=True, slots=True)
class BootReference:
    """The common leaves of the first successful sample of a boot."""

    leaves: Leaves
    #: When that sample was taken: seconds since the epoch.
    timestamp: float
    #: How long the boot had lasted then, in seconds; None if an older version took it.
    uptime: float | None = None
    #: The TSC frequency that the pvclock page stated, in kHz; None if there was no such page.
    clock_khz: int | None = None
    #: Whether the TSC frequency was looked for in leaf and page; an older version did not.
    has_timing: bool = True
    #: When the present difference was first seen: seconds since the epoch; None while nothing differs.
    changed: float | None = None
    #: That difference in words.
    change: str = ""

    @property
    def late(self) -> bool:
        """Whether it is not known to have been taken early enough to stand for what the kernel found at boot."""
        return self.uptime is None or self.uptime > LATE_SECONDS

    @property
    def since(self) -> str:
        """What a comparison with it covers: ``since boot``, or since when if it was taken late."""
        return f"since {self._moment}"

    @property
    def when(self) -> str:
        """The time that its leaves stand for: ``at boot``, or when it was taken if that was late."""
        return f"when {self._moment}" if self.late else "at boot"

    @property
    def _moment(self) -> str:
        if not self.late:
            return "boot"
        after = f", {duration_words(self.uptime)} after boot" if self.uptime is not None else ""
        return f"first sampled{after}"

    @property
    def tsc_khz(self) -> int | None:
        """The TSC frequency in kHz, chosen as that of a Sample is; None if it is not known."""
        return self.clock_khz or self.leaves.tsc_khz

    def difference(self, now: Sample) -> Difference:
        """What has changed since; what the reference does not have is not compared."""
        return difference(self.leaves, now.common, (self.tsc_khz, now.tsc_khz) if self.has_timing else (None, None))


class BootReferenceKeeper:
    """Takes the reference at the first good sample of a boot, and returns the same one from then on.

    Without a directory that can be written it lives as long as the process does. With ``read_only`` only the one in
    the directory counts, and nothing is written.
    """

    def __init__(self, directory: Path | None, boot: Boot, *, read_only: bool = False) -> None:
        self._path = directory / FILE_NAME if directory is not None else None
        self._boot = boot
        self._read_only = read_only
        #: What the file has; None if there is no file of this boot.
        self._stored: BootReference | None = None
        self._complaint = ""
        self._reference = self._load()

    @property
    def persistent(self) -> bool:
        """Whether the reference outlives this process."""
        return self._stored is not None

    def reference(self, sample: Sample) -> BootReference | None:
        """The reference of this boot; None until a CPU could be read."""
        kept = self._reference
        if not sample.pinned:
            return kept
        if kept is None:
            if self._read_only:
                return None
            clock_khz = sample.clock.tsc_khz if sample.clock is not None else None
            kept = BootReference(sample.common, sample.timestamp, sample.boottime, clock_khz)
        change = kept.difference(sample)
        words = describe(change, kept.leaves, sample.common)
        if words != kept.change:
            kept = replace(kept, change=words, changed=sample.timestamp if words else None)
        self._reference = kept
        self._store(kept)
        return kept

    def _load(self) -> BootReference | None:
        if self._path is None:
            return None
        try:
            text = read_bounded(self._path, _MAX_BYTES, "a boot reference", "make it readable by the exporter's user")
            found = parse_reference(text, self._boot)
        except InputError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                follows = "changes since boot are not known" if self._read_only else "starting a new one"
                logger.warning("ignoring unusable boot reference %s (%s); %s", self._path, error, follows)
            return None
        self._stored = found
        return found

    def _store(self, reference: BootReference) -> None:
        """Write the file, unless it is there and has the reference. A failure is logged once, and so is its end."""
        if self._path is None or self._read_only:
            return
        exists = os.path.exists(self._path)  # noqa: PTH110 - Path.exists() raises PermissionError
        if exists and reference == self._stored:
            return
        complaint = ""
        try:
            write_atomically(self._path, format_reference(reference, self._boot))
            self._stored = reference
        except OSError as error:
            if not exists:
                self._stored = None
            lost = "since when it differs" if self._stored is not None else "it"
            complaint = f"{error.strerror}; {lost} is lost when the exporter exits"
        if complaint and complaint != self._complaint:
            logger.warning("cannot write the boot reference %s: %s", self._path, complaint)
        if self._complaint and not complaint:
            logger.info("wrote the boot reference %s", self._path)
        self._complaint = complaint


def format_reference(reference: BootReference, boot: Boot) -> bytes:
    """The text of the file: one JSON object, numbers as numbers, signatures in hexadecimal."""
    leaves, kvm = reference.leaves, reference.leaves.kvm
    value: dict[str, object] = {
        "boot_id": boot.id,
        "boot_time": boot.began,
        "timestamp": reference.timestamp,
        "uptime": reference.uptime,
        "hypervisor_bit": leaves.hypervisor_bit,
        "hypervisors": [
            {"base": found.base, "signature": found.signature.hex(), "max_leaf": found.max_leaf}
            for found in leaves.hypervisors
        ],
        "kvm": {"base": kvm.base, "eax": kvm.eax, "edx": kvm.edx} if kvm is not None else None,
        "changed": reference.changed,
        "change": reference.change,
    }
    if reference.has_timing:
        value |= {"tsc_khz": leaves.tsc_khz, "clock_khz": reference.clock_khz}
    return json.dumps(value, indent=2).encode() + b"\n"


def parse_reference(text: bytes, boot: Boot) -> BootReference:
    """The reference in a file's text. Raises InputError if it is damaged, or of another boot."""
    try:
        value = json.loads(text)
        if not _same_boot(value, boot):
            raise InputError(f"it belongs to another boot, {value['boot_id']!r}")
        kvm = value["kvm"]
        tsc_khz, clock_khz = (_optional_word(value.get(key)) for key in ("tsc_khz", "clock_khz"))
        timing = Timing(tsc_khz, 0) if tsc_khz is not None else None
        leaves = Leaves(
            hypervisor_bit=_checked(value["hypervisor_bit"], bool),
            hypervisors=tuple(
                SignatureLeaf(_word(found["base"]), _signature(found["signature"]), _word(found["max_leaf"]))
                for found in _checked(value["hypervisors"], list)
            ),
            kvm=Kvm(_word(kvm["base"]), _word(kvm["eax"]), _word(kvm["edx"]), timing=timing) if kvm else None,
        )
        return BootReference(
            leaves,
            _time(value["timestamp"]),
            uptime=_optional_time(value.get("uptime")),
            clock_khz=clock_khz,
            # A version that did not know the page wrote the leaf's frequency alone, and null without such a leaf.
            has_timing="clock_khz" in value or tsc_khz is not None,
            changed=_optional_time(value.get("changed")),
            change=_checked(value.get("change", ""), str),
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"it is damaged: {type(error).__name__} {error}") from error


def _same_boot(value: dict[str, object], boot: Boot) -> bool:
    """Whether a file is of this boot: by the kernel's id, else by the boot's time and an uptime that only grows."""
    known = value["boot_id"]
    if known and boot.id:
        return known == boot.id
    began, uptime = _optional_time(value.get("boot_time")), _optional_time(value.get("uptime"))
    if began is None or uptime is None:
        return False
    return abs(began - boot.began) <= CLOCK_STEP_SECONDS and uptime <= boot.uptime


def _optional_time(value: object) -> float | None:
    return None if value is None else _time(value)


def _checked(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r} is not of type {kind.__name__}")
    return value


def _word(value: object) -> int:
    word = _checked(value, int)
    if not 0 <= word <= _WORD_MAX:
        raise ValueError(f"{word} is not a 32-bit word")
    return word


def _optional_word(value: object) -> int | None:
    return None if value is None else _word(value)


def _time(value: object) -> float:
    seconds = _checked(value, float)
    if not math.isfinite(seconds):
        raise ValueError(f"{seconds} is not a finite number of seconds")
    return seconds


def _signature(value: object) -> bytes:
    signature = bytes.fromhex(_checked(value, str))
    if len(signature) != len(KVM_SIGNATURE):
        raise ValueError(f"{value!r} is not a signature of {len(KVM_SIGNATURE)} bytes")
    return signature


def read_boot(root: Path = Path("/")) -> Boot:
    """This boot: random(4) has its id, the clocks its time."""
    try:
        with (root / "proc/sys/kernel/random/boot_id").open(encoding="ascii") as file:
            boot_id = file.read(_MAX_BYTES).strip()
    except (OSError, ValueError):
        boot_id = ""
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    return Boot(boot_id, time.time() - uptime, uptime)
