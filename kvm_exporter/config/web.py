"""Parse the web configuration file: TLS, response headers, users and the rate limit.

Source: docs/web-configuration.md, web/tls_config.go and web/handler.go of prometheus/exporter-toolkit.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from kvm_exporter.config.duration import nanoseconds
from kvm_exporter.config.schema import (
    Node,
    compose,
    flag,
    is_encodable,
    line_of,
    mapping,
    name,
    number,
    section,
    text,
)
from kvm_exporter.config.tls import TlsConfig, parse_tls_section
from kvm_exporter.errors import InputError


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A token bucket of ``burst`` tokens, refilled with one token per ``interval`` nanoseconds. A request costs one."""

    interval: int
    burst: int


HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""Headers that may be added to every response, and the values they may have; an empty tuple allows any value."""

_BCRYPT = re.compile(
    r"\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{30}[.CGKOSWaeimquy26]"
)
"""A bcrypt hash: version, cost (a power of two), then 16 bytes of salt and 23 of hash in bcrypt's base64.

The unused low bits in the last character of the salt and of the hash must be 0.
"""


@dataclass(frozen=True, slots=True)
class WebConfig:
    """The values of a web configuration file; the defaults are those of an empty file."""

    #: None: plain HTTP.
    tls: TlsConfig | None = None
    #: Names and values, added to every response.
    headers: tuple[tuple[str, str], ...] = ()
    #: The bcrypt hash of each user's password; empty: no authentication.
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    #: None: no rate limit.
    rate_limit: RateLimit | None = None


def parse_web_config(content: bytes, folder: Path) -> WebConfig:
    """Return the configuration in the content of a file. The files that it names are not opened.

    Relative paths are resolved against ``folder``. Raises InputError, whose message begins with the line number and
    contains no secret.
    """
    values = section(
        compose(content),
        ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit"),
        "the web configuration",
    )
    return WebConfig(
        parse_tls_section(values.get("tls_server_config"), folder),
        _headers(values.get("http_server_config")),
        _users(values.get("basic_auth_users")),
        _rate_limit(values.get("rate_limit")),
    )


def _headers(node: Node | None) -> tuple[tuple[str, str], ...]:
    values = section(node, ("http2", "headers"), "http_server_config")
    if "http2" in values:
        flag(values["http2"], "http2")  # accepted and ignored: only HTTP/1.1 is served
    headers = section(values.get("headers"), HEADERS, "headers")
    pairs = [(header, _header(header, value)) for header, value in headers.items()]
    return tuple((header, value) for header, value in pairs if value)


def _header(header: str, node: Node) -> str:
    # Accept a scalar of any type: X-XSS-Protection is often the number 0.
    value = name(node).strip(" ")
    if not (value.isascii() and value.isprintable()):
        raise InputError(f"{line_of(node)}: {header} must be a single line of printable ASCII")
    if HEADERS[header] and value not in HEADERS[header]:
        raise InputError(f"{line_of(node)}: {header} must be {' or '.join(HEADERS[header])}")
    return value


def _users(node: Node | None) -> Mapping[str, bytes]:
    if node is None:
        return MappingProxyType({})
    users = {}
    for user, value in mapping(node, None, "basic_auth_users to be a mapping of user names to bcrypt hashes").items():
        # Messages contain neither the user name nor the hash: if the two were swapped, the log would show the hash.
        if ":" in user or not is_encodable(user):
            reason = "must not contain a colon, NUL or lone surrogate; choose another"
            raise InputError(f"{line_of(value)}: the name of this user in basic_auth_users {reason}")
        if not _BCRYPT.fullmatch(text(value, "the hash of this user in basic_auth_users")):
            reason = "is not a bcrypt hash ($2a$, $2b$ or $2y$); create one with htpasswd -nBC 10 USER"
            raise InputError(f"{line_of(value)}: the hash of this user in basic_auth_users {reason}")
        users[user] = str(value.value).encode()
    return MappingProxyType(users)


def _rate_limit(node: Node | None) -> RateLimit | None:
    values = section(node, ("interval", "burst"), "rate_limit")
    interval = _interval(values["interval"]) if "interval" in values else 0
    burst = number(values["burst"]) if "burst" in values else 0
    if burst is None:
        raise InputError(f"{line_of(values['burst'])}: burst must be a whole number, such as 5")
    if node is None or interval <= 0:
        return None  # as in Go, which does not limit requests without a time between them
    if burst <= 0:
        place = line_of(values.get("burst", node))
        raise InputError(f"{place}: rate_limit without a burst would refuse every request; add one, such as burst: 5")
    return RateLimit(interval, burst)


def _interval(node: Node) -> int:
    """Return the nanoseconds of a duration of Go, which may have a sign, or of a number, which has no unit."""
    if (value := number(node)) is not None:
        return value
    duration = text(node, "interval")
    try:
        value = nanoseconds(re.sub(r"^[-+]", "", duration))
    except ValueError as error:
        raise InputError(f"{line_of(node)}: interval {error}") from error
    return -value if duration.startswith("-") else value
