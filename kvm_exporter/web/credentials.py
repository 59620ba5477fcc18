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
from queue import SimpleQueue
from typing import NamedTuple

MAX_WAITING = 16
"""Most logins that may wait for bcrypt, which takes tens of milliseconds each; any further login fails immediately."""

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


class Credentials:
    """Verifies logins and caches the results. For use in one event loop.

    An unknown user takes as long to reject as a wrong password, so that timing does not reveal user names. Each user's
    correct login has its own place in the cache, from which wrong logins cannot displace it.
    """

    def __init__(self, users: Mapping[str, bytes]) -> None:
        #: Key of the cached digests: without it, they reveal nothing about the passwords.
        self._secret = os.urandom(32)
        self._right: dict[bytes, bytes] = {}
        self._wrong: dict[bytes, None] = {}
        self._checks: dict[bytes, asyncio.Future[bool]] = {}
        self._hasher: Hasher | None = None
        self.use(users)

    def use(self, users: Mapping[str, bytes]) -> None:
        """Replace the users; ``users`` maps each name to the bcrypt hash of the password."""
        self._hashes = {user.encode(): hashed for user, hashed in users.items()}
        self._right = {user: digest for user, digest in self._right.items() if user in self._hashes}
        cost = max((hashed[4:6] for hashed in users.values()), default=b"04")
        #: Compared with the password of an unknown user; its cost is the highest of all hashes.
        self._dummy_hash = b"$2b$%b$%b" % (cost, b"." * 53)
        if users and self._hasher is None:
            self._hasher = Hasher()

    async def verify(self, header: str) -> bool:
        """Return whether an ``Authorization`` header has the name of a user and the right password."""
        login = parse_basic(header)
        if login is None or self._hasher is None:
            return False
        hashed = self._hashes.get(login.user)
        digest = self._digest(login, hashed or self._dummy_hash)
        if hmac.compare_digest(self._right.get(login.user, b""), digest):
            return True
        if digest in self._wrong:
            return False
        check = self._checks.get(digest)
        if check is None:
            if len(self._checks) >= MAX_WAITING:
                return False
            check = self._checks[digest] = self._hasher.matches(login.password, hashed or self._dummy_hash)
            check.add_done_callback(lambda done: self._on_checked(login, digest, done, known=hashed is not None))
        # Several requests may wait for one comparison; cancelling one of them must not cancel it for the others.
        return await asyncio.shield(check) and hashed is not None

    def close(self) -> None:
        """Stop the bcrypt thread. Call it once, at shutdown."""
        if self._hasher is not None:
            self._hasher.close()

    def _on_checked(self, login: Login, digest: bytes, check: asyncio.Future[bool], *, known: bool) -> None:
        del self._checks[digest]
        if check.result() and known:
            self._right[login.user] = digest
            return
        self._wrong[digest] = None
        if len(self._wrong) > MAX_WRONG:
            del self._wrong[next(iter(self._wrong))]

    def _digest(self, login: Login, hashed: bytes) -> bytes:
        digest = hashlib.blake2b(key=self._secret, digest_size=32)
        for part in (hashed, login.user, login.password):
            digest.update(b"%d:%b" % (len(part), part))
        return digest.digest()


class Hasher:
    """Compares passwords with bcrypt hashes, one at a time, in a daemon thread, which does not delay the exit.

    The thread starts with the first password. If that fails, the next password retries.
    """

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

    def matches(self, password: bytes, hashed: bytes) -> asyncio.Future[bool]:
        """Return a future: whether a password matches a bcrypt hash. Call it in an event loop.

        The password has at most MAX_PASSWORD_BYTES and no NUL. Raises RuntimeError if the thread cannot be started.
        """
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="kvm-bcrypt", daemon=True)
            thread.start()
            self._thread = thread
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
