"""The columns beside the offered bits, which the page and ``show`` share; a dump lacks them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from kvm_exporter.collector.observer import Observation, supported
from kvm_exporter.kvm.features import Feature


class Column(NamedTuple):
    """A column of the table of features."""

    title: str
    #: Its CSS class.
    name: str
    #: What a cell says: ``lost``, ``gained`` or ``same``, ``yes`` or ``no``; ``?`` for unknown.
    cell: Callable[[Feature], str]
    meaning: str


def observed_columns(observation: Observation) -> Iterator[Column]:
    """Yield the columns for which the observation has evidence: the change, the guest kernel's use, the own KVM."""
    if (reference := observation.reference) is not None:
        change = observation.since_reference
        became = dict.fromkeys(change.lost, "lost") | dict.fromkeys(change.gained, "gained")
        same = "same" if observation.fixed_at_launch is None else "?"
        yield Column("Change", "boot", lambda feature: became.get(feature, same), f"{reference.since}.")
    if observation.collectors:
        used = "the guest kernel has enabled it."
        yield Column("Used", "used", lambda feature: yes_no(observation.in_use.get(feature)), used)
    if observation.host is not None:
        own = "this machine's own KVM can offer it to guests."
        yield Column("Own KVM", "host", lambda feature: yes_no(supported(observation, feature)), own)


def yes_no(value: bool | None) -> str:  # noqa: FBT001 - the value to write
    """Return the text of a cell; ``?`` for None, which is unknown."""
    return {True: "yes", False: "no", None: "?"}[value]
