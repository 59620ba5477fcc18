"""Renders the body of a scrape: a constant part is rendered and compressed once, the changing part at each scrape."""

import zlib
from collections.abc import Callable, Iterable
from struct import Struct
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics

from kvm_exporter.metrics.negotiation import Format

Families = Iterable[Metric]
"""Metric families, in the order in which they are served."""

_EOF = b"# EOF\n"
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""The gzip header: deflate, no file name, no time, unknown system (RFC 1952 section 2.3)."""
_COMPRESSION_LEVEL = 6
_TRAILER = Struct("<II")
"""The gzip trailer: CRC-32 and length of the uncompressed data (RFC 1952 section 2.3)."""


class _Constant:
    """A collector of one family. It describes the family, so the registry rejects a duplicate name."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> tuple[Metric]:
        return (self._family,)

    describe = collect


def render(families: Families, form: Format) -> bytes:
    """Render the families in a format, without OpenMetrics' end marker. Raises ValueError on a duplicate name."""
    registry = CollectorRegistry()
    for family in families:
        registry.register(_Constant(family))
    if form is Format.OPENMETRICS_1_0_0:
        body: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return body.removesuffix(_EOF)
    return generate_latest(registry)


def template(families: Families, form: Format) -> bytes:
    """Render the families in a format, with the placeholder ``%a`` in place of each value. Raises as render() does."""
    lines = render(families, form).replace(b"%", b"%%").splitlines(keepends=True)
    return b"".join(line if line.startswith(b"#") else line.rpartition(b" ")[0] + b" %a\n" for line in lines)


class _Rendered(NamedTuple):
    """Families in one format: as text, as an unfinished deflate stream, and the CRC-32 of the text."""

    plain: bytes
    deflated: bytes
    crc: int


class Body:
    """The body of a scrape: constant families, followed by text that is new at each scrape.

    The families are rendered and compressed once per format, at the first request for it. Their deflate stream ends on
    a byte boundary without a final block, so that the new text follows as more blocks of the same gzip member (RFC 1951
    section 3.2.3, RFC 1952 section 2.2). Every client can read that.
    """

    def __init__(self, families: Families) -> None:
        self._families = tuple(families)
        self._rendered: dict[Format, _Rendered] = {}

    def identity(self, form: Format, now: bytes = b"") -> bytes:
        """Return the body as text, with ``now`` after the families. Raises ValueError on a duplicate name."""
        return b"".join((self._render(form).plain, now, _end(form)))

    def gzip(self, form: Format, now: bytes = b"") -> bytes:
        """Return the same body compressed with gzip (RFC 1952). Raises ValueError on a duplicate name."""
        fixed, tail = self._render(form), now + _end(form)
        trailer = _TRAILER.pack(zlib.crc32(tail, fixed.crc), (len(fixed.plain) + len(tail)) & 0xFFFF_FFFF)
        return b"".join((_GZIP_HEADER, fixed.deflated, _stored(tail), trailer))

    def _render(self, form: Format) -> _Rendered:
        # Text 0.0.4 and 1.0.0 differ only in names with characters that our names do not have.
        form = Format.TEXT_0_0_4 if form is Format.TEXT_1_0_0 else form
        found = self._rendered.get(form)
        if found is None:
            plain = render(self._families, form)
            found = self._rendered[form] = _Rendered(plain, _deflate(plain), zlib.crc32(plain))
        return found


class Cache:
    """Keeps the last body until its key, the values that it is made of, changes."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._body = Body(())

    def get(self, key: tuple[object, ...], make: Callable[[], Body]) -> Body:
        """Return the kept body if the key is equal to the last one, else a new body from ``make``."""
        if key != self._key:
            self._body, self._key = make(), key
        return self._body


def _end(form: Format) -> bytes:
    return _EOF if form is Format.OPENMETRICS_1_0_0 else b""


def _deflate(data: bytes) -> bytes:
    """Compress to raw deflate (RFC 1951), without a final block."""
    stream = zlib.compressobj(_COMPRESSION_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush(zlib.Z_FULL_FLUSH)


def _stored(data: bytes) -> bytes:
    """Encode as stored blocks of raw deflate (RFC 1951), with the final block."""
    # Stored blocks refer to no earlier data; the smallest window and tables are the quickest to allocate.
    stream = zlib.compressobj(0, zlib.DEFLATED, wbits=-9, memLevel=1)
    return stream.compress(data) + stream.flush()
