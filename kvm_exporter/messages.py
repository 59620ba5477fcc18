"""What HTTP peers say to each other, as values: a Request without a body, and a Response with one."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus


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


Answer = Callable[[Request], Awaitable[Response]]


def plain(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Response:
    """A line of text for a person."""
    return Response(status, f"{text}\n".encode(), [("Content-Type", "text/plain; charset=utf-8"), *headers])
