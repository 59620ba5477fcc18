"""Bodies of a scrape: what stays rendered and compressed once, and what changes at each scrape added to it."""

import struct
import zlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics

from kvm_exporter.negotiation import Format

_EOF = b"# EOF\n"
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""RFC 1952 section 2.3: deflate, no name, no time, unknown system."""

_ONCE = 6, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL
_EACH_TIME = 1, 12, 5
"""Level, window and memory of the two compressors. For a kilobyte, clearing 256 KiB of tables would take five times as
long as the compression."""


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


class Rendered(NamedTuple):
    """Families in one format, and as deflate streams that go on; in pieces, so that bodies can share them."""

    plain: tuple[bytes, ...] = ()
    deflated: tuple[bytes, ...] = ()
    crc: int = 0
    size: int = 0


class Body:
    """The body of a scrape: families that stay as they are, and a text of the moment at the end.

    The families are rendered and compressed once per format, when it is first asked for. Their deflate stream ends on a
    byte's boundary without a final block, so another stream, which starts afresh, may follow it in one and the same
    gzip member (RFC 1951 section 3.2.3, RFC 1952 section 2.2): no client needs to know of it.
    """

    def __init__(self, families: Iterable[Metric], before: "Body | None" = None) -> None:
        self._families = tuple(families)
        self._before = before
        self._rendered: dict[Format, Rendered] = {}

    def then(self, families: Iterable[Metric]) -> "Body":
        """This body with more families after its own, which are not rendered again."""
        return Body(families, self)

    def identity(self, form: Format, now: bytes = b"") -> bytes:
        """The body as it is, with the text of the moment. Raises ValueError on a name that its families repeat."""
        return b"".join((*self.rendered(form).plain, now, _end(form)))

    def gzip(self, form: Format, now: bytes = b"") -> bytes:
        """The body in gzip's format, RFC 1952. Raises ValueError on a name that its families repeat."""
        fixed, tail = self.rendered(form), now + _end(form)
        trailer = struct.pack("<II", zlib.crc32(tail, fixed.crc), (fixed.size + len(tail)) & 0xFFFF_FFFF)
        return b"".join((_GZIP_HEADER, *fixed.deflated, _deflate(tail, _EACH_TIME, zlib.Z_FINISH), trailer))

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
                (*before.deflated, _deflate(plain, _ONCE, zlib.Z_FULL_FLUSH)),
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


def _deflate(data: bytes, settings: tuple[int, int, int], flush: int) -> bytes:
    """Raw deflate (RFC 1951), begun afresh."""
    level, window, memory = settings
    stream = zlib.compressobj(level, zlib.DEFLATED, -window, memory)
    return stream.compress(data) + stream.flush(flush)
