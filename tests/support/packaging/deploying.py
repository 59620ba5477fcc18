"""What docs/deploying.md has to be copied: commands, and files with their paths."""

import re
from typing import NamedTuple

from lab.tree import REPOSITORY

TEXT = (REPOSITORY / "docs/deploying.md").read_text(encoding="utf-8")


class Snippet(NamedTuple):
    """A block of the page: commands, or with a path a file."""

    language: str
    path: str
    text: str


SNIPPETS = [Snippet(*found) for found in re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)]
FILES = {snippet.path: snippet.text for snippet in SNIPPETS if snippet.path}
UNIT_FILES = {path: text for path, text in FILES.items() if path.startswith("/etc/systemd/system/")}
COMMANDS = [snippet.text for snippet in SNIPPETS if snippet.language == "sh"]
