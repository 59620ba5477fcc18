"""TLS by OpenSSL: the server's context, and which clients' certificates it lets in. The only importer of ssl.

Source: OpenSSL's manual pages; for what the configuration's words mean, crypto/tls and crypto/x509 of Go.
"""

import ipaddress
import os
import ssl
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kvm_exporter.config.files import read_bounded
from kvm_exporter.config.tls import CURVES, DEFAULT_SUITES, SUITES, ClientAuth, Pem, TlsConfig
from kvm_exporter.errors import InputError, named

MAX_BYTES = 1 << 20
"""Room for every authority that there is."""


def read_pem(pem: Pem) -> bytes:
    """Its content, unparsed. Raises InputError."""
    if not isinstance(pem.source, Path):
        return pem.source
    with named(pem):
        content = read_bounded(pem.source, MAX_BYTES, "PEM", "name a file that the exporter may read")
        if not content.strip():
            raise InputError("is empty; it has to be PEM")
        return content


@contextmanager
def private_file(content: bytes, directory: Path | None) -> Iterator[str]:
    """The path of a file in memory, in no folder, that only this process' user can open and that is gone afterwards.

    Python's ssl reads keys from nothing but files. Raises OSError where there is no /proc.
    """
    with os.fdopen(_unnamed_file(directory), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _unnamed_file(directory: Path | None) -> int:
    """A descriptor of a new file. Raises OSError."""
    try:
        return os.memfd_create("kvm-exporter")
    except PermissionError:
        # Such a file could be executed, so the sandbox of our units refuses it. The runtime directory is in memory too,
        # and nothing in there can be executed (open(2), O_TMPFILE).
        if directory is None:
            raise
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)


_VERSIONS = {
    "TLS10": (ssl.TLSVersion.TLSv1, ssl.HAS_TLSv1),
    "TLS11": (ssl.TLSVersion.TLSv1_1, ssl.HAS_TLSv1_1),
    "TLS12": (ssl.TLSVersion.TLSv1_2, ssl.HAS_TLSv1_2),
    "TLS13": (ssl.TLSVersion.TLSv1_3, ssl.HAS_TLSv1_3),
}

_MISMATCHES = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}

_NAMES = {"DNS", "IP Address", "email", "URI"}


class _Peer(ssl.SSLObject):
    """A peer whose certificate has no names where they are no text. asyncio asks for them, and logs what is raised."""

    def getpeercert(self, binary_form: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - the standard library's
        try:
            return super().getpeercert(binary_form)
        except ValueError:
            return {}


class _PassphraseError(Exception):
    """A key that somebody would have to type a passphrase for."""


def server_context(tls: TlsConfig, directory: Path | None = None) -> ssl.SSLContext:
    """What connections are wrapped with. Reads the files that the configuration names. Raises InputError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.sslobject_class = _Peer
    context.set_alpn_protocols(["http/1.1"])
    _set_versions(context, tls)
    _set_suites(context, tls)
    _set_curve(context, tls)
    try:
        _load_certificate(context, tls, directory)
        if tls.client_ca is not None:
            given = tls.client_auth is ClientAuth.VERIFIED_IF_GIVEN
            context.verify_mode = ssl.CERT_OPTIONAL if given else ssl.CERT_REQUIRED
            # As in Go, each of them is trusted by itself, whoever has signed it.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            _load_authorities(context, tls.client_ca, read_pem(tls.client_ca), directory)
    except OSError as error:
        raise InputError(
            f"keys cannot be handed to OpenSSL: {error.strerror}; it needs /proc and memfd_create"
        ) from error
    return context


def allowed_client(certificate: Mapping[str, Any], sans: Collection[str]) -> bool:
    """Whether a verified certificate, as ``getpeercert()`` gives it, has one of these names; with no names, each does.

    DNS names, e-mail addresses and URIs are compared letter by letter, IP addresses in their shortest form.
    """
    names = certificate.get("subjectAltName", ())
    return not sans or any(_as_in_go(kind, name) in sans for kind, name in names if kind in _NAMES)


def _as_in_go(kind: str, name: str) -> str:
    """A name as Go writes it; OpenSSL writes IPv6 addresses in full and in capitals."""
    if kind != "IP Address":
        return name
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name  # of a length that no address has
    return str(getattr(address, "ipv4_mapped", None) or address)


def _set_versions(context: ssl.SSLContext, tls: TlsConfig) -> None:
    for key, version in ("min_version", tls.min_version), ("max_version", tls.max_version):
        if not _VERSIONS[version][1]:
            raise InputError(f"{key}: {ssl.OPENSSL_VERSION} here does not speak {version}; choose another")
    with warnings.catch_warnings():
        # The old ones are deprecated, and yet somebody has asked for them.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = _VERSIONS[tls.min_version][0]
        context.maximum_version = _VERSIONS[tls.max_version][0]


def _set_suites(context: ssl.SSLContext, tls: TlsConfig) -> None:
    wanted = [SUITES[name] for name in tls.cipher_suites or DEFAULT_SUITES]
    # The signatures of TLS 1.0 and 1.1 are too weak for any level but 0 of OpenSSL 3 (SSL_CTX_set_security_level(3)).
    level = ":@SECLEVEL=0" if tls.min_version in {"TLS10", "TLS11"} else ""
    try:
        context.set_ciphers(":".join(wanted) + level)
    except ssl.SSLError as error:
        raise InputError(f"cipher_suites: {ssl.OPENSSL_VERSION} here has none of them; choose others") from error
    there = {suite["name"] for suite in context.get_ciphers()}
    for name in tls.cipher_suites:
        if SUITES[name] not in there:
            raise InputError(f"cipher_suites: {ssl.OPENSSL_VERSION} here does not have {name}; remove it")
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE


def _set_curve(context: ssl.SSLContext, tls: TlsConfig) -> None:
    if tls.curve is not None:
        try:
            context.set_ecdh_curve(CURVES[tls.curve])
        except (ValueError, ssl.SSLError) as error:
            raise InputError(
                f"curve_preferences: {ssl.OPENSSL_VERSION} here does not have {tls.curve}; choose another"
            ) from error


def _load_certificate(context: ssl.SSLContext, tls: TlsConfig, directory: Path | None) -> None:
    certificate, key = read_pem(tls.cert), read_pem(tls.key)
    # Alone first: what OpenSSL says of both together does not tell whose fault it is.
    _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tls.cert, certificate, directory)

    def passphrase() -> str:
        raise _PassphraseError

    with private_file(certificate, directory) as certificate_path, private_file(key, directory) as key_path:
        try:
            context.load_cert_chain(certificate_path, key_path, passphrase)
        except _PassphraseError as error:
            why = "has a passphrase, and nobody is here to type it; take it off with openssl pkey"
            raise InputError(f"{tls.key}: {why}") from error
        except ssl.SSLError as error:
            if error.reason in _MISMATCHES:
                raise InputError(f"{tls.key}: is not the key of {tls.cert}; give two that belong together") from error
            if error.reason:
                why = error.reason.replace("_", " ").lower()
                raise InputError(f"{tls.cert}: OpenSSL refuses it or its key: {why}; make another") from error
            raise InputError(f"{tls.key}: has no private key that OpenSSL can read; it has to be PEM") from error


def _load_authorities(context: ssl.SSLContext, pem: Pem, content: bytes, directory: Path | None) -> None:
    with private_file(content, directory) as path:
        try:
            context.load_verify_locations(path)
        except ssl.SSLError as error:
            raise InputError(f"{pem}: has no certificates that OpenSSL can read; they have to be PEM") from error
    if not context.cert_store_stats()["x509"]:
        raise InputError(f"{pem}: has no certificates in it, only revocations; add some")
