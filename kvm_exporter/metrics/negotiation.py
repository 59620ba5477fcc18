"""Chooses the exposition format and the compression of a response from Accept and Accept-Encoding.

Source: RFC 9110 sections 12.4.2, 12.5.1 and 12.5.3; Prometheus' documentation on content negotiation.
"""

from collections.abc import Iterator
from enum import Enum
from functools import lru_cache
from typing import NamedTuple


class Format(Enum):
    """An exposition format; the value is its media type and version."""

    TEXT_0_0_4 = ("text/plain", "0.0.4")
    TEXT_1_0_0 = ("text/plain", "1.0.0")
    OPENMETRICS_1_0_0 = ("application/openmetrics-text", "1.0.0")


class Choice(NamedTuple):
    """A format, and the escaping scheme for metric names from the request.

    Our names need no escaping, so the output is the same with every scheme.
    """

    format: Format
    escaping: str = ""

    @property
    def content_type(self) -> str:
        """The value of the Content-Type header."""
        media_type, version = self.format.value
        escaping = f"; escaping={self.escaping}" if self.escaping else ""
        return f"{media_type}; version={version}; charset=utf-8{escaping}"


_CACHED_HEADERS = 64
"""Number of header values whose choice is cached: a scraper sends the same ones at each scrape."""

FALLBACK = Choice(Format.TEXT_0_0_4)

_ESCAPINGS = frozenset({"allow-utf-8", "underscores", "dots", "values"})


class _Range(NamedTuple):
    """One element of an Accept or Accept-Encoding header."""

    name: str
    parameters: dict[str, str]
    quality: float


@lru_cache(_CACHED_HEADERS)
def choose_format(accept: str) -> Choice:
    """Return the format that the client prefers; text 0.0.4 if it accepts no format of ours.

    A format's weight is that of the most specific range that matches it. Of equal weights the more specific wins, then
    the one that comes first in the header, then text 0.0.4.
    """
    ranges = tuple(_ranges(accept))
    best, best_rank = FALLBACK, (0.0, 0, 0)
    for form in Format:
        matches = ((_specificity(wanted, form), -place, wanted) for place, wanted in enumerate(ranges))
        specificity, place, wanted = max(matches, default=(0, 0, _Range("", {}, 0.0)), key=lambda match: match[:2])
        rank = (wanted.quality, specificity, place)
        if specificity and wanted.quality > 0 and rank > best_rank:
            best, best_rank = Choice(form, _escaping(wanted, form)), rank
    return best


@lru_cache(_CACHED_HEADERS)
def choose_gzip(accept_encoding: str) -> bool:
    """Return whether the client accepts gzip with at least the weight of the identity coding."""
    qualities = {wanted.name: wanted.quality for wanted in _ranges(accept_encoding)}
    gzip = qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0)))
    return gzip > 0 and gzip >= qualities.get("identity", 0.0)


def _specificity(wanted: _Range, form: Format) -> int:
    """Return how specifically a media range matches a format: 1 (``*/*``) to 4 (with version); 0 without a match."""
    media_type, version = form.value
    if wanted.name == media_type:
        return {version: 4, "": 3}.get(wanted.parameters.get("version", ""), 0)
    if wanted.name == media_type.partition("/")[0] + "/*":
        return 2
    return int(wanted.name == "*/*")


def _escaping(wanted: _Range, form: Format) -> str:
    """Return the escaping scheme that the client requests, or ``""`` if it requests none or the format has none."""
    escaping = wanted.parameters.get("escaping", "")
    return escaping if form is not Format.TEXT_0_0_4 and escaping in _ESCAPINGS else ""


def _ranges(header: str) -> Iterator[_Range]:
    for element in header.split(","):
        name, *rest = (part.strip() for part in element.split(";"))
        pairs = (part.partition("=") for part in rest)
        parameters = {key.strip().lower(): value.strip().strip('"').lower() for key, _, value in pairs}
        if name:
            yield _Range(name.lower(), parameters, _quality(parameters.pop("q", "1")))


def _quality(text: str) -> float:
    """Parse a weight from 0 to 1. An invalid one counts as 0: the range is not acceptable."""
    digits = text.replace(".", "", 1)
    if not (digits.isascii() and digits.isdecimal()):
        return 0.0
    return min(float(text), 1.0)
