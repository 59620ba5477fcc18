"""Parse, reload and print the baseline file, which is YAML. No other module reads this file.

A baseline lists the features that the hypervisor must offer and those that it must not.
"""

from pathlib import Path
from typing import BinaryIO

from kvm_exporter.config.files import Reloaded, read_bounded
from kvm_exporter.config.schema import Node, compose, is_null, items, line_of, mapping, name
from kvm_exporter.errors import InputError, named
from kvm_exporter.kvm.baseline import Baseline
from kvm_exporter.kvm.features import Feature, feature_named
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.kvm.words import summary

MAX_BYTES = 1 << 16
"""Largest accepted baseline file. It has room for every feature, and it is parsed in well under a second.

Scrapes wait while the file is parsed.
"""


def watch_baseline(path: Path) -> Reloaded[Baseline]:
    """The baseline in a file, reloaded when the file changes; an empty one until the file is valid."""
    return Reloaded(path, "the baseline", lambda *_: load_baseline(path), Baseline())


def load_baseline(file: Path | BinaryIO) -> Baseline:
    """Return the baseline in a file. Raises InputError, whose message begins with its path, or ``-`` if it is open."""
    with named(file if isinstance(file, Path) else "-"):
        return parse_baseline(read_bounded(file, MAX_BYTES, "a baseline", "kvm-exporter baseline prints one"))


def parse_baseline(text: bytes) -> Baseline:
    """Return the baseline in the content of a file. Raises InputError, whose message begins with the line number."""
    root = compose(text)
    if root is None:
        raise InputError("line 1: the file is empty; begin it with features:")
    features = mapping(root, {"features"}, "features:").get("features")
    if features is None:
        raise InputError(f"{line_of(root)}: features is missing; add it, with the lists required and forbidden")
    lists = mapping(features, {"required", "forbidden"}, "forbidden: and required:")
    seen: dict[Feature, str] = {}
    required = _features(lists.get("required"), "required", seen)
    forbidden = _features(lists.get("forbidden"), "forbidden", seen)
    return Baseline(required, forbidden)


def _features(node: Node | None, key: str, seen: dict[Feature, str]) -> tuple[Feature, ...]:
    if node is None or is_null(node):
        return ()
    listed = items(node)
    if listed is None:
        raise InputError(f"{line_of(node)}: {key} must be a list of feature names")
    features = []
    for item in listed:
        text = name(item)
        try:
            feature = feature_named(text)
        except ValueError as error:
            raise InputError(f"{line_of(item)}: {error}") from error
        if feature in seen:
            raise InputError(f"{line_of(item)}: duplicate {text}: it is already {seen[feature]}; keep one")
        seen[feature] = key
        features.append(feature)
    return tuple(features)


def format_baseline(sample: Sample) -> str:
    """Return the text of a baseline file that requires every feature of a sample, for operators to edit and deploy."""
    required = [
        f"    - {feature.name}  # {feature.register} bit {feature.bit}: {feature.meaning}"
        for feature in sample.features
        if sample.common.offers(feature)
    ]
    return "\n".join(
        [
            f"# {summary(sample.common)}",
            "# Remove the features that this machine does not need, and list under forbidden those that it must not be",
            "# offered. Then serve with --baseline.file=FILE, or compare now with: kvm-exporter check --baseline FILE",
            "features:",
            *(["  required:", *required] if required else ["  required: []"]),
            "  forbidden: []",
            "",
        ]
    )
