"""kvm_exporter.web.tls: handshakes in memory between our context and OpenSSL clients, with certificates made here."""

import errno
import os
import ssl
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from kvm_exporter.config.tls import CURVES, DEFAULT_SUITES, SUITES, ClientAuth, Pem, TlsConfig
from kvm_exporter.errors import InputError
from kvm_exporter.web.tls import allowed_client, server_context
from lab.certificates import Certificates
from tests.support.rooms.certificates import certificates as committed
from tests.support.rooms.unprivileged import unprivileged

VERSIONS = {
    "TLS10": "TLSv1",
    "TLS11": "TLSv1.1",
    "TLS12": "TLSv1.2",
    "TLS13": "TLSv1.3",
}

NUMBERS = {
    "TLS_RSA_WITH_AES_128_CBC_SHA": 0x002F,
    "TLS_RSA_WITH_AES_256_CBC_SHA": 0x0035,
    "TLS_RSA_WITH_AES_128_GCM_SHA256": 0x009C,
    "TLS_RSA_WITH_AES_256_GCM_SHA384": 0x009D,
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": 0xC009,
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": 0xC00A,
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": 0xC013,
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": 0xC014,
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": 0xC02B,
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": 0xC02C,
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": 0xC02F,
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": 0xC030,
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": 0xCCA8,
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": 0xCCA9,
}
"""Source: IANA, TLS Cipher Suites; Go uses IANA's names."""


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Two authorities, one intermediate, servers with both kinds of keys, and clients."""
    return committed(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def served(certificates: Certificates) -> TlsConfig:
    """A configuration with a certificate and a key only."""
    return TlsConfig(Pem("cert_file", certificates / "server.crt"), Pem("key_file", certificates / "server.key"))


@pytest.fixture
def verified(certificates: Certificates, served: TlsConfig) -> TlsConfig:
    """A configuration that requires client certificates."""
    return replace(served, client_ca=Pem("client_ca_file", certificates / "ca.crt"), client_auth=ClientAuth.VERIFIED)


@pytest.fixture
def client(certificates: Certificates) -> ssl.SSLContext:
    """A client that trusts the first authority, speaks every version and has no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates / "ca.crt")
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    return context


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return both ends of a connection after the handshake. Raises the ssl.SSLError of the end that refuses first."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    done = [False, False]
    for _ in range(10):
        for number, end in enumerate(ends):
            if not done[number]:
                try:
                    end.do_handshake()
                    done[number] = True
                except ssl.SSLWantReadError:
                    pass
        if all(done):
            return ends[1], ends[0]
    raise AssertionError("neither end refuses, and yet they come to no end")


@pytest.mark.parametrize("version", ["TLS12", "TLS13"])
def test_both_versions_of_today_are_spoken(served: TlsConfig, client: ssl.SSLContext, version: str) -> None:
    """TLS 1.2 and 1.3 are spoken, and ALPN selects HTTP/1.1 even if the client prefers HTTP/2."""
    client.set_alpn_protocols(["h2", "http/1.1"])
    client.maximum_version = ssl.TLSVersion[VERSIONS[version].replace(".", "_")]
    end, other = handshake(server_context(served), client)
    assert end.version() == VERSIONS[version]
    assert other.selected_alpn_protocol() == "http/1.1"


def test_a_client_that_knows_only_http_2_is_told_nothing(served: TlsConfig, client: ssl.SSLContext) -> None:
    """For a client that offers HTTP/2 only, ALPN selects nothing, so that it may still use HTTP/1.1."""
    client.set_alpn_protocols(["h2"])
    assert handshake(server_context(served), client)[1].selected_alpn_protocol() is None


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("lowest", "highest", "spoken"),
    [
        ("TLS12", "TLS13", {"TLS12", "TLS13"}),
        ("TLS13", "TLS13", {"TLS13"}),
        ("TLS12", "TLS12", {"TLS12"}),
        ("TLS11", "TLS12", {"TLS11", "TLS12"}),
        ("TLS10", "TLS13", {"TLS10", "TLS11", "TLS12", "TLS13"}),
        ("TLS10", "TLS10", {"TLS10"}),
    ],
)
def test_no_other_versions_are_spoken(
    served: TlsConfig, client: ssl.SSLContext, lowest: str, highest: str, spoken: set[str]
) -> None:
    """Exactly the versions from the lowest to the highest are spoken."""
    context = server_context(replace(served, min_version=lowest, max_version=highest))
    found = set()
    for version, name in VERSIONS.items():
        client.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        client.maximum_version = client.minimum_version = ssl.TLSVersion[name.replace(".", "_")]
        try:
            assert handshake(context, client)[0].version() == name
        except ssl.SSLError:
            continue
        found.add(version)
    assert found == spoken


def test_the_names_of_suites_are_go_s() -> None:
    """Each suite of Go has the number of the OpenSSL suite that it is mapped to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    numbers = {suite["name"]: suite["id"] & 0xFFFF for suite in context.get_ciphers()}
    assert {name: numbers[openssl] for name, openssl in SUITES.items()} == NUMBERS


def test_without_a_choice_the_suites_are_go_s_own(served: TlsConfig) -> None:
    """The default suites are those of Go with forward secrecy, and the three of TLS 1.3."""
    offered = [suite["name"] for suite in server_context(served).get_ciphers()]
    assert [name for name in offered if not name.startswith("TLS_")] == list(DEFAULT_SUITES.values())
    assert sorted(name for name in offered if name.startswith("TLS_")) == [
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    ]


@pytest.mark.parametrize("suite", SUITES)
def test_a_suite_that_is_chosen_is_used(certificates: Certificates, client: ssl.SSLContext, suite: str) -> None:
    """A configured suite is the only one, even if the client prefers others."""
    name = "server" if "ECDSA" in suite else "rsa"
    tls = TlsConfig(
        Pem("cert_file", certificates / f"{name}.crt"),
        Pem("key_file", certificates / f"{name}.key"),
        cipher_suites=(suite,),
        max_version="TLS12",
    )
    cipher = handshake(server_context(tls), client)[0].cipher()
    assert cipher is not None
    assert cipher[0] == SUITES[suite]


def test_a_client_without_that_suite_is_refused(served: TlsConfig, client: ssl.SSLContext) -> None:
    """A client without the configured suite is refused."""
    tls = replace(served, cipher_suites=("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",), max_version="TLS12")
    client.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
    with pytest.raises(ssl.SSLError, match="NO_SHARED_CIPHER"):
        handshake(server_context(tls), client)


@pytest.mark.parametrize(("by_server", "chosen"), [(True, "AES256"), (False, "AES128")])
def test_who_chooses_the_suite(served: TlsConfig, client: ssl.SSLContext, *, by_server: bool, chosen: str) -> None:
    """The suite is chosen by the server's order or by the client's, as configured."""
    tls = replace(
        served,
        cipher_suites=("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
        prefer_server_cipher_suites=by_server,
        max_version="TLS12",
    )
    client.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384")
    cipher = handshake(server_context(tls), client)[0].cipher()
    assert cipher is not None
    assert chosen in cipher[0]


def has(curve: str) -> bool:
    """Whether Python's ssl can choose a curve of OpenSSL: not X25519 in Debian 12, with Python 3.11.2."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ecdh_curve(curve)
    except (ValueError, ssl.SSLError):
        return False
    return True


@pytest.mark.parametrize("curve", CURVES)
def test_the_curve_that_is_chosen_is_the_only_one(served: TlsConfig, client: ssl.SSLContext, curve: str) -> None:
    """A configured curve is the only one, in TLS 1.3 as well."""
    if not has(CURVES[curve]):
        with pytest.raises(InputError, match=f"^curve_preferences: .* does not have {curve}; choose another$"):
            server_context(replace(served, curve=curve))
        return
    context = server_context(replace(served, curve=curve))
    client.set_ecdh_curve(CURVES[curve])
    handshake(context, client)
    client.set_ecdh_curve("secp384r1" if curve != "CurveP384" else "prime256v1")
    with pytest.raises(ssl.SSLError):
        handshake(context, client)


def test_without_a_choice_every_curve_will_do(served: TlsConfig, client: ssl.SSLContext) -> None:
    """By default every curve of Go is accepted."""
    for curve in filter(has, CURVES.values()):
        client.set_ecdh_curve(curve)
        handshake(server_context(served), client)


def test_nothing_is_renegotiated(served: TlsConfig) -> None:
    """Renegotiation is disabled, as in Go, so that a connection costs one handshake at most."""
    assert server_context(served).options & ssl.OP_NO_RENEGOTIATION


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    "case",
    [
        (ClientAuth.VERIFIED, "ca", "client", True),
        (ClientAuth.VERIFIED, "ca", None, False),
        (ClientAuth.VERIFIED, "ca", "unknown", False),
        (ClientAuth.VERIFIED, "ca", "alone", False),
        (ClientAuth.VERIFIED, "ca", "below", False),
        (ClientAuth.VERIFIED, "between", "below", True),
        (ClientAuth.VERIFIED, "between", "client", False),
        (ClientAuth.VERIFIED, "alone", "alone", True),
        (ClientAuth.VERIFIED, "client", "client", True),
        (ClientAuth.VERIFIED_IF_GIVEN, "ca", "client", True),
        (ClientAuth.VERIFIED_IF_GIVEN, "ca", None, True),
        (ClientAuth.VERIFIED_IF_GIVEN, "ca", "unknown", False),
    ],
    ids=str,
)
def test_clients_are_let_in_by_their_certificates(
    certificates: Certificates,
    verified: TlsConfig,
    client: ssl.SSLContext,
    version: ssl.TLSVersion,
    case: tuple[ClientAuth, str, str | None, bool],
) -> None:
    """Clients with a certificate of a trusted authority, also an intermediate one, are accepted; others are refused."""
    auth, authority, has, let_in = case
    tls = replace(verified, client_auth=auth, client_ca=Pem("client_ca_file", certificates / f"{authority}.crt"))
    client.maximum_version = version
    if has is not None:
        client.load_cert_chain(certificates / f"{has}.crt", certificates / f"{has}.key")
    if let_in:
        peer = handshake(server_context(tls), client)[0].getpeercert()
        assert bool(peer) == (has is not None)
    else:
        with pytest.raises(ssl.SSLError, match=r"CERTIFICATE_VERIFY_FAILED|PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            handshake(server_context(tls), client)


def test_without_an_authority_the_system_s_are_trusted(
    certificates: Certificates,
    served: TlsConfig,
    client: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As in Go, clients are verified by the authorities that the system trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.crt"))
    context = server_context(replace(served, client_auth=ClientAuth.VERIFIED))
    for name, refusal in (("unknown", "CERTIFICATE_VERIFY_FAILED"), ("client", "")):
        client.load_cert_chain(certificates / f"{name}.crt", certificates / f"{name}.key")
        with pytest.raises(ssl.SSLError, match=refusal) if refusal else nullcontext():
            handshake(context, client)


@pytest.mark.parametrize(
    ("sans", "allowed"),
    [
        ((), True),
        (("prometheus",), True),
        (("192.0.2.1",), True),
        (("2001:db8::1",), True),
        (("a@b.c",), True),
        (("spiffe://x/y",), True),
        (("other", "prometheus"), True),
        (("other",), False),
        (("Prometheus",), False),
        (("*",), False),
        (("client",), False),
        (("2001:DB8:0:0:0:0:0:1",), False),
    ],
)
def test_names_in_a_client_s_certificate(
    certificates: Certificates, verified: TlsConfig, client: ssl.SSLContext, sans: Sequence[str], *, allowed: bool
) -> None:
    """A client is accepted if any of its alternative names matches as Go writes it; the common name does not count."""
    client.load_cert_chain(certificates / "client.crt", certificates / "client.key")
    peer = handshake(server_context(verified), client)[0].getpeercert()
    assert peer is not None
    assert allowed_client(peer, frozenset(sans)) is allowed


@pytest.mark.parametrize(
    ("names", "sans", "allowed"),
    [
        ((), {"a"}, False),
        ((("IP Address", "0:0:0:0:0:FFFF:C000:201"),), {"192.0.2.1"}, True),
        ((("IP Address", "<invalid>"),), {"<invalid>"}, True),
        ((("DirName", ((("commonName", "a"),),)), ("Registered ID", "1.2.3")), {"1.2.3"}, False),
        ((("othername", "<unsupported>"),), {"<unsupported>"}, False),
    ],
)
def test_names_of_strange_kinds(names: tuple[object, ...], sans: set[str], *, allowed: bool) -> None:
    """Kinds of names that Go ignores are ignored."""
    assert allowed_client({"subjectAltName": names}, sans) is allowed
    assert allowed_client({}, sans) is False


def open_files() -> int:
    """Return the number of open descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_key_written_into_the_configuration(certificates: Certificates, client: ssl.SSLContext) -> None:
    """An inline key works like one in a file, and leaves no descriptor open."""
    before = open_files()
    tls = TlsConfig(
        Pem("cert", (certificates / "server.crt").read_bytes()),
        Pem("key", (certificates / "server.key").read_bytes()),
        Pem("client_ca", (certificates / "ca.crt").read_bytes()),
        ClientAuth.VERIFIED_IF_GIVEN,
    )
    assert handshake(server_context(tls), client)[0].version() == "TLSv1.3"
    assert open_files() == before
    assert tls.files == ()


def test_comments_and_windows_line_ends_do_no_harm(certificates: Certificates, client: ssl.SSLContext) -> None:
    """Comments and CR LF in PEM files, which some issuers write, are accepted."""
    cert, key = (
        b"# \xc3\xbc\r\n" + (certificates / f"server.{kind}").read_bytes().replace(b"\n", b"\r\n")
        for kind in ("crt", "key")
    )
    handshake(
        server_context(
            TlsConfig(Pem("cert", cert), Pem("key", key), Pem("client_ca", cert), ClientAuth.VERIFIED_IF_GIVEN)
        ),
        client,
    )


@pytest.mark.parametrize(
    ("cert", "key", "message"),
    [
        ("none.crt", "server.key", "cert_file: {}/none.crt: cannot be read: No such file or directory; {readable}"),
        ("server.crt", "none.key", "key_file: {}/none.key: cannot be read: No such file or directory; {readable}"),
        (".", "server.key", "cert_file: {}: cannot be read: Is a directory; {readable}"),
        ("empty", "server.key", "cert_file: {}/empty: is empty; it must contain PEM"),
        ("server.crt", "empty", "key_file: {}/empty: is empty; it must contain PEM"),
        ("huge", "server.key", "cert_file: {}/huge: is larger than 1048576 bytes; check that it is PEM"),
        ("server.key", "server.key", "cert_file: {}/server.key: {no_certificates}"),
        ("cut.crt", "server.key", "cert_file: {}/cut.crt: {no_certificates}"),
        (
            "server.crt",
            "server.crt",
            "key_file: {}/server.crt: contains no private key that OpenSSL can read; it must be PEM",
        ),
        ("server.crt", "ca.key", "key_file: {}/ca.key: {mismatch}"),
        ("server.crt", "rsa.key", "key_file: {}/rsa.key: {mismatch}"),
        ("server.crt", "new.key", "key_file: {}/new.key: {passphrase}"),
        ("rsa.crt", "old.key", "key_file: {}/old.key: {passphrase}"),
        (
            "weak.crt",
            "weak.key",
            "cert_file: {}/weak.crt: OpenSSL rejects it or its key: ee key too small; create another",
        ),
    ],
)
def test_what_cannot_be_served_is_named(certificates: Certificates, cert: str, key: str, message: str) -> None:
    """The error names the key of the configuration and the file; an encrypted key does not prompt for a passphrase."""
    (certificates / "empty").write_bytes(b" \n")
    (certificates / "huge").write_bytes(b"x" * (1 << 20) + b"x")
    (certificates / "cut.crt").write_bytes((certificates / "server.crt").read_bytes()[:200])
    with pytest.raises(InputError) as caught:
        server_context(TlsConfig(Pem("cert_file", certificates / cert), Pem("key_file", certificates / key)))
    assert str(caught.value) == message.format(
        certificates.folder,
        readable="give a file that the exporter can read",
        no_certificates="contains no certificate that OpenSSL can read; it must be PEM",
        mismatch=f"is not the key of cert_file: {certificates / cert}; give a matching pair",
        passphrase="is encrypted; remove its passphrase (openssl pkey)",  # noqa: S106
    )


def test_a_file_that_may_not_be_read_is_named(certificates: Certificates, tmp_path: Path) -> None:
    """A file without read permission, such as a key of root, is named in the error."""
    key = tmp_path / "a.key"
    key.write_bytes((certificates / "server.key").read_bytes())
    key.chmod(0)
    cert = Pem("cert", (certificates / "server.crt").read_bytes())
    with unprivileged(), pytest.raises(InputError, match=r"key_file: .* cannot be read: Permission denied"):
        server_context(TlsConfig(cert, Pem("key_file", key)))


@pytest.mark.parametrize("content", ["junk", "", "revoked"])
def test_an_authority_that_is_none_is_named(certificates: Certificates, served: TlsConfig, content: str) -> None:
    """A file without certificates, or with a revocation list only, is an error."""
    if content == "revoked":
        content = (certificates / "revoked").read_text()
    tls = replace(served, client_ca=Pem("client_ca", content.encode()), client_auth=ClientAuth.VERIFIED)
    with pytest.raises(InputError, match=r"^client_ca: contains no certificate"):
        server_context(tls)


def test_what_this_openssl_does_not_have_is_named(served: TlsConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error uses the configuration's name; an unsupported setting is never ignored."""
    openssl = ssl.OPENSSL_VERSION
    suites = {"ONE": "ECDHE-ECDSA-AES128-GCM-SHA256", "TWO": "NO-SUCH"}
    monkeypatch.setattr("kvm_exporter.web.tls.SUITES", suites)
    monkeypatch.setattr("kvm_exporter.web.tls.DEFAULT_SUITES", {"ONE": "ECDHE-ECDSA-AES128-GCM-SHA256"})
    monkeypatch.setattr("kvm_exporter.web.tls.CURVES", {"Curve": "no-such"})
    monkeypatch.setattr(
        "kvm_exporter.web.tls._VERSIONS",
        {"TLS12": (ssl.TLSVersion.TLSv1_2, False), "TLS13": (ssl.TLSVersion.TLSv1_3, True)},
    )
    for tls, message in (
        (served, f"min_version: {openssl} does not support TLS12; choose another"),
        (
            replace(served, min_version="TLS13", max_version="TLS12"),
            f"max_version: {openssl} does not support TLS12; choose another",
        ),
        (
            replace(served, min_version="TLS13", cipher_suites=("TWO",)),
            f"cipher_suites: {openssl} supports none of these; choose others",
        ),
        (
            replace(served, min_version="TLS13", cipher_suites=("ONE", "TWO")),
            f"cipher_suites: {openssl} does not support TWO; remove it",
        ),
        (
            replace(served, min_version="TLS13", curve="Curve"),
            f"curve_preferences: {openssl} does not support Curve; choose another",
        ),
    ):
        with pytest.raises(InputError) as caught:
            server_context(tls)
        assert str(caught.value) == message


def refuse(_: str) -> int:
    """Fail as memfd_create() does under a system call filter."""
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_where_no_file_can_be_made_in_memory(served: TlsConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a system call filter forbids memfd_create(), the error says what is needed."""
    monkeypatch.setattr(os, "memfd_create", refuse)
    with pytest.raises(
        InputError, match="cannot pass the key to OpenSSL: Operation not permitted; mount /proc and allow memfd_create"
    ):
        server_context(served)


def test_files_of_a_service(served: TlsConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a runtime directory the keys are passed in files there, and these are removed."""
    monkeypatch.setattr(os, "memfd_create", refuse)
    server_context(served, tmp_path)
    assert list(tmp_path.iterdir()) == []
