"""Web configurations that the exporter takes are those that Prometheus' own exporter toolkit takes, old and new.

So are those that docs/deploying.md says it refuses.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.certificates import Certificates
from lab.patience import PATIENCE_SECONDS
from tests.config.test_web import GOOD, NEWER, REFUSED
from tests.support.tools import monitoring_program

NEW_KEYS = ("client_allowed_sans", "rate_limit", "cert:", "key:", "client_ca:")
"""What the toolkit of Debian 12 does not know."""

REFUSED_HERE = {text: f"{reason}: {text}" for reason, texts in REFUSED.items() for text in texts}
OLD_REFUSED = {name: text for text, name in REFUSED_HERE.items() if not any(key in text for key in NEW_KEYS)}
NEW_REFUSED = {name: text for text, name in REFUSED_HERE.items() if name not in OLD_REFUSED}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The files that the configurations name."""
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    made.make("ca")
    made.make("server", signer="ca", sans="DNS:localhost")
    return made


@pytest.mark.parametrize("case", [*GOOD, *OLD_REFUSED])
def test_the_toolkit_of_debian_12_accepts_the_same(certificates: Certificates, case: str) -> None:
    """Promtool has the exporter toolkit in it."""
    file = certificates / "web.yml"
    file.write_text(GOOD[case][0] if case in GOOD else OLD_REFUSED[case])
    promtool = monitoring_program("bookworm", "promtool")
    checked = subprocess.run(
        [promtool, "check", "web-config", file], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, f"{file} SUCCESS\n")


def inline(certificates: Certificates) -> str:
    """A configuration with everything written into it."""
    lines = ["tls_server_config:", "  client_auth_type: RequireAndVerifyClientCert"]
    for key, name in ("cert", "server.crt"), ("key", "server.key"), ("client_ca", "ca.crt"):
        lines += [f"  {key}: |", *(f"    {line}" for line in (certificates / name).read_text().splitlines())]
    return "\n".join(lines) + "\n"


def log_of(command: list[str]) -> Iterator[str]:
    """What a program logs, while the block runs."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        try:
            yield from process.stderr
        finally:
            process.kill()


def cases() -> Iterator[object]:
    """The names of files for the newest toolkit; the many forms of a number are slow."""
    for case in (*NEWER, *NEW_REFUSED, "inline"):
        yield pytest.param(case, marks=pytest.mark.slow) if case.startswith("the number") else case


@pytest.mark.parametrize("case", list(cases()))
def test_the_newest_toolkit_accepts_the_same(certificates: Certificates, tmp_path: Path, case: str) -> None:
    """Prometheus itself, started with the file."""
    file, main = certificates / "web.yml", tmp_path / "prometheus.yml"
    texts = {name: text for name, (text, _) in NEWER.items()} | NEW_REFUSED
    file.write_text(texts[case] if case in texts else inline(certificates))
    main.write_text("{}\n")
    served = "TLS is enabled" if "tls_server_config" in file.read_text() else "TLS is disabled"
    command = [
        monitoring_program("sid", "prometheus"),
        *(f"--config.file={main}", f"--web.config.file={file}", f"--storage.tsdb.path={tmp_path}"),
        "--web.listen-address=127.0.0.1:0",
    ]
    log: list[str] = []
    for line in log_of(command):
        log.append(line)
        if served in line:
            return
    pytest.fail("".join(log))
