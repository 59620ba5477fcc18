"""HTTP/1.1 without I/O: from bytes to Requests and from Responses to bytes. The only importer of h11, which parses.

Source: RFC 9112 (messages), RFC 9110 (fields).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from enum import Enum, auto
from http import HTTPStatus

import h11


@dataclass(frozen=True, slots=True)
class Request:
    """A request without a body."""

    method: str
    path: str
    #: Lower-case names; of a repeated header, the values joined by commas (RFC 9110 section 5.3).
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; Content-Length, Date and Connection are added when it is sent."""

    status: HTTPStatus
    body: bytes
    headers: list[tuple[str, str]] = field(default_factory=list)


Handler = Callable[[Request], Awaitable[Response]]


def text_response(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Response:
    """A line of text for a person."""
    return Response(status, f"{text}\n".encode(), [("Content-Type", "text/plain; charset=utf-8"), *headers])


MAX_HEADER_BYTES = 16 * 1024

MAX_KNOWN_BYTES = 1024
"""Of a request that is kept to be known again, on each connection."""


class Pending(Enum):
    """There is no request to answer now."""

    #: Nothing of the next request is there.
    NOTHING = auto()
    #: Some of its header is there.
    HEADER = auto()
    #: The peer will send no more.
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the peer sent cannot be answered as a request; after this answer the connection ends."""

    response: Response


class Http1:
    """One connection's side of a server. Take a request, send its response, and so on."""

    def __init__(self) -> None:
        self._parser = _parser()
        #: Whether the parser, which is for one request, has been given nothing of it yet.
        self._unused = True
        #: What was received and not given to it yet.
        self._pieces: list[bytes] = []
        #: The last request that came in one piece with nothing else, and that piece.
        self._known: tuple[list[bytes], Request | None] = [], None
        #: Its header has been received, and it is not answered yet.
        self._request: Request | None = None
        self._goes_on = False
        self._over = False

    def receive(self, data: bytes) -> None:
        """Bytes that the peer sent; none when it sends no more."""
        self._pieces.append(data)

    def take(self) -> Request | Refusal | Pending:
        """The next request, if all of it has been received."""
        pieces, self._pieces = self._pieces, []
        if self._unused and not pieces:
            return Pending.NOTHING
        known, request = self._known
        # A scraper says the same each time; parsing it would take longer than all the rest.
        if request is not None and self._unused and pieces == known:
            self._request, self._goes_on = request, True
            return request
        for piece in pieces:
            self._parser.receive_data(piece)
        alone = self._unused and len(pieces) == 1
        self._unused = self._unused and not pieces
        taken = self._parse()
        if alone and self._goes_on and isinstance(taken, Request) and self._parser.trailing_data == (b"", False):
            self._known = (pieces, taken) if len(pieces[0]) <= MAX_KNOWN_BYTES else ([], None)
        return taken

    def send(self, response: Response, *, last: bool = False) -> bytes:
        """The bytes of a response: of its header alone to HEAD, with ``Connection: close`` if it is the last.

        Nothing if the connection is past answering.
        """
        if self._over:
            return b""
        self._over = last or not self._goes_on
        lines = [
            f"HTTP/1.1 {response.status:d} {response.status.phrase}",
            f"Date: {formatdate(usegmt=True)}",
            *(f"{name}: {value}" for name, value in response.headers),
            f"Content-Length: {len(response.body)}",
            *(["Connection: close"] if self._over else []),
        ]
        body = response.body if self._request is None or self._request.method != "HEAD" else b""
        return b"%b\r\n\r\n%b" % ("\r\n".join(lines).encode("latin-1"), body)

    def go_on(self) -> bool:
        """Whether another request may follow the one that was answered; readies for it."""
        if self._over:
            return False
        self._request, self._goes_on = None, False
        if not self._unused:
            rest, ended = self._parser.trailing_data
            self._pieces = [*([rest] if rest else []), *([b""] if ended else []), *self._pieces]
            self._parser, self._unused = _parser(), True
        return True

    def _parse(self) -> Request | Refusal | Pending:
        while True:
            try:
                event = self._parser.next_event()
            except h11.RemoteProtocolError as error:
                return _refusal(HTTPStatus(error.error_status_hint), f"Not an HTTP/1.1 request: {error}.")
            if isinstance(event, h11.Request):
                self._request = _request(event)
                if _size(event) > MAX_HEADER_BYTES:
                    return _refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The header is over 16 KiB.")
            elif isinstance(event, h11.Data):
                return _refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "This server reads no request bodies.")
            elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                # Not after HTTP/1.0 or "Connection: close", nor where the peer would rather speak something else.
                self._goes_on = self._parser.their_state is h11.DONE
                return self._request
            elif event is h11.NEED_DATA:
                return Pending.HEADER if self._parser.trailing_data[0] or self._request else Pending.NOTHING
            else:
                return Pending.CLOSED


def _parser() -> h11.Connection:
    return h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)


def _refusal(status: HTTPStatus, why: str) -> Refusal:
    return Refusal(text_response(status, why))


def _request(event: h11.Request) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in event.headers:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Request(event.method.decode("ascii"), _path(event.target.decode("latin-1")), headers)


def _path(target: str) -> str:
    """A request target's path: without its query, and without the scheme and host of the absolute form."""
    path = target.partition("?")[0]
    if path.startswith("/"):
        return path
    _, scheme_end, rest = path.partition("://")
    return "/" + rest.partition("/")[2] if scheme_end else path


def _size(event: h11.Request) -> int:
    return len(event.target) + sum(len(name) + len(value) + 4 for name, value in event.headers)
