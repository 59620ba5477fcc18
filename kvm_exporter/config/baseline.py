"""The baseline's file: YAML, read strictly, and read again when it changes. The only reader of it."""

import logging
import time
from pathlib import Path

from kvm_exporter.collector.observer import Collected
from kvm_exporter.config.schema import Node, YamlError, compose, identity, is_null, items, line_of, mapping, name
from kvm_exporter.kvm.baseline import Baseline
from kvm_exporter.kvm.features import Feature, feature_named

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
        self.baseline, self.collected = self._load()

    def refresh(self) -> None:
        """Read the file again if it has changed: one stat(2) if it has not."""
        if identity(self._path) != self._seen:
            self.reload()

    def reload(self) -> None:
        """Read the file again."""
        self._seen = identity(self._path)
        try:
            self.baseline, self.collected = self._load()
        except BaselineError as error:
            self.collected = Collected(success=False, duration=self.collected.duration)
            logger.error("the baseline stays as it was: %s", error)  # noqa: TRY400 - the message says all
        else:
            logger.info("the baseline was read again from %s", self._path)

    def _load(self) -> tuple[Baseline, Collected]:
        start = time.perf_counter()
        return load_baseline(self._path), Collected(success=True, duration=time.perf_counter() - start)
