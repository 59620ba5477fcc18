"""What an alert says about its runbook: the URL of its section, or what that says to do."""

import gzip
import re
from functools import cache
from pathlib import Path

from settings import RUNBOOKS

PAGES = (
    Path(__file__).parents[1] / "docs" / "runbooks.md",
    Path("/usr/share/doc/prometheus-kvm-exporter/runbooks.md.gz"),
)
"""Where the runbooks are: in the source, and in the Debian package."""

_SECTION = re.compile(r"^## (\w+)\n.*?^\*\*Do\.\*\* (.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def runbook(alert: str) -> dict[str, str]:
    """Return the annotation ``runbook_url``, or ``runbook`` without a URL. Raises FileNotFoundError, KeyError."""
    if RUNBOOKS:
        return {"runbook_url": f"{RUNBOOKS}#{alert.lower()}"}
    return {"runbook": steps()[alert]}


@cache
def steps() -> dict[str, str]:
    """Return what the runbook of each alert says to do, as one line. Raises FileNotFoundError if there is no page."""
    page = next((path for path in PAGES if path.exists()), None)
    if page is None:
        raise FileNotFoundError(f"{PAGES[0]} is missing; put docs/runbooks.md there, or set RUNBOOKS in settings.py")
    text = gzip.decompress(page.read_bytes()) if page.suffix == ".gz" else page.read_bytes()
    return {name: _plain(do) for name, do in _SECTION.findall(text.decode("utf-8"))}


def _plain(text: str) -> str:
    """Return a text without line breaks, links and emphasis."""
    return " ".join(_LINK.sub(r"\1", text).replace("*", "").split())
