"""Any bytes in any pieces are answered or end the connection, and the next connection is served."""

import asyncio
import re
from http import HTTPStatus

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kvm_exporter.web.connection import Deadlines
from kvm_exporter.web.http import Request, Response, text_response
from lab.patience import NEVER
from tests.support.rooms.loop import in_loop
from tests.support.rooms.wire import GET, Peer, Reply, serving

UNHURRIED = Deadlines(header=NEVER, idle=NEVER, write=NEVER, linger=NEVER)
"""No deadline ends a connection: a peer that sends no more does, and what is refused."""

STATUSES = {200, 400, 413, 414, 431, 501, 505}

HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[A-Za-z-]+: [^\r\n]*\r\n)+)\r\n")

METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"get", b"CONNECT", b"\x00", b"G ET", b""])
TARGETS = st.sampled_from(
    [b"/", b"/metrics?x=%00", b"*", b"http://a/b", b"//", b"a:b", b"/" + b"a" * 9000, b"\xff", b""]
)
VERSIONS = st.sampled_from(
    [b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"HTTP/11", b""]
)
NAMES = st.sampled_from(
    [
        b"Host",
        b"Connection",
        b"Content-Length",
        b"Transfer-Encoding",
        b"Expect",
        b"Upgrade",
        b"X",
        b" ",
        b"X ",
        b"\xe9",
        b"",
    ]
)
VALUES = st.sampled_from(
    [
        *(b"a", b"", b"0", b"5", b"-1", b"1e3", b"99999999999999999999", b"5, 5", b"\x00", b"\r", b"\xff", b"x" * 9000),
        *(b"chunked", b"gzip, chunked", b"close", b"keep-alive", b"100-continue", b"h2c", b"a\r\n b"),
    ]
)
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b""])
BODIES = st.sampled_from(
    [b"", b"", b"", b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffffff\r\n", b"0\r\nX: y\r\n\r\n"]
)

LINES = st.builds(lambda name, value, end: name + b": " + value + end, NAMES, VALUES, ENDS)

REQUESTS = st.builds(
    lambda first, host, lines, end, body: first + host + b"".join(lines) + end + body,
    st.builds(
        lambda method, target, version, end: b" ".join((method, target, version)) + end,
        METHODS,
        TARGETS,
        VERSIONS,
        ENDS,
    ),
    st.sampled_from([b"Host: a\r\n", b"Host: a\r\n", b""]),
    st.lists(LINES, max_size=4),
    ENDS,
    BODIES,
)
"""Strategy: requests from valid to malformed."""

GOOD = st.builds(
    lambda method, target, lines: method + b" " + target + b" HTTP/1.1\r\nHost: a\r\n" + b"".join(lines) + b"\r\n",
    st.sampled_from([b"GET", b"HEAD", b"POST"]),
    st.sampled_from([b"/", b"/metrics", b"*", b"http://a/b"]),
    st.lists(st.sampled_from([b"X: y\r\n", b"Content-Length: 0\r\n", b"Accept: */*\r\n", b"Expect: 100-continue\r\n"])),
)

STREAMS = st.one_of(
    st.binary(max_size=2000),
    st.lists(st.one_of(GOOD, REQUESTS), max_size=5).map(b"".join),
    # Valid requests with some bytes changed.
    st.builds(
        lambda good, place, new: good[: place % len(good)] + new + good[place % len(good) + len(new) :],
        st.lists(GOOD, min_size=1, max_size=3).map(b"".join),
        st.integers(0, 1 << 16),
        st.binary(min_size=1, max_size=3),
    ),
)


async def echo(request: Request) -> Response:
    """Answer with the method and the path, after a turn of the event loop."""
    await asyncio.sleep(0)
    return text_response(HTTPStatus.OK, f"{request.method} {request.path}")


async def converse(peer: Peer, stream: bytes, cuts: list[int]) -> bytes:
    """Send a stream in pieces, and return everything that is received."""
    receiving = asyncio.create_task(peer.rest())
    try:
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            await peer.send(stream[start:end])
            await asyncio.sleep(0)
        peer.send_no_more()
    except (ConnectionError, OSError):
        pass  # it has heard enough
    return await receiving


def answers(received: bytes) -> list[Reply]:
    """Parse all responses to the last byte. A response to HEAD has no body, which shows in the bytes that follow."""
    found = []
    while received:
        match = HEAD.match(received)
        assert match is not None, f"no answer of ours begins so: {received[:100]!r}"
        headers = dict(line.split(": ", 1) for line in match[2].decode("latin-1").splitlines())
        rest = received[match.end() :]
        length = 0 if not rest or rest.startswith(b"HTTP/1.1 ") else int(headers["Content-Length"])
        assert len(rest) >= length
        found.append(Reply("HTTP/1.1", int(match[1]), headers, rest[:length]))
        received = rest[length:]
    return found


@given(stream=STREAMS, places=st.lists(st.integers(0, 1 << 16), max_size=6))
@example(stream=GET.replace(b"GET", b"HEAD") + GET, places=[20])
@example(stream=b"", places=[])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_in_any_pieces(caplog: pytest.LogCaptureFixture, stream: bytes, places: list[int]) -> None:
    """Only our responses arrive, a refusal is the last, nothing is logged, and the next connection is served."""
    caplog.clear()
    cuts = sorted(place % (len(stream) + 1) for place in places)

    received = bytearray()

    @in_loop
    async def run() -> None:
        async with serving(echo, UNHURRIED) as served:
            async with served.peer() as peer:
                received.extend(await converse(peer, stream, cuts))
            async with served.peer() as other:
                await other.send(GET)
                assert (await other.reply()).body == b"GET /\n"

    run()
    replies = answers(bytes(received))
    assert {reply.status for reply in replies} <= STATUSES
    assert all(reply.status == 200 for reply in replies[:-1])
    assert [record.getMessage() for record in caplog.records] == []
