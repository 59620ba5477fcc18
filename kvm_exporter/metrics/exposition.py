"""Bodies of a scrape: what stays rendered and compressed once, and what changes at each scrape added to it."""

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
"""RFC 1952 section 2.3: deflate, no name, no time, unknown system."""
_COMPRESSION_LEVEL = 6
_STORED_BYTES = 0xFFFF
"""The most that a block has that is not compressed."""
_BLOCK_HEADER = Struct("<BHH")
"""Whether it is the last, its length, and that again with its bits turned around."""
_TRAILER = Struct("<II")
"""The CRC and the length of what is compressed."""


class _Constant:
    """A collector of one family: its names are compared with those of the others when it is registered."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> tuple[Metric]:
        return (self._family,)

    describe = collect


def render(families: Families, form: Format) -> bytes:
    """The families in an exposition format, without OpenMetrics' end marker. Raises ValueError on a repeated name."""
    registry = CollectorRegistry()
    for family in families:
        registry.register(_Constant(family))
    if form is Format.OPENMETRICS_1_0_0:
        body: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
        return body.removesuffix(_EOF)
    return generate_latest(registry)


class Rendered(NamedTuple):
    """Families in one format, and as deflate streams that go on; in pieces, so that bodies can share them."""

    plain: tuple[bytes, ...] = ()
    deflated: tuple[bytes, ...] = ()
    crc: int = 0
    size: int = 0


class Body:
    """The body of a scrape: families that stay as they are, and a text of the moment at the end.

    The families are rendered and compressed once per format, when it is first asked for. Their deflate stream ends on a
    byte's boundary without a final block, so more blocks, which know nothing of it, may follow in one and the same gzip
    member (RFC 1951 section 3.2.3, RFC 1952 section 2.2): no client needs to know of it.
    """

    def __init__(self, families: Families, before: "Body | None" = None) -> None:
        self._families = tuple(families)
        self._before = before
        self._rendered: dict[Format, Rendered] = {}

    def then(self, families: Families) -> "Body":
        """This body with more families after its own, which are not rendered again."""
        return Body(families, self)

    def identity(self, form: Format, now: bytes = b"") -> bytes:
        """The body as it is, with the text of the moment. Raises ValueError on a name that its families repeat."""
        return b"".join((*self.rendered(form).plain, now, _end(form)))

    def gzip(self, form: Format, now: bytes = b"") -> bytes:
        """The body in gzip's format, RFC 1952. Raises ValueError on a name that its families repeat."""
        fixed, tail = self.rendered(form), now + _end(form)
        trailer = _TRAILER.pack(zlib.crc32(tail, fixed.crc), (fixed.size + len(tail)) & 0xFFFF_FFFF)
        return b"".join((_GZIP_HEADER, *fixed.deflated, *_stored(tail), trailer))

    def rendered(self, form: Format) -> Rendered:
        """Its families, of bodies that go on too. Raises ValueError on a name that is repeated."""
        # Text 0.0.4 and 1.0.0 differ only in names that ours are not.
        form = Format.TEXT_0_0_4 if form is Format.TEXT_1_0_0 else form
        found = self._rendered.get(form)
        if found is None:
            before = self._before.rendered(form) if self._before is not None else Rendered()
            plain = render(self._families, form)
            found = self._rendered[form] = Rendered(
                (*before.plain, plain),
                (*before.deflated, _deflate(plain)),
                zlib.crc32(plain, before.crc),
                before.size + len(plain),
            )
        return found


class Kept:
    """The body that was made last, for as long as what it is made of stays equal."""

    def __init__(self) -> None:
        self._parts: tuple[object, ...] | None = None
        self._body = Body(())

    def of(self, parts: tuple[object, ...], make: Callable[[], Body]) -> Body:
        """The same one for equal parts, else another."""
        if parts != self._parts:
            self._body, self._parts = make(), parts
        return self._body


def _end(form: Format) -> bytes:
    return _EOF if form is Format.OPENMETRICS_1_0_0 else b""


def _deflate(data: bytes) -> bytes:
    """Raw deflate (RFC 1951), begun afresh and not ended."""
    stream = zlib.compressobj(_COMPRESSION_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return stream.compress(data) + stream.flush(zlib.Z_FULL_FLUSH)


def _stored(data: bytes) -> tuple[bytes, ...]:
    """Raw deflate without compression, to the end of the stream: RFC 1951 section 3.2.4.

    For the few hundred bytes that this saves, a compressor takes a sixth of the time of a scrape.
    """
    size = len(data)
    if size > _STORED_BYTES:
        return (b"\0\xff\xff\0\0", data[:_STORED_BYTES], *_stored(data[_STORED_BYTES:]))
    return (_BLOCK_HEADER.pack(1, size, size ^ _STORED_BYTES), data)
