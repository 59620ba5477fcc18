"""The baseline's file: YAML, read strictly, and read again when it changes. The only reader of it."""

from pathlib import Path

from kvm_exporter.config.files import Reloaded, read_bounded
from kvm_exporter.config.schema import Node, compose, is_null, items, line_of, mapping, name
from kvm_exporter.errors import InputError, named
from kvm_exporter.kvm.baseline import Baseline
from kvm_exporter.kvm.features import Feature, feature_named
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.kvm.words import summary

MAX_BYTES = 1 << 16
"""Far more than every feature takes, and parsed in well under a second: scrapes wait meanwhile."""


def watch_baseline(path: Path) -> Reloaded[Baseline]:
    """The baseline in a file, reloaded when the file changes. Raises InputError."""
    return Reloaded(path, "the baseline", lambda *_: load_baseline(path))


def load_baseline(path: Path) -> Baseline:
    """The baseline in a file. Raises InputError."""
    with named(path):
        return parse_baseline(read_bounded(path, MAX_BYTES, "a baseline", "kvm-exporter baseline prints one"))


def parse_baseline(text: bytes) -> Baseline:
    """The baseline in a text. Raises InputError, with the line."""
    root = compose(text)
    if root is None:
        raise InputError("line 1: empty; it begins with features:")
    features = mapping(root, {"features"}, "features:").get("features")
    if features is None:
        raise InputError(f"{line_of(root)}: features is missing; it holds the lists required and forbidden")
    lists = mapping(features, {"required", "forbidden"}, "forbidden: and required:")
    seen: dict[Feature, str] = {}
    required = _features(lists.get("required"), "required", seen)
    forbidden = _features(lists.get("forbidden"), "forbidden", seen)
    return Baseline(required, forbidden)


def _features(node: Node | None, called: str, seen: dict[Feature, str]) -> tuple[Feature, ...]:
    if node is None or is_null(node):
        return ()
    listed = items(node)
    if listed is None:
        raise InputError(f"{line_of(node)}: {called} has to be a list of feature names")
    features = []
    for item in listed:
        text = name(item)
        try:
            feature = feature_named(text)
        except ValueError as error:
            raise InputError(f"{line_of(item)}: {error}") from error
        if feature in seen:
            raise InputError(f"{line_of(item)}: {text} is {seen[feature]} already; keep one of them")
        seen[feature] = called
        features.append(feature)
    return tuple(features)


def format_baseline(sample: Sample) -> str:
    """A baseline file that requires what this machine offers, to edit and deploy."""
    required = [
        f"    - {feature.name}  # {feature.register} bit {feature.bit}: {feature.meaning}"
        for feature in sample.features
        if sample.common.offers(feature)
    ]
    return "\n".join(
        [
            f"# {summary(sample.common)}",
            "# Remove what this machine may do without, and name what it must not have. Then serve with",
            "# --baseline.file=THIS, or compare now with: kvm-exporter check --baseline THIS",
            "features:",
            *(["  required:", *required] if required else ["  required: []"]),
            "  forbidden: []",
            "",
        ]
    )
