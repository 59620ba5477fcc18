"""Where Alertmanager sends its messages."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Message = dict[str, Any]
"""As Alertmanager's webhook_config has it: ``receiver``, ``status``, ``alerts``."""


@contextmanager
def webhook(receive: Callable[[Message], None]) -> Iterator[str]:
    """A URL on the loopback; what is sent there is received, in a thread of its own."""

    class Receiver(BaseHTTPRequestHandler):
        """Takes a message."""

        def do_POST(self) -> None:
            """Hand it on."""
            receive(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(HTTPStatus.OK)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
