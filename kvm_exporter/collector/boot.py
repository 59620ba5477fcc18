"""The boot reference: the leaves of the first sample of this boot, kept in a file across restarts of the exporter.

It approximates what the guest kernel read: the kernel reads the feature leaf once, at boot. Source of the boot ID:
random(4).
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
"""The largest file that is read: twice the size with signatures at all 256 bases."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BootReference:
    """The common leaves of the first successful sample of a boot."""

    leaves: Leaves
    #: When that sample was taken: seconds since the epoch.
    timestamp: float


class BootReferenceKeeper:
    """Makes the first sample of a boot the boot reference, and keeps it until the next boot.

    The reference is stored in ``directory``. Without a directory, or with an empty ``boot_id``, it is kept in memory
    only, until the process exits.
    """

    def __init__(self, directory: Path | None, boot_id: str) -> None:
        self._path = directory / FILE_NAME if directory is not None and boot_id else None
        self._boot_id = boot_id
        self._reference = self._load() if self._path is not None else None

    def reference(self, sample: Sample) -> BootReference:
        """Return the reference of this boot. If there is none yet, make it from this sample and store it.

        A failure to write the file is logged, and not raised.
        """
        if self._reference is None:
            self._reference = BootReference(sample.common, sample.timestamp)
            self._store(self._reference)
        return self._reference

    def _load(self) -> BootReference | None:
        assert self._path is not None  # noqa: S101 - the caller has checked it
        try:
            text = read_bounded(self._path, _MAX_BYTES, "a boot reference", "make it readable by the exporter's user")
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
            logger.warning(
                "cannot write the boot reference %s: %s; it is lost when the exporter exits", self._path, error.strerror
            )


def format_reference(reference: BootReference, boot_id: str) -> bytes:
    """Return the content of the file: one JSON object, with signatures in hexadecimal."""
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
    """Parse the content of the file. Raises InputError if it is damaged, or belongs to another boot."""
    try:
        value = json.loads(text)
        if value["boot_id"] != boot_id:
            raise InputError(f"it belongs to another boot, {value['boot_id']!r}")
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
        raise TypeError(f"{value!r} is not of type {kind.__name__}")
    return value


def _word(value: object) -> int:
    word = _checked(value, int)
    if not 0 <= word <= _WORD_MAX:
        raise ValueError(f"{word} is not a 32-bit word")
    return word


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


def read_boot_id(root: Path = Path("/")) -> str:
    """Return the kernel's boot ID, a UUID that is new at each boot; ``""`` if it cannot be read. See random(4)."""
    try:
        with (root / "proc/sys/kernel/random/boot_id").open(encoding="ascii") as file:
            return file.read(_MAX_BYTES).strip()
    except (OSError, ValueError):
        return ""
