"""kvm_exporter.web.http: requests, refusals and responses of HTTP/1.1 as bytes, and any other bytes."""

from http import HTTPStatus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvm_exporter.web.http import MAX_HEADER_BYTES, Http1, Pending, Request, Response, text_response

RESPONSE = text_response(HTTPStatus.NOT_FOUND, "Nothing here.")
HEAD_END = b"\r\n\r\n"
AGAIN = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"

Outcome = Request | int
"""A request that was answered, or the status of the response that ended the connection."""


def converse(*pieces: bytes) -> list[Outcome]:
    """Receive bytes piece by piece and answer every request; returns the outcomes in order."""
    http = Http1()
    outcomes: list[Outcome] = []
    for piece in pieces:
        http.receive(piece)
        while isinstance(taken := http.take(), Request):
            assert http.send(RESPONSE).startswith(b"HTTP/1.1 404 Not Found\r\n")
            outcomes.append(taken)
            if not http.next_request():
                return outcomes
        if isinstance(taken, Response):
            assert http.send(taken, last=True).startswith(b"HTTP/1.1 %d " % taken.status)
            return [*outcomes, taken.status]
        if taken is Pending.CLOSED:
            return outcomes
    return outcomes


@pytest.mark.parametrize(
    ("header", "request_"),
    [
        (b"GET / HTTP/1.1\r\nHost: a", Request("GET", "/", {"host": "a"})),
        (b"HEAD /metrics HTTP/1.0", Request("HEAD", "/metrics", {})),
        (b"GET /metrics?name[]=up HTTP/1.0", Request("GET", "/metrics", {})),
        (b"GET /? HTTP/1.0", Request("GET", "/", {})),
        (b"GET http://a:10401/metrics HTTP/1.0", Request("GET", "/metrics", {})),
        (b"GET http://a/metrics?at=http://b/c HTTP/1.0", Request("GET", "/metrics", {})),
        (b"GET /metrics?at=http://b/c HTTP/1.0", Request("GET", "/metrics", {})),
        (b"GET http://a HTTP/1.0", Request("GET", "/", {})),
        (b"GET http://a?at=b/c HTTP/1.0", Request("GET", "/", {})),
        (b"OPTIONS * HTTP/1.0", Request("OPTIONS", "*", {})),
        (b"CONNECT a:80 HTTP/1.0", Request("CONNECT", "a:80", {})),
        (b"GET //metrics HTTP/1.0", Request("GET", "/metrics", {})),
        (b"GET /%2fmetri%63s HTTP/1.0", Request("GET", "/metrics", {})),
        (b"GET http://a//metrics HTTP/1.0", Request("GET", "/metrics", {})),
        (b"GET /%e4 HTTP/1.0", Request("GET", "/\ufffd", {})),
        (b"\r\nGET / HTTP/1.0", Request("GET", "/", {})),
        (b"GET / HTTP/1.1\r\nHost: [::1]:10401", Request("GET", "/", {"host": "[::1]:10401"})),
        (b"GET / HTTP/1.1\r\nHost:", Request("GET", "/", {"host": ""})),
        (b"GET / HTTP/1.0\r\nAccept: a\r\nX: \xe9\r\nACCEPT: b", Request("GET", "/", {"accept": "a, b", "x": "\xe9"})),
        (b"POST / HTTP/1.0\r\nContent-Length: 0", Request("POST", "/", {"content-length": "0"})),
    ],
)
def test_requests(header: bytes, request_: Request) -> None:
    """A request has a method, a path without host and query, and headers in lower case, repeated ones joined."""
    assert converse(header + HEAD_END) == [request_]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n", 400),
        (b"GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        (b"\r\n\r\nGET / HTTP/1.0\r\n\r\n", 400),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 400),
        (b"EHLO a\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        # A body is refused when it is announced, before it arrives.
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", 405),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n", 405),
        (b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
    ],
)
def test_what_is_no_request_is_refused(data: bytes, status: int) -> None:
    """An invalid request gets the status of RFC 9110, and the bytes after it are not parsed."""
    assert converse(data + b"GET / HTTP/1.0\r\n\r\n") == [status]


def long_header(size: int) -> bytes:
    """Return a header section of exactly ``size`` bytes, including its end."""
    start = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    return start + b"x" * (size - len(start) - len(HEAD_END)) + HEAD_END


@pytest.mark.parametrize("piece", [MAX_HEADER_BYTES, 1000])
def test_a_header_has_a_limit(piece: int) -> None:
    """A header section of 16 KiB is accepted in any pieces; a longer one is refused, complete or not."""

    def split(data: bytes) -> list[bytes]:
        return [data[start : start + piece] for start in range(0, len(data), piece)]

    [taken] = converse(*split(long_header(MAX_HEADER_BYTES)))
    assert isinstance(taken, Request)
    assert converse(*split(long_header(MAX_HEADER_BYTES + 1000))) == [431]
    assert converse(*split(long_header(2 * MAX_HEADER_BYTES).removesuffix(HEAD_END))) == [431]
    many = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: x\r\n" * MAX_HEADER_BYTES
    assert converse(*split(many)) == [431]


@pytest.mark.parametrize(
    ("data", "state"),
    [
        (b"", Pending.NOTHING),
        (b"G", Pending.HEADER),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", Pending.HEADER),
        (b"\r", Pending.HEADER),
        (b"\r\n", Pending.NOTHING),
    ],
)
def test_what_is_missing(data: bytes, state: Pending) -> None:
    """The state tells whether a part of a request has arrived, which selects the deadline."""
    http = Http1()
    http.receive(data) if data else None
    assert http.take() is state


def test_the_end_of_what_the_peer_sends() -> None:
    """The end of the peer's stream closes the connection between requests, and is an error within one."""
    http = Http1()
    http.receive(b"")
    assert http.take() is Pending.CLOSED
    http = Http1()
    http.receive(b"GET /")
    http.receive(b"")
    taken = http.take()
    assert isinstance(taken, Response)
    assert taken.status == 400


def test_responses() -> None:
    """A response has a status line, a date, its headers and its length; the response to HEAD has no body."""
    replies = {}
    for method in (b"GET", b"HEAD"):
        http = Http1()
        http.receive(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n")
        http.take()
        replies[method] = http.send(Response(HTTPStatus.OK, b"body", [("X", "y")]))
    head, _, body = replies[b"GET"].partition(HEAD_END)
    assert body == b"body"
    status_line, date, *rest = head.split(b"\r\n")
    assert (status_line, rest) == (b"HTTP/1.1 200 OK", [b"X: y", b"Content-Length: 4"])
    assert date.startswith(b"Date: ")
    assert date.endswith(b" GMT")
    assert b"Content-Length" not in Http1().send(Response(HTTPStatus.NO_CONTENT, b""))  # RFC 9110 section 8.6
    assert replies[b"HEAD"].partition(HEAD_END)[2] == b""
    assert replies[b"HEAD"].split(b"\r\n")[2:] == [b"X: y", b"Content-Length: 4", b"", b""]


@pytest.mark.parametrize(
    ("header", "last", "goes_on"),
    [
        (b"GET / HTTP/1.1\r\nHost: a", False, True),
        (b"GET / HTTP/1.1\r\nHost: a", True, False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close", False, False),
        (b"GET / HTTP/1.0", False, False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive", False, False),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c", False, True),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a", False, False),
    ],
)
def test_which_connections_go_on(header: bytes, *, last: bool, goes_on: bool) -> None:
    """A connection that is not kept open has the header Connection: close in its last response."""
    http = Http1()
    http.receive(header + HEAD_END)
    assert isinstance(http.take(), Request)
    sent = http.send(text_response(HTTPStatus.METHOD_NOT_ALLOWED, "no"), last=last)
    assert (b"Connection: close\r\n" in sent) is not goes_on
    assert http.next_request() is goes_on


def test_a_request_that_comes_again_is_answered_again() -> None:
    """A request with the bytes of the last one is not parsed again; one that differs, is split or pipelined is."""
    other = AGAIN.replace(b"/a", b"/b")
    close = AGAIN.replace(b"Host: a", b"Host: a\r\nConnection: close")
    split = (AGAIN[:5], AGAIN[5:], AGAIN, AGAIN[:-1], b"\n")
    pieces = (AGAIN, AGAIN, other, AGAIN, AGAIN + other, AGAIN, *split, close, AGAIN)
    answered = [taken.path if isinstance(taken, Request) else taken for taken in converse(*pieces)]
    assert answered == ["/a", "/a", "/b", "/a", "/a", "/b", "/a", "/a", "/a", "/a", "/a"]


def test_a_peer_that_repeats_itself_may_end() -> None:
    """The end of the stream is noticed even if it arrives while a repeated request is answered."""
    http = Http1()
    for _ in range(3):
        http.receive(AGAIN)
        assert isinstance(http.take(), Request)
        http.send(RESPONSE)
        assert http.next_request()
    http.receive(AGAIN)
    http.take()
    http.receive(b"")
    http.send(RESPONSE)
    assert http.next_request()
    assert http.take() is Pending.CLOSED


def test_nothing_is_sent_after_the_last() -> None:
    """After the last response nothing is sent."""
    http = Http1()
    http.receive(b"GET / HTTP/1.0\r\n\r\n")
    http.take()
    assert http.send(RESPONSE)
    assert http.send(RESPONSE) == b""


FRAGMENTS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab",
        b"GET / HTTP/1.0\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"Expect: 100-continue\r\n",
        b"Content-Length: 3\r\n",
        b"Connection: close\r\n",
        b"GET / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n",
        b"\n",
        b"3\r\n",
        b"\0",
        b" ",
    ]
)
STREAMS = st.lists(FRAGMENTS | st.binary(max_size=20), max_size=8).map(b"".join)


@st.composite
def split_streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Strategy: a stream of bytes, and the same stream in pieces."""
    stream = draw(STREAMS)
    cuts = sorted(draw(st.sets(st.integers(1, max(len(stream) - 1, 1)), max_size=len(stream))))
    ends = [*cuts, len(stream)]
    pieces = [stream[start:end] for start, end in zip([0, *cuts], ends, strict=True)]
    return stream, [piece for piece in pieces if piece]


@given(split_streams())
@example((b"", [b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\n\r\n"]))
def test_how_bytes_are_split_does_not_matter(split: tuple[bytes, list[bytes]]) -> None:
    """Any bytes in any pieces give the same requests and refusals, and raise no exception."""
    stream, pieces = split
    assert converse(*pieces) == converse(stream or b"".join(pieces))


@given(split_streams())
def test_the_end_may_come_at_any_time(split: tuple[bytes, list[bytes]]) -> None:
    """The stream may end anywhere: earlier requests are answered, and no exception is raised."""
    _, pieces = split
    converse(*pieces, b"")
