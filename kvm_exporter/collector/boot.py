"""The boot reference: what the hypervisor offered when this boot was first sampled, kept across restarts.

It stands for what the guest kernel saw: the kernel reads the leaf once, at boot, and never again.
"""

import json
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from kvm_exporter.config.files import read_bounded, write_atomically
from kvm_exporter.errors import InputError
from kvm_exporter.kvm.leaves import KVM_SIGNATURE, Kvm, Leaves, SignatureLeaf
from kvm_exporter.kvm.sample import Sample

FILE_NAME = "boot-reference.json"

_WORD_MAX = 0xFFFF_FFFF
_MAX_BYTES = 1 << 16
"""Twice what signatures at all 256 bases take; what is cut off there is damaged."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BootReference:
    """The common leaves of the first good sample of a boot."""

    leaves: Leaves
    #: When that sample was taken: seconds since the epoch.
    timestamp: float


class BootReferenceKeeper:
    """Takes the reference at the first sample of a boot, and has the same one ever after.

    Without a directory, or where the kernel has no name for the boot, it lives as long as the process does.
    """

    def __init__(self, directory: Path | None, boot_id: str) -> None:
        self._path = directory / FILE_NAME if directory is not None and boot_id else None
        self._boot_id = boot_id
        self._reference = self._load() if self._path is not None else None

    def reference(self, sample: Sample) -> BootReference:
        """The reference of this boot, which is this sample if there is none yet."""
        if self._reference is None:
            self._reference = BootReference(sample.common, sample.timestamp)
            self._store(self._reference)
        return self._reference

    def _load(self) -> BootReference | None:
        assert self._path is not None  # noqa: S101 - asked before
        try:
            text = read_bounded(self._path, _MAX_BYTES, "a boot reference", "let the exporter's user read it")
            return parse_reference(text, self._boot_id)
        except InputError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                logger.warning("ignoring unusable boot reference %s (%s); starting a new one", self._path, error)
            return None

    def _store(self, reference: BootReference) -> None:
        if self._path is None:
            return
        try:
            write_atomically(self._path, format_reference(reference, self._boot_id))
        except OSError as error:
            logger.warning("%s cannot be written: %s; the reference ends with this process", self._path, error.strerror)


def format_reference(reference: BootReference, boot_id: str) -> bytes:
    """The text of the file: one JSON object, numbers as numbers, signatures in hexadecimal."""
    leaves, kvm = reference.leaves, reference.leaves.kvm
    value = {
        "boot_id": boot_id,
        "timestamp": reference.timestamp,
        "hypervisor_bit": leaves.hypervisor_bit,
        "hypervisors": [
            {"base": found.base, "signature": found.signature.hex(), "max_leaf": found.max_leaf}
            for found in leaves.hypervisors
        ],
        "kvm": {"base": kvm.base, "eax": kvm.eax, "edx": kvm.edx} if kvm is not None else None,
    }
    return json.dumps(value, indent=2).encode() + b"\n"


def parse_reference(text: bytes, boot_id: str) -> BootReference:
    """The reference in a file's text. Raises InputError if it is damaged, or another boot's."""
    try:
        value = json.loads(text)
        if value["boot_id"] != boot_id:
            raise InputError(f"it is of another boot, {value['boot_id']!r}")
        kvm = value["kvm"]
        leaves = Leaves(
            hypervisor_bit=_checked(value["hypervisor_bit"], bool),
            hypervisors=tuple(
                SignatureLeaf(_word(found["base"]), _signature(found["signature"]), _word(found["max_leaf"]))
                for found in _checked(value["hypervisors"], list)
            ),
            kvm=Kvm(_word(kvm["base"]), _word(kvm["eax"]), _word(kvm["edx"])) if kvm is not None else None,
        )
        return BootReference(leaves, _time(value["timestamp"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"it is damaged: {type(error).__name__} {error}") from error


def _checked(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _word(value: object) -> int:
    word = _checked(value, int)
    if not 0 <= word <= _WORD_MAX:
        raise ValueError(f"{word} is no 32-bit word")
    return word


def _time(value: object) -> float:
    seconds = _checked(value, float)
    if not math.isfinite(seconds):
        raise ValueError(f"{seconds} is no time")
    return seconds


def _signature(value: object) -> bytes:
    signature = bytes.fromhex(_checked(value, str))
    if len(signature) != len(KVM_SIGNATURE):
        raise ValueError(f"{value!r} is no signature")
    return signature


def read_boot_id(root: Path = Path("/")) -> str:
    """The kernel's name for this boot, or nothing where there is none: random(4)."""
    try:
        with (root / "proc/sys/kernel/random/boot_id").open(encoding="ascii") as file:
            return file.read(_MAX_BYTES).strip()
    except (OSError, ValueError):
        return ""
