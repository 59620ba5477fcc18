"""The section tls_server_config of the web configuration file, read strictly. Opens no file that it names.

Source: docs/web-configuration.md and web/tls_config.go of prometheus/exporter-toolkit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from kvm_exporter.config.schema import Node, choice, flag, is_null, line_of, section, text, texts
from kvm_exporter.errors import InputError


class ClientAuth(Enum):
    """Whose connections are let in, by the name that Go has for it (crypto/tls, ClientAuthType)."""

    ANYONE = "NoClientCert"
    VERIFIED_IF_GIVEN = "VerifyClientCertIfGiven"
    VERIFIED = "RequireAndVerifyClientCert"


@dataclass(frozen=True, slots=True)
class Pem:
    """A private key or certificates: the file that has them, or the text itself."""

    #: The key of the configuration that gave it, such as cert_file.
    key: str
    source: Path | bytes = field(repr=False)

    def __str__(self) -> str:
        return f"{self.key}: {self.source}" if isinstance(self.source, Path) else self.key


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """How to serve TLS."""

    #: The server's own, and those that lead to a root.
    cert: Pem
    key: Pem
    #: Who has signed clients' certificates; not None unless ANYONE is let in.
    client_ca: Pem | None = None
    client_auth: ClientAuth = ClientAuth.ANYONE
    #: One of these has to be in a client's certificate; empty: none has to.
    client_allowed_sans: frozenset[str] = frozenset()
    #: Both of tls_names.VERSIONS.
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    #: Of tls_names.SUITES, the preferred first; empty: the default ones.
    cipher_suites: tuple[str, ...] = ()
    #: Of tls_names.CURVES; None: what OpenSSL offers by itself.
    curve: str | None = None
    #: Who chooses among the cipher suites that both sides have; false: the client.
    prefer_server_cipher_suites: bool = True

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it is made from."""
        pems = (self.cert, self.key, self.client_ca)
        return tuple(pem.source for pem in pems if pem is not None and isinstance(pem.source, Path))


VERSIONS = ("TLS10", "TLS11", "TLS12", "TLS13")
"""Oldest first."""


DEFAULT_SUITES: Mapping[str, str] = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
}
"""Cipher suites up to TLS 1.2 that Go offers by itself, the preferred first."""


SUITES: Mapping[str, str] = {
    **DEFAULT_SUITES,
    # Without forward secrecy. Go 1.22 and newer know them no more; files that were written before may still have them.
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
}
"""Cipher suites up to TLS 1.2 that may be chosen."""


TLS13_SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""Nobody chooses among these, in Go or in Python: where there is TLS 1.3, there is each of them."""


CURVES: Mapping[str, str] = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}

KEYS = (
    *("cert", "cert_file", "key", "key_file", "client_ca", "client_ca_file", "client_auth_type", "client_allowed_sans"),
    *("min_version", "max_version", "cipher_suites", "prefer_server_cipher_suites", "curve_preferences"),
)

_UNVERIFIED = {
    "RequestClientCert": ClientAuth.VERIFIED_IF_GIVEN,
    "RequireAnyClientCert": ClientAuth.VERIFIED,
    "RequireClientCert": ClientAuth.VERIFIED,
}
"""Policies that let in certificates that nobody vouches for, and what to use instead."""

Values = Mapping[str, Node]


def parse_tls_section(node: Node | None, folder: Path) -> TlsConfig | None:
    """The section's value; None if it is left out or empty. Relative paths are relative to the folder.

    Raises InputError.
    """
    # What is written but empty is left out, as in Go.
    values = {key: value for key, value in section(node, KEYS, "tls_server_config").items() if value.value != ""}
    if node is None or is_null(node) or not node.value:
        return None
    cert, key = _pem(values, "cert", folder), _pem(values, "key", folder)
    if cert is None:
        raise InputError(f"{line_of(node)}: tls_server_config has no certificate; add cert_file, or cert")
    if key is None:
        raise InputError(f"{line_of(node)}: tls_server_config has no key for its certificate; add key_file, or key")
    client_ca = _pem(values, "client_ca", folder)
    auth = _client_auth(values, client_ca)
    min_version, max_version = _versions(values)
    prefer = values.get("prefer_server_cipher_suites")
    return TlsConfig(
        cert=cert,
        key=key,
        client_ca=client_ca,
        client_auth=auth,
        client_allowed_sans=_sans(values, auth),
        min_version=min_version,
        max_version=max_version,
        cipher_suites=_suites(values, min_version),
        curve=_curve(values),
        prefer_server_cipher_suites=prefer is None or flag(prefer, "prefer_server_cipher_suites"),
    )


def _pem(values: Values, key: str, folder: Path) -> Pem | None:
    in_file, inline = f"{key}_file", key
    if in_file in values and inline in values:
        line = max(values[in_file].start_mark.line, values[inline].start_mark.line) + 1
        raise InputError(f"line {line}: {in_file} and {inline} are both there; keep one of them")
    if in_file in values:
        return Pem(in_file, folder / text(values[in_file], in_file))
    return Pem(inline, text(values[inline], inline).encode()) if inline in values else None


def _client_auth(values: Values, client_ca: Pem | None) -> ClientAuth:
    node = values.get("client_auth_type")
    auth = _policy(node) if node is not None else ClientAuth.ANYONE
    if node is not None and auth is not ClientAuth.ANYONE and client_ca is None:
        raise InputError(f"{line_of(node)}: client_auth_type {auth.value} has nothing to verify by; add client_ca_file")
    if client_ca is not None and auth is ClientAuth.ANYONE:
        raise InputError(
            f"{line_of(values[client_ca.key])}: {client_ca.key} is there, but client_auth_type asks for no "
            f"certificate; add client_auth_type: {ClientAuth.VERIFIED.value}"
        )
    return auth


def _policy(node: Node) -> ClientAuth:
    written = text(node, "client_auth_type")
    if written in _UNVERIFIED:
        raise InputError(
            f"{line_of(node)}: client_auth_type {written} lets in certificates that nobody has verified, which "
            f"Python's ssl cannot do; use {_UNVERIFIED[written].value} with client_ca_file"
        )
    return ClientAuth(choice(node, "client_auth_type", [policy.value for policy in ClientAuth]))


def _sans(values: Values, auth: ClientAuth) -> frozenset[str]:
    node = values.get("client_allowed_sans")
    if node is None:
        return frozenset()
    sans = texts(node, "client_allowed_sans")
    if not sans:
        raise InputError(f"{line_of(node)}: client_allowed_sans is empty and lets in nobody; name some, or remove it")
    if auth is not ClientAuth.VERIFIED:
        raise InputError(
            f"{line_of(node)}: client_allowed_sans lets in clients that have no certificate at all; "
            f"add client_auth_type: {ClientAuth.VERIFIED.value}"
        )
    return frozenset(sans)


def _versions(values: Values) -> tuple[str, str]:
    lowest, highest = values.get("min_version"), values.get("max_version")
    low = choice(lowest, "min_version", VERSIONS) if lowest is not None else "TLS12"
    high = choice(highest, "max_version", VERSIONS) if highest is not None else "TLS13"
    place = highest or lowest
    if place is not None and low > high:
        raise InputError(f"{line_of(place)}: max_version {high} is below min_version {low}; nobody could speak to it")
    return low, high


def _suites(values: Values, min_version: str) -> tuple[str, ...]:
    """Those up to TLS 1.2."""
    node = values.get("cipher_suites")
    names = texts(node, "cipher_suites", [*SUITES, *TLS13_SUITES]) if node is not None else []
    if node is None or not names:
        return ()
    if any(name in names for name in TLS13_SUITES) and not all(name in names for name in TLS13_SUITES):
        raise InputError(
            f"{line_of(node)}: cipher_suites cannot choose among those of TLS 1.3, which always has all of them; "
            f"name none or all: {', '.join(TLS13_SUITES)}"
        )
    suites = tuple(name for name in names if name in SUITES)
    if not suites and min_version != "TLS13":
        raise InputError(f"{line_of(node)}: cipher_suites has none for TLS 1.2; add one, or min_version: TLS13")
    return suites


def _curve(values: Values) -> str | None:
    node = values.get("curve_preferences")
    names = texts(node, "curve_preferences", CURVES) if node is not None else []
    if node is not None and len(names) > 1:
        raise InputError(
            f"{line_of(node)}: curve_preferences has {len(names)}, but Python's ssl can set only one; keep one"
        )
    return names[0] if names else None
