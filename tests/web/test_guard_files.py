"""kvm_exporter.web.guard: the web configuration's file and the files it names, valid changes and invalid ones."""

import logging
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kvm_exporter.config.files import Reloaded
from kvm_exporter.config.web import RateLimit, WebConfig
from kvm_exporter.errors import InputError
from kvm_exporter.web.guard import MAX_BYTES, Web, watch_web_config
from lab.certificates import Certificates
from tests.support.rooms.certificates import certificates

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"

TLS = "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"


KEPT = "could not reload the web configuration, keeping the previous one:"


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates with their keys."""
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def install(issued: Certificates, tmp_path: Path) -> Callable[[str], None]:
    """A function that installs a certificate and its key where the configuration expects them."""

    def copy(name: str) -> None:
        for kind in ("crt", "key"):
            put(tmp_path / f"tls.{kind}", (issued / f"{name}.{kind}").read_bytes())

    copy("server")
    return copy


def put(path: Path, content: str | bytes) -> None:
    """Replace a file by a rename, as deployments do."""
    temporary = path.with_name("temporary")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    temporary.replace(path)


def served_name(file: Reloaded[Web]) -> object:
    """Return the certificate that a client receives, in DER."""
    assert file.value.context is not None
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), file.value.context.wrap_bio(to_server, to_client, server_side=True)]
    for end in ends * 2:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return ends[0].getpeercert(binary_form=True)


def der(path: Path) -> bytes:
    """Return a certificate in DER."""
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def messages(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return the records that were logged since the last call."""
    found = [(record.levelname, record.getMessage()) for record in caplog.records]
    caplog.clear()
    return found


@pytest.fixture
def path(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Path:
    """The path of the configuration."""
    caplog.set_level(logging.INFO)
    return tmp_path / "web.yml"


def test_a_configuration_is_there_from_the_start(path: Path, install: Callable[[str], None]) -> None:
    """Relative paths in the configuration are relative to its folder, not to the working directory."""
    install("server")
    put(path, TLS + "rate_limit: {interval: 1s, burst: 2}\n")
    before = time.time()
    file = watch_web_config(path, None)
    assert file.value.config.rate_limit == RateLimit(10**9, 2)
    assert served_name(file) == der(path.with_name("tls.crt"))
    assert file.success
    assert before <= file.timestamp <= time.time()


def test_an_empty_file_is_plain_http_for_everybody(path: Path) -> None:
    """An empty file means plain HTTP without passwords, as in the toolkit."""
    put(path, "")
    file = watch_web_config(path, None)
    assert (file.value.config, file.value.context) == (WebConfig(), None)


def test_a_path_relative_to_where_the_exporter_runs(
    path: Path, install: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration's own path can be relative to the working directory."""
    install("server")
    put(path, TLS)
    monkeypatch.chdir(path.parent)
    assert watch_web_config(Path("web.yml"), None).value.context is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory; give another with --web.config.file"),
        (
            b"nonsense: 1",
            (
                "line 1: unknown key 'nonsense'; use one of basic_auth_users, http_server_config, rate_limit, "
                "tls_server_config"
            ),
        ),
        (b"#" * (MAX_BYTES + 1), "is larger than 131072 bytes; check that it is a web configuration"),
        (
            TLS.encode(),
            (
                "cert_file: {folder}/tls.crt: cannot be read: No such file or directory; "
                "give a file that the exporter can read"
            ),
        ),
        (
            b"tls_server_config: {cert: secret, key: secret}",
            "cert: contains no certificate that OpenSSL can read; it must be PEM",
        ),
    ],
)
def test_what_is_broken_from_the_start(path: Path, content: bytes | None, message: str) -> None:
    """The error names the file and the remedy."""
    if content is not None:
        put(path, content)
    with pytest.raises(InputError) as caught:
        watch_web_config(path, None)
    assert str(caught.value) == f"{path}: " + message.format(folder=path.parent)


def test_nothing_is_read_while_nothing_changes(
    path: Path, install: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    """While no file changes, nothing is loaded again, because a TLS context is expensive to make."""
    install("server")
    put(path, TLS)
    file = watch_web_config(path, None)
    config, context, timestamp = file.value.config, file.value.context, file.timestamp
    for _ in range(3):
        file.refresh()
    assert file.value.config is config
    assert file.value.context is context
    assert file.timestamp == timestamp
    assert messages(caplog) == []


def test_a_change_is_noticed(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A changed configuration replaces the previous one as a whole."""
    put(path, f"basic_auth_users: {{alice: {HASH}}}\n")
    file = watch_web_config(path, None)
    put(path, "http_server_config: {headers: {X-Frame-Options: deny}}\n")
    file.refresh()
    assert not file.value.config.users
    assert file.value.config.headers == (("X-Frame-Options", "deny"),)
    assert messages(caplog) == [("INFO", f"reloaded the web configuration from {path}")]


@pytest.mark.parametrize("through_link", [False, True], ids=["replaced", "another target"])
def test_a_new_certificate_is_served(
    path: Path, install: Callable[[str], None], issued: Certificates, *, through_link: bool
) -> None:
    """A changed certificate is loaded although the configuration is the same; a link to another target is a change."""
    install("server")
    if through_link:
        for kind in ("crt", "key"):
            path.with_name(f"tls.{kind}").unlink()
            path.with_name(f"tls.{kind}").symlink_to(issued / f"server.{kind}")
    put(path, TLS)
    file = watch_web_config(path, None)
    before = file.value.context
    if through_link:
        for kind in ("crt", "key"):
            os.symlink(issued / f"rsa.{kind}", path.with_name("link"))  # noqa: PTH211 - as deployments do
            path.with_name("link").replace(path.with_name(f"tls.{kind}"))
    else:
        install("rsa")
    file.refresh()
    assert served_name(file) == der(issued / "rsa.crt")
    assert file.value.context is not before


def test_a_broken_change_leaves_everything_as_it_was(
    path: Path, install: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    """An invalid change keeps the previous configuration and is logged once; its repair is logged as well."""
    install("server")
    put(path, f"{TLS}basic_auth_users: {{alice: {HASH}}}\n")
    file = watch_web_config(path, None)
    config, context = file.value.config, file.value.context
    for broken, why in (
        ("basic_auth_users: {alice: hunter2}\n", "line 1: the hash of this user"),
        ("tls_server_config: {cert_file: none, key_file: tls.key}\n", f"cert_file: {path.parent}/none: cannot be read"),
        ("", None),
    ):
        if why is None:
            path.unlink()
        else:
            put(path, broken)
        for _ in range(3):
            file.refresh()
        assert file.value.config is config
        assert file.value.context is context
        assert not file.success
        [(level, message)] = messages(caplog)
        assert level == "ERROR"
        assert message.startswith(
            f"could not reload the web configuration, keeping the previous one: {path}: {why or 'cannot be read'}"
        )
        assert "hunter2" not in message
    put(path, TLS)
    file.refresh()
    assert file.success
    assert not file.value.config.users
    assert messages(caplog) == [("INFO", f"reloaded the web configuration from {path}")]


@pytest.mark.parametrize("left", ["", "\n", "# managed\n", "basic_auth_users:\n", "tls_server_config: {}\n", "---\n"])
def test_a_file_without_settings_lets_in_nobody_else(path: Path, left: str, caplog: pytest.LogCaptureFixture) -> None:
    """A file that loses its last setting is invalid, for it is probably being written, unless it says ``{}``."""
    put(path, f"basic_auth_users: {{alice: {HASH}}}\n")
    file = watch_web_config(path, None)
    put(path, left)
    file.refresh()
    assert set(file.value.config.users) == {"alice"}
    assert not file.success
    why = "has no settings any more; to serve without TLS and passwords, let it contain {}"
    assert messages(caplog) == [("ERROR", f"{KEPT} {path}: {why}")]
    put(path, "# managed\n{}\n")
    file.refresh()
    assert file.value.config == WebConfig()
    assert file.success


def test_a_certificate_without_its_key_yet(
    path: Path, install: Callable[[str], None], issued: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """Until both the certificate and the key are replaced, the previous pair is served."""
    install("server")
    put(path, TLS)
    file = watch_web_config(path, None)
    put(path.with_name("tls.crt"), (issued / "rsa.crt").read_bytes())
    file.refresh()
    file.refresh()
    assert served_name(file) == der(issued / "server.crt")
    assert not file.success
    assert [level for level, _ in messages(caplog)] == ["ERROR"]
    put(path.with_name("tls.key"), (issued / "rsa.key").read_bytes())
    file.refresh()
    assert served_name(file) == der(issued / "rsa.crt")
    assert file.success


def test_a_file_that_was_missing_is_noticed_when_it_comes(path: Path, install: Callable[[str], None]) -> None:
    """A certificate file that is missing after a reload is loaded when it appears."""
    put(path, "")
    file = watch_web_config(path, None)
    path.with_name("tls.key").unlink()
    put(path, TLS)
    file.refresh()
    assert not file.success
    install("rsa")
    file.refresh()
    assert file.success
    assert file.value.context is not None


def test_reading_again_on_demand(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """reload() loads the files and logs it even if nothing has changed, as SIGHUP requires."""
    put(path, "")
    file = watch_web_config(path, None)
    before = file.timestamp
    file.reload()
    assert file.timestamp > before
    assert file.success
    assert len(messages(caplog)) == 1
