"""HTTP basic authentication against bcrypt hashes. The only importer of bcrypt.

Source: RFC 7617; golang.org/x/crypto/bcrypt and web/handler.go of prometheus/exporter-toolkit.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import threading
from collections.abc import Mapping
from enum import IntEnum
from functools import partial
from queue import SimpleQueue
from typing import NamedTuple

from kvm_exporter.web.turns import Turns

CLOSE_SECONDS = 5.0
"""How long Hasher.close() waits for the comparison in progress, which usually takes less than 0.1 s."""

MAX_WRONG = 256
"""Size of the cache of wrong logins."""

MAX_PASSWORD_BYTES = 72
"""bcrypt ignores all further bytes. Go compares these only; Python's bcrypt truncates before 5.0 and raises since."""


class Login(NamedTuple):
    """A user name and password, as a client sent them."""

    user: bytes
    password: bytes


def parse_basic(header: str) -> Login | None:
    """Return the login in an ``Authorization`` header, or None if the header is not valid basic authentication.

    The password is truncated to MAX_PASSWORD_BYTES.
    """
    scheme, _, encoded = header.rstrip(" ").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        token = encoded.lstrip(" ").encode("ascii")
        decoded = base64.b64decode(token)
    except ValueError:
        return None
    if base64.b64encode(decoded) != token:
        return None  # b64decode() accepts malformed base64
    user, colon, password = decoded.partition(b":")
    # RFC 7617 section 2 forbids NUL. Some versions of bcrypt end the password there, others raise.
    return Login(user, password[:MAX_PASSWORD_BYTES]) if colon and b"\0" not in password else None


class Rank(IntEnum):
    """Which of the logins that wait at one peer is checked first: the lowest."""

    #: The user exists, and no right password has been seen since the start: this one may be right.
    NEW = 0
    #: The user exists, and the right password is another one: it is in the cache.
    KNOWN = 1
    #: There is no such user.
    STRANGER = 2


class _Check(NamedTuple):
    """A login that waits for bcrypt, or is compared now. The result is None if it has lost its place."""

    login: Login
    digest: bytes
    #: The hash that the password is compared with.
    hashed: bytes
    known: bool
    result: asyncio.Future[bool | None]


class Credentials:
    """Verifies logins and caches the results. For use in one event loop.

    An unknown user takes as long to reject as a wrong password for the cheapest hash: where all hashes have the same
    cost, timing does not reveal user names. Each user's correct login has its own place in the cache, from which wrong
    logins cannot displace it. Logins that are not in the cache wait for bcrypt, which takes tens of milliseconds and
    more: there, the peers take turns.
    """

    def __init__(self, users: Mapping[str, bytes]) -> None:
        #: Key of the cached digests: without it, they reveal nothing about the passwords.
        self._secret = os.urandom(32)
        self._hashes: dict[bytes, bytes] = {}
        self._right: dict[bytes, bytes] = {}
        self._wrong: dict[bytes, None] = {}
        self._checks: dict[bytes, asyncio.Future[bool | None]] = {}
        self._turns: Turns[_Check] = Turns()
        self._comparing = False
        self._hasher: Hasher | None = None
        self.use(users)

    def use(self, users: Mapping[str, bytes]) -> None:
        """Replace the users; ``users`` maps each name to the bcrypt hash of the password."""
        before, self._hashes = self._hashes, {user.encode(): hashed for user, hashed in users.items()}
        self._right = {
            user: digest for user, digest in self._right.items() if self._hashes.get(user) == before.get(user)
        }
        cost = min((hashed[4:6] for hashed in users.values()), default=b"04")
        #: Compared with the password of an unknown user; its cost is the lowest of all hashes.
        self._dummy_hash = b"$2b$%b$%b" % (cost, b"." * 53)
        if users and self._hasher is None:
            self._hasher = Hasher()

    async def verify(self, header: str, peer: str = "") -> bool | None:
        """Return whether an ``Authorization`` header has the name of a user and the right password.

        Returns None if too many logins wait for bcrypt. ``peer`` is the address that is to have its turn. Raises
        RuntimeError if bcrypt's thread cannot be started.
        """
        login = parse_basic(header)
        if login is None or self._hasher is None:
            return False
        known = login.user in self._hashes
        hashed = self._hashes.get(login.user, self._dummy_hash)
        digest = self._digest(login, hashed)
        if hmac.compare_digest(self._right.get(login.user, b""), digest):
            return True
        if digest in self._wrong:
            return False
        result = self._checks.get(digest)
        if result is None:
            self._hasher.start()
            result = self._checks[digest] = asyncio.get_running_loop().create_future()
            self._wait(_Check(login, digest, hashed, known, result), peer)
            self._compare_next(self._hasher)
        # Several requests may wait for one comparison; cancelling one of them must not cancel it for the others.
        return await asyncio.shield(result)

    def close(self) -> None:
        """Stop the bcrypt thread. Call it once, at shutdown."""
        if self._hasher is not None:
            self._hasher.close()

    def _wait(self, check: _Check, peer: str) -> None:
        """Give a login a place in the queue. One that loses its place has None for a result."""
        rank = Rank.STRANGER if not check.known else Rank.KNOWN if check.login.user in self._right else Rank.NEW
        last = self._turns.add(check, peer, rank)
        if last is not None:
            del self._checks[last.digest]
            last.result.set_result(None)

    def _compare_next(self, hasher: "Hasher") -> None:
        """Compare the next login, unless another one is being compared."""
        if self._comparing or (check := self._turns.next()) is None:
            return
        self._comparing = True
        matches = hasher.matches(check.login.password, check.hashed)
        matches.add_done_callback(partial(self._on_compared, hasher, check))

    def _on_compared(self, hasher: "Hasher", check: _Check, matches: asyncio.Future[bool]) -> None:
        del self._checks[check.digest]
        right = matches.result() and check.known
        if right:
            self._right[check.login.user] = check.digest
        else:
            self._wrong[check.digest] = None
            if len(self._wrong) > MAX_WRONG:
                del self._wrong[next(iter(self._wrong))]
        check.result.set_result(right)
        self._comparing = False
        self._compare_next(hasher)

    def _digest(self, login: Login, hashed: bytes) -> bytes:
        digest = hashlib.blake2b(key=self._secret, digest_size=32)
        for part in (hashed, login.user, login.password):
            digest.update(b"%d:%b" % (len(part), part))
        return digest.digest()


class Hasher:
    """Compares passwords with bcrypt hashes, one at a time, in a daemon thread, which does not delay the exit."""

    def __init__(self) -> None:
        from bcrypt import checkpw  # noqa: PLC0415 - only where there are users

        self._check = checkpw
        self._jobs: SimpleQueue[tuple[bytes, bytes, asyncio.Future[bool]] | None] = SimpleQueue()
        self._closed = False
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """Stop the thread. Waits up to CLOSE_SECONDS for the comparison in progress, which cannot be interrupted."""
        self._closed = True
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def start(self) -> None:
        """Start the thread, unless it runs. Raises RuntimeError if it cannot be started."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="kvm-bcrypt", daemon=True)
            thread.start()
            self._thread = thread

    def matches(self, password: bytes, hashed: bytes) -> asyncio.Future[bool]:
        """Return a future: whether a password matches a bcrypt hash. Call it in an event loop, after start().

        The password has at most MAX_PASSWORD_BYTES and no NUL.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._jobs.put((password, hashed, future))
        return future

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            if job is None or self._closed:
                return
            password, hashed, future = job
            try:
                matches = self._check(password, hashed)
            except ValueError:
                matches = False  # bcrypt rejects the hash, so no password matches it
            try:
                future.get_loop().call_soon_threadsafe(future.set_result, matches)
            except RuntimeError:
                return  # the event loop is closed: the process is exiting
