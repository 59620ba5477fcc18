"""Alerts that go on with the last sample of a machine while it has none.

A failed scrape ends the series of a machine, and would start the wait of an alert again. So what an alert finds is
recorded, by a rule that reads its own result of the evaluation before: that counts for a machine without a sample.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from labels import OF_MACHINE

from rules.rule import Alert, Recording, Rule

UNSAMPLED = "instance:kvm_exporter_sample_success:missing"
"""The recorded series: the machines without a sample now that had one a while ago."""


def unsampled(period: str) -> Recording:
    """Return the recording of machines that had a sample within a period such as ``15m``, and have none now.

    They cannot be scraped, they cannot be sampled, or their exporter has just started.
    """
    success = "kvm_exporter_sample_success"
    return Recording(
        name=UNSAMPLED,
        expression=f"max_over_time({success}[{period}]) == 1\nunless on ({OF_MACHINE}) {success} == 1",
    )


def with_last(rules: Iterable[Rule]) -> Iterator[Rule]:
    """Yield the rules, and before each alert on a machine that is kept the recording that it reads."""
    for rule in rules:
        if isinstance(rule, Alert) and rule.kept and rule.of_machine:
            name = f"instance:{re.sub(r'(?<=[a-z])(?=[A-Z])', '_', rule.name).lower()}:last"
            found = f"{rule.expression.strip()}\nor\n{name}\nand on ({OF_MACHINE}) {UNSAMPLED}"
            yield Recording(name=name, expression=found)
            yield replace(rule, expression=name, kept=None)
        else:
            yield rule
