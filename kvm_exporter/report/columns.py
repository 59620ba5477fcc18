"""The columns beside the offered bits, which the page and ``show`` share; a dump lacks them."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from kvm_exporter.collector.conditions import Answer, Use
from kvm_exporter.collector.observer import Observation, supported
from kvm_exporter.kvm.features import Feature


class ObservedColumn(NamedTuple):
    """A column of the table of features."""

    title: str
    #: Its CSS class.
    name: str
    #: What a cell says: ``lost``, ``gained`` or ``same``, ``yes`` or ``no``, another Answer; ``?`` for unknown.
    cell: Callable[[Feature], str]
    meaning: str
    #: Why the cell says it; empty where that is the same for all.
    reason: Callable[[Feature], str] = lambda _: ""


def observed_columns(observation: Observation) -> Iterator[ObservedColumn]:
    """Yield the columns for which the observation has evidence: the change, the guest kernel's use, the own KVM."""
    if (reference := observation.reference) is not None:
        change = observation.since_reference
        became = dict.fromkeys(change.lost, "lost") | dict.fromkeys(change.gained, "gained")
        same = "same" if observation.fixed_at_launch is None else "?"
        yield ObservedColumn("Change", "boot", lambda feature: became.get(feature, same), f"{reference.since}.")
    if observation.collectors:
        uses, unknown = observation.in_use, Use(Answer.UNKNOWN, "")
        yield ObservedColumn(
            "Used",
            "used",
            lambda feature: uses.get(feature, unknown).answer,
            "the guest kernel has enabled it.",
            lambda feature: uses.get(feature, unknown).reason,
        )
    if observation.host is not None:
        own = "this machine's own KVM can offer it to guests."
        yield ObservedColumn("Own KVM", "host", lambda feature: yes_no(supported(observation, feature)), own)


def yes_no(value: bool | None) -> str:  # noqa: FBT001 - the value to write
    """Return the text of a cell; ``?`` for None, which is unknown."""
    return {True: "yes", False: "no", None: "?"}[value]
