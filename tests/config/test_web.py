"""kvm_exporter.config.web and tls: every key, valid and invalid, and the same files in the exporter toolkit of Go."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.config.tls import CURVES, SUITES, TLS13_SUITES, ClientAuth, Pem, TlsConfig
from kvm_exporter.config.web import RateLimit, WebConfig, parse_web_config
from kvm_exporter.errors import InputError
from tests.support.rooms.pages import table

FOLDER = Path("/etc/exporter")

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"
"""The hash in the toolkit's documentation."""

TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
MUTUAL = f"{TLS}  client_ca_file: ca.crt\n  client_auth_type: RequireAndVerifyClientCert\n"

ONE_SUITE = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"

SERVED = TlsConfig(Pem("cert_file", FOLDER / "server.crt"), Pem("key_file", FOLDER / "server.key"))
VERIFIED = replace(SERVED, client_ca=Pem("client_ca_file", FOLDER / "ca.crt"), client_auth=ClientAuth.VERIFIED)

GOOD: dict[str, tuple[str, WebConfig]] = {
    "empty": ("", WebConfig()),
    "only a comment": ("# nothing yet\n", WebConfig()),
    "every section empty": (
        "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\n",
        WebConfig(),
    ),
    "empty mappings": ("tls_server_config: {}\nhttp_server_config: {}\nbasic_auth_users: {}\n", WebConfig()),
    "certificate and key": (TLS, WebConfig(tls=SERVED)),
    "nothing that enables TLS": (
        "tls_server_config:\n  min_version: TLS13\n  curve_preferences: [X25519]\n  prefer_server_cipher_suites: n\n",
        WebConfig(),
    ),
    "empty paths": ("tls_server_config: {cert_file: '', key_file: ''}\n", WebConfig()),
    "what is empty is left out": (
        f"{TLS}  client_ca_file: ''\n  client_auth_type: ''\n  min_version:\n  cipher_suites: []\n",
        WebConfig(tls=SERVED),
    ),
    "a policy that asks for nothing": (f"{TLS}  client_auth_type: NoClientCert\n", WebConfig(tls=SERVED)),
    "clients have to be verified": (MUTUAL, WebConfig(tls=VERIFIED)),
    "clients are verified by the system's authorities": (
        f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n",
        WebConfig(tls=replace(SERVED, client_auth=ClientAuth.VERIFIED)),
    ),
    "clients may be verified by the system's authorities": (
        f"{TLS}  client_auth_type: VerifyClientCertIfGiven\n",
        WebConfig(tls=replace(SERVED, client_auth=ClientAuth.VERIFIED_IF_GIVEN)),
    ),
    "clients are asked for a certificate": (
        f"{TLS}  client_ca_file: ca.crt\n  client_auth_type: RequestClientCert\n",
        WebConfig(tls=replace(VERIFIED, client_auth=ClientAuth.REQUESTED)),
    ),
    "clients may be verified": (
        f"{TLS}  client_ca_file: ca.crt\n  client_auth_type: VerifyClientCertIfGiven\n",
        WebConfig(tls=replace(VERIFIED, client_auth=ClientAuth.VERIFIED_IF_GIVEN)),
    ),
    "versions": (
        f"{TLS}  min_version: TLS10\n  max_version: TLS12\n",
        WebConfig(tls=replace(SERVED, min_version="TLS10", max_version="TLS12")),
    ),
    "one version": (
        f"{TLS}  min_version: TLS13\n  max_version: TLS13\n",
        WebConfig(tls=replace(SERVED, min_version="TLS13")),
    ),
    "TLS 1.1": (
        f"{TLS}  min_version: TLS11\n",
        WebConfig(tls=replace(SERVED, min_version="TLS11")),
    ),
    "one suite": (
        f"{TLS}  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\nhttp_server_config: {{http2: off}}\n",
        WebConfig(
            tls=replace(SERVED, cipher_suites=("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",)),
        ),
    ),
    "every suite": (
        f"{TLS}  cipher_suites:\n" + "".join(f"  - {name}\n" for name in [*SUITES, *TLS13_SUITES]),
        WebConfig(tls=replace(SERVED, cipher_suites=tuple(SUITES))),
    ),
    "suites of TLS 1.3 alone": (
        f"{TLS}  min_version: TLS13\n  cipher_suites: [{', '.join(TLS13_SUITES)}]\n",
        WebConfig(tls=replace(SERVED, min_version="TLS13")),
    ),
    "one suite of TLS 1.3, which excludes no other": (
        f"{TLS}  cipher_suites: [TLS_AES_128_GCM_SHA256, {ONE_SUITE}, {ONE_SUITE}]\n",
        WebConfig(tls=replace(SERVED, cipher_suites=(ONE_SUITE,))),
    ),
    "no suite of TLS 1.2, which excludes that version": (
        f"{TLS}  cipher_suites: [TLS_AES_128_GCM_SHA256]\n",
        WebConfig(tls=replace(SERVED, min_version="TLS13")),
    ),
    "the client's choice": (
        f"{TLS}  prefer_server_cipher_suites: false\n",
        WebConfig(tls=replace(SERVED, prefer_server_cipher_suites=False)),
    ),
    "the server's choice": (f"{TLS}  prefer_server_cipher_suites: true\n", WebConfig(tls=SERVED)),
    **{
        f"curve {curve}": (f"{TLS}  curve_preferences: [{curve}]\n", WebConfig(tls=replace(SERVED, curve=curve)))
        for curve in CURVES
    },
    "no curve": (f"{TLS}  curve_preferences: []\n", WebConfig(tls=SERVED)),
    "HTTP/2 is welcome": ("http_server_config: {http2: true}\n", WebConfig()),
    "HTTP/2 is not": ("http_server_config: {http2: false}\n", WebConfig()),
    "a single letter": ("http_server_config: {http2: Y}\n", WebConfig()),
    "every header": (
        (
            "http_server_config:\n  headers:\n"
            "    Content-Security-Policy: default-src 'self'\n    X-Frame-Options: deny\n"
            "    X-Content-Type-Options: nosniff\n    X-XSS-Protection: '1'\n"
            "    Strict-Transport-Security: max-age=31536000; includeSubDomains\n"
        ),
        WebConfig(
            headers=(
                ("Content-Security-Policy", "default-src 'self'"),
                ("X-Frame-Options", "deny"),
                ("X-Content-Type-Options", "nosniff"),
                ("X-XSS-Protection", "1"),
                ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
            )
        ),
    ),
    "a header that looks like a number": (
        "http_server_config: {headers: {X-XSS-Protection: 0}}\n",
        WebConfig(headers=(("X-XSS-Protection", "0"),)),
    ),
    "a blank header is left out": (
        "http_server_config:\n  headers:\n    Content-Security-Policy: ''\n    X-Frame-Options: sameorigin\n",
        WebConfig(headers=(("X-Frame-Options", "sameorigin"),)),
    ),
    "users": (
        (
            f"basic_auth_users:\n  alice: {HASH}\n  böb: '{HASH.replace('$2y$', '$2a$')}'\n"
            f"  17: {HASH.replace('$2y$10', '$2b$31')}\n"
        ),
        WebConfig(
            users={
                "alice": HASH.encode(),
                "böb": HASH.replace("$2y$", "$2a$").encode(),
                "17": HASH.replace("$2y$10", "$2b$31").encode(),
            }
        ),
    ),
}

NUMBERS = {
    "5": 5,
    "+5": 5,
    "1_000": 1000,
    "0x1F": 31,
    "0b101": 5,
    "0o17": 15,
    "017": 15,
    "08": 8,
    "1e3": 1000,
    "1.9": 1,
    "9223372036854775807": 2**63 - 1,
}
"""How Go reads numbers in YAML. An interval without a unit is in nanoseconds."""

NEWER: dict[str, tuple[str, WebConfig]] = {
    "allowed names": (
        f"{MUTUAL}  client_allowed_sans: [prometheus.example.org, 192.0.2.1, '::1', a@example.org, spiffe://x/y]\n",
        WebConfig(
            tls=replace(
                VERIFIED,
                client_allowed_sans=frozenset(
                    {"prometheus.example.org", "192.0.2.1", "::1", "a@example.org", "spiffe://x/y"}
                ),
            )
        ),
    ),
    "a rate": ("rate_limit: {interval: 1s, burst: 20}\n", WebConfig(rate_limit=RateLimit(10**9, 20))),
    "a rate in parts": (
        "rate_limit: {burst: 1, interval: 1m0.5s}\n",
        WebConfig(rate_limit=RateLimit(60_500_000_000, 1)),
    ),
    "no rate": ("rate_limit:\n  interval: 0\n  burst: 5\n", WebConfig()),
    "no rate either": ("rate_limit:\n", WebConfig()),
    "a burst alone": ("rate_limit: {burst: 5}\n", WebConfig()),
    "an interval that is over": ("rate_limit: {interval: -1s, burst: 5}\n", WebConfig()),
    "an interval with its sign": (
        "rate_limit: {interval: +1m, burst: 5}\n",
        WebConfig(rate_limit=RateLimit(60 * 10**9, 5)),
    ),
    **{
        f"the number {text}": (
            f"rate_limit: {{interval: {text}, burst: {text}}}\n",
            WebConfig(rate_limit=RateLimit(value, value)),
        )
        for text, value in NUMBERS.items()
    },
    "names that look like numbers": (
        f"{MUTUAL}  client_allowed_sans: [1, 2001-01-01, yes, yes]\n",
        WebConfig(tls=replace(VERIFIED, client_allowed_sans=frozenset({"1", "2001-01-01", "yes"}))),
    ),
}
"""Keys that the toolkit of Debian 12 does not have yet."""

OTHERS = {
    "an absolute path": (
        "tls_server_config: {cert_file: /a/b.crt, key_file: ../c.key}\n",
        WebConfig(tls=TlsConfig(Pem("cert_file", Path("/a/b.crt")), Pem("key_file", FOLDER / "../c.key"))),
    ),
    "inline": (
        (
            "tls_server_config:\n  cert: |\n    one\n    two\n  key: three\n"
            "  client_ca: four\n  client_auth_type: RequireAndVerifyClientCert\n"
        ),
        WebConfig(
            tls=TlsConfig(
                Pem("cert", b"one\ntwo\n"), Pem("key", b"three"), Pem("client_ca", b"four"), ClientAuth.VERIFIED
            )
        ),
    ),
    "a path that looks like a number": (
        "tls_server_config: {cert_file: 7, key_file: yes}\n",
        WebConfig(tls=TlsConfig(Pem("cert_file", FOLDER / "7"), Pem("key_file", FOLDER / "yes"))),
    ),
    "half inline": (
        "tls_server_config: {cert_file: server.crt, key: three}\n",
        WebConfig(tls=TlsConfig(SERVED.cert, Pem("key", b"three"))),
    ),
    "an alias": (
        "http_server_config:\n  headers: {X-XSS-Protection: &x '0', Content-Security-Policy: *x}\n",
        WebConfig(headers=(("X-XSS-Protection", "0"), ("Content-Security-Policy", "0"))),
    ),
}
"""Valid configurations that are not given to the toolkit."""

SECTIONS = "basic_auth_users, http_server_config, rate_limit, tls_server_config"
TLS_KEYS = (
    "cert, cert_file, cipher_suites, client_allowed_sans, client_auth_type, client_ca, client_ca_file, "
    "curve_preferences, key, key_file, max_version, min_version, prefer_server_cipher_suites"
)
HEADERS = (
    "Content-Security-Policy, Strict-Transport-Security, X-Content-Type-Options, X-Frame-Options, X-XSS-Protection"
)
UNVERIFIED = (
    "accepts unverified certificates, which Python's ssl module does not support; "
    "use RequireAndVerifyClientCert with client_ca_file"
)
VERIFY = "add client_auth_type: RequireAndVerifyClientCert"
NO_TEXT = "must be a string"
NO_HASH = (
    "the hash of this user in basic_auth_users is not a bcrypt hash ($2a$, $2b$ or $2y$); "
    "create one with htpasswd -nBC 10 USER"
)
NO_USER = "the name of this user in basic_auth_users must not contain a colon, NUL or lone surrogate; choose another"

REFUSED = {
    "client_auth_type: RequireAnyClientCert or RequireClientCert": {
        f"{TLS}  client_auth_type: {policy}\n": f"line 4: client_auth_type {policy} {UNVERIFIED}"
        for policy in ("RequireAnyClientCert", "RequireClientCert")
    },
    "more than one of curve_preferences": {
        f"{TLS}  curve_preferences: [X25519, CurveP256]\n": (
            "line 4: curve_preferences has 2 curves, but Python's ssl module can set only one; keep one"
        )
    },
    "cert with cert_file, key with key_file, client_ca with client_ca_file": {
        f"{TLS}  cert: x\n": "line 4: cert_file and cert are mutually exclusive; keep one",
        f"{TLS}  key: x\n": "line 4: key_file and key are mutually exclusive; keep one",
        f"{MUTUAL}  client_ca: x\n": "line 6: client_ca_file and client_ca are mutually exclusive; keep one",
    },
    "an empty client_allowed_sans": {
        f"{MUTUAL}  client_allowed_sans: []\n": (
            "line 6: client_allowed_sans is empty, so no client would be accepted; add a name, or remove it"
        )
    },
    "max_version below min_version": {
        f"{TLS}  max_version: TLS12\n  min_version: TLS13\n": (
            "line 4: max_version TLS12 is below min_version TLS13; raise max_version or lower min_version"
        ),
        f"{TLS}  max_version: TLS11\n": (
            "line 4: max_version TLS11 is below min_version TLS12; raise max_version or lower min_version"
        ),
    },
    "cipher_suites of TLS 1.3 only, below that max_version": {
        f"{TLS}  max_version: TLS12\n  cipher_suites: [{', '.join(TLS13_SUITES)}]\n": (
            "line 5: cipher_suites has no suite for TLS12; add one"
        )
    },
    "a burst of 0 or less": {
        f"rate_limit:\n  interval: 1s\n{burst}": (
            f"line {line}: rate_limit without a burst would refuse every request; add one, such as burst: 5"
        )
        for burst, line in (("", 2), ("  burst: 0\n", 3), ("  burst: -1\n", 3))
    },
    "a header that is not one line of printable ASCII": {
        f"http_server_config:\n  headers: {{Content-Security-Policy: {value}}}\n": (
            "line 2: Content-Security-Policy must be a single line of printable ASCII"
        )
        for value in ('"a\\r\\nSet-Cookie: b"', "ä")
    },
    "a colon in the name of a user": {f"basic_auth_users:\n  a:b: {HASH}\n": f"line 2: {NO_USER}"},
    "a hash that is not one of bcrypt's $2a$, $2b$ or $2y$": {
        f"basic_auth_users:\n  alice: {HASH.replace('$2y$', '$2x$')}\n": f"line 2: {NO_HASH}",
        f"basic_auth_users:\n  alice: {HASH[:-1]}H\n": f"line 2: {NO_HASH}",
    },
    "<<, !!binary, a second document": {
        "<<: {http_server_config: {http2: false}}\n": f"line 1: unknown key '<<'; use one of {SECTIONS}",
        "tls_server_config: {min_version: !!binary VExTMTI=}\n": f"line 1: min_version {NO_TEXT}",
        "--- {}\n--- {}\n": (
            "line 2: not valid YAML: expected a single document in the stream, but found another document"
        ),
    },
}
"""Files that the toolkit accepts: the messages of their refusal, by the first column of the table in deploying.md."""

BAD = [
    *(bad for refused in REFUSED.values() for bad in refused.items()),
    # The file as a whole.
    ("tls_server_config", f"line 1: expected the keys of the web configuration: {SECTIONS}"),
    ("[]", f"line 1: expected the keys of the web configuration: {SECTIONS}"),
    ("\ntls_config: {}", f"line 2: unknown key 'tls_config'; use one of {SECTIONS}"),
    ("? []\n: 1", "line 1: expected a name, not a list or a mapping"),
    ("rate_limit:\nrate_limit:\n", "line 2: duplicate key rate_limit; keep one"),
    ("a: b: c", "line 1: not valid YAML: mapping values are not allowed here"),
    (
        "http_server_config: {\n",
        "line 2: not valid YAML: while parsing a flow node, expected the node content, but found '<stream end>'",
    ),
    ("rate_limit: *x", "line 1: not valid YAML: found undefined alias 'x'"),
    ("\0", "line 1: not valid YAML: unacceptable character #x0000: special characters are not allowed"),
    (b"\xff\xfe\xff", "line 1: not valid YAML: unacceptable character #x00ff: truncated data"),
    # Certificate and key.
    ("tls_server_config: x", f"line 1: expected the keys of tls_server_config: {TLS_KEYS}"),
    ("tls_server_config:\n- cert_file\n", f"line 2: expected the keys of tls_server_config: {TLS_KEYS}"),
    ("tls_server_config:\n  cert_path: x\n", f"line 2: unknown key 'cert_path'; use one of {TLS_KEYS}"),
    (f"{TLS}  key_file: server.key\n", "line 4: duplicate key key_file; keep one"),
    ("tls_server_config:\n  key_file: a\n", "line 2: tls_server_config has no certificate; add cert_file, or cert"),
    (
        "tls_server_config:\n  cert_file: ''\n  client_auth_type: NoClientCert\n",
        "line 2: tls_server_config has no certificate; add cert_file, or cert",
    ),
    (
        "tls_server_config:\n  cert: a\n  key_file:\n",
        "line 2: tls_server_config has no private key; add key_file, or key",
    ),
    (
        "tls_server_config:\n  key: x\n  cert_file: y\n  key_file: z\n",
        "line 4: key_file and key are mutually exclusive; keep one",
    ),
    ("tls_server_config:\n  cert_file: [a]\n", f"line 2: cert_file {NO_TEXT}"),
    ("tls_server_config:\n  cert: !!binary eA==\n", f"line 2: cert {NO_TEXT}"),
    (
        'tls_server_config:\n  cert_file: "a\\0b"\n',
        "line 2: cert_file contains an invalid character; remove it",
    ),
    ('tls_server_config:\n  cert: "\\ud800"\n', "line 2: cert contains an invalid character; remove it"),
    # Clients.
    (
        f"{TLS}  client_auth_type: Verify\n",
        f"line 4: unknown client_auth_type 'Verify'; use one of {', '.join(policy.value for policy in ClientAuth)}",
    ),
    (f"{TLS}  client_auth_type: [a]\n", f"line 4: client_auth_type {NO_TEXT}"),
    (
        f"{TLS}  client_ca_file: ca.crt\n",
        f"line 4: client_ca_file has no effect without client_auth_type; {VERIFY}",
    ),
    (
        f"{TLS}  client_auth_type: NoClientCert\n  client_ca: x\n",
        f"line 5: client_ca has no effect without client_auth_type; {VERIFY}",
    ),
    (
        f"{TLS}  client_allowed_sans: [a]\n",
        f"line 4: client_allowed_sans would accept clients without a certificate; {VERIFY}",
    ),
    (
        f"{TLS}  client_ca_file: a\n  client_auth_type: VerifyClientCertIfGiven\n  client_allowed_sans: [a]\n",
        f"line 6: client_allowed_sans would accept clients without a certificate; {VERIFY}",
    ),
    (f"{MUTUAL}  client_allowed_sans: a\n", "line 6: client_allowed_sans must be a list"),
    (f"{MUTUAL}  client_allowed_sans:\n  - a\n  - [b]\n", f"line 8: each item of client_allowed_sans {NO_TEXT}"),
    # Versions, suites, curves.
    (f"{TLS}  min_version: TLS9\n", "line 4: unknown min_version 'TLS9'; use one of TLS10, TLS11, TLS12, TLS13"),
    (f"{TLS}  max_version: 1.2\n", "line 4: unknown max_version '1.2'; use one of TLS10, TLS11, TLS12, TLS13"),
    (f"{TLS}  cipher_suites: {ONE_SUITE}\n", "line 4: cipher_suites must be a list"),
    (
        f"{TLS}  cipher_suites:\n  - {ONE_SUITE}\n  - TLS_NULL\n",
        f"line 6: unknown cipher_suites 'TLS_NULL'; use one of {', '.join([*SUITES, *TLS13_SUITES])}",
    ),
    (f"{TLS}  prefer_server_cipher_suites: 1\n", "line 4: prefer_server_cipher_suites must be true or false"),
    (
        f"{TLS}  prefer_server_cipher_suites: !!bool maybe\n",
        "line 4: prefer_server_cipher_suites must be true or false",
    ),
    (f"{TLS}  curve_preferences: X25519\n", "line 4: curve_preferences must be a list"),
    (
        f"{TLS}  curve_preferences: [P256]\n",
        "line 4: unknown curve_preferences 'P256'; use one of CurveP256, CurveP384, CurveP521, X25519",
    ),
    # HTTP.
    ("http_server_config: 7", "line 1: expected the keys of http_server_config: headers, http2"),
    ("http_server_config:\n  http3: true\n", "line 2: unknown key 'http3'; use one of headers, http2"),
    ("http_server_config:\n  http2: 'true'\n", "line 2: http2 must be true or false"),
    ("http_server_config:\n  http2: []\n", "line 2: http2 must be true or false"),
    ("http_server_config:\n  headers: [Server]\n", f"line 2: expected the keys of headers: {HEADERS}"),
    ("http_server_config:\n  headers:\n    Server: x\n", f"line 3: unknown key 'Server'; use one of {HEADERS}"),
    (
        "http_server_config:\n  headers:\n    x-frame-options: deny\n",
        f"line 3: unknown key 'x-frame-options'; use one of {HEADERS}",
    ),
    (
        "http_server_config:\n  headers: {X-Frame-Options: allow}\n",
        "line 2: X-Frame-Options must be deny or sameorigin",
    ),
    ("http_server_config:\n  headers: {X-Frame-Options: ''}\n", "line 2: X-Frame-Options must be deny or sameorigin"),
    (
        "http_server_config:\n  headers: {X-Content-Type-Options: x}\n",
        "line 2: X-Content-Type-Options must be nosniff",
    ),
    (
        "http_server_config:\n  headers: {X-XSS-Protection: [0]}\n",
        "line 2: expected a name, not a list or a mapping",
    ),
    # Users.
    ("basic_auth_users: [alice]", "line 1: expected basic_auth_users to be a mapping of user names to bcrypt hashes"),
    ("basic_auth_users:\n  alice: secret\n", f"line 2: {NO_HASH}"),
    ("basic_auth_users:\n  alice:\n", f"line 2: {NO_HASH}"),
    ("basic_auth_users:\n  alice: ''\n", f"line 2: {NO_HASH}"),
    (f"basic_auth_users:\n  alice: {HASH}x\n", f"line 2: {NO_HASH}"),
    (f"basic_auth_users:\n  alice: {HASH[:-1]}\n", f"line 2: {NO_HASH}"),
    (f"basic_auth_users:\n  alice: {HASH.replace('.zou', '.zov')}\n", f"line 2: {NO_HASH}"),
    (f"basic_auth_users:\n  alice: {HASH.replace('$10$', '$03$')}\n", f"line 2: {NO_HASH}"),
    (f"basic_auth_users:\n  alice: {HASH.replace('$10$', '$32$')}\n", f"line 2: {NO_HASH}"),
    ("basic_auth_users:\n  alice: $argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHQ\n", f"line 2: {NO_HASH}"),
    (f"basic_auth_users:\n  {HASH}: alice\n", f"line 2: {NO_HASH}"),
    ("basic_auth_users:\n  alice: [x]\n", f"line 2: the hash of this user in basic_auth_users {NO_TEXT}"),
    ("basic_auth_users:\n  alice: 7\n", f"line 2: {NO_HASH}"),
    (
        f"basic_auth_users:\n  alice: {HASH}\n  alice: {HASH}\n",
        "line 3: duplicate key alice; keep one",
    ),
    (f'basic_auth_users:\n  "\\ud800": {HASH}\n', f"line 2: {NO_USER}"),
    # Rate limit.
    ("rate_limit: 1s", "line 1: expected the keys of rate_limit: burst, interval"),
    ("rate_limit:\n  every: 1s\n", "line 2: unknown key 'every'; use one of burst, interval"),
    (
        "rate_limit:\n  burst: 5\n  interval: '5'\n",
        "line 3: interval '5' is not a duration; use one such as 60s, 1m30s or 500ms",
    ),
    (
        "rate_limit:\n  interval: 1 s\n",
        "line 2: interval '1 s' is not a duration; use one such as 60s, 1m30s or 500ms",
    ),
    (
        "rate_limit:\n  interval: --1s\n",
        "line 2: interval '-1s' is not a duration; use one such as 60s, 1m30s or 500ms",
    ),
    ("rate_limit:\n  interval: [1s]\n", f"line 2: interval {NO_TEXT}"),
    (
        "rate_limit:\n  interval: 9999999h\n",
        "line 2: interval '9999999h' is longer than 290 years; use a shorter duration, such as 60s, 1m30s or 500ms",
    ),
    *(
        (f"rate_limit:\n  interval: 1s\n  burst: {text}\n", "line 3: burst must be a whole number, such as 5")
        for text in ("'5'", "five", "5s", "[5]", "9223372036854775808", "1e999", "0x", "\u0665", ".inf")
    ),
]


@pytest.mark.parametrize("case", [*GOOD, *NEWER, *OTHERS])
def test_a_good_configuration_is_its_value(case: str) -> None:
    """The parsed value equals the expected one in every field."""
    text, expected = (GOOD | NEWER | OTHERS)[case]
    assert parse_web_config(text.encode(), FOLDER) == expected


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_bad_configuration_says_what_to_write_and_where(text: str | bytes, message: str) -> None:
    """The error has the line and what to write, and never contains a hash."""
    with pytest.raises(InputError) as caught:
        parse_web_config(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text, FOLDER)
    assert str(caught.value) == message
    assert HASH[7:] not in message


def test_the_page_names_what_is_refused() -> None:
    """docs/deploying.md has what the toolkit accepts and the exporter refuses, with a reason."""
    assert list(table("deploying.md", "refused")) == list(REFUSED)


@pytest.mark.parametrize(
    ("policy", "warned"),
    [
        ("RequestClientCert", "verifies nothing and accepts every client; use RequireAndVerifyClientCert"),
        ("VerifyClientCertIfGiven", "accepts the certificates of every authority that this system trusts; add"),
        ("RequireAndVerifyClientCert", "accepts the certificates of every authority that this system trusts; add"),
        ("NoClientCert", ""),
    ],
)
def test_a_policy_that_lets_in_strangers(policy: str, warned: str) -> None:
    """There is a warning where an operator may believe that clients are verified."""
    tls = parse_web_config(f"{TLS}  client_auth_type: {policy}\n".encode(), FOLDER).tls
    assert tls is not None
    assert warned in tls.warning
    assert bool(tls.warning) == bool(warned)
    assert not VERIFIED.warning


def test_no_secret_is_shown_with_the_value() -> None:
    """The representation of a configuration contains neither hashes nor keys, so that logging it is safe."""
    shown = repr(
        parse_web_config(
            f"tls_server_config: {{cert: c, key: hidden}}\nbasic_auth_users: {{a: {HASH}}}".encode(), FOLDER
        )
    )
    assert "hidden" not in shown
    assert HASH not in shown


def test_the_files_of_a_configuration() -> None:
    """The files whose changes cause a reload are listed; inline values have none."""
    config = parse_web_config(MUTUAL.encode(), FOLDER)
    assert config.tls is not None
    assert config.tls.files == (FOLDER / "server.crt", FOLDER / "server.key", FOLDER / "ca.crt")
    half = OTHERS["half inline"][1].tls
    assert half is not None
    assert half.files == (FOLDER / "server.crt",)


WORDS = st.sampled_from(
    [
        *("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit", "headers", "http2", "interval"),
        *("cert_file", "key", "client_ca", "client_auth_type", "client_allowed_sans", "min_version", "cipher_suites"),
        *(": ", "\n", "\n  ", "\n    ", "- ", "[", "]", "{", "}", ", ", "'", '"', "|\n", "&a ", "*a", "!!int ", "? "),
        *(
            "TLS12",
            "RequireAnyClientCert",
            "1s",
            "0",
            "5",
            "true",
            "~",
            HASH,
            "X-Frame-Options",
            "\\ud800",
            "\0",
            "\x85",
        ),
    ]
)


@given(
    st.binary()
    | st.text().map(lambda text: text.encode("utf-8", "replace"))
    | st.lists(WORDS).map("".join).map(str.encode)
)
def test_any_bytes_are_a_configuration_or_an_error(content: bytes) -> None:
    """Any input is a configuration or a InputError with a line number."""
    try:
        config = parse_web_config(content, FOLDER)
    except InputError as error:
        assert str(error).startswith("line ")  # noqa: PT017 - both ends are right
    else:
        assert isinstance(config, WebConfig)
