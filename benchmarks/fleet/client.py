"""A client for Prometheus."""

import json
import time
import urllib.parse
import urllib.request
from typing import Any


def ask(server: str, path: str, **parameters: str) -> Any:  # noqa: ANN401 - JSON of many shapes
    """Return the data of an API response; ``server`` is host:port. Raises OSError."""
    url = f"http://{server}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(url, timeout=120) as response:
        return json.load(response)["data"]


def page(server: str, path: str) -> str:
    """Return a page of a server, such as its metrics. Raises OSError."""
    with urllib.request.urlopen(f"http://{server}{path}", timeout=120) as response:
        text: str = response.read().decode()
        return text


def wait_for(server: str, query: str, seconds: float) -> None:
    """Return when a query has a result. Raises TimeoutError, OSError."""
    end = time.monotonic() + seconds
    while not ask(server, "query", query=query)["result"]:
        if time.monotonic() > end:
            raise TimeoutError(f"{query} has no result after {seconds} s")
        time.sleep(1)
