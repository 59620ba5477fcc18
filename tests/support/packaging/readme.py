"""The commands in README.md."""

import re
from typing import NamedTuple

from lab.tree import REPOSITORY

TEXT = (REPOSITORY / "README.md").read_text(encoding="utf-8")


class Step(NamedTuple):
    """A paragraph that ends in lines to type."""

    #: The Debian packages that it has installed first.
    packages: tuple[str, ...]
    lines: tuple[str, ...]


def step(beginning: str) -> Step:
    """Return the paragraph that begins with a text."""
    pattern = rf"^({re.escape(beginning)}.*\n(?:.+\n)*)\n((?:    .*\n)+)"
    [(paragraph, typed)] = re.findall(pattern, TEXT, re.MULTILINE)
    packages = re.search(r"\(`apt install ([a-z0-9 -]+)`\)", paragraph)
    lines = tuple(line.strip() for line in typed.splitlines())
    return Step(tuple(packages[1].split()) if packages is not None else (), lines)
