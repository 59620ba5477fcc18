"""Real Prometheus servers scrape an exporter that wants TLS, a password or a certificate."""

from pathlib import Path

import pytest

from lab.exporter import exporter
from lab.secure import MUTUAL, PASSWORD, TLS, USERS, make_server, web_config
from tests.support.monitoring.prometheus import prometheus
from tests.support.tools import EACH_RELEASE

TRUST = "scheme: https\ntls_config:\n  ca_file: {folder}/ca.crt\n"
LOGIN = "basic_auth:\n  username: prometheus\n  password: {password}\n"
CERTIFICATE = "  cert_file: {folder}/client.crt\n  key_file: {folder}/client.key\n"


@pytest.mark.parametrize("release", EACH_RELEASE)
@pytest.mark.parametrize(
    ("exporters", "servers", "health", "problem"),
    [
        (TLS + USERS, TRUST + LOGIN, "up", ""),
        (MUTUAL, TRUST + CERTIFICATE, "up", ""),
        (TLS + USERS, TRUST, "down", "server returned HTTP status 401 Unauthorized"),
    ],
    ids=["TLS and password", "client certificate", "no password"],
)
def test_a_secure_target(tmp_path: Path, release: str, exporters: str, servers: str, health: str, problem: str) -> None:
    """What the exporter wants, a server of either release can give; what it lacks, the server is told."""
    certificates = make_server(tmp_path)
    certificates.make("client", signer="ca", sans="DNS:prometheus")
    settings = servers.format(folder=tmp_path, password=PASSWORD)
    with exporter(f"--web.config.file={web_config(tmp_path, exporters)}") as running:
        with prometheus(release, running.port, tmp_path, settings) as server:
            target = server.target()
            assert (target["health"], target["lastError"]) == (health, problem)
        assert running.stop() == 0
        assert {line.split(" ")[1] for line in running.log} == {"level=info"}
