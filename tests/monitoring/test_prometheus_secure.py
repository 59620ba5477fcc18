"""Real Prometheus servers scrape an exporter with TLS, passwords or certificates, and show why they are refused."""

from pathlib import Path
from typing import NamedTuple

import pytest

from lab.exporter import exporter
from lab.secure import MUTUAL, PASSWORD, TLS, USERS, ask, make_server, web_config
from tests.support.monitoring.prometheus import prometheus
from tests.support.tools import EACH_RELEASE

TRUST = "scheme: https\ntls_config:\n  ca_file: {folder}/ca.crt\n"
LOGIN = "basic_auth:\n  username: prometheus\n  password: {password}\n"
CERTIFICATE = "  cert_file: {folder}/{name}.crt\n  key_file: {folder}/{name}.key\n"
CLIENT, STRANGER = (CERTIFICATE.replace("{name}", name) for name in ("client", "unknown"))
ONCE = "rate_limit:\n  interval: 1h\n  burst: 1\n"


class Target(NamedTuple):
    """How an exporter serves, how a Prometheus scrapes it, and the reason that is shown for a failure."""

    exporters: str
    servers: str
    problem: str = ""


TARGETS = {
    "TLS and password": Target(TLS + USERS, TRUST + LOGIN),
    "client certificate": Target(MUTUAL, TRUST + CLIENT),
    "no password": Target(TLS + USERS, TRUST, "server returned HTTP status 401 Unauthorized"),
    "wrong password": Target(
        TLS + USERS,
        TRUST + LOGIN.format(password="wrong"),  # noqa: S106 - of tests only
        "server returned HTTP status 401 Unauthorized",
    ),
    "no certificate": Target(MUTUAL, TRUST, "remote error: tls: certificate required"),
    "a stranger's certificate": Target(MUTUAL, TRUST + STRANGER, "remote error: tls: unknown certificate authority"),
    "a name that is not allowed": Target(
        f"{MUTUAL}  client_allowed_sans: [elsewhere]\n", TRUST + CLIENT, "server returned HTTP status 403 Forbidden"
    ),
    "http on the port of https": Target(TLS, "", "server returned HTTP status 400 Bad Request"),
    "https on the port of http": Target("", TRUST, "http: server gave HTTP response to HTTPS client"),
    "too often": Target(ONCE, "", "server returned HTTP status 429 Too Many Requests"),
}


@pytest.mark.parametrize("release", EACH_RELEASE)
@pytest.mark.parametrize("name", TARGETS)
def test_a_secure_target(tmp_path: Path, release: str, name: str) -> None:
    """A server of either release can give what the exporter wants; its page of targets has the reason of a refusal."""
    target = TARGETS[name]
    certificates = make_server(tmp_path)
    certificates.make("client", signer="ca", sans="DNS:prometheus")
    certificates.make("stranger")
    certificates.make("unknown", signer="stranger", sans="DNS:prometheus")
    settings = target.servers.format(folder=tmp_path, password=PASSWORD)
    with exporter(f"--web.config.file={web_config(tmp_path, target.exporters)}") as running:
        if target.exporters == ONCE:
            ask(running.port)
        with prometheus(release, running.port, tmp_path, settings) as server:
            found = server.target()
        assert running.stop() == 0
        assert {line.split(" ")[1] for line in running.log} == {"level=info"}
    said = found["lastError"].rpartition('/metrics": ')[2]
    assert (found["health"], said) == ("down" if target.problem else "up", target.problem)
