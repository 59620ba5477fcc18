"""What is read, decoded and compared is passed on as it is: values that nobody can change, or give more attributes."""

from dataclasses import FrozenInstanceError, fields

import pytest

from kvm_exporter.cpuid.dump import Dump
from kvm_exporter.kvm.baseline import Baseline
from kvm_exporter.kvm.drift import Difference
from kvm_exporter.kvm.leaves import Hypervisor, Kvm, Leaves, Timing
from lab.readers import guest, sample_of

VALUES = (
    Hypervisor(0x4000_0000, b"KVMKVMKVM\0\0\0", 0),
    Timing(1, 2),
    Kvm(0x4000_0000, 1, 2),
    Leaves(hypervisor_bit=False),
    Difference(),
    Baseline(),
    Dump({}),
    sample_of({0: guest(1)}),
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_stays_as_it_is(value: object) -> None:
    """Whoever has it may pass it on, to another thread too."""
    for field in fields(value):  # type: ignore[arg-type]
        with pytest.raises(FrozenInstanceError):
            setattr(value, field.name, None)


@pytest.mark.parametrize("value", VALUES[:-1], ids=lambda value: type(value).__name__)
def test_a_value_is_small(value: object) -> None:
    """There is one for each CPU; a sample, which works things out once, is one for all of them."""
    assert not hasattr(value, "__dict__")
