"""Real Prometheus servers scrape an exporter with TLS, passwords or certificates, and show why they are refused."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from lab.exporter import Exporter, exporter
from lab.secure import MUTUAL, PASSWORD, TLS, USERS, ask, make_server
from tests.support.monitoring.prometheus import Scraped, prometheus
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


@pytest.fixture(scope="module", params=EACH_RELEASE)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, dict[str, Any]]:
    """How one server of a release finds all targets, each of which is an exporter and a job of the target's name."""
    folder = tmp_path_factory.mktemp("secure")
    certificates = make_server(folder)
    certificates.make("client", signer="ca", sans="DNS:prometheus")
    certificates.make("stranger")
    certificates.make("unknown", signer="stranger", sans="DNS:prometheus")
    with ExitStack() as stack:
        jobs: dict[str, Scraped] = {}
        running: list[Exporter] = []
        for number, (name, target) in enumerate(TARGETS.items()):
            path = folder / f"web-{number}.yml"
            path.write_text(target.exporters)
            running.append(stack.enter_context(exporter(f"--web.config.file={path}")))
            if target.exporters == ONCE:
                ask(running[-1].port)
            jobs[name] = Scraped(running[-1].port, target.servers.format(folder=folder, password=PASSWORD))
        with prometheus(request.param, folder, jobs) as server:
            targets = {name: server.target(name) for name in TARGETS}
        for one in running:
            assert one.stop() == 0
            assert {line.split(" ")[1] for line in one.log} == {"level=info"}
    return targets


@pytest.mark.parametrize("name", TARGETS)
def test_a_secure_target(found: Mapping[str, dict[str, Any]], name: str) -> None:
    """A server of either release can give what the exporter wants; its page of targets has the reason of a refusal."""
    problem = TARGETS[name].problem
    said = found[name]["lastError"].rpartition('/metrics": ')[2]
    # Go's transport says first where it was when the peer's alert came, if that was between two requests.
    said = said.removeprefix("readLoopPeekFailLocked: ")
    assert (found[name]["health"], said) == ("down" if problem else "up", problem)
