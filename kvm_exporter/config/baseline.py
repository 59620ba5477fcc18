"""The baseline's file: YAML, read strictly, and read again when it changes. The only reader of it."""

import logging
import time
from pathlib import Path

from kvm_exporter.config.files import identity
from kvm_exporter.config.schema import Node, YamlError, compose, is_null, items, line_of, mapping, name
from kvm_exporter.kvm.baseline import Baseline
from kvm_exporter.kvm.features import Feature, feature_named
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.kvm.words import summary

MAX_BYTES = 1 << 16
"""Far more than every feature takes, and parsed in well under a second: scrapes wait meanwhile."""

logger = logging.getLogger(__name__)


class BaselineError(Exception):
    """A file that is no baseline; the message names the file, the line, and what to write."""


def load_baseline(path: Path) -> Baseline:
    """The baseline in a file. Raises BaselineError."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BaselineError(f"{path}: cannot be read: {error.strerror}; kvm-exporter baseline prints one") from error
    if len(text) > MAX_BYTES:
        raise BaselineError(f"{path}: over {MAX_BYTES} bytes; is this a baseline?")
    try:
        return parse_baseline(text)
    except BaselineError as error:
        raise BaselineError(f"{path}: {error}") from error


def parse_baseline(text: bytes) -> Baseline:
    """The baseline in a text. Raises BaselineError."""
    try:
        return _baseline(compose(text))
    except YamlError as error:
        raise BaselineError(str(error)) from error


def _baseline(root: Node | None) -> Baseline:
    if root is None:
        raise YamlError("line 1: empty; it begins with features:")
    features = mapping(root, {"features"}, "features:").get("features")
    if features is None:
        raise YamlError(f"{line_of(root)}: features is missing; it holds the lists required and forbidden")
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
        raise YamlError(f"{line_of(node)}: {called} has to be a list of feature names")
    features = []
    for item in listed:
        text = name(item)
        try:
            feature = feature_named(text)
        except ValueError as error:
            raise YamlError(f"{line_of(item)}: {error}") from error
        if feature in seen:
            raise YamlError(f"{line_of(item)}: {text} is {seen[feature]} already; keep one of them")
        seen[feature] = called
        features.append(feature)
    return tuple(features)


class BaselineFile:
    """The baseline of a file as it is now; when a change breaks it, the last good one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = identity(path)
        self.success = True
        #: How long it took to read the file last, in seconds.
        self.seconds = 0.0
        self._load()

    def refresh(self) -> None:
        """Read the file again if it has changed: one stat(2) if it has not."""
        if identity(self._path) != self._seen:
            self.reload()

    def reload(self) -> None:
        """Read the file again."""
        self._seen = identity(self._path)
        try:
            self._load()
        except BaselineError as error:
            self.success = False
            logger.error("the baseline stays as it was: %s", error)  # noqa: TRY400 - the message says all
        else:
            logger.info("the baseline was read again from %s", self._path)

    def _load(self) -> None:
        start = time.perf_counter()
        self.baseline = load_baseline(self._path)
        self.success, self.seconds = True, time.perf_counter() - start


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
