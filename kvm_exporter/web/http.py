"""HTTP/1.1 without I/O: parses bytes into Requests and formats Responses as bytes. The only importer of h11.

Source: RFC 9112 (messages), RFC 9110 (fields).
"""

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import Enum, auto
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import unquote

import h11


@dataclass(frozen=True, slots=True)
class Request:
    """A request without a body; requests with a body are refused."""

    method: str
    #: Without the query, with percent-encoded bytes decoded and repeated slashes joined.
    path: str
    #: Values by lower-case name; the values of a repeated header are joined by commas (RFC 9110 section 5.3).
    headers: dict[str, str]
    #: The peer's address, or its network, as far as peers are told apart (web/addresses.py, peer_network()).
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """A response, without the headers Content-Length, Date and Connection, which Http1.send() adds."""

    status: HTTPStatus
    body: bytes
    headers: list[tuple[str, str]] = field(default_factory=list)


Handler = Callable[[Request], Awaitable[Response]]


def text_response(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Response:
    """Return a plain-text response with one line of text."""
    return Response(status, f"{text}\n".encode(), [("Content-Type", "text/plain; charset=utf-8"), *headers])


ALLOWED = ("GET", "HEAD", "OPTIONS")
"""The methods that every path has."""


def method_not_allowed() -> Response:
    """Return the response to a request with any other method."""
    methods = ", ".join(ALLOWED)
    return text_response(HTTPStatus.METHOD_NOT_ALLOWED, f"Only {methods} are allowed.", ("Allow", methods))


MAX_HEADER_BYTES = 16 * 1024

MAX_CACHED_BYTES = 1024
"""Largest request that a connection caches with its parsed form."""


_REQUEST_LINE = re.compile(rb"[!-~]+ [!-~]+ HTTP/[0-9]\.[0-9]\r?")
"""A line that may begin a request (RFC 9112 section 3); h11 checks it further once the header is complete."""

_HOST = re.compile(r"[A-Za-z0-9!$%&'()*+,.:;=\[\]_~-]*")
"""A valid Host, by its characters, as in Go's golang.org/x/net/http/httpguts."""


class Pending(Enum):
    """Why there is no request to handle yet."""

    #: No byte of the next request has been received.
    NOTHING = auto()
    #: Part of its header has been received.
    HEADER = auto()
    #: The peer has closed its side of the connection.
    CLOSED = auto()


class Http1:
    """The server's protocol state for one connection. ``peer`` is noted in each of its requests.

    Call receive() with the bytes from the peer, and take() until it returns a request. Then send() its response, and
    next_request() before the following request.
    """

    def __init__(self, peer: str = "") -> None:
        self._peer = peer
        self._parser = _parser()
        #: Whether the parser, which serves one request, has been given no bytes yet.
        self._parser_unused = True
        #: Whether an empty line before the request has been ignored.
        self._line_ignored = False
        #: Bytes received, but not yet given to the parser.
        self._chunks: list[bytes] = []
        #: The bytes of the last request that arrived in one chunk of its own, and the parsed request.
        self._cached: tuple[list[bytes], Request | None] = [], None
        #: The request that awaits its response, once its header is complete.
        self._request: Request | None = None
        #: Whether the connection stays open after the response to this request.
        self._keep_alive = False
        #: Whether the last response has been sent.
        self._finished = False

    def receive(self, data: bytes) -> None:
        """Add bytes that were read from the peer; empty bytes mean that the peer has closed its side."""
        self._chunks.append(data)

    def take(self) -> Request | Response | Pending:
        """Return the next request if it has been received completely, else what is pending.

        If it is invalid or unsupported, return the error response to it; the connection must be closed afterwards.
        """
        chunks, self._chunks = self._chunks, []
        if self._parser_unused and not chunks:
            return Pending.NOTHING
        cached, request = self._cached
        # A scraper sends identical requests; parsing each of them would take longer than the rest of the scrape.
        if request is not None and self._parser_unused and chunks == cached:
            self._request, self._keep_alive = request, True
            return request
        if self._parser_unused and not self._line_ignored:
            chunks = self._without_empty_line(chunks)
            if not chunks:
                return Pending.HEADER if self._chunks else Pending.NOTHING
        for chunk in chunks:
            self._parser.receive_data(chunk)
        single_chunk = self._parser_unused and len(chunks) == 1
        self._parser_unused = self._parser_unused and not chunks
        taken = self._parse()
        if (
            single_chunk
            and self._keep_alive
            and isinstance(taken, Request)
            and self._parser.trailing_data == (b"", False)
        ):
            self._cached = (chunks, taken) if len(chunks[0]) <= MAX_CACHED_BYTES else ([], None)
        return taken

    def send(self, response: Response, *, last: bool = False) -> bytes:
        """Return the bytes of a response: without the body to HEAD, with ``Connection: close`` if it is the last.

        Returns empty bytes if the last response has already been sent.
        """
        if self._finished:
            return b""
        self._finished = last or not self._keep_alive
        lines = [
            f"HTTP/1.1 {response.status:d} {response.status.phrase}",
            f"Date: {_date(int(time.time()))}",
            *(f"{name}: {value}" for name, value in response.headers),
            *([f"Content-Length: {len(response.body)}"] if response.status != HTTPStatus.NO_CONTENT else []),
            *(["Connection: close"] if self._finished else []),
        ]
        body = response.body if self._request is None or self._request.method != "HEAD" else b""
        return b"%b\r\n\r\n%b" % ("\r\n".join(lines).encode("latin-1"), body)

    def next_request(self) -> bool:
        """Prepare for the next request after a response; returns False if the connection must be closed instead."""
        if self._finished:
            return False
        self._request, self._keep_alive, self._line_ignored = None, False, False
        if not self._parser_unused:
            rest, ended = self._parser.trailing_data
            self._chunks = [*([rest] if rest else []), *([b""] if ended else []), *self._chunks]
            self._parser, self._parser_unused = _parser(), True
        return True

    def _without_empty_line(self, chunks: list[bytes]) -> list[bytes]:
        """Remove one empty line from the start: some clients send it after a request (RFC 9112 section 2.2).

        Half an empty line is kept for the next call. The end of the peer's stream is an empty chunk, the last one.
        """
        data = b"".join(chunks)
        end = [b""] if not chunks[-1] else []
        if data == b"\r" and not end:
            self._chunks = chunks
            return []
        if not data.startswith(b"\r\n"):
            return chunks
        self._line_ignored = True
        return [*([data[2:]] if data[2:] else []), *end]

    def _parse(self) -> Request | Response | Pending:
        if self._request is None:
            line, complete, _ = self._parser.trailing_data[0].partition(b"\n")
            if complete and not _REQUEST_LINE.fullmatch(line):
                # A peer of another protocol, which may never send the empty line that ends a header.
                return text_response(
                    HTTPStatus.BAD_REQUEST, "Invalid HTTP/1.1 request: the first line is not a request line."
                )
        while True:
            try:
                event = self._parser.next_event()
            except h11.RemoteProtocolError as error:
                return text_response(HTTPStatus(error.error_status_hint), f"Invalid HTTP/1.1 request: {error}.")
            if isinstance(event, h11.Request):
                self._request = _request(event, self._peer)
                if refusal := _refused(event, self._request):
                    return refusal
            elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                # False after HTTP/1.0, "Connection: close" or CONNECT. A request to switch protocols is ignored.
                kept = self._parser.their_state is not h11.MUST_CLOSE
                self._keep_alive = kept and self._request.method != "CONNECT"
                return self._request
            elif event is h11.NEED_DATA:
                return Pending.HEADER if self._parser.trailing_data[0] or self._request else Pending.NOTHING
            else:
                return Pending.CLOSED


@lru_cache(maxsize=1)
def _date(timestamp: int) -> str:
    """Return a time in seconds since the epoch as the header Date has it (RFC 9110 section 5.6.7)."""
    return formatdate(timestamp, usegmt=True)


def _parser() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)


def _refused(event: h11.Request, request: Request) -> Response | None:
    """Return the error response if a request with a valid header is too large or announces what is not supported."""
    if sum(len(name) + len(value) + 4 for name, value in event.headers) + len(event.target) > MAX_HEADER_BYTES:
        return text_response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request header is larger than 16 KiB.")
    if not event.http_version.startswith(b"1."):
        return text_response(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "Only HTTP/1.1 and HTTP/1.0 are supported.")
    if not _HOST.fullmatch(request.headers.get("host", "")):
        return text_response(HTTPStatus.BAD_REQUEST, "Invalid HTTP/1.1 request: the header Host is not a valid host.")
    if "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0":
        if request.method not in ALLOWED:
            return method_not_allowed()
        return text_response(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Request bodies are not supported.")
    return None


def _request(event: h11.Request, peer: str) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in event.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Request(event.method.decode("ascii"), _path(event.target.decode("latin-1")), headers, peer)


def _path(target: str) -> str:
    """Return the path of a request target, without the query and, in absolute form, without scheme and host."""
    path = target.partition("?")[0]
    if not path.startswith("/"):
        _, scheme_end, rest = path.partition("://")
        path = "/" + rest.partition("/")[2] if scheme_end else path
    return re.sub("/+", "/", unquote(path)) if "%" in path or "//" in path else path
