"""YAML files that people write: read strictly, with the line of everything that is wrong. The only importer of yaml.

A document is composed, never constructed: no tag makes an object, and an alias costs nothing.
"""

import re
from collections.abc import Collection

import yaml

from kvm_exporter.errors import InputError

Node = yaml.Node

_TAG = "tag:yaml.org,2002:"
_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_COUNT = re.compile(r"0|[1-9][0-9]{0,8}")


def compose(text: bytes) -> Node | None:
    """The root of a document; None if it is empty. Raises InputError."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        why = ", ".join(filter(None, (error.context, error.problem)))
        raise InputError(f"line {line}: not YAML: {why}") from error
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise InputError(f"line 1: not YAML: {str(error).splitlines()[0]}") from error


def line_of(node: Node) -> str:
    """Where a node begins, for messages."""
    return f"line {node.start_mark.line + 1}"


def is_null(node: Node) -> bool:
    """Whether nothing is written, or null."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null"


def name(node: Node) -> str:
    """A scalar as it is written. Nothing nested is ever written out: a few aliases make that longer than any memory.

    Raises InputError.
    """
    if not isinstance(node, yaml.ScalarNode):
        raise InputError(f"{line_of(node)}: expected a name, not a list or a mapping")
    return str(node.value)


def mapping(node: Node, keys: Collection[str] | None, expected: str) -> dict[str, Node]:
    """The values of a mapping that has each key at most once, and none but these (None: any). Raises InputError."""
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{line_of(node)}: expected {expected}")
    values: dict[str, Node] = {}
    for key, value in node.value:
        written = name(key)
        if keys is not None and written not in keys:
            raise InputError(f"{line_of(key)}: unknown key {written!r}; known here: {', '.join(sorted(keys))}")
        if written in values:
            raise InputError(f"{line_of(key)}: {written} is there a second time; keep one of them")
        values[written] = value
    return values


def section(node: Node | None, keys: Collection[str], called: str) -> dict[str, Node]:
    """The values of a mapping that may be left out or empty, without the values that are null. Raises InputError."""
    if node is None or is_null(node):
        return {}
    values = mapping(node, keys, f"the keys of {called}: {', '.join(sorted(keys))}")
    return {key: value for key, value in values.items() if not is_null(value)}


def items(node: Node) -> list[Node] | None:
    """The items of a list; None if it is none."""
    return list(node.value) if isinstance(node, yaml.SequenceNode) else None


def text(node: Node, called: str) -> str:
    """A text that is storable(). Raises InputError, which does not repeat it: it may be a secret."""
    if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "str":
        raise InputError(f"{line_of(node)}: {called} has to be a text; write one, in quotes if it looks like a number")
    written = str(node.value)
    if not storable(written):
        raise InputError(f"{line_of(node)}: {called} has a character in it that no text has; remove it")
    return written


def choice(node: Node, called: str, known: Collection[str]) -> str:
    """One of the texts that are known. Raises InputError."""
    written = text(node, called)
    if written not in known:
        raise InputError(f"{line_of(node)}: {called} {written!r} is none of {', '.join(known)}")
    return written


def texts(node: Node, called: str, known: Collection[str] | None = None) -> list[str]:
    """A list of texts, each of them once, all of them known (None: any). Raises InputError."""
    nodes = items(node)
    if nodes is None:
        raise InputError(f"{line_of(node)}: {called} has to be a list")
    found: dict[str, None] = {}
    for item in nodes:
        written = text(item, f"what {called} lists") if known is None else choice(item, called, known)
        if written in found:
            raise InputError(f"{line_of(item)}: {written} is in {called} already; keep one of them")
        found[written] = None
    return list(found)


def flag(node: Node, called: str) -> bool:
    """True or false. Raises InputError."""
    if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "bool" or node.value.lower() not in _FLAGS:
        raise InputError(f"{line_of(node)}: {called} has to be true or false")
    return _FLAGS[node.value.lower()]


def count(node: Node, called: str) -> int:
    """A whole number from 0. Raises InputError."""
    if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "int" or not _COUNT.fullmatch(node.value):
        raise InputError(f"{line_of(node)}: {called} has to be a whole number, such as 5")
    return int(node.value)


def storable(written: str) -> bool:
    """Whether a text can be encoded, and handed to C. YAML's escapes can write others."""
    return "\0" not in written and not any("\ud800" <= character <= "\udfff" for character in written)
