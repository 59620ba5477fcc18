"""The web configuration's file, and the certificates and keys that it names: read again when any of them changes."""

import logging
import ssl
import time
from pathlib import Path

from kvm_exporter.config.schema import identity
from kvm_exporter.config.web import WebConfig, WebConfigError, parse_web_config
from kvm_exporter.tls_config import TlsError
from kvm_exporter.web.tls import server_context

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

    def __init__(self, path: Path) -> None:
        self._path = path
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
            context = server_context(config.tls) if config.tls is not None else None
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
