"""HTTP/1.1 without I/O: from bytes to Requests and from Responses to bytes. The only importer of h11, which parses.

Source: RFC 9112 (messages), RFC 9110 (fields).
"""

from dataclasses import dataclass
from email.utils import formatdate
from enum import Enum, auto
from http import HTTPStatus

import h11

from kvm_exporter.messages import Request, Response, plain

MAX_HEADER_BYTES = 16 * 1024


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
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEADER_BYTES)
        #: Its header has been received, and it is not answered yet.
        self._request: Request | None = None

    def receive(self, data: bytes) -> None:
        """Bytes that the peer sent; none when it sends no more."""
        self._parser.receive_data(data)

    def take(self) -> Request | Refusal | Pending:
        """The next request, if all of it has been received."""
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
                return self._request
            elif event is h11.NEED_DATA:
                return Pending.HEADER if self._parser.trailing_data[0] or self._request else Pending.NOTHING
            else:
                return Pending.CLOSED

    def send(self, response: Response, *, last: bool = False) -> bytes:
        """The bytes of a response: of its header alone to HEAD, with ``Connection: close`` if it is the last.

        Nothing if the connection is past answering.
        """
        if self._parser.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            return b""
        headers = [
            ("Date", formatdate(usegmt=True)),
            *response.headers,
            ("Content-Length", str(len(response.body))),
            *([("Connection", "close")] if last else []),
        ]
        status = response.status
        events: list[h11.Event] = [h11.Response(status_code=status, headers=headers, reason=status.phrase)]
        if self._request is None or self._request.method != "HEAD":
            events.append(h11.Data(data=response.body))
        events.append(h11.EndOfMessage())
        return b"".join(self._parser.send(event) or b"" for event in events)

    def go_on(self) -> bool:
        """Whether another request may follow the one that was answered; readies for it."""
        if self._parser.our_state is not h11.DONE or self._parser.their_state is not h11.DONE:
            return False
        self._parser.start_next_cycle()
        self._request = None
        return True


def _refusal(status: HTTPStatus, why: str) -> Refusal:
    return Refusal(plain(status, why))


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
