"""Links to the documentation, if the project is published."""

from collections.abc import Mapping
from functools import cache
from urllib.parse import urlsplit

PAGES = {"Documentation": "README.md", "Runbooks": "docs/runbooks.md", "Metrics": "docs/metrics.md"}
"""The files below the project's URL, by the titles of their links."""


@cache
def documentation() -> Mapping[str, str]:
    """Return titles and URLs below the URL ``Source`` of the installed package; none if it is not installed."""
    from importlib.metadata import PackageNotFoundError, metadata  # noqa: PLC0415 - only the landing page needs it

    try:
        urls = metadata("kvm-exporter").get_all("Project-URL", [])
    except PackageNotFoundError:
        return {}
    return links(dict(url.split(", ", 1) for url in urls).get("Source", ""))


def links(source: str) -> Mapping[str, str]:
    """Return titles and URLs below a URL; none below a placeholder: names in .invalid do not exist (RFC 2606)."""
    host = urlsplit(source).hostname or ""
    if not host or host.endswith(".invalid"):
        return {}
    return {title: f"{source.rstrip('/')}/{path}" for title, path in PAGES.items()}
