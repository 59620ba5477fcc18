"""The web configuration: who may ask, over what, how often. Its values, and the parser of its text.

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
    count,
    flag,
    is_null,
    line_of,
    mapping,
    name,
    section,
    storable,
    text,
)
from kvm_exporter.config.tls import TlsConfig, parse_tls_section
from kvm_exporter.errors import InputError


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One token each ``interval`` nanoseconds, and room for ``burst`` of them."""

    interval: int
    burst: int


HEADERS: Mapping[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
"""What may be added to every response, and the only values that make sense; none: any."""

_BCRYPT = re.compile(
    r"\$2[aby]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{30}[.CGKOSWaeimquy26]"
)
"""Version, cost as a power of two, 16 bytes of salt and 23 of hash in bcrypt's base64; unused bits are 0."""


@dataclass(frozen=True, slots=True)
class WebConfig:
    """All of it."""

    #: None: plain HTTP.
    tls: TlsConfig | None = None
    #: Names and values, added to every response.
    headers: tuple[tuple[str, str], ...] = ()
    #: The bcrypt hash of each user's password; nobody in it: everybody may ask.
    users: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    #: None: as often as they like.
    rate_limit: RateLimit | None = None


def parse_web_config(content: bytes, folder: Path) -> WebConfig:
    """The configuration in a text, with relative paths made relative to the folder. Opens none of the named files.

    Raises InputError, with the line; the message contains no secret.
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
        flag(values["http2"], "http2")  # valid either way: HTTP/1.1 is what is served
    headers = section(values.get("headers"), HEADERS, "headers")
    pairs = [(header, _header(header, value)) for header, value in headers.items()]
    return tuple((header, value) for header, value in pairs if value)


def _header(header: str, node: Node) -> str:
    # Any scalar: X-XSS-Protection is often 0.
    value = name(node).strip(" ")
    if not (value.isascii() and value.isprintable()):
        raise InputError(f"{line_of(node)}: {header} has to be one line of ASCII, as every header")
    if HEADERS[header] and value not in HEADERS[header]:
        raise InputError(f"{line_of(node)}: {header} has to be {' or '.join(HEADERS[header])}")
    return value


def _users(node: Node | None) -> Mapping[str, bytes]:
    if node is None:
        return MappingProxyType({})
    users = {}
    for user, value in mapping(node, None, "basic_auth_users to have a hash for each user").items():
        # Neither the user nor the hash goes into a message: who mixes them up would find the hash in the log.
        if ":" in user or not storable(user):
            why = "has a colon or something else that no login can have; choose another"
            raise InputError(f"{line_of(value)}: the name of this user in basic_auth_users {why}")
        if is_null(value) or not _BCRYPT.fullmatch(text(value, "the hash of this user in basic_auth_users")):
            why = "is not one of bcrypt, from $2a$, $2b$ or $2y$ on; make one with htpasswd -nBC 10 USER"
            raise InputError(f"{line_of(value)}: the hash of this user in basic_auth_users {why}")
        users[user] = str(value.value).encode()
    return MappingProxyType(users)


def _rate_limit(node: Node | None) -> RateLimit | None:
    values = section(node, ("interval", "burst"), "rate_limit")
    if node is None or not values:
        return None
    if "interval" not in values:
        raise InputError(f"{line_of(node)}: rate_limit has no interval; add one such as interval: 1s")
    try:
        interval = nanoseconds(name(values["interval"]))
    except ValueError as error:
        raise InputError(f"{line_of(values['interval'])}: interval {error}") from error
    burst = count(values["burst"], "burst") if "burst" in values else 0
    if not interval:
        return None
    if not burst:
        place = line_of(values.get("burst", node))
        raise InputError(f"{place}: rate_limit lets nothing in without a burst; add one such as burst: 5")
    return RateLimit(interval, burst)
