"""The running program with a web configuration: TLS, client certificates, passwords, and their changes."""

import select
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import bcrypt
import pytest

from benchmarks.programs import free_port
from kvm_exporter.web.turns import MAX_OF_PEER
from lab.certificates import Certificates
from lab.exporter import PROGRAM, Exporter, exporter
from lab.notifications import notified_exporter
from lab.patience import PATIENCE_SECONDS
from lab.proc import errors, sockets, wait_until
from lab.scrape import Scrape
from lab.secure import (
    HASH,
    MUTUAL,
    PASSWORD,
    REFUSED,
    SLOW_HASH,
    TLS,
    USERS,
    ask,
    ask_on,
    basic,
    client,
    connection,
    make_server,
    until_the_end,
    web_config,
)
from tests.support.system.latch import Latch
from tests.support.tools import missing, program

SERVE = PROGRAM[:-1]
"""The program without an address."""

SUCCESSFUL = "kvm_exporter_web_config_last_reload_successful"

EXPIRY = "kvm_exporter_web_certificate_expiry_timestamp_seconds"

KEPT = "could not reload the web configuration, keeping the previous one"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A server, a second one to swap in, clients with names, and one that a stranger has signed."""
    certificates = make_server(tmp_path_factory.mktemp("certificates"))
    certificates.make("other", signer="ca", sans="IP:127.0.0.1")
    certificates.make("client", signer="ca", sans="DNS:prometheus,URI:spiffe://x/y")
    certificates.make("someone", signer="ca", sans="DNS:someone")
    # With an e-mail address that is no text.
    certificates.make("odd", signer="ca", sans="DER:30:03:81:01:FF")
    certificates.make("stranger")
    certificates.make("unknown", signer="stranger", sans="DNS:prometheus")
    return certificates


@pytest.fixture
def folder(made: Certificates, tmp_path: Path) -> Certificates:
    """A copy of them for a test that changes them."""
    return Certificates(shutil.copytree(made.folder, tmp_path / "web"))


def secure(certificates: Certificates, text: str) -> str:
    """The flag that gives a configuration."""
    return f"--web.config.file={web_config(certificates.folder, text)}"


# TLS.


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_metrics_over_tls(made: Certificates, version: ssl.TLSVersion) -> None:
    """Both versions of today, whole bodies, one request after the other on one connection."""
    with (
        exporter(secure(made, TLS)) as running,
        closing(connection(running.port, client(made, version=version))) as kept,
    ):
        scrapes = []
        for _ in range(20):
            reply = ask_on(kept)
            assert reply.status == 200
            scrapes.append(Scrape(reply.body))
            assert scrapes[-1].value(SUCCESSFUL) == 1
        assert isinstance(kept.sock, ssl.SSLSocket)
        end = (kept.sock.getpeercert() or {})["notAfter"]
        assert scrapes[-1].value(EXPIRY) == ssl.cert_time_to_seconds(str(end))
        assert kept.sock.version() == version.name.replace("_", ".")
        assert running.stop() == 0
        assert errors(running) == []


def test_a_version_that_the_configuration_excludes(made: Certificates) -> None:
    """The handshake fails, and is not our error."""
    with exporter(secure(made, f"{TLS}  min_version: TLS13\n")) as running:
        with pytest.raises(ssl.SSLError):
            ask(running.port, context=client(made, version=ssl.TLSVersion.TLSv1_2))
        assert ask(running.port, context=client(made)).status == 200
        assert errors(running) == []


def test_requests_in_several_records(made: Certificates) -> None:
    """Where TLS cuts does not matter: headers in pieces and requests sent ahead are all answered."""
    with exporter(secure(made, TLS)) as running:
        plain = socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE_SECONDS)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        end = client(made).wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        with plain:
            shake_hands(end, incoming, outgoing, plain)
            for part in (
                b"GET /-/healthy HT",
                b"TP/1.1\r\nHos",
                b"t: a\r\n\r\n",
                b"GET /nowhere HTTP/1.0\r\n",
                b"\r\n",
            ):
                end.write(part)
            # All records at once: they are decrypted in one go.
            plain.sendall(outgoing.read())
            received = everything(end, incoming, plain)
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.count(b"HTTP/1.1 404 ") == 1


def shake_hands(end: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, plain: socket.socket) -> None:
    """The client's side of a handshake."""
    while True:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            plain.sendall(outgoing.read())
            incoming.write(plain.recv(1 << 16))
        else:
            plain.sendall(outgoing.read())
            return


def everything(end: ssl.SSLObject, incoming: ssl.MemoryBIO, plain: socket.socket) -> bytes:
    """What comes until the other end says farewell."""
    received = b""
    while True:
        try:
            data = end.read(1 << 16)
        except ssl.SSLWantReadError:
            data = plain.recv(1 << 16)
            if not data:
                return received
            incoming.write(data)
        except ssl.SSLZeroReturnError:
            return received
        else:
            if not data:
                return received
            received += data


@pytest.mark.parametrize(
    "data",
    [b"\x00" * 100, b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b""],
    ids=["zeros", "half a hello", "nothing"],
)
def test_something_else_than_tls(made: Certificates, data: bytes) -> None:
    """The connection ends, others are served, and nothing is logged."""
    with exporter(secure(made, TLS)) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE_SECONDS) as peer:
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
            assert b"HTTP/" not in until_the_end(peer)
        assert ask(running.port, context=client(made)).status == 200
        assert running.stop() == 0
        assert {line.split(" ")[1] for line in running.log} == {"level=info"}


@pytest.mark.parametrize("farewell", [True, False])
def test_a_peer_that_leaves_while_it_is_answered(made: Certificates, *, farewell: bool) -> None:
    """Its connection is over soon after the answer, with TLS's farewell or without, and nothing is logged."""
    with exporter(secure(made, TLS + USERS.replace(HASH, SLOW_HASH))) as running:
        address, before = ("127.0.0.1", running.port), sockets(running)
        peer = client(made).wrap_socket(
            socket.create_connection(address, timeout=PATIENCE_SECONDS), server_hostname="127.0.0.1"
        )
        with peer:
            login = basic("prometheus", "wrong")["Authorization"]
            peer.sendall(f"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: {login}\r\n\r\n".encode())
            if farewell:
                peer.setblocking(False)  # noqa: FBT003 - the parameter has no name
                with suppress(OSError):  # the server's own farewell is still to come, or it was quick
                    peer.unwrap()
            with suppress(OSError):
                peer.shutdown(socket.SHUT_WR)
            wait_until(lambda: sockets(running) == before)
        assert ask(running.port, context=client(made), login=basic("prometheus")).status == 200
        assert running.stop() == 0
        assert {line.split(" ")[1] for line in running.log} == {"level=info"}


# Clients' certificates.


def test_a_client_with_a_certificate(made: Certificates) -> None:
    """One that the authority has signed is let in; the log says at the start that one is needed."""
    with exporter(secure(made, MUTUAL)) as running:
        line = running.wait_for_log("listening on 127.0.0.1:")
        assert line.endswith(' (with TLS, with client certificates, without passwords)"')
        assert ask(running.port, context=client(made, "client")).status == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("name", ["unknown", "stranger", ""])
def test_a_client_that_is_kept_out(made: Certificates, name: str, version: ssl.TLSVersion) -> None:
    """With a certificate of a stranger or none it gets no answer, and is not our error; the next is served."""
    with exporter(secure(made, MUTUAL)) as running:
        with pytest.raises(REFUSED):
            ask(running.port, context=client(made, name, version))
        assert ask(running.port, context=client(made, "client", version)).status == 200
        assert errors(running) == []


@pytest.mark.parametrize(
    ("sans", "name", "admitted"),
    [
        ("prometheus", "client", True),
        ("elsewhere, 'spiffe://x/y'", "client", True),
        ("prometheus", "someone", False),
        ("prometheus", "odd", False),
    ],
)
def test_names_in_clients_certificates(made: Certificates, sans: str, name: str, *, admitted: bool) -> None:
    """One name of the configuration has to be there; a certificate that cannot be parsed is not an error."""
    with exporter(secure(made, f"{MUTUAL}  client_allowed_sans: [{sans}]\n")) as running:
        port, before = running.port, sockets(running)
        assert ask(port, context=client(made, name)).status == (200 if admitted else 403)
        wait_until(lambda: sockets(running) == before)
        assert running.stop() == 0
        assert errors(running) == []


# Passwords.


@pytest.mark.parametrize(
    ("login", "status"),
    [
        (basic("prometheus"), 200),
        (basic("prometheus", "wrong"), 401),
        (basic("nobody"), 401),
        (basic("prometheus", ""), 401),
        ({"Authorization": "Bearer secret"}, 401),
        ({}, 401),
    ],
    ids=["right", "wrong", "unknown", "empty", "another scheme", "none"],
)
def test_logins(password_protected: Exporter, made: Certificates, login: dict[str, str], status: int) -> None:
    """Only the right one gets at anything, and the others are told that a password is wanted."""
    for path in ("/metrics", "/", "/-/healthy", "/nowhere"):
        reply = ask(password_protected.port, path, context=client(made), login=login)
        assert reply.status == (404 if status == 200 and path == "/nowhere" else status)
        assert reply.headers.get("www-authenticate") == ("Basic" if status == 401 else None)


@pytest.fixture(scope="module")
def password_protected(made: Certificates) -> Iterator[Exporter]:
    """One that wants a password."""
    with exporter(secure(made, TLS + USERS)) as running:
        yield running


def test_a_password_without_tls(tmp_path: Path) -> None:
    """Passwords work over plain HTTP too."""
    with exporter(f"--web.config.file={web_config(tmp_path, USERS)}") as running:
        assert ask(running.port).status == 401
        assert ask(running.port, login=basic("prometheus")).status == 200


@pytest.mark.parametrize("cost", [10, 12])
def test_a_first_login_is_answered_before_a_flood(tmp_path: Path, cost: int) -> None:
    """Right after the start, while the logins of three other addresses wait: of names that exist, its own, and none."""
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(cost)).decode()
    users = USERS.replace(HASH, hashed) + f"  other: {hashed}\n"
    with exporter(f"--web.config.file={web_config(tmp_path, users)}") as running, ExitStack() as stack:
        flood = []
        for number in range(3 * MAX_OF_PEER):
            source = (f"127.0.0.{2 + number % 3}", 0)
            peer = socket.create_connection(("127.0.0.1", running.port), PATIENCE_SECONDS, source)
            flood.append(stack.enter_context(peer))
            login = basic(("prometheus", "other", "mallory")[number // 3 % 3], f"guess {number}")["Authorization"]
            peer.sendall(f"GET /metrics HTTP/1.1\r\nHost: a\r\nAuthorization: {login}\r\n\r\n".encode())

        def answered() -> int:
            return len(select.select(flood, [], [], 0)[0])

        wait_until(lambda: answered() >= 3)
        assert ask(running.port, login=basic("prometheus")).status == 200
        assert answered() < len(flood) / 2


# Changes.


def test_a_certificate_that_is_swapped_under_load(folder: Certificates) -> None:
    """Not one scrape fails, on new connections or on those that are kept; new ones soon see the new certificate."""
    # As in a volume of Kubernetes: certificate and key change at once, with the link to their folder.
    text = TLS.replace("server.", "current/tls.")
    for name in ("server", "other"):
        (folder / f"for-{name}").mkdir()
        for kind in ("crt", "key"):
            shutil.copy(folder / f"{name}.{kind}", folder / f"for-{name}" / f"tls.{kind}")
    serve(folder, "server")
    context = client(folder)
    seen: list[bytes] = []
    kept_scrapes = [0, 0]
    done = threading.Event()

    def anew() -> None:
        while not done.is_set():
            with closing(connection(running.port, context)) as used:
                used.connect()
                assert isinstance(used.sock, ssl.SSLSocket)
                seen.append(used.sock.getpeercert(binary_form=True) or b"")
                assert ask_on(used).status == 200

    def on_one(number: int) -> None:
        with closing(connection(running.port, context)) as kept:
            kept.connect()
            used = kept.sock
            while not done.is_set():
                assert ask_on(kept).status == 200
                assert kept.sock is used, "the connection was not kept"
                kept_scrapes[number] += 1

    with exporter(secure(folder, text)) as running, ThreadPoolExecutor(4) as pool:
        scrapers = [pool.submit(anew), pool.submit(anew), pool.submit(on_one, 0), pool.submit(on_one, 1)]
        try:
            for number, name in enumerate(("other", "server") * 3, 1):
                serve(folder, name)
                expected = ssl.PEM_cert_to_DER_cert((folder / f"{name}.crt").read_text())
                wait_until(
                    lambda: (
                        (seen[-2:] == [expected] * 2 and min(kept_scrapes) > 2 * number)  # noqa: B023 - it waits here
                        or any(one.done() for one in scrapers)
                    )
                )
        finally:
            done.set()
        for scraper in scrapers:
            scraper.result(PATIENCE_SECONDS)
        assert min(kept_scrapes) > 12
        assert Scrape(ask(running.port, context=context).body).value(SUCCESSFUL) == 1


def serve(folder: Certificates, name: str) -> None:
    """Point the link to a certificate's folder."""
    (folder / "new").symlink_to(f"for-{name}")
    (folder / "new").replace(folder / "current")


def test_a_certificate_that_breaks(folder: Certificates) -> None:
    """The old one is served on, the log says so once, the metrics as long as it lasts, and a repair is seen."""
    with exporter(secure(folder, TLS)) as running:
        port, context = running.port, client(folder)

        def successful() -> float:
            return Scrape(ask(port, context=context).body).value(SUCCESSFUL)

        good = (folder / "server.crt").read_text()
        replace(folder / "server.crt", "nonsense")
        assert [successful() for _ in range(10)] == [0] * 10
        [line] = errors(running)
        assert KEPT in line
        assert "server.crt: contains no certificate that OpenSSL can read; it must be PEM" in line
        replace(folder / "server.crt", good)
        assert [successful() for _ in range(3)] == [1] * 3
        assert errors(running) == [line]
        running.wait_for_log("reloaded the web configuration from")


def replace(path: Path, text: str) -> None:
    """Replace a file at once."""
    new = path.with_name("replacement")
    new.write_text(text)
    new.replace(path)


def test_users_that_change(tmp_path: Path) -> None:
    """Who is taken out is out at the next connection, who is added is in, without a restart."""
    path = web_config(tmp_path, USERS)
    with exporter(f"--web.config.file={path}") as running:
        assert ask(running.port, login=basic("prometheus")).status == 200
        replace(path, USERS.replace("prometheus", "someone"))
        assert ask(running.port, login=basic("prometheus")).status == 401
        assert ask(running.port, login=basic("someone")).status == 200
        replace(path, "{}")
        assert ask(running.port).status == 200


def test_users_that_change_while_a_connection_is_kept(tmp_path: Path) -> None:
    """Who is taken out is out at the next request, however old the connection."""
    path = web_config(tmp_path, USERS)
    with exporter(f"--web.config.file={path}") as running, closing(connection(running.port)) as kept:
        assert ask_on(kept, login=basic("prometheus")).status == 200
        replace(path, USERS.replace("prometheus", "someone"))
        assert ask_on(kept, login=basic("prometheus")).status == 401


def test_sighup_reads_it_again(folder: Certificates) -> None:
    """Even without a request meanwhile; the service manager gets the outcome, and a broken file is reported."""
    path = web_config(folder.folder, TLS)
    with notified_exporter(f"--web.config.file={path}") as (running, manager):
        running.process.send_signal(signal.SIGHUP)
        assert "invalid" not in manager.until("READY")["STATUS"]
        assert running.wait_for_log("reloaded the web configuration")
        replace(path, "nonsense")
        running.process.send_signal(signal.SIGHUP)
        assert "the web configuration is invalid, keeping the previous one" in manager.until("READY")["STATUS"]
        assert ask(running.port, context=client(folder)).status == 200
        [line] = errors(running)
        assert KEPT in line


def test_sighup_ends_idle_connections_when_who_may_connect_has_changed(folder: Certificates) -> None:
    """The peer of another authority is out at once, without any request; the log says which certificate is served."""
    path = web_config(folder.folder, MUTUAL.replace("ca.crt", "clients.crt"))
    shutil.copy(folder / "ca.crt", folder / "clients.crt")
    with (
        notified_exporter(f"--web.config.file={path}") as (running, manager),
        closing(connection(running.port, client(folder, "client"))) as kept,
    ):
        running.wait_for_log("serving the certificate of CN=server, issued by CN=ca, valid until ")
        assert ask_on(kept).status == 200
        replace(folder / "clients.crt", (folder / "stranger.crt").read_text())
        running.process.send_signal(signal.SIGHUP)
        manager.until("READY")
        assert isinstance(kept.sock, ssl.SSLSocket)
        assert until_the_end(kept.sock) == b""


# Checking.


def run(*flags: str) -> subprocess.CompletedProcess[str]:
    """The program to its end."""
    return subprocess.run([*SERVE, *flags], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)


def test_a_good_configuration_is_checked(made: Certificates) -> None:
    """Exit code 0, and nothing is served."""
    flag = secure(made, MUTUAL + USERS)
    ended = run(flag, "--web.config.check")
    path = flag.partition("=")[2]
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{path} is valid\n", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tls_server_confg:\n", "line 1: unknown key 'tls_server_confg'; use one of "),
        (TLS.replace("server.crt", "missing.crt"), "missing.crt: cannot be read: No such file or directory"),
        (TLS.replace("server.key", "other.key"), "is not the key of"),
    ],
    ids=["unknown key", "missing file", "another's key"],
)
@pytest.mark.parametrize("check", [["--web.config.check"], []], ids=["checked", "served"])
def test_a_bad_configuration(made: Certificates, text: str, message: str, check: list[str]) -> None:
    """Exit code 2, and a line that says where and what, whether it is checked or to be served."""
    ended = run(secure(made, text), *check)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert message in ended.stderr
    assert ended.stderr.startswith("kvm-exporter: ")
    assert ended.stderr.count("\n") == 1


def test_checking_nothing() -> None:
    """The flag needs the other one."""
    ended = run("--web.config.check")
    message = "kvm-exporter: --web.config.check needs a file to check; add --web.config.file\n"
    assert (ended.returncode, ended.stderr) == (2, message)


# Where it listens.


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_addresses_of_every_family_at_once(made: Certificates, tmp_path: Path) -> None:
    """IPv4, IPv6 and a socket in the file system, each with TLS; the last is gone at the end."""
    path = tmp_path / "s"
    flags = ("--web.listen-address=[::1]:0", f"--web.listen-address=unix:{path}")
    with exporter(*flags, secure(made, TLS)) as running:
        running.wait_for_log(f"listening on unix:{path}")
        line = running.wait_for_log("listening on [::1]:")
        assert line.endswith(' (with TLS, without passwords)"')
        port6 = int(line.partition("[::1]:")[2].partition(" ")[0])
        plain = (
            socket.create_connection(("127.0.0.1", running.port), timeout=PATIENCE_SECONDS),
            socket.create_connection(("::1", port6), timeout=PATIENCE_SECONDS),
            unix_connection(path),
        )
        for one in plain:
            with client(made).wrap_socket(one, server_hostname="127.0.0.1") as peer:
                assert healthy(peer)
        assert running.stop() == 0
    assert not path.exists()


def unix_connection(path: Path) -> socket.socket:
    """A connection to a socket in the file system."""
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(PATIENCE_SECONDS)
    peer.connect(str(path))
    return peer


def healthy(peer: socket.socket) -> bool:
    """Whether the exporter says that it is."""
    peer.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
    received = until_the_end(peer)
    return received.startswith(b"HTTP/1.1 200 ") and received.endswith(b"kvm-exporter is healthy.\n")


def test_vsock() -> None:
    """A guest's host can ask as well; where guests can talk to themselves, this test does."""
    if not Path("/dev/vsock").exists():
        missing("/dev/vsock")
    with socket.socket(socket.AF_VSOCK) as probe:
        probe.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
        port = probe.getsockname()[1]
    with exporter(f"--web.listen-address=vsock://:{port}") as running:
        running.wait_for_log(f"listening on vsock://:{port}")
        with socket.socket(socket.AF_VSOCK) as taken, pytest.raises(OSError, match="Address already in use"):
            taken.bind((socket.VMADDR_CID_ANY, port))
        with socket.socket(socket.AF_VSOCK) as peer:
            peer.settimeout(PATIENCE_SECONDS)
            try:
                peer.connect((VMADDR_CID_LOCAL, port))
            except OSError:
                return  # no vsock_loopback here
            assert healthy(peer)


VMADDR_CID_LOCAL = 1
"""This machine: vsock(7)."""


# Sockets that systemd hands over.


@contextmanager
def activated(*addresses: str, flags: Sequence[str] = ()) -> Iterator[Exporter]:
    """The program, started by the first connection, with sockets that listen where systemd-socket-activate does."""
    command = [program("systemd-socket-activate"), *(f"--listen={address}" for address in addresses)]
    running = Exporter([*command, *SERVE, *flags])
    try:
        for address in addresses:
            running.wait_for_log(f"Listening on {address}")
        yield running
    finally:
        running.stop()


def test_sockets_that_systemd_hands_over(tmp_path: Path) -> None:
    """TCP and a socket in the file system, both; the connection that started it is answered."""
    port, path = free_port(), tmp_path / "s"
    with activated(f"127.0.0.1:{port}", str(path), flags=["--web.systemd-socket"]) as running:
        with unix_connection(path) as peer:
            assert healthy(peer)
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as peer:
            assert healthy(peer)
        listening = [line.partition("listening on ")[2].rstrip('"') for line in running.log if '"listening on' in line]
        protection = "(without TLS, without passwords)"
        assert listening == [f"127.0.0.1:{port} {protection}", f"unix:{path} {protection}"]
        assert running.stop() == 0


def test_sockets_that_are_handed_over_have_tls(made: Certificates) -> None:
    """As those that it binds itself."""
    port = free_port()
    with activated(f"127.0.0.1:{port}", flags=["--web.systemd-socket", secure(made, TLS)]):
        assert ask(port, context=client(made)).status == 200


def test_no_sockets_were_handed_over() -> None:
    """Exit code 1, and a line that says what to do."""
    ended = run("--web.systemd-socket")
    message = "systemd passed no socket; start the .socket unit, or remove --web.systemd-socket"
    assert (ended.returncode, ended.stderr) == (1, f"kvm-exporter: {message}\n")


def test_a_descriptor_that_does_not_listen(tmp_path: Path) -> None:
    """Datagrams, as ListenDatagram= would: exit code 1, and a line that names it."""
    path = tmp_path / "s"
    command = [program("systemd-socket-activate"), "--datagram", f"--listen={path}", *SERVE, "--web.systemd-socket"]
    running = Exporter(command)
    try:
        running.wait_for_log("Listening on")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.sendto(b"start", str(path))
        running.wait_for_log("kvm-exporter: descriptor 3 does not listen for connections; see ListenStream=, Accept=no")
        assert running.process.wait(PATIENCE_SECONDS) == 1
    finally:
        running.stop()


def test_systemds_sockets_and_addresses() -> None:
    """Both at once cannot be meant."""
    ended = run("--web.systemd-socket", "--web.listen-address=127.0.0.1:0")
    assert ended.returncode == 2
    assert "are mutually exclusive" in ended.stderr


# How many at a time.


def test_no_more_scrapes_than_allowed(tmp_path: Path) -> None:
    """--web.max-requests: the one too many is told so at once; the other is answered, and all else all the time."""
    latch = Latch(tmp_path / "latch")
    with latch.daemon(max_requests=1) as running, ThreadPoolExecutor(1) as pool:
        running.scrape()
        with latch.shut():
            waiting = pool.submit(ask, running.port)
            with latch.visitor():
                refused = ask(running.port)
                assert ask(running.port, "/-/healthy").status == 200
        assert refused.status == 503
        assert refused.body == "Too many concurrent scrapes (--web.max-requests).\n"
        assert waiting.result(PATIENCE_SECONDS).status == 200
        assert ask(running.port).status == 200
