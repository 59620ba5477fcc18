"""kvm_exporter.app.manual: the page explains the values of flags, and has what a web configuration may have.

tests/packaging/test_manual.py reads the page with man.
"""

import re
from pathlib import Path
from unicodedata import normalize

import pytest

from kvm_exporter.app.cli import build_parser
from kvm_exporter.app.introspection import commands
from kvm_exporter.app.manual import page
from kvm_exporter.config.duration import ALL_UNITS
from kvm_exporter.config.web import parse_web_config
from kvm_exporter.errors import InputError
from tests.support.rooms.pages import table

COMMANDS = commands(build_parser())

PLAIN = {"DIR", "NUMBER", "PATH"}
"""The placeholders that the help of their flags explains."""


def section(title: str) -> str:
    """Return a section of the page, with its requests, and with the characters that a reader sees."""
    _, text = page(COMMANDS).split(f"\n.SH {title}\n")
    for escaped, seen in (("\\-", "-"), ("\\(aq", "'"), ("\\(mc", "\N{MICRO SIGN}")):
        text = text.replace(escaped, seen)
    return text.split("\n.SH ")[0]


def test_placeholders_and_units_are_explained() -> None:
    """VALUES has each placeholder of a flag or argument that is not plain, no other, and each unit of durations."""
    values = section("VALUES")
    tags = re.findall(r"^\.TP\n\.\w+ (.*)$", values, re.MULTILINE)
    placeholders = {
        argument.value for command in COMMANDS for argument in command.arguments if not argument.choices
    } - {""}
    assert {word for tag in tags for word in re.findall(r"[A-Z]+", tag)} == placeholders - PLAIN
    assert placeholders >= PLAIN
    units = {normalize("NFKC", unit) for unit in ALL_UNITS}
    assert units - set(re.findall(r"\w+", normalize("NFKC", values))) == set()


def known(text: str) -> list[str]:
    """Return the keys that can stand where a web configuration has an unknown one."""
    with pytest.raises(InputError, match="unknown key 'x'") as caught:
        parse_web_config(text.encode(), Path())
    return str(caught.value).partition("use one of ")[2].split(", ")


def test_the_keys_of_the_web_configuration_are_listed() -> None:
    """Each section with every key that the parser knows there."""
    text = section("WEB CONFIGURATION FILE").partition("\n.PP\n")[0]
    listed = dict(re.findall(r"^\.TP\n\.I (\w+)\n((?:[^.].*\n?)*)", text, re.MULTILINE))
    assert sorted(listed) == known("x: 1")
    for name in ("tls_server_config", "rate_limit"):
        assert sorted(re.findall(r"\w+", listed[name])) == known(f"{name}: {{x: 1}}")
    http = {*known("http_server_config: {x: 1}"), *known("http_server_config: {headers: {x: 1}}")}
    assert http <= set(re.findall(r"[\w-]+", listed["http_server_config"]))


def test_what_is_refused_is_that_of_the_documentation() -> None:
    """The page has the rows of docs/deploying.md, in their words."""
    refused = re.findall(r"^\.IP \\\(bu 2\n(.*)$", section("WEB CONFIGURATION FILE"), re.MULTILINE)
    assert refused == list(table("deploying.md", "refused"))
