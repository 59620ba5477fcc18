"""How to serve TLS, as values. Knows no file's format, no ssl, and opens nothing."""

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path


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


class TlsError(Exception):
    """TLS cannot be served like this; the message names the key of the configuration, the file, and what to do."""
