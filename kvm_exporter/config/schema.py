"""Strict access to the nodes of a YAML document, with the line number in every error. The only importer of yaml.

Documents are composed into nodes and never constructed into Python objects: tags cannot create objects, and aliases
are not expanded. ``label`` arguments name a node in messages, usually by its key.
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
    """Return the root node of a document, or None if the document is empty. Raises InputError if it is not YAML."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        reason = ", ".join(filter(None, (error.context, error.problem)))
        raise InputError(f"line {line}: not valid YAML: {reason}") from error
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise InputError(f"line 1: not valid YAML: {str(error).splitlines()[0]}") from error


def line_of(node: Node) -> str:
    """Return "line N", where N is the line on which a node begins, counted from 1."""
    return f"line {node.start_mark.line + 1}"


def is_null(node: Node) -> bool:
    """Return whether a value is empty or null."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null"


def name(node: Node) -> str:
    """Return the text of a scalar of any type. Raises InputError for a list or a mapping.

    The message does not contain the list or mapping: a few nested aliases can make it too large for memory.
    """
    if not isinstance(node, yaml.ScalarNode):
        raise InputError(f"{line_of(node)}: expected a name, not a list or a mapping")
    return str(node.value)


def mapping(node: Node, keys: Collection[str] | None, expected: str) -> dict[str, Node]:
    """Return the values of a mapping by their keys.

    ``keys`` are the keys allowed (None: any); ``expected`` describes the mapping in the message for another node.
    Raises InputError for an unknown or duplicate key, or if the node is not a mapping.
    """
    if not isinstance(node, yaml.MappingNode):
        raise InputError(f"{line_of(node)}: expected {expected}")
    values: dict[str, Node] = {}
    for key_node, value in node.value:
        key = name(key_node)
        if keys is not None and key not in keys:
            raise InputError(f"{line_of(key_node)}: unknown key {key!r}; use one of {', '.join(sorted(keys))}")
        if key in values:
            raise InputError(f"{line_of(key_node)}: duplicate key {key}; keep one")
        values[key] = value
    return values


def section(node: Node | None, keys: Collection[str], label: str) -> dict[str, Node]:
    """Return the values of an optional mapping by their keys, without those that are null.

    A mapping that is absent or null has no values. Raises InputError as mapping() does.
    """
    if node is None or is_null(node):
        return {}
    values = mapping(node, keys, f"the keys of {label}: {', '.join(sorted(keys))}")
    return {key: value for key, value in values.items() if not is_null(value)}


def items(node: Node) -> list[Node] | None:
    """Return the items of a list, or None if the node is not a list."""
    return list(node.value) if isinstance(node, yaml.SequenceNode) else None


def text(node: Node, label: str) -> str:
    """Return the value of a string. Raises InputError if the node is not a string or is_encodable() is false for it.

    The message does not contain the value, which may be a secret.
    """
    if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "str":
        raise InputError(f"{line_of(node)}: {label} must be a string; quote it if it looks like a number")
    value = str(node.value)
    if not is_encodable(value):
        raise InputError(f"{line_of(node)}: {label} contains an invalid character; remove it")
    return value


def choice(node: Node, label: str, known: Collection[str]) -> str:
    """Return the value of a string that is one of ``known``. Raises InputError."""
    value = text(node, label)
    if value not in known:
        raise InputError(f"{line_of(node)}: unknown {label} {value!r}; use one of {', '.join(known)}")
    return value


def texts(node: Node, label: str, known: Collection[str] | None = None) -> list[str]:
    """Return the strings of a list in order. Raises InputError for a duplicate, or one not in ``known`` (None: any)."""
    nodes = items(node)
    if nodes is None:
        raise InputError(f"{line_of(node)}: {label} must be a list")
    values: dict[str, None] = {}
    for item in nodes:
        value = text(item, f"each item of {label}") if known is None else choice(item, label, known)
        if value in values:
            raise InputError(f"{line_of(item)}: duplicate {value} in {label}; keep one")
        values[value] = None
    return list(values)


def flag(node: Node, label: str) -> bool:
    """Return the value of a boolean. Raises InputError."""
    if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "bool" or node.value.lower() not in _FLAGS:
        raise InputError(f"{line_of(node)}: {label} must be true or false")
    return _FLAGS[node.value.lower()]


def count(node: Node, label: str) -> int:
    """Return the value of an integer from 0 to 999,999,999. Raises InputError."""
    if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "int" or not _COUNT.fullmatch(node.value):
        raise InputError(f"{line_of(node)}: {label} must be a whole number, such as 5")
    return int(node.value)


def is_encodable(value: str) -> bool:
    """Return whether a string has no NUL, which ends a C string, and no lone surrogate, which UTF-8 cannot encode.

    YAML's escapes can produce both.
    """
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
