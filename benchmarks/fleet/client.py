"""A client for the HTTP API of Prometheus."""

import json
import urllib.parse
import urllib.request
from typing import Any


def ask(server: str, path: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON of many shapes
    """Return the data of an API response; ``server`` is host:port. Raises OSError."""
    url = f"http://{server}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=120) as response:
        return json.load(response)["data"]
