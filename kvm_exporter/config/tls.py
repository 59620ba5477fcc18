"""Parse the section tls_server_config of the web configuration file. web/tls.py opens the files that it names.

Source: docs/web-configuration.md and web/tls_config.go of prometheus/exporter-toolkit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from kvm_exporter.config.schema import Node, choice, flag, line_of, section, text, texts
from kvm_exporter.errors import InputError


class ClientAuth(Enum):
    """Which client certificates are required, with the names of Go's crypto/tls.ClientAuthType as values."""

    ANYONE = "NoClientCert"
    #: The certificate is not verified, and nothing reads it, so this is ANYONE by another name.
    REQUESTED = "RequestClientCert"
    VERIFIED_IF_GIVEN = "VerifyClientCertIfGiven"
    VERIFIED = "RequireAndVerifyClientCert"


@dataclass(frozen=True, slots=True)
class Pem:
    """A private key or certificates in PEM: the path of a file, or the content."""

    #: The configuration key, such as cert_file.
    key: str
    source: Path | bytes = field(repr=False)

    def __str__(self) -> str:
        return f"{self.key}: {self.source}" if isinstance(self.source, Path) else self.key


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """The values of tls_server_config."""

    #: The server's certificate, followed by its intermediate certificates.
    cert: Pem
    #: The private key of the server's certificate.
    key: Pem
    #: The authorities that client certificates are verified against; None: those that the system trusts.
    client_ca: Pem | None = None
    client_auth: ClientAuth = ClientAuth.ANYONE
    #: A client certificate must have at least one of these subject alternative names; empty: no such restriction.
    client_allowed_sans: frozenset[str] = frozenset()
    #: From VERSIONS, as is max_version.
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    #: Keys of SUITES, in order of preference; empty: DEFAULT_SUITES.
    cipher_suites: tuple[str, ...] = ()
    #: A key of CURVES; None: OpenSSL's defaults.
    curve: str | None = None
    #: Whether the server's order of preference decides the cipher suite; false: the client's.
    prefer_server_cipher_suites: bool = True

    @property
    def warning(self) -> str:
        """What to tell an operator who may believe that clients are verified; empty if there is nothing to tell."""
        if self.client_auth is ClientAuth.REQUESTED:
            return (
                f"client_auth_type {self.client_auth.value} verifies nothing and accepts every client; "
                f"use {ClientAuth.VERIFIED.value} with client_ca_file"
            )
        if self.client_auth is not ClientAuth.ANYONE and self.client_ca is None:
            return (
                f"client_auth_type {self.client_auth.value} without client_ca_file accepts the certificates of every "
                "authority that this system trusts; add client_ca_file"
            )
        return ""

    @property
    def needs_certificate(self) -> bool:
        """Whether a client without a verified certificate is refused."""
        return self.client_auth is ClientAuth.VERIFIED

    @property
    def files(self) -> tuple[Path, ...]:
        """The paths of the PEM files, which must be reloaded when they change."""
        pems = (self.cert, self.key, self.client_ca)
        return tuple(pem.source for pem in pems if pem is not None and isinstance(pem.source, Path))


VERSIONS = ("TLS10", "TLS11", "TLS12", "TLS13")
"""Values of min_version and max_version, oldest first."""


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
"""Cipher suites up to TLS 1.2 that Go enables by default, in its order of preference: Go's name and OpenSSL's."""


SUITES: Mapping[str, str] = {
    **DEFAULT_SUITES,
    # Without forward secrecy. Go has disabled them by default since 1.22; older configuration files may name them.
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
}
"""Cipher suites up to TLS 1.2 that cipher_suites may name: Go's name and OpenSSL's."""


TLS13_SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
"""Cipher suites of TLS 1.3. Neither Go nor Python can disable one of them: TLS 1.3 always has all three."""


CURVES: Mapping[str, str] = {
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519": "X25519",
}

ENABLING = ("cert", "cert_file", "key", "key_file", "client_ca", "client_ca_file", "client_auth_type")
"""Keys that enable TLS. Without any of them plain HTTP is served, as by the toolkit."""

KEYS = (
    *ENABLING,
    *("client_allowed_sans", "min_version", "max_version", "cipher_suites", "prefer_server_cipher_suites"),
    "curve_preferences",
)

_UNVERIFIED = {"RequireAnyClientCert", "RequireClientCert"}
"""Policies of Go that require a certificate, but do not verify it."""

Values = Mapping[str, Node]


def parse_tls_section(node: Node | None, folder: Path) -> TlsConfig | None:
    """Return the values of tls_server_config, or None if the section is absent or does not enable TLS.

    Relative paths are resolved against ``folder``. Raises InputError, whose message begins with the line number.
    """
    # An empty value counts as absent, as in Go.
    values = {key: value for key, value in section(node, KEYS, "tls_server_config").items() if value.value != ""}
    min_version, max_version = _versions(values)
    suites, min_version = _suites(values, min_version, max_version)
    curve, prefer = _curve(values), values.get("prefer_server_cipher_suites")
    prefer_server = prefer is None or flag(prefer, "prefer_server_cipher_suites")
    if node is None or not values.keys() & set(ENABLING):
        return None
    cert, key = _pem(values, "cert", folder), _pem(values, "key", folder)
    if cert is None:
        raise InputError(f"{line_of(node)}: tls_server_config has no certificate; add cert_file, or cert")
    if key is None:
        raise InputError(f"{line_of(node)}: tls_server_config has no private key; add key_file, or key")
    client_ca = _pem(values, "client_ca", folder)
    auth = _client_auth(values, client_ca)
    return TlsConfig(
        cert=cert,
        key=key,
        client_ca=client_ca,
        client_auth=auth,
        client_allowed_sans=_sans(values, auth),
        min_version=min_version,
        max_version=max_version,
        cipher_suites=suites,
        curve=curve,
        prefer_server_cipher_suites=prefer_server,
    )


def _pem(values: Values, key: str, folder: Path) -> Pem | None:
    in_file, inline = f"{key}_file", key
    if in_file in values and inline in values:
        line = max(values[in_file].start_mark.line, values[inline].start_mark.line) + 1
        raise InputError(f"line {line}: {in_file} and {inline} are mutually exclusive; keep one")
    if in_file in values:
        return Pem(in_file, folder / text(values[in_file], in_file))
    return Pem(inline, text(values[inline], inline).encode()) if inline in values else None


def _client_auth(values: Values, client_ca: Pem | None) -> ClientAuth:
    node = values.get("client_auth_type")
    auth = _policy(node) if node is not None else ClientAuth.ANYONE
    if client_ca is not None and auth is ClientAuth.ANYONE:
        raise InputError(
            f"{line_of(values[client_ca.key])}: {client_ca.key} has no effect without client_auth_type; "
            f"add client_auth_type: {ClientAuth.VERIFIED.value}"
        )
    return auth


def _policy(node: Node) -> ClientAuth:
    policy = text(node, "client_auth_type")
    if policy in _UNVERIFIED:
        raise InputError(
            f"{line_of(node)}: client_auth_type {policy} accepts unverified certificates, which Python's ssl module "
            f"does not support; use {ClientAuth.VERIFIED.value} with client_ca_file"
        )
    return ClientAuth(choice(node, "client_auth_type", [known.value for known in ClientAuth]))


def _sans(values: Values, auth: ClientAuth) -> frozenset[str]:
    node = values.get("client_allowed_sans")
    if node is None:
        return frozenset()
    sans = texts(node, "client_allowed_sans")
    if not sans:
        raise InputError(
            f"{line_of(node)}: client_allowed_sans is empty, so no client would be accepted; add a name, or remove it"
        )
    if auth is not ClientAuth.VERIFIED:
        raise InputError(
            f"{line_of(node)}: client_allowed_sans would accept clients without a certificate; "
            f"add client_auth_type: {ClientAuth.VERIFIED.value}"
        )
    return frozenset(sans)


def _versions(values: Values) -> tuple[str, str]:
    lowest, highest = values.get("min_version"), values.get("max_version")
    low = choice(lowest, "min_version", VERSIONS) if lowest is not None else "TLS12"
    high = choice(highest, "max_version", VERSIONS) if highest is not None else "TLS13"
    place = highest or lowest
    if place is not None and low > high:
        raise InputError(
            f"{line_of(place)}: max_version {high} is below min_version {low}; raise max_version or lower min_version"
        )
    return low, high


def _suites(values: Values, min_version: str, max_version: str) -> tuple[tuple[str, ...], str]:
    """Return the cipher suites up to TLS 1.2 that cipher_suites names, in its order, and the lowest version left.

    As in Go, suites of TLS 1.3 have no effect in the list; a list of them alone leaves only TLS 1.3. Raises InputError.
    """
    node = values.get("cipher_suites")
    names = texts(node, "cipher_suites", [*SUITES, *TLS13_SUITES]) if node is not None else []
    suites = tuple(name for name in names if name in SUITES)
    if node is None or not names or suites:
        return suites, min_version
    if max_version != "TLS13":
        raise InputError(f"{line_of(node)}: cipher_suites has no suite for {max_version}; add one")
    return suites, "TLS13"


def _curve(values: Values) -> str | None:
    node = values.get("curve_preferences")
    names = texts(node, "curve_preferences", CURVES) if node is not None else []
    if node is not None and len(names) > 1:
        raise InputError(
            f"{line_of(node)}: curve_preferences has {len(names)} curves, but Python's ssl module can set only one; "
            "keep one"
        )
    return names[0] if names else None
