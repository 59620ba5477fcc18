"""Enforces the web configuration: TLS, names of client certificates, rate limit, authentication, response headers."""

import logging
import ssl
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from kvm_exporter.config.files import Reloaded, Watch, read_bounded
from kvm_exporter.config.schema import is_empty_mapping
from kvm_exporter.config.tls import ClientAuth, TlsConfig
from kvm_exporter.config.web import RateLimit, WebConfig, parse_web_config
from kvm_exporter.errors import InputError, named
from kvm_exporter.web.credentials import Credentials
from kvm_exporter.web.http import Handler, Request, Response, text_response
from kvm_exporter.web.tls import allowed_client, read_pem, server_context
from kvm_exporter.web.x509 import Certificate, parse_certificate

RETRY_SECONDS = 5
"""When a login that was refused because too many wait may be tried again."""

logger = logging.getLogger(__name__)


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


class Admission(NamedTuple):
    """What decides whether a peer may connect at all, before its first request."""

    client_auth: ClientAuth
    allowed_sans: frozenset[str]
    #: The client_ca in PEM; empty if there is none.
    authorities: bytes


class Web(NamedTuple):
    """A web configuration with the content of the files that it names."""

    config: WebConfig = WebConfig()
    #: The TLS context of new connections; None, as the other two, for plain HTTP.
    context: ssl.SSLContext | None = None
    certificate: Certificate | None = None
    admission: Admission | None = None


def watch_web_config(path: Path, directory: Path | None) -> Reloaded[Web]:
    """Load a web configuration file, and reload it when the file or a certificate or key that it names changes.

    ``directory`` is the service's runtime directory, if there is one: server_context() may need it for temporary files.
    Raises InputError if the configuration is not valid now.
    """

    def load(previous: Web | None, watch: Watch) -> Web:
        with named(path):
            content = read_bounded(path, MAX_BYTES, "a web configuration", "give another with --web.config.file")
            config = parse_web_config(content, path.parent)
            secured = previous is not None and previous.config != WebConfig()
            if secured and config == WebConfig() and not is_empty_mapping(content):
                # A file that is being written, or a template without its values, must not disable TLS and passwords.
                raise InputError("has no settings any more; to serve without TLS and passwords, let it contain {}")
            if config.tls is None:
                return Web(config)
            for file in config.tls.files:
                watch(file)
            # A file that is replaced between these readings of it is reloaded, because it was watched before.
            context = server_context(config.tls, directory)
            return Web(config, context, _certificate(config.tls), _admission(config.tls))

    return Reloaded(path, "the web configuration", load)


def _certificate(tls: TlsConfig) -> Certificate:
    try:
        return parse_certificate(read_pem(tls.cert))
    except ValueError as error:
        raise InputError(f"{tls.cert}: the certificate cannot be decoded: {error}; create another") from error


def _admission(tls: TlsConfig) -> Admission:
    authorities = read_pem(tls.client_ca) if tls.client_ca is not None else b""
    return Admission(tls.client_auth, tls.client_allowed_sans, authorities)


class Guard:
    """Wraps a handler with the rate limit and the authentication of a web configuration file.

    It also provides the TLS context of new connections, and the headers of every response. For use in one event loop.
    As in the exporter toolkit, the rate limit is checked before authentication.
    """

    def __init__(self, handle: Handler, file: Reloaded[Web]) -> None:
        self._handle = handle
        self._file = file
        self._web = Web()
        self._credentials = Credentials({})
        self._bucket: TokenBucket | None = None
        self._apply()

    @property
    def context(self) -> ssl.SSLContext | None:
        """The TLS context for a new connection; None for plain HTTP."""
        return self._web.context

    def refresh(self) -> bool:
        """Reload changed files and apply them. Returns whether that changed who may connect."""
        self._file.refresh()
        return self._apply()

    def allows(self, peer: ssl.SSLObject | None) -> bool:
        """Return whether client_allowed_sans allows a peer after its TLS handshake (None: a connection without TLS)."""
        admission = self._web.admission
        if admission is None or not admission.allowed_sans or peer is None:
            return True
        return allowed_client(peer.getpeercert() or {}, admission.allowed_sans)

    def close(self) -> None:
        """Stop checking passwords. Call it once, at shutdown."""
        self._credentials.close()

    async def handle(self, request: Request) -> Response:
        """Return the handler's response, or an error if the request is not allowed."""
        if self._bucket is not None and not self._bucket.allow():
            return text_response(
                HTTPStatus.TOO_MANY_REQUESTS, "Too many requests (rate_limit in the web configuration)."
            )
        if self._web.config.users:
            right = await self._credentials.verify(request.headers.get("authorization", ""), request.peer)
            if right is None:
                retry = ("Retry-After", str(RETRY_SECONDS))
                return text_response(HTTPStatus.SERVICE_UNAVAILABLE, "Too many logins wait to be checked.", retry)
            if not right:
                return text_response(HTTPStatus.UNAUTHORIZED, "Unauthorized", ("WWW-Authenticate", "Basic"))
        return await self._handle(request)

    def with_headers(self, response: Response) -> Response:
        """Return a response with the configured headers, which replace its own of the same name."""
        headers = self._web.config.headers
        configured = {name.lower() for name, _ in headers}
        own = [(name, value) for name, value in response.headers if name.lower() not in configured]
        return Response(response.status, response.body, [*own, *headers])

    def _apply(self) -> bool:
        """Apply the file's current value. The bucket keeps its tokens unless rate_limit changed."""
        before, self._web = self._web, self._file.value
        if self._web is before:
            return False
        config = self._web.config
        self._credentials.use(config.users)
        if config.rate_limit != before.config.rate_limit:
            self._bucket = TokenBucket(config.rate_limit) if config.rate_limit is not None else None
        if config.tls is not None and config.tls.warning:
            logger.warning(config.tls.warning)
        if self._web.certificate is not None:
            logger.info("serving the certificate of %s", self._web.certificate)
        return self._web.admission != before.admission
