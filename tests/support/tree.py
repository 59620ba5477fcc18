"""This repository's files."""

import subprocess

from lab.tree import REPOSITORY
from tests.support.tools import program


def tracked() -> set[str]:
    """Every file that git knows or would add."""
    command = [program("git"), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return {name for name in listing.split("\0") if name and (REPOSITORY / name).is_file()}
