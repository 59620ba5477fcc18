"""Bodies of a scrape: what a sample says rendered and compressed once, and what changes added to it."""

import struct
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics

from kvm_exporter.negotiation import Format

_EOF = b"# EOF\n"
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""RFC 1952 section 2.3: deflate, no name, no time, unknown system."""
_COMPRESSION_LEVEL = 6


class _Constant:
    """A collector of one family: its names are compared with those of the others when it is registered."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> tuple[Metric]:
        return (self._family,)

    describe = collect


def render(families: Iterable[Metric], form: Format) -> bytes:
    """The families in an exposition format, without OpenMetrics' end marker. Raises ValueError on a repeated name."""
    registry = CollectorRegistry()
    for family in families:
        registry.register(_Constant(family))
    if form is Format.OPENMETRICS_1_0_0:
        body: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return body.removesuffix(_EOF)
    return generate_latest(registry)


class _Rendered(NamedTuple):
    """The fixed part in one format, and as a deflate stream that goes on."""

    plain: bytes
    deflated: bytes
    crc: int


class Body:
    """The body of a scrape: families that stay as they are, such as those of one sample, and then live ones.

    The fixed part is rendered and compressed once per format, when it is first asked for. Its deflate stream ends on a
    byte's boundary without a final block, so the live part's stream, which starts afresh, may follow it in one and the
    same gzip member (RFC 1951 section 3.2.3, RFC 1952 section 2.2): no client needs to know of it.
    """

    def __init__(self, fixed: Iterable[Metric]) -> None:
        self._families = tuple(fixed)
        self._rendered: dict[Format, _Rendered] = {}

    def identity(self, live: Iterable[Metric], form: Format) -> bytes:
        """The body as it is. Raises ValueError on a repeated name within a part."""
        return self._fixed(form).plain + _live(live, form)

    def gzip(self, live: Iterable[Metric], form: Format) -> bytes:
        """The body in gzip's format, RFC 1952. Raises ValueError on a repeated name within a part."""
        fixed, tail = self._fixed(form), _live(live, form)
        size = (len(fixed.plain) + len(tail)) & 0xFFFF_FFFF
        trailer = struct.pack("<II", zlib.crc32(tail, fixed.crc), size)
        return b"".join((_GZIP_HEADER, fixed.deflated, _deflate(tail, zlib.Z_FINISH), trailer))

    def _fixed(self, form: Format) -> _Rendered:
        # Text 0.0.4 and 1.0.0 differ only in names that ours are not.
        form = Format.TEXT_0_0_4 if form is Format.TEXT_1_0_0 else form
        if form not in self._rendered:
            plain = render(self._families, form)
            self._rendered[form] = _Rendered(plain, _deflate(plain, zlib.Z_FULL_FLUSH), zlib.crc32(plain))
        return self._rendered[form]


def _live(families: Iterable[Metric], form: Format) -> bytes:
    return render(families, form) + (_EOF if form is Format.OPENMETRICS_1_0_0 else b"")


def _deflate(data: bytes, flush: int) -> bytes:
    """Raw deflate (RFC 1951), begun afresh."""
    stream = zlib.compressobj(_COMPRESSION_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush(flush)
