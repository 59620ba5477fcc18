"""Between the server and the site: who may connect and ask, and how often, as the web configuration says now."""

import logging
import ssl
from http import HTTPStatus

from kvm_exporter.config.web import WebConfig
from kvm_exporter.messages import Answer, Request, Response, plain
from kvm_exporter.rate_limit import TokenBucket
from kvm_exporter.web.credentials import Credentials
from kvm_exporter.web.tls import allowed_client
from kvm_exporter.web_config_file import WebConfigFile

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
