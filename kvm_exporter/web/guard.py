"""Enforces the web configuration: TLS, names of client certificates, rate limit, authentication, response headers."""

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
    """A rate limiter that starts with a full bucket. An allowed request takes one token, a refused request none.

    ``clock`` returns nanoseconds that never decrease.
    """

    def __init__(self, limit: RateLimit, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._limit = limit
        self._clock = clock
        #: When the bucket will be full, in nanoseconds on the clock; one token is missing for each interval until then.
        self._full_at = clock()

    def allow(self) -> bool:
        """Take a token and return True, or return False if the bucket is empty."""
        now = self._clock()
        full_at = max(self._full_at, now) + self._limit.interval
        if full_at - now > self._limit.burst * self._limit.interval:
            return False
        self._full_at = full_at
        return True


MAX_BYTES = 1 << 17
"""Largest accepted web configuration file. It has room for inline certificates and is parsed within a second.

All requests wait while the file is parsed.
"""


class Web(NamedTuple):
    """A web configuration, and the TLS context of new connections (None: plain HTTP)."""

    config: WebConfig = WebConfig()
    context: ssl.SSLContext | None = None


def watch_web_config(path: Path, directory: Path | None) -> Reloaded[Web]:
    """Load a web configuration file, and reload it when the file or a certificate or key that it names changes.

    ``directory`` is the service's runtime directory, if there is one: server_context() may need it for temporary files.
    Raises InputError if the configuration is not valid now.
    """

    def load(previous: Web | None, watch: Watch) -> Web:
        with named(path):
            content = read_bounded(path, MAX_BYTES, "a web configuration", "give another with --web.config.file")
            if not content and previous is not None and previous.config != WebConfig():
                # A file that is being written can be empty for a moment, which must not disable TLS and passwords.
                raise InputError("is empty; to serve without TLS and passwords, let it contain {}")
            config = parse_web_config(content, path.parent)
            if config.tls is None:
                return Web(config)
            for file in config.tls.files:
                watch(file)
            return Web(config, server_context(config.tls, directory))

    return Reloaded(path, "the web configuration", load)


class Guard:
    """Wraps a handler with the rate limit, authentication and headers of a web configuration file.

    It also provides the TLS context of new connections. For use in one event loop. As in the exporter toolkit, the
    rate limit is checked before authentication, and the headers are added to every response, errors included.
    """

    def __init__(self, handle: Handler, file: Reloaded[Web]) -> None:
        self._handle = handle
        self._file = file
        self._config = WebConfig()
        self._credentials = Credentials({})
        self._bucket: TokenBucket | None = None
        self._refresh()

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS context for a new connection, or None for plain HTTP. Reloads changed files first."""
        self._refresh()
        return self._file.value.context

    def allows(self, peer: ssl.SSLObject | None) -> bool:
        """Return whether client_allowed_sans allows a peer after its TLS handshake (None: a connection without TLS)."""
        tls = self._config.tls
        if tls is None or not tls.client_allowed_sans or peer is None:
            return True
        try:
            return allowed_client(peer.getpeercert() or {}, tls.client_allowed_sans)
        except ValueError:
            return False  # a name in the certificate cannot be decoded

    def close(self) -> None:
        """Stop checking passwords. Call it once, at shutdown."""
        self._credentials.close()

    async def handle(self, request: Request) -> Response:
        """Return the handler's response, or an error if the request is not allowed. Reloads changed files first."""
        # Connections stay open for days: a user who was removed must be refused at the next request.
        self._refresh()
        return self.with_headers(await self._handle_if_allowed(request))

    def with_headers(self, response: Response) -> Response:
        """Return a response with the configured headers, which replace its own of the same name."""
        configured = {name.lower() for name, _ in self._config.headers}
        own = [(name, value) for name, value in response.headers if name.lower() not in configured]
        return Response(response.status, response.body, [*own, *self._config.headers])

    async def _handle_if_allowed(self, request: Request) -> Response:
        if self._bucket is not None and not self._bucket.allow():
            return text_response(
                HTTPStatus.TOO_MANY_REQUESTS, "Too many requests (rate_limit in the web configuration)."
            )
        if self._config.users and not await self._credentials.verify(request.headers.get("authorization", "")):
            return text_response(HTTPStatus.UNAUTHORIZED, "Unauthorized", ("WWW-Authenticate", "Basic"))
        return await self._handle(request)

    def _refresh(self) -> None:
        """Reload changed files and apply the configuration. The bucket keeps its tokens unless rate_limit changed."""
        self._file.refresh()
        before, config = self._config, self._file.value.config
        if config is before:
            return
        self._config = config
        self._credentials.use(config.users)
        if config.rate_limit != before.rate_limit:
            self._bucket = TokenBucket(config.rate_limit) if config.rate_limit is not None else None
