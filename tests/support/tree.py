"""This repository's files."""

import os
import subprocess

from lab.tree import REPOSITORY
from tests.support.tools import program


def tracked() -> set[str]:
    """Every file that git knows or would add, links to folders among them."""
    command = [program("git"), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return {name for name in listing.split("\0") if name and os.path.lexists(REPOSITORY / name)}
