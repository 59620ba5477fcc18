"""Values that are read, decoded and compared are immutable, and have no further attributes."""

from dataclasses import FrozenInstanceError, fields

import pytest

from kvm_exporter.cpuid.dump import Dump
from kvm_exporter.kvm.baseline import Baseline
from kvm_exporter.kvm.clock import PvClock
from kvm_exporter.kvm.drift import Difference
from kvm_exporter.kvm.leaves import Kvm, Leaves, SignatureLeaf, Timing
from kvm_exporter.kvm.processor import Processor
from lab.readers import guest, sample_of

VALUES = (
    SignatureLeaf(0x4000_0000, b"KVMKVMKVM\0\0\0", 0),
    Timing(1, 2),
    Kvm(0x4000_0000, 1, 2),
    Leaves(hypervisor_bit=False),
    PvClock(stable=True, tsc_khz=1),
    Difference(),
    Baseline(),
    Dump({}),
    Processor(),
    sample_of({0: guest(1)}),
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_stays_as_it_is(value: object) -> None:
    """A value's fields cannot be assigned, so that threads can share it."""
    for field in fields(value):  # type: ignore[arg-type]
        with pytest.raises(FrozenInstanceError):
            setattr(value, field.name, None)


@pytest.mark.parametrize("value", VALUES[:-1], ids=lambda value: type(value).__name__)
def test_a_value_is_small(value: object) -> None:
    """A value has slots and no dictionary, since there is one per CPU; a sample caches results and is exempt."""
    assert not hasattr(value, "__dict__")
