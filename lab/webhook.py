"""A receiver of Alertmanager's messages."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Message = dict[str, Any]
"""The JSON of Alertmanager's webhook_config: ``receiver``, ``status``, ``alerts``."""


@contextmanager
def webhook(receive: Callable[[Message], None]) -> Iterator[str]:
    """Yield a URL on the loopback; ``receive`` is called in another thread with each message that is sent to it."""

    class Receiver(BaseHTTPRequestHandler):
        """The handler of one message."""

        def do_POST(self) -> None:
            """Pass the message to ``receive``, and answer 200."""
            receive(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(HTTPStatus.OK)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
