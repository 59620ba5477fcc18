"""Between the server and the site: who may connect and ask, and how often, as the web configuration says now."""

import logging
import ssl
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from kvm_exporter.config.files import identity
from kvm_exporter.config.tls import TlsError
from kvm_exporter.config.web import RateLimit, WebConfig, WebConfigError, parse_web_config
from kvm_exporter.web.credentials import Credentials
from kvm_exporter.web.http import Answer, Request, Response, plain
from kvm_exporter.web.tls import allowed_client, server_context


class TokenBucket:
    """Full at first. Each request takes a token, or is refused and takes none."""

    def __init__(self, limit: RateLimit, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._limit = limit
        self._clock = clock
        #: When it will be full again; a token is missing for each interval until then.
        self._full = clock()

    def allow(self) -> bool:
        """Whether a request may be answered now."""
        now = self._clock()
        full = max(self._full, now) + self._limit.interval
        if full - now > self._limit.burst * self._limit.interval:
            return False
        self._full = full
        return True


MAX_BYTES = 1 << 17
"""Room for certificates in it, and parsed in a second at worst: everybody waits meanwhile."""


logger = logging.getLogger(__name__)


class WebConfigFile:
    """The web configuration of a file as it is now; when a change breaks it, the last good one, whole.

    Raises WebConfigError if it is broken from the start.
    """

    #: What new connections are wrapped with; None: plain HTTP.
    context: ssl.SSLContext | None
    config: WebConfig
    #: Whether what is in use is what the files say.
    last_reload_successful: bool
    #: When the files were last read, in seconds since 1970, whether or not it went well.
    last_reload_timestamp: float

    def __init__(self, path: Path, directory: Path | None = None) -> None:
        self._path = path
        self._directory = directory
        self.config, self.context = WebConfig(), None
        #: The state of each file when it was last read.
        self._seen: dict[Path, tuple[int, ...]] = {}
        self._load()

    def refresh(self) -> None:
        """Read again what has changed: one stat(2) a file if nothing has."""
        if any(identity(path) != seen for path, seen in self._seen.items()):
            self.reload()

    def reload(self) -> None:
        """Read again."""
        try:
            self._load()
        except WebConfigError as error:
            logger.error("the web configuration stays as it was: %s", error)  # noqa: TRY400 - the message says all
        else:
            logger.info("the web configuration was read again from %s", self._path)

    def _load(self) -> None:
        """Take over what the files say, or nothing of it."""
        self.last_reload_successful = False
        self.last_reload_timestamp = time.time()
        # Looked at before they are read: a change in between is seen the next time.
        self._seen = {self._path: identity(self._path)}
        try:
            config = parse_web_config(self._read(), self._path.parent)
            self._seen |= {path: identity(path) for path in (config.tls.files if config.tls is not None else ())}
            context = server_context(config.tls, self._directory) if config.tls is not None else None
        except (WebConfigError, TlsError) as error:
            raise WebConfigError(f"{self._path}: {error}") from error
        self.config, self.context = config, context
        self.last_reload_successful = True

    def _read(self) -> bytes:
        try:
            with self._path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise WebConfigError(f"cannot be read: {error.strerror}; give another with --web.config.file") from error
        if not content and self.config != WebConfig():
            # Valid, but also what is there while somebody writes: that must not open the door to everybody.
            raise WebConfigError("is empty; to serve without TLS and passwords, write {} into it")
        if len(content) > MAX_BYTES:
            raise WebConfigError(f"over {MAX_BYTES} bytes; is this a web configuration?")
        return content


logger = logging.getLogger(__name__)


class Guard:
    """Answers requests through another answer, and gives new connections their TLS. For one event loop.

    In the toolkit's order: the rate limit comes before authentication, and headers are added to every response.
    """

    def __init__(self, answer: Answer, file: WebConfigFile) -> None:
        self._answer = answer
        self._file = file
        self._config = WebConfig()
        self._credentials = Credentials({})
        self._bucket: TokenBucket | None = None
        self._follow()

    def context(self) -> ssl.SSLContext | None:
        """What a connection that begins now is wrapped with; None: plain HTTP."""
        self._follow()
        return self._file.context

    def admits(self, peer: ssl.SSLObject | None) -> bool:
        """Whether a client that has shown its certificate, if it had to, is one of those that are named."""
        tls = self._config.tls
        if tls is None or not tls.client_allowed_sans or peer is None:
            return True
        try:
            return allowed_client(peer.getpeercert() or {}, tls.client_allowed_sans)
        except ValueError:
            return False  # names that are no text

    def close(self) -> None:
        """Check no more passwords: at the end."""
        self._credentials.close()

    async def answer(self, request: Request) -> Response:
        """The answer to a request that is let through, or why it is not."""
        # Connections are kept for days: who is taken out of the users is out at the next request.
        self._follow()
        response = await self._guarded(request)
        own = {name.lower() for name, _ in response.headers}
        added = [(name, value) for name, value in self._config.http.headers if name.lower() not in own]
        return Response(response.status, response.body, [*response.headers, *added])

    async def _guarded(self, request: Request) -> Response:
        if self._bucket is not None and not self._bucket.allow():
            return plain(
                HTTPStatus.TOO_MANY_REQUESTS, "Too many requests; the web configuration's rate_limit says how many."
            )
        if self._config.users and not await self._credentials.verify(request.headers.get("authorization", "")):
            return plain(HTTPStatus.UNAUTHORIZED, "Unauthorized", ("WWW-Authenticate", "Basic"))
        return await self._answer(request)

    def _follow(self) -> None:
        """Look whether the files have changed, and take over what has; what is the same keeps its state."""
        self._file.refresh()
        before, config = self._config, self._file.config
        if config is before:
            return
        self._config = config
        self._credentials.use(config.users)
        if config.rate_limit != before.rate_limit:
            self._bucket = TokenBucket(config.rate_limit) if config.rate_limit is not None else None
