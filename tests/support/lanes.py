"""Lanes: the processes among which pytest-xdist divides the tests."""

from xdist.scheduler import LoadScopeScheduling

SHARED = ("tests/guests/", "tests/packaging/")
"""Folders whose files share a laboratory, a package or a booted system: one lane runs them all, and sets it up once."""


class Lanes(LoadScopeScheduling):
    """Gives a lane one file after the other, or a whole folder of ``SHARED``."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return next((folder for folder in SHARED if file.startswith(folder)), file)
