"""The server's TLS context, from the configuration's values, and the check of client certificates' names.

Source: OpenSSL's manual pages. The configuration has the semantics of Go's crypto/tls and crypto/x509.
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
"""Largest accepted PEM file; a bundle of all public certificate authorities fits."""


def read_pem(pem: Pem) -> bytes:
    """Return the content of a PEM file or of an inline value. Raises InputError if it cannot be read or is empty."""
    if not isinstance(pem.source, Path):
        return pem.source
    with named(pem):
        content = read_bounded(pem.source, MAX_BYTES, "PEM", "give a file that the exporter can read")
        if not content.strip():
            raise InputError("is empty; it must contain PEM")
        return content


@contextmanager
def private_file(content: bytes, directory: Path | None) -> Iterator[str]:
    """Give the path of a temporary file in memory with this content, which only this process' user can open.

    Python's ssl module reads keys only from files. The file has no name in any directory and is deleted when the
    ``with`` block ends. ``directory`` is where it is created if memfd_create(2) is not permitted. Raises OSError.
    """
    with os.fdopen(_unnamed_file(directory), "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _unnamed_file(directory: Path | None) -> int:
    """Return the descriptor of a new file without a name. Raises OSError."""
    try:
        return os.memfd_create("kvm-exporter")
    except PermissionError:
        # The sandbox of our units refuses memfd_create(2) because such a file is executable. The runtime directory is
        # in memory too, and nothing in it can be executed (open(2), O_TMPFILE).
        if directory is None:
            raise
        return os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)


_VERSIONS = {
    "TLS10": (ssl.TLSVersion.TLSv1, ssl.HAS_TLSv1),
    "TLS11": (ssl.TLSVersion.TLSv1_1, ssl.HAS_TLSv1_1),
    "TLS12": (ssl.TLSVersion.TLSv1_2, ssl.HAS_TLSv1_2),
    "TLS13": (ssl.TLSVersion.TLSv1_3, ssl.HAS_TLSv1_3),
}

_VERIFY_MODES = {ClientAuth.VERIFIED_IF_GIVEN: ssl.CERT_OPTIONAL, ClientAuth.VERIFIED: ssl.CERT_REQUIRED}

_MISMATCHES = {"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"}

_NAMES = {"DNS", "IP Address", "email", "URI"}


class _Peer(ssl.SSLObject):
    """A TLS peer whose getpeercert() returns {} instead of raising if a name in the certificate cannot be decoded.

    asyncio calls getpeercert() after the handshake and would log the ValueError with a traceback.
    """

    def getpeercert(self, binary_form: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 - the standard library's
        try:
            return super().getpeercert(binary_form)
        except ValueError:
            return {}


class _PassphraseError(Exception):
    """OpenSSL asked for the passphrase of an encrypted key."""


def server_context(tls: TlsConfig, directory: Path | None = None) -> ssl.SSLContext:
    """Return the TLS context for a configuration, after reading the files that it names.

    ``directory`` is the service's runtime directory, if there is one; see private_file(). Raises InputError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.sslobject_class = _Peer
    context.set_alpn_protocols(["http/1.1"])
    _set_versions(context, tls)
    _set_suites(context, tls)
    _set_curve(context, tls)
    try:
        _load_certificate(context, tls, directory)
        _verify_clients(context, tls, directory)
    except OSError as error:
        raise InputError(
            f"cannot pass the key to OpenSSL: {error.strerror}; mount /proc and allow memfd_create"
        ) from error
    return context


def _verify_clients(context: ssl.SSLContext, tls: TlsConfig, directory: Path | None) -> None:
    if tls.client_auth not in _VERIFY_MODES:
        return
    context.verify_mode = _VERIFY_MODES[tls.client_auth]
    # As in Go, each certificate in client_ca is a trust anchor, even if it is an intermediate.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if tls.client_ca is not None:
        _load_authorities(context, tls.client_ca, read_pem(tls.client_ca), directory)
    else:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)


def allowed_client(certificate: Mapping[str, Any], sans: Collection[str]) -> bool:
    """Return whether a verified certificate has one of the names ``sans``; always true if ``sans`` is empty.

    ``certificate`` is what ssl.SSLObject.getpeercert() returns. DNS names, e-mail addresses and URIs are compared
    exactly, including case; IP addresses in their shortest form.
    """
    names = certificate.get("subjectAltName", ())
    return not sans or any(_go_notation(kind, name) in sans for kind, name in names if kind in _NAMES)


def _go_notation(kind: str, name: str) -> str:
    """Return a name in Go's notation. It differs for IPv6 addresses, which OpenSSL writes in full and in upper case."""
    if kind != "IP Address":
        return name
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name  # the certificate has an address of an invalid length
    return str(getattr(address, "ipv4_mapped", None) or address)


def _set_versions(context: ssl.SSLContext, tls: TlsConfig) -> None:
    for key, version in ("min_version", tls.min_version), ("max_version", tls.max_version):
        if not _VERSIONS[version][1]:
            raise InputError(f"{key}: {ssl.OPENSSL_VERSION} does not support {version}; choose another")
    with warnings.catch_warnings():
        # TLS 1.0 and 1.1 are deprecated, but the operator has configured them.
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = _VERSIONS[tls.min_version][0]
        context.maximum_version = _VERSIONS[tls.max_version][0]


def _set_suites(context: ssl.SSLContext, tls: TlsConfig) -> None:
    wanted = [SUITES[name] for name in tls.cipher_suites or DEFAULT_SUITES]
    # OpenSSL 3 permits the weak signatures of TLS 1.0 and 1.1 only at security level 0 (SSL_CTX_set_security_level(3)).
    level = ":@SECLEVEL=0" if tls.min_version in {"TLS10", "TLS11"} else ""
    try:
        context.set_ciphers(":".join(wanted) + level)
    except ssl.SSLError as error:
        raise InputError(f"cipher_suites: {ssl.OPENSSL_VERSION} supports none of these; choose others") from error
    available = {suite["name"] for suite in context.get_ciphers()}
    for name in tls.cipher_suites:
        if SUITES[name] not in available:
            raise InputError(f"cipher_suites: {ssl.OPENSSL_VERSION} does not support {name}; remove it")
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE


def _set_curve(context: ssl.SSLContext, tls: TlsConfig) -> None:
    if tls.curve is not None:
        try:
            context.set_ecdh_curve(CURVES[tls.curve])
        except (ValueError, ssl.SSLError) as error:
            raise InputError(
                f"curve_preferences: {ssl.OPENSSL_VERSION} does not support {tls.curve}; choose another"
            ) from error


def _load_certificate(context: ssl.SSLContext, tls: TlsConfig, directory: Path | None) -> None:
    certificate, key = read_pem(tls.cert), read_pem(tls.key)
    # Load the certificate alone first: OpenSSL's error for both does not tell which of the two is at fault.
    _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tls.cert, certificate, directory)

    def passphrase() -> str:
        raise _PassphraseError

    with private_file(certificate, directory) as certificate_path, private_file(key, directory) as key_path:
        try:
            context.load_cert_chain(certificate_path, key_path, passphrase)
        except _PassphraseError as error:
            raise InputError(f"{tls.key}: is encrypted; remove its passphrase (openssl pkey)") from error
        except ssl.SSLError as error:
            if error.reason in _MISMATCHES:
                raise InputError(f"{tls.key}: is not the key of {tls.cert}; give a matching pair") from error
            if error.reason:
                reason = error.reason.replace("_", " ").lower()
                raise InputError(f"{tls.cert}: OpenSSL rejects it or its key: {reason}; create another") from error
            raise InputError(f"{tls.key}: contains no private key that OpenSSL can read; it must be PEM") from error


def _load_authorities(context: ssl.SSLContext, pem: Pem, content: bytes, directory: Path | None) -> None:
    with private_file(content, directory) as path:
        try:
            context.load_verify_locations(path)
        except ssl.SSLError as error:
            raise InputError(f"{pem}: contains no certificate that OpenSSL can read; it must be PEM") from error
    if not context.cert_store_stats()["x509"]:
        raise InputError(f"{pem}: contains no certificate, only revocation lists; add a certificate")
