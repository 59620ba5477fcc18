"""What an alert says about its runbook: the URL of its section, or what that says to do."""

import re
from functools import cache
from pathlib import Path

PAGES = (Path(__file__).with_name("runbooks.md"), Path(__file__).parents[1] / "docs" / "runbooks.md")
"""Where the runbooks are: in the Debian package, and in the source."""

_SECTION = re.compile(r"^## (\w+)\n.*?^\*\*Do\.\*\* (.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def runbook(alert: str, url: str) -> dict[str, str]:
    """Return the annotation ``runbook_url``, or ``runbook`` if ``url`` is empty. Raises FileNotFoundError, KeyError."""
    if url:
        return {"runbook_url": f"{url}#{alert.lower()}"}
    return {"runbook": steps()[alert]}


@cache
def steps() -> dict[str, str]:
    """Return what the runbook of each alert says to do, as one line. Raises FileNotFoundError if there is no page."""
    page = next((path for path in PAGES if path.exists()), None)
    if page is None:
        raise FileNotFoundError(f"{PAGES[0]} is missing; put docs/runbooks.md there, or use --runbooks")
    return {name: _plain(do) for name, do in _SECTION.findall(page.read_text(encoding="utf-8"))}


def _plain(text: str) -> str:
    """Return a text without line breaks, links and emphasis."""
    return " ".join(_LINK.sub(r"\1", text).replace("*", "").split())
