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
_TRUE, _FALSE = (
    {write(word) for word in words for write in (str.lower, str.capitalize, str.upper)}
    for words in (("true", "yes", "on", "y"), ("false", "no", "off", "n"))
)
_OCTAL = re.compile(r"[-+]?0[0-7]+")
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|0|[1-9][0-9]{0,18})")
_FRACTION = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_MAX_NUMBER = 2**63 - 1


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


def is_empty_mapping(document: bytes) -> bool:
    """Return whether a document is ``{}``, with or without comments. Raises InputError if it is not YAML."""
    node = compose(document)
    return isinstance(node, yaml.MappingNode) and not node.value


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
    """Return the text of a scalar as it is written, a number or a date too, as Go reads a string; null is empty.

    Raises InputError for a list or a mapping, for !!binary, or if is_encodable() is false for the text. The message
    does not contain the text, which may be a secret.
    """
    if not isinstance(node, yaml.ScalarNode) or node.tag == _TAG + "binary":
        raise InputError(f"{line_of(node)}: {label} must be a string")
    value = "" if is_null(node) else str(node.value)
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
    """Return the strings of a list in order, without duplicates.

    Raises InputError for one that is not in ``known`` (None: any).
    """
    nodes = items(node)
    if nodes is None:
        raise InputError(f"{line_of(node)}: {label} must be a list")
    values = (text(item, f"each item of {label}") if known is None else choice(item, label, known) for item in nodes)
    return list(dict.fromkeys(values))


def flag(node: Node, label: str) -> bool:
    """Return the value of a boolean; as in Go, y and n are booleans too. Raises InputError."""
    if not _is_plain(node) or node.value not in _TRUE | _FALSE:
        raise InputError(f"{line_of(node)}: {label} must be true or false")
    return node.value in _TRUE


def number(node: Node) -> int | None:
    """Return the whole number that Go reads from a node, or None if it is no number of 64 bits.

    Go reads 1_000, 0x10, octal 010 and 1e3, and rounds 1.5 towards zero. A number in quotes is a string.
    """
    plain = node.value.replace("_", "") if _is_plain(node) else ""
    if _OCTAL.fullmatch(plain):
        value = int(plain, 8)
    elif _INTEGER.fullmatch(plain):
        value = int(plain, 0)
    elif _FRACTION.fullmatch(plain) and abs(fraction := float(plain)) <= _MAX_NUMBER:
        value = int(fraction)
    else:
        return None
    return value if abs(value) <= _MAX_NUMBER else None


def _is_plain(node: Node) -> bool:
    """Return whether a node is a scalar without quotes."""
    return isinstance(node, yaml.ScalarNode) and node.style is None


def is_encodable(value: str) -> bool:
    """Return whether a string has no NUL, which ends a C string, and no lone surrogate, which UTF-8 cannot encode.

    YAML's escapes can produce both.
    """
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
