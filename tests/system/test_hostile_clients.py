"""Many hostile peers at a time, against the running program: scrapes go on, and nothing of the peers remains."""

import re
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

from lab.certificates import Certificates
from lab.exporter import UNMEASURED, Exporter, exporter
from lab.patience import PATIENCE_SECONDS
from lab.proc import errors, memory, sockets, wait_until
from lab.secure import (
    HASH,
    SLOW_HASH,
    TLS,
    USERS,
    ask,
    basic,
    client,
    make_server,
    until_the_end,
    web_config,
)
from lab.tree import UNITS

SLOWER = 50
"""So many times as long as before the median scrape may take, with its connection, while all of it goes on."""

PLAIN_MEMORY, TLS_MEMORY = 10.0, 12.0
"""Megabytes more than before that may remain: OpenSSL's and malloc's pieces are not given back as whole pages."""

GUESSES = 40
"""Of passwords, by each of those who guess."""

HALF = b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: "
GET = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
HEALTHY = b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n"

UNIT = UNITS / "prometheus-kvm-exporter.service"


@contextmanager
def large_exporter(*arguments: str) -> Iterator[Exporter]:
    """The daemon with large answers, in the environment that its unit gives it."""
    variables = re.findall(r"^Environment=(\w+)=(\S*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    assert variables
    program = (sys.executable, "-m", "tests.support.system.large_daemon", *arguments)
    with exporter(program=program, environment={**UNMEASURED, **dict(variables)}) as running:
        yield running


class Target(NamedTuple):
    """Who is attacked, and how those who mean well ask."""

    running: Exporter
    context: ssl.SSLContext | None
    login: dict[str, str]


class Attack:
    """Many connections, which are held to the end, and threads."""

    def __init__(self, target: Target, stack: ExitStack) -> None:
        self.target = target
        self._stack = stack
        self._port = target.running.port
        self._pool = stack.enter_context(ThreadPoolExecutor(12))

    def connect(self, count: int, data: bytes = b"", *, tls: bool = False, receive_buffer: int = 0) -> None:
        """Connect so often, send something each time, and never anything more, nor read."""
        for _ in range(count):
            # The oldest connections may be closed to make room.
            with suppress(ConnectionError):
                peer = self._connection(receive_buffer)
                if tls:
                    assert self.target.context is not None
                    peer = self._stack.enter_context(self.target.context.wrap_socket(peer, server_hostname="127.0.0.1"))
                if data:
                    peer.sendall(data)

    def converse(self, data: bytes) -> "Future[bytes]":
        """What comes back, to the connection's end, while all this is sent."""

        def run() -> bytes:
            peer = self._connection()
            if self.target.context is not None:
                peer = self._stack.enter_context(self.target.context.wrap_socket(peer, server_hostname="127.0.0.1"))

            def send() -> None:
                with suppress(OSError):
                    peer.sendall(data)

            if self.target.context is not None:
                send()  # one TLS socket cannot be read and written at the same time
                return received(peer)
            sender = threading.Thread(target=send)
            sender.start()
            try:
                return until_the_end(peer)
            finally:
                sender.join()

        return self._pool.submit(run)

    def repeat(self, job: Callable[[int], None], times: int) -> "Future[None]":
        """Do a job so often."""

        def run() -> None:
            for number in range(times):
                job(number)

        return self._pool.submit(run)

    def _connection(self, receive_buffer: int = 0) -> socket.socket:
        peer = self._stack.enter_context(socket.socket())
        peer.settimeout(PATIENCE_SECONDS)
        if receive_buffer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        peer.connect(("127.0.0.1", self._port))
        return peer


def received(peer: socket.socket) -> bytes:
    """What comes over TLS until it ends, well or not."""
    try:
        return until_the_end(peer)
    except ssl.SSLError:
        return b""


@contextmanager
def scraped(target: Target, most: float, figure: Callable[[str], None]) -> Iterator[Attack]:
    """Scrapes are answered throughout the block, not much later than before it, and nothing of the attack remains."""
    running, port = target.running, target.running.port
    alone, times = list[float](), list[float]()
    done = threading.Event()

    def scrape(taken: list[float]) -> None:
        start = time.monotonic()
        assert ask(port, context=target.context, login=target.login).status == 200
        taken.append(time.monotonic() - start)

    def scrape_on() -> None:
        while not done.wait(0.05):
            scrape(times)

    for _ in range(20):
        scrape(alone)
    connected, before = sockets(running), memory(running)

    with ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        scraping = pool.submit(scrape_on)
        try:
            yield Attack(target, stack)
            start = time.monotonic()
            # The scrape's own connection comes and goes.
            wait_until(lambda: sockets(running) <= connected + 1 or scraping.done())
            lasted = time.monotonic() - start
        finally:
            done.set()
        scraping.result(PATIENCE_SECONDS)
    wait_until(lambda: sockets(running) <= connected)
    figure(
        f"{'plain' if target.context is None else 'TLS'}: "
        f"median of {len(times)} scrapes {median(times) * 1000:.1f} ms, "
        f"slowest {max(times) * 1000:.0f} ms, median alone {median(alone) * 1000:.1f} ms, "
        f"all closed after {lasted:.1f} s, {before:.1f} MB before, {memory(running, 'VmHWM'):.1f} at most, "
        f"{memory(running):.1f} after"
    )
    assert median(times) < SLOWER * median(alone)
    assert memory(running) - before < most
    assert running.stop() == 0
    assert errors(running) == []
    assert not [line for line in running.log if "level=warn" in line]


def test_plain_connections(figure: Callable[[str], None]) -> None:
    """Idle peers, half headers, silence, endless headers, thousands of requests ahead, answers that are not read."""
    with large_exporter() as running:
        assert len(running.get()) > 500_000, "the answers are not large"
        with scraped(Target(running, None, {}), PLAIN_MEMORY, figure) as attack:
            attack.connect(4, GET * 10, receive_buffer=4096)
            attack.connect(512, HEALTHY)
            # While idle connections can make room, one with requests ahead is served to its end.
            many = attack.converse(HEALTHY * 9_999 + HEALTHY.replace(b"1.1", b"1.0"))
            endless = attack.converse(b"GET / HTTP/1.1\r\nX: " + b"x" * (1 << 20))
            assert endless.result(PATIENCE_SECONDS).startswith(b"HTTP/1.1 431 ")
            assert many.result(PATIENCE_SECONDS).count(b"kvm-exporter is healthy.\n") == 10_000
            attack.connect(600, HALF)
            attack.connect(400)


def test_connections_with_tls_and_passwords(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """Silence before and after the handshake, something else than TLS, wrong passwords, answers that are not read."""
    certificates = make_server(tmp_path)
    path = web_config(tmp_path, TLS + USERS.replace(HASH, SLOW_HASH))
    with large_exporter(str(path)) as running:
        login = basic("prometheus")
        target = Target(running, client(certificates), login)
        right = GET.replace(b"\r\n\r\n", f"\r\nAuthorization: {login['Authorization']}\r\n\r\n".encode())
        with scraped(target, TLS_MEMORY, figure) as attack:
            attack.connect(4, right * 10, tls=True, receive_buffer=4096)
            attack.connect(64, HEALTHY, tls=True)
            attack.connect(20, HALF, tls=True)
            attack.connect(300)
            attack.connect(100, HALF)
            attack.connect(100, b"\x16\x03\x01\x02\x00\x01")

            def guess(number: int) -> None:
                reply = ask(running.port, context=target.context, login=basic("prometheus", f"{number}"))
                assert reply.status == 401

            floods = [attack.repeat(guess, GUESSES) for _ in range(4)]
            endless = attack.converse(b"GET / HTTP/1.1\r\nX: " + b"x" * (1 << 20))
            for flood in floods:
                flood.result(PATIENCE_SECONDS)
            assert endless.result(PATIENCE_SECONDS)[:13] in {b"HTTP/1.1 431 ", b""}


# One at a time.


@pytest.fixture(scope="module")
def alone() -> Iterator[Exporter]:
    """One that is attacked a little."""
    with exporter() as running:
        yield running


HOST = b"GET / HTTP/1.1\r\nHost: a\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        HOST + b"Content-Length: 0\r\nContent-Length: 36\r\n\r\n" + SMUGGLED,
        HOST + b"Content-Length: 36, 0\r\n\r\n" + SMUGGLED,
        HOST + b"Content-Length: +36\r\n\r\n" + SMUGGLED,
        HOST + b"Content-Length: 0x24\r\n\r\n" + SMUGGLED,
        HOST + b"Content-Length: -1\r\n\r\n" + SMUGGLED,
        HOST + b"Content-Length: 36\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n" + SMUGGLED,
        HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 36\r\n\r\n" + SMUGGLED,
        HOST + b"Transfer-Encoding: xchunked\r\n\r\n" + SMUGGLED,
        HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + SMUGGLED,
        HOST + b"Transfer-Encoding : chunked\r\n\r\n" + SMUGGLED,
        HOST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffffffff\r\n" + SMUGGLED,
        HOST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + SMUGGLED,
        HOST + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\n" + SMUGGLED,
        HOST + b"Transfer-Encoding: chunked\r\n\r\n\r\n" + SMUGGLED,
        HOST + b"X: a\r\n\tb\r\nContent-Length\r\n : 36\r\n\r\n" + SMUGGLED,
        HOST + b" folded: a\r\n\x0bX: b\r\n\r\n" + SMUGGLED,
        HOST + b"X: a\0b\r\n\r\n" + SMUGGLED,
        HOST + b"X: a\rb\r\n\r\n" + SMUGGLED,
        HOST + b"X: a\rContent-Length: 36\r\n\r\n" + SMUGGLED,
        HOST + b"Host: b\r\n\r\n" + SMUGGLED,
        b"GET / HTTP/1.1\0\r\nHost: a\r\n\r\n" + SMUGGLED,
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED,
        b"GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED,
        b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED,
    ],
)
def test_what_two_could_read_differently_is_refused(alone: Exporter, data: bytes) -> None:
    """One answer, which says that it is the last, and the connection's end: no second request hides in the first."""
    with socket.create_connection(("127.0.0.1", alone.port), timeout=PATIENCE_SECONDS) as peer:
        peer.sendall(data)
        answer = until_the_end(peer)
    head = answer.partition(b"\r\n\r\n")[0]
    assert head.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 ", b"HTTP/1.1 501 "))
    assert b"\r\nConnection: close" in head
    assert answer.count(b"\r\nDate: ") == 1
    assert errors(alone) == []


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Content-Length: 0\r\n", b"404"),
        (b"X: a\r\n b\r\n", b"404"),
    ],
    ids=["no body", "folded line"],
)
def test_what_everybody_reads_alike_is_answered(alone: Exporter, header: bytes, status: bytes) -> None:
    """And so is the next request on the connection."""
    with socket.create_connection(("127.0.0.1", alone.port), timeout=PATIENCE_SECONDS) as peer:
        peer.sendall(HOST + header + b"\r\n" + SMUGGLED.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        answer = until_the_end(peer)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 " + status) == 1


def test_wrong_certificates_authority_is_the_clients_business(tmp_path: Path) -> None:
    """A client that does not trust us leaves in the middle of the handshake; that is no error of ours."""
    certificates, others = make_server(tmp_path), Certificates(tmp_path / "others")
    others.folder.mkdir()
    others.make("ca")
    with exporter(f"--web.config.file={web_config(tmp_path, TLS)}") as running:
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(running.port, context=client(others))
        assert ask(running.port, context=client(certificates)).status == 200
        assert errors(running) == []
