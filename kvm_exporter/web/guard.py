"""Between the server and the site: who may connect and ask, and how often, as the web configuration says now."""

import logging
import ssl
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from kvm_exporter.config.files import Reloaded, Watch, read_bounded
from kvm_exporter.config.web import RateLimit, WebConfig, parse_web_config
from kvm_exporter.errors import InputError, named
from kvm_exporter.web.credentials import Credentials
from kvm_exporter.web.http import Handler, Request, Response, text_response
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


logger = logging.getLogger(__name__)


class Web(NamedTuple):
    """A web configuration, and the TLS context that new connections get; None: plain HTTP."""

    config: WebConfig = WebConfig()
    context: ssl.SSLContext | None = None


def watch_web_config(path: Path, directory: Path | None) -> Reloaded[Web]:
    """The web configuration in a file, reloaded when the file, or a certificate or key that it names, changes.

    ``directory`` is the service's runtime directory, if there is one. Raises InputError.
    """

    def load(previous: Web | None, watch: Watch) -> Web:
        with named(path):
            content = read_bounded(path, MAX_BYTES, "a web configuration", "give another with --web.config.file")
            if not content and previous is not None and previous.config != WebConfig():
                # An editor that writes leaves an empty file for a moment: it must not drop TLS and passwords.
                raise InputError("is empty; to serve without TLS and passwords, write {} into it")
            config = parse_web_config(content, path.parent)
            if config.tls is None:
                return Web(config)
            for file in config.tls.files:
                watch(file)
            return Web(config, server_context(config.tls, directory))

    return Reloaded(path, "the web configuration", load)


class Guard:
    """Answers requests through another handler, and gives new connections their TLS. For one event loop.

    In the toolkit's order: the rate limit comes before authentication, and headers are added to every response.
    """

    def __init__(self, handle: Handler, file: Reloaded[Web]) -> None:
        self._handle = handle
        self._file = file
        self._config = WebConfig()
        self._credentials = Credentials({})
        self._bucket: TokenBucket | None = None
        self._follow()

    def context(self) -> ssl.SSLContext | None:
        """What a connection that begins now is wrapped with; None: plain HTTP."""
        self._follow()
        return self._file.value.context

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

    async def handle(self, request: Request) -> Response:
        """The answer to a request that is let through, or why it is not."""
        # Connections are kept for days: who is taken out of the users is out at the next request.
        self._follow()
        response = await self._admitted(request)
        own = {name.lower() for name, _ in response.headers}
        added = [(name, value) for name, value in self._config.headers if name.lower() not in own]
        return Response(response.status, response.body, [*response.headers, *added])

    async def _admitted(self, request: Request) -> Response:
        if self._bucket is not None and not self._bucket.allow():
            return text_response(
                HTTPStatus.TOO_MANY_REQUESTS, "Too many requests; the web configuration's rate_limit says how many."
            )
        if self._config.users and not await self._credentials.verify(request.headers.get("authorization", "")):
            return text_response(HTTPStatus.UNAUTHORIZED, "Unauthorized", ("WWW-Authenticate", "Basic"))
        return await self._handle(request)

    def _follow(self) -> None:
        """Look whether the files have changed, and take over what has; what is the same keeps its state."""
        self._file.refresh()
        before, config = self._config, self._file.value.config
        if config is before:
            return
        self._config = config
        self._credentials.use(config.users)
        if config.rate_limit != before.rate_limit:
            self._bucket = TokenBucket(config.rate_limit) if config.rate_limit is not None else None
