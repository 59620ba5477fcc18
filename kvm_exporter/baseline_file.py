"""The baseline's file: YAML, read strictly, and read again when it changes. The only reader of it."""

import logging
import os
import time
from pathlib import Path

import yaml

from kvm_exporter.baseline import Baseline
from kvm_exporter.features import Feature, feature_named
from kvm_exporter.observation import Collected

MAX_BYTES = 1 << 20
"""Far more than every feature takes."""

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
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BaselineError(f"line {line}: not YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise BaselineError(f"line 1: not YAML: {str(error).splitlines()[0]}") from error
    if root is None:
        raise BaselineError("line 1: empty; it begins with features:")
    features = _mapping(root, {"features"}).get("features")
    if features is None:
        raise BaselineError(f"{_line(root)}: features is missing; it holds the lists required and forbidden")
    lists = _mapping(features, {"required", "forbidden"})
    seen: dict[Feature, str] = {}
    required = _features(lists.get("required"), "required", seen)
    forbidden = _features(lists.get("forbidden"), "forbidden", seen)
    return Baseline(required, forbidden)


def _mapping(node: yaml.Node, keys: set[str]) -> dict[str, yaml.Node]:
    """The values of a mapping that has no other keys than these, each at most once."""
    if not isinstance(node, yaml.MappingNode):
        raise BaselineError(f"{_line(node)}: expected {' and '.join(f'{key}:' for key in sorted(keys))}")
    values: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = str(key.value)
        if name not in keys:
            raise BaselineError(f"{_line(key)}: unknown key {name!r}; known here: {', '.join(sorted(keys))}")
        if name in values:
            raise BaselineError(f"{_line(key)}: {name} is there a second time; keep one of them")
        values[name] = value
    return values


def _features(node: yaml.Node | None, name: str, seen: dict[Feature, str]) -> tuple[Feature, ...]:
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"):
        return ()
    if not isinstance(node, yaml.SequenceNode):
        raise BaselineError(f"{_line(node)}: {name} has to be a list of feature names")
    features = []
    for item in node.value:
        try:
            feature = feature_named(str(item.value))
        except ValueError as error:
            raise BaselineError(f"{_line(item)}: {error}") from error
        if feature in seen:
            raise BaselineError(f"{_line(item)}: {item.value} is {seen[feature]} already; keep one of them")
        seen[feature] = name
        features.append(feature)
    return tuple(features)


def _line(node: yaml.Node) -> str:
    return f"line {node.start_mark.line + 1}"


class BaselineFile:
    """The baseline of a file as it is now; when a change breaks it, the last good one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = _identity(path)
        self.baseline, self.collected = self._load()

    def refresh(self) -> None:
        """Read the file again if it has changed: one stat(2) if it has not."""
        if _identity(self._path) != self._seen:
            self.reload()

    def reload(self) -> None:
        """Read the file again."""
        self._seen = _identity(self._path)
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


def _identity(path: Path) -> tuple[int, ...]:
    """What tells one state of a file from another; nothing while there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - at each scrape: half the price
    except OSError:
        return ()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
