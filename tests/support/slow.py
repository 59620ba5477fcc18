"""Parameters of which make test runs some, and make test-all all."""

from collections.abc import Iterable

import pytest
from _pytest.mark import ParameterSet


def slow_but(always: Iterable[str], names: Iterable[str]) -> list[ParameterSet]:
    """Parameters for a test: all names, marked as slow but for those that are always to be tested."""
    kept = {*always}
    return [pytest.param(name, marks=() if name in kept else pytest.mark.slow) for name in names]


def slow_but_first(names: Iterable[str]) -> list[ParameterSet]:
    """Parameters for a test: all names, marked as slow but for the first."""
    every = [*names]
    return slow_but(every[:1], every)
