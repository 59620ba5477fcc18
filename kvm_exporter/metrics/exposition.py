"""Renders the body of a scrape: a constant part is rendered and compressed once, the changing part at each scrape.

The constant part of a machine with thousands of CPUs takes a tenth of a second and more. It is rendered in pieces, and
the event loop turns after each, so that it answers other requests meanwhile.
"""

import asyncio
import zlib
from collections.abc import Callable, Iterable, Iterator
from struct import Struct
from typing import Generic, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics

from kvm_exporter.metrics.negotiation import Format

Families = Iterable[Metric]
"""Metric families, in the order in which they are served. Those that are equal but for their series, and follow one
another, are parts of one family."""

PIECE_SERIES = 32
"""The series after which a piece ends: about half a millisecond. A family with more comes in parts of so many."""

S = TypeVar("S")

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
    return b"".join(pieces(families, form))


def pieces(families: Families, form: Format) -> Iterator[bytes]:
    """Yield what render() returns, in pieces. No more of the families than the next piece needs is asked for."""
    names = CollectorRegistry()
    before: tuple[str, ...] = ()
    texts: list[bytes] = []
    series = 0
    for family in families:
        text = _family_text(family, form)
        header = family.name, family.type, family.unit, family.documentation
        if header == before:
            text = _without_comments(text)
        else:
            names.register(_Constant(family))
        before = header
        texts.append(text)
        series += len(family.samples)
        if series >= PIECE_SERIES:
            yield b"".join(texts)
            texts, series = [], 0
    yield b"".join(texts)


def _family_text(family: Metric, form: Format) -> bytes:
    if form is Format.OPENMETRICS_1_0_0:
        text: bytes = openmetrics.generate_latest(_Constant(family))  # type: ignore[no-untyped-call]
        return text.removesuffix(_EOF)
    return generate_latest(_Constant(family))


def _without_comments(text: bytes) -> bytes:
    """Return the text of a family without the comments that it begins with: help, type and unit."""
    while text.startswith(b"#"):
        text = text.partition(b"\n")[2]
    return text


def template(families: Families, form: Format) -> bytes:
    """Render the families in a format, with the placeholder ``%a`` in place of each value. Raises as render() does."""
    lines = render(families, form).replace(b"%", b"%%").splitlines(keepends=True)
    return b"".join(line if line.startswith(b"#") else line.rpartition(b" ")[0] + b" %a\n" for line in lines)


class Body(NamedTuple):
    """The body of a scrape in one format: constant families, followed by text that is new at each scrape.

    The deflate stream of the families ends on a byte boundary without a final block, so that the new text follows as
    more blocks of the same gzip member (RFC 1951 section 3.2.3, RFC 1952 section 2.2). Every client can read that.
    """

    #: The families as text, as an unfinished deflate stream, and the CRC-32 of the text.
    plain: bytes
    deflated: bytes
    crc: int
    #: The end marker of the format.
    end: bytes

    def identity(self, now: bytes = b"") -> bytes:
        """Return the body as text, with ``now`` after the families."""
        return b"".join((self.plain, now, self.end))

    def gzip(self, now: bytes = b"") -> bytes:
        """Return the same body compressed with gzip (RFC 1952)."""
        tail = now + self.end
        trailer = _TRAILER.pack(zlib.crc32(tail, self.crc), (len(self.plain) + len(tail)) & 0xFFFF_FFFF)
        return b"".join((_GZIP_HEADER, self.deflated, _stored(tail), trailer))


async def rendered(families: Families, form: Format) -> Body:
    """Return the body of the families. The event loop turns after each piece. Raises ValueError on a duplicate name."""
    stream = zlib.compressobj(_COMPRESSION_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    plain, deflated, crc = [], [], 0
    for piece in pieces(families, form):
        plain.append(piece)
        deflated.append(stream.compress(piece))
        crc = zlib.crc32(piece, crc)
        await asyncio.sleep(0)
    deflated.append(stream.flush(zlib.Z_FULL_FLUSH))
    end = _EOF if form is Format.OPENMETRICS_1_0_0 else b""
    return Body(b"".join(plain), b"".join(deflated), crc, end)


class Cache(Generic[S]):
    """Keeps the bodies of the last state, one for each format. Scrapes of the same state wait for one rendering."""

    def __init__(self, families: Callable[[S], Families]) -> None:
        """``families`` returns those of a state."""
        self._families = families
        self._state: S | None = None
        self._bodies: dict[Format, asyncio.Task[Body]] = {}

    async def get(self, state: S, form: Format) -> Body:
        """Return the body of a state: the kept one if the state is equal to the last one. Raises as rendered() does."""
        # Text 0.0.4 and 1.0.0 differ only in names with characters that our names do not have.
        form = Format.TEXT_0_0_4 if form is Format.TEXT_1_0_0 else form
        if state != self._state:
            self._state, self._bodies = state, {}
        if form not in self._bodies:
            self._bodies[form] = asyncio.create_task(rendered(self._families(state), form))
        # A scrape that is cancelled leaves the rendering to the others.
        return await asyncio.shield(self._bodies[form])


def _stored(data: bytes) -> bytes:
    """Encode as stored blocks of raw deflate (RFC 1951), with the final block."""
    # Stored blocks refer to no earlier data; the smallest window and tables are the quickest to allocate.
    stream = zlib.compressobj(0, zlib.DEFLATED, wbits=-9, memLevel=1)
    return stream.compress(data) + stream.flush()
