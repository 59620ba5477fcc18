"""Who may ask, by name and password: HTTP's basic authentication against bcrypt hashes. The only importer of bcrypt.

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
"""Passwords that wait to be hashed, at tens of milliseconds each; what comes on top is refused at once."""

CLOSE_SECONDS = 5.0
"""How long the end waits for the comparison that goes on; a usual one takes less than a tenth."""

MAX_WRONG = 256
"""Wrong logins that are remembered."""

MAX_PASSWORD_BYTES = 72
"""bcrypt looks at no more. Go's compares these; Python's truncates until 5.0 and raises from then on."""


class Login(NamedTuple):
    """What a client says that it is called, and its password."""

    user: bytes
    password: bytes


def parse_basic(header: str) -> Login | None:
    """The login in an ``Authorization`` header; None if there is none that could be right."""
    scheme, _, encoded = header.rstrip(" ").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        token = encoded.lstrip(" ").encode("ascii")
        decoded = base64.b64decode(token)
    except ValueError:
        return None
    if base64.b64encode(decoded) != token:
        return None  # Python decodes a lot that is not base64
    user, colon, password = decoded.partition(b":")
    # NUL ends a password in some versions of bcrypt, and is refused by others; RFC 7617 section 2 forbids it.
    return Login(user, password[:MAX_PASSWORD_BYTES]) if colon and b"\0" not in password else None


class Credentials:
    """Verifies logins, and remembers what came out. For one event loop.

    A stranger costs as much as a wrong password. Right logins are remembered apart from wrong ones, one for each user:
    no number of wrong ones makes a right one wait.
    """

    def __init__(self, users: Mapping[str, bytes]) -> None:
        #: Without it, what is remembered says nothing of the passwords.
        self._secret = os.urandom(32)
        self._right: dict[bytes, bytes] = {}
        self._wrong: dict[bytes, None] = {}
        self._checks: dict[bytes, asyncio.Future[bool]] = {}
        self._hasher: Hasher | None = None
        self.use(users)

    def use(self, users: Mapping[str, bytes]) -> None:
        """From now on, these are the users and the bcrypt hashes of their passwords."""
        self._hashes = {user.encode(): hashed for user, hashed in users.items()}
        self._right = {user: digest for user, digest in self._right.items() if user in self._hashes}
        cost = max((hashed[4:6] for hashed in users.values()), default=b"04")
        #: The hash of no password that anybody knows, as slow as the slowest.
        self._stranger = b"$2b$%b$%b" % (cost, b"." * 53)
        if users and self._hasher is None:
            self._hasher = Hasher()

    async def verify(self, header: str) -> bool:
        """Whether an ``Authorization`` header has a user's name and password."""
        login = parse_basic(header)
        if login is None or self._hasher is None:
            return False
        hashed = self._hashes.get(login.user)
        digest = self._digest(login, hashed or self._stranger)
        if hmac.compare_digest(self._right.get(login.user, b""), digest):
            return True
        if digest in self._wrong:
            return False
        check = self._checks.get(digest)
        if check is None:
            if len(self._checks) >= MAX_WAITING:
                return False
            check = self._checks[digest] = self._hasher.matches(login.password, hashed or self._stranger)
            check.add_done_callback(lambda done: self._checked(login, digest, done, known=hashed is not None))
        # Others may wait for the same; who leaves does not end it for them.
        return await asyncio.shield(check) and hashed is not None

    def close(self) -> None:
        """Check no more: at the end."""
        if self._hasher is not None:
            self._hasher.close()

    def _checked(self, login: Login, digest: bytes, check: asyncio.Future[bool], *, known: bool) -> None:
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
    """Compares passwords with hashes, one at a time, in a daemon thread: nobody waits for it at the exit.

    The thread is started for the first password: where there may be no more threads, the next password tries again.
    """

    def __init__(self) -> None:
        from bcrypt import checkpw  # noqa: PLC0415 - only where there are users

        self._check = checkpw
        self._jobs: SimpleQueue[tuple[bytes, bytes, asyncio.Future[bool]] | None] = SimpleQueue()
        self._closed = False
        self._thread: threading.Thread | None = None

    def close(self) -> None:
        """End after the comparison that goes on: the interpreter cannot end a thread that is inside bcrypt."""
        self._closed = True
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def matches(self, password: bytes, hashed: bytes) -> asyncio.Future[bool]:
        """Whether a password, of at most MAX_PASSWORD_BYTES and without NUL, is the hash's. For the event loop.

        Raises RuntimeError where there may be no more threads.
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
                matches = False  # what bcrypt takes for no hash has no password
            try:
                future.get_loop().call_soon_threadsafe(future.set_result, matches)
            except RuntimeError:
                return  # the loop is closed: the process is on its way out
