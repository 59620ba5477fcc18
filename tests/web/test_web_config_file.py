"""The web configuration's file and those that it names: what changes is served, what breaks is not."""

import logging
import os
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kvm_exporter.config.web import RateLimit, WebConfig, WebConfigError
from kvm_exporter.web.guard import MAX_BYTES, WebConfigFile
from lab.certificates import Certificates
from tests.support.rooms.certificates import certificates

HASH = "$2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG"

TLS = "tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Certificates with their keys."""
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def install(issued: Certificates, tmp_path: Path) -> Callable[[str], None]:
    """Puts a certificate and its key where the configuration expects them."""

    def copy(name: str) -> None:
        for kind in ("crt", "key"):
            put(tmp_path / f"tls.{kind}", (issued / f"{name}.{kind}").read_bytes())

    copy("server")
    return copy


def put(path: Path, content: str | bytes) -> None:
    """Replace a file, as deployments do."""
    temporary = path.with_name("temporary")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    temporary.replace(path)


def served_name(file: WebConfigFile) -> object:
    """Whose certificate a client is shown."""
    assert file.context is not None
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), file.context.wrap_bio(to_server, to_client, server_side=True)]
    for end in ends * 2:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return ends[0].getpeercert(binary_form=True)


def der(path: Path) -> bytes:
    """A certificate as it goes over the wire."""
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def messages(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What was logged since the last time."""
    found = [(record.levelname, record.getMessage()) for record in caplog.records]
    caplog.clear()
    return found


@pytest.fixture
def path(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Path:
    """Where the configuration is."""
    caplog.set_level(logging.INFO)
    return tmp_path / "web.yml"


def test_a_configuration_is_there_from_the_start(path: Path, install: Callable[[str], None]) -> None:
    """Relative paths are relative to its folder, wherever the exporter was started."""
    install("server")
    put(path, TLS + "rate_limit: {interval: 1s, burst: 2}\n")
    before = time.time()
    file = WebConfigFile(path)
    assert file.config.rate_limit == RateLimit(10**9, 2)
    assert served_name(file) == der(path.with_name("tls.crt"))
    assert file.last_reload_successful
    assert before <= file.last_reload_timestamp <= time.time()


def test_an_empty_file_is_plain_http_for_everybody(path: Path) -> None:
    """As in the toolkit."""
    put(path, "")
    file = WebConfigFile(path)
    assert (file.config, file.context) == (WebConfig(), None)


def test_a_path_relative_to_where_the_exporter_runs(
    path: Path, install: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual way to try something out."""
    install("server")
    put(path, TLS)
    monkeypatch.chdir(path.parent)
    assert WebConfigFile(Path("web.yml")).context is not None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory; give another with --web.config.file"),
        (
            b"nonsense: 1",
            (
                "line 1: unknown key 'nonsense'; known here: basic_auth_users, http_server_config, rate_limit, "
                "tls_server_config"
            ),
        ),
        (b"#" * (MAX_BYTES + 1), "over 131072 bytes; is this a web configuration?"),
        (
            TLS.encode(),
            (
                "cert_file: {folder}/tls.crt: cannot be read: No such file or directory; "
                "name a file that the exporter may read"
            ),
        ),
        (
            b"tls_server_config: {cert: secret, key: secret}",
            "cert: has no certificates that OpenSSL can read; they have to be PEM",
        ),
    ],
)
def test_what_is_broken_from_the_start(path: Path, content: bytes | None, message: str) -> None:
    """The message names the file, and what to do."""
    if content is not None:
        put(path, content)
    with pytest.raises(WebConfigError) as caught:
        WebConfigFile(path)
    assert str(caught.value) == f"{path}: " + message.format(folder=path.parent)


def test_nothing_is_read_while_nothing_changes(
    path: Path, install: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    """A look at a file costs little, a handshake's context much."""
    install("server")
    put(path, TLS)
    file = WebConfigFile(path)
    config, context, timestamp = file.config, file.context, file.last_reload_timestamp
    for _ in range(3):
        file.refresh()
    assert file.config is config
    assert file.context is context
    assert file.last_reload_timestamp == timestamp
    assert messages(caplog) == []


def test_a_change_is_noticed(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """All of it at once."""
    put(path, f"basic_auth_users: {{alice: {HASH}}}\n")
    file = WebConfigFile(path)
    put(path, "http_server_config: {http2: false}\n")
    file.refresh()
    assert not file.config.users
    assert not file.config.http.http2
    assert messages(caplog) == [("INFO", f"the web configuration was read again from {path}")]


@pytest.mark.parametrize("through_link", [False, True], ids=["replaced", "another target"])
def test_a_new_certificate_is_served(
    path: Path, install: Callable[[str], None], issued: Certificates, *, through_link: bool
) -> None:
    """Although the configuration stays the same; a link whose target is another one is a change."""
    install("server")
    if through_link:
        for kind in ("crt", "key"):
            path.with_name(f"tls.{kind}").unlink()
            path.with_name(f"tls.{kind}").symlink_to(issued / f"server.{kind}")
    put(path, TLS)
    file = WebConfigFile(path)
    before = file.context
    if through_link:
        for kind in ("crt", "key"):
            os.symlink(issued / f"rsa.{kind}", path.with_name("link"))  # noqa: PTH211 - as deployments do
            path.with_name("link").replace(path.with_name(f"tls.{kind}"))
    else:
        install("rsa")
    file.refresh()
    assert served_name(file) == der(issued / "rsa.crt")
    assert file.context is not before


def test_a_broken_change_leaves_everything_as_it_was(
    path: Path, install: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged once, shows, and is over when it is repaired; the same for a second one."""
    install("server")
    put(path, f"{TLS}basic_auth_users: {{alice: {HASH}}}\n")
    file = WebConfigFile(path)
    config, context = file.config, file.context
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
        assert file.config is config
        assert file.context is context
        assert not file.last_reload_successful
        [(level, message)] = messages(caplog)
        assert level == "ERROR"
        assert message.startswith(f"the web configuration stays as it was: {path}: {why or 'cannot be read'}")
        assert "hunter2" not in message
    put(path, TLS)
    file.refresh()
    assert file.last_reload_successful
    assert not file.config.users
    assert messages(caplog) == [("INFO", f"the web configuration was read again from {path}")]


def test_a_file_that_is_being_written_lets_in_nobody_else(path: Path) -> None:
    """An empty file is a configuration at the start, but later it is more likely to be half a change."""
    put(path, f"basic_auth_users: {{alice: {HASH}}}\n")
    file = WebConfigFile(path)
    path.write_text("")
    file.refresh()
    assert set(file.config.users) == {"alice"}
    assert not file.last_reload_successful
    put(path, "{}")
    file.refresh()
    assert file.config == WebConfig()
    assert file.last_reload_successful


def test_a_certificate_without_its_key_yet(
    path: Path, install: Callable[[str], None], issued: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """Between the first file that is replaced and the second, the old pair is served."""
    install("server")
    put(path, TLS)
    file = WebConfigFile(path)
    put(path.with_name("tls.crt"), (issued / "rsa.crt").read_bytes())
    file.refresh()
    file.refresh()
    assert served_name(file) == der(issued / "server.crt")
    assert not file.last_reload_successful
    assert [level for level, _ in messages(caplog)] == ["ERROR"]
    put(path.with_name("tls.key"), (issued / "rsa.key").read_bytes())
    file.refresh()
    assert served_name(file) == der(issued / "rsa.crt")
    assert file.last_reload_successful


def test_a_file_that_was_missing_is_noticed_when_it_comes(path: Path, install: Callable[[str], None]) -> None:
    """The configuration names it, but it is written later."""
    put(path, "")
    file = WebConfigFile(path)
    path.with_name("tls.key").unlink()
    put(path, TLS)
    file.refresh()
    assert not file.last_reload_successful
    install("rsa")
    file.refresh()
    assert file.last_reload_successful
    assert file.context is not None


def test_reading_again_on_demand(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody who sends a signal wants to see that something happens."""
    put(path, "")
    file = WebConfigFile(path)
    before = file.last_reload_timestamp
    file.reload()
    assert file.last_reload_timestamp > before
    assert file.last_reload_successful
    assert len(messages(caplog)) == 1
