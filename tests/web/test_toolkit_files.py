"""Web configurations of the exporter toolkit and what they do to real clients: the rows of its own tests, and more.

tests/config/test_web.py has what each file means, and what is refused.
"""

import asyncio
import ssl
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

import pytest

from kvm_exporter.web.http import Request, Response, text_response
from lab.certificates import Certificates
from lab.secure import MUTUAL, PASSWORD, TLS, USERS, ask, basic
from tests.support.rooms.certificates import certificates
from tests.support.rooms.loop import in_loop
from tests.support.rooms.secured import secured

AES_128, AES_256 = "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"
ONE_SUITE = "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n"
HEADER = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n"

Prepare = Callable[[ssl.SSLContext, Certificates], None]


def in_tls_1_2(suites: str) -> Prepare:
    """Return what makes a client speak TLS 1.2 with these suites."""

    def prepare(context: ssl.SSLContext, _: Certificates) -> None:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(suites)

    return prepare


def in_tls_1_1(context: ssl.SSLContext, _: Certificates) -> None:
    """Make a client speak TLS 1.1, and newer versions not."""
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")


def with_curve(name: str) -> Prepare:
    """Return what makes a client know one curve."""
    return lambda context, _: context.set_ecdh_curve(name)


def with_certificate(name: str) -> Prepare:
    """Return what gives a client a certificate."""
    return lambda context, made: context.load_cert_chain(made / f"{name}.crt", made / f"{name}.key")


def with_nothing(_: ssl.SSLContext, __: Certificates) -> None:
    """Let a client have no certificate, and speak what it likes."""


async def yes(_: Request) -> Response:
    """Answer 200."""
    return text_response(HTTPStatus.OK, "yes")


class Row(NamedTuple):
    """A file, a client, and what becomes of its requests."""

    text: str
    #: The status of each request, or the error of OpenSSL that ends the first one.
    outcome: list[int] | str
    #: None: a client without TLS.
    prepare: Prepare | None = with_nothing
    password: str = ""


def plain(text: str, *statuses: int, password: str = "") -> Row:
    """Return the row of a client without TLS."""
    return Row(text, [*statuses], None, password)


ROWS = {
    # Without TLS.
    "an empty file": plain("", 200),
    "an empty file, and a client with TLS": Row("", "WRONG_VERSION_NUMBER"),
    "empty sections": plain(
        "tls_server_config: {}\nhttp_server_config: {}\nbasic_auth_users: {}\nrate_limit: {}\n", 200
    ),
    "a section that enables nothing": plain("tls_server_config:\n  min_version: TLS13\n", 200),
    "a header": plain(HEADER, 200),
    "no password": plain(USERS, 401),
    "the right password": plain(USERS, 200, password=PASSWORD),
    "a wrong password": plain(USERS, 401, password="wrong"),  # noqa: S106 - of tests only
    "a burst of two": plain("rate_limit: {interval: 1h, burst: 2}\n", 200, 200, 429, 429),
    "a burst without an interval": plain("rate_limit: {burst: 1}\n", 200, 200, 200),
    "an interval of none": plain("rate_limit: {interval: 0, burst: 1}\n", 200, 200, 200),
    "an interval that is over": plain("rate_limit: {interval: -1h, burst: 1}\n", 200, 200, 200),
    "an interval of a nanosecond": plain("rate_limit: {interval: 1, burst: 1.9}\n", 200, 200, 200),
    # With TLS.
    "TLS": Row(TLS, [200, 200]),
    "TLS, and a client without": plain(TLS, 400),
    "TLS and a header": Row(TLS + HEADER, [200]),
    "TLS and passwords": Row(TLS + USERS, [200], password=PASSWORD),
    "TLS and no password": Row(TLS + USERS, [401]),
    "an old client": Row(TLS, "TLSV1_ALERT_PROTOCOL_VERSION", in_tls_1_1),
    "a suite in common": Row(TLS + ONE_SUITE, [200], in_tls_1_2(f"{AES_256}:{AES_128}")),
    "no suite in common": Row(TLS + ONE_SUITE, "SSLV3_ALERT_HANDSHAKE_FAILURE", in_tls_1_2(AES_256)),
    "suites of TLS 1.3": Row(f"{TLS}  cipher_suites: [TLS_AES_128_GCM_SHA256]\n", [200]),
    "suites of TLS 1.3, and an older client": Row(
        f"{TLS}  cipher_suites: [TLS_AES_128_GCM_SHA256]\n", "TLSV1_ALERT_PROTOCOL_VERSION", in_tls_1_2("ALL")
    ),
    "a curve in common": Row(f"{TLS}  curve_preferences: [CurveP521]\n", [200], with_curve("secp521r1")),
    "no curve in common": Row(
        f"{TLS}  curve_preferences: [CurveP521]\n", "SSLV3_ALERT_HANDSHAKE_FAILURE", with_curve("secp384r1")
    ),
    # With certificates of clients.
    "a certificate": Row(MUTUAL, [200], with_certificate("client")),
    "no certificate": Row(MUTUAL, "TLSV13_ALERT_CERTIFICATE_REQUIRED"),
    "a certificate of a stranger": Row(MUTUAL, "TLSV1_ALERT_UNKNOWN_CA", with_certificate("unknown")),
    "a name that is allowed": Row(f"{MUTUAL}  client_allowed_sans: [prometheus]\n", [200], with_certificate("client")),
    "a name that is not": Row(f"{MUTUAL}  client_allowed_sans: [other]\n", [403], with_certificate("client")),
    "a certificate that is asked for": Row(
        f"{TLS}  client_auth_type: RequestClientCert\n", [200], with_certificate("unknown")
    ),
    **{
        f"{policy} and the system's authorities, {name}": Row(f"{TLS}  client_auth_type: {policy}\n", outcome, prepare)
        for policy, name, outcome, prepare in (
            ("VerifyClientCertIfGiven", "no certificate", [200], with_nothing),
            ("VerifyClientCertIfGiven", "a certificate", [200], with_certificate("client")),
            ("VerifyClientCertIfGiven", "a stranger's", "TLSV1_ALERT_UNKNOWN_CA", with_certificate("unknown")),
            ("RequireAndVerifyClientCert", "no certificate", "TLSV13_ALERT_CERTIFICATE_REQUIRED", with_nothing),
            ("RequireAndVerifyClientCert", "a certificate", [200], with_certificate("client")),
        )
    },
}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("name", ROWS)
@in_loop
async def test_what_a_file_does(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each request has the status, or the connection the end, that it has with the toolkit."""
    row, made = ROWS[name], certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made / "ca.crt"))  # of the system
    context = None
    if row.prepare is not None:
        context = ssl.create_default_context()
        context.check_hostname = False  # the certificate is localhost's
        row.prepare(context, made)
    login = basic("prometheus", row.password) if row.password else None

    def request(port: int) -> int:
        reply = ask(port, context=context, login=login)
        assert (reply.headers.get("x-frame-options") == "deny") == (HEADER in row.text)
        return reply.status

    async with secured(tmp_path, row.text, yes) as (_, port):
        if isinstance(row.outcome, str):
            with pytest.raises(ssl.SSLError) as caught:
                await asyncio.to_thread(request, port)
            assert caught.value.reason == row.outcome
            return
        assert [await asyncio.to_thread(request, port) for _ in row.outcome] == row.outcome
