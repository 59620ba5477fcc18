"""A real Chromium without a window, driven over WebDriver.

Source: the W3C's WebDriver, and the commands that chromedriver adds: goog/cdp/execute and se/log.
"""

import base64
import http.client
import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from lab.patience import PATIENCE_SECONDS
from tests.support.tools import program

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars"),
)
STARTED = re.compile(r"started successfully on port (\d+)")

Scheme = Literal["light", "dark"]


class Browser:
    """One window. What its methods return is JSON."""

    def __init__(self, port: int, profile: str) -> None:
        self._port = port
        self._session = ""
        chrome = {"binary": program("chromium"), "args": [*FLAGS, f"--user-data-dir={profile}"]}
        capabilities = {"goog:chromeOptions": chrome, "goog:loggingPrefs": {"browser": "ALL"}}
        session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        self._session = f"/session/{session['sessionId']}"

    def open(self, url: str) -> None:
        """Load a page, and wait until it is there."""
        self._call("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:  # noqa: ANN401 - JSON
        """What the body of a function returns in the page."""
        return self._call("POST", "/execute/sync", {"script": script, "args": []})

    def command(self, name: str, **parameters: object) -> Any:  # noqa: ANN401 - JSON
        """What a command of the Chrome DevTools Protocol returns."""
        return self._call("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def complaints(self) -> list[str]:
        """What the console has said since the last call, violations of a content security policy included."""
        return [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})]

    def show(
        self, width: int, scheme: Scheme, media: Literal["screen", "print"] = "screen", *, height: int = 844
    ) -> None:
        """Make the window as wide and as high as that, and a person prefer the scheme."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", media=media, features=features)

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write the page as PNG: the whole of it, or what fits into the window."""
        path.parent.mkdir(parents=True, exist_ok=True)
        shot = self.command("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def press(self, key: str, number: int) -> None:
        """Press a key, by its name and its number on the keyboard."""
        for kind in ("rawKeyDown", "keyUp"):
            self.command("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=number)

    def roles(self) -> Counter[str]:
        """How many there are of each role, as a screen reader finds them."""
        nodes = self.command("Accessibility.getFullAXTree")["nodes"]
        return Counter(node["role"]["value"] for node in nodes if not node["ignored"])

    def quit(self) -> None:
        """Close the window, and end the browser."""
        self._call("DELETE", "")

    def _call(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, self._session + path, json.dumps(body) if body is not None else None)
            response = connection.getresponse()
            value = json.load(response)["value"]
        finally:
            connection.close()
        assert response.status == http.HTTPStatus.OK, value
        return value


@contextmanager
def browser() -> Iterator[Browser]:
    """A fresh browser; it and its driver are gone at the end."""
    command = (program("chromedriver"), "--port=0")
    with (
        tempfile.TemporaryDirectory(prefix="kvm-exporter-browser-", ignore_cleanup_errors=True) as profile,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as driver,
    ):
        try:
            assert driver.stdout is not None
            started = next(match for line in driver.stdout if (match := STARTED.search(line)))
            running = Browser(int(started[1]), profile)
            try:
                yield running
            finally:
                running.quit()
        finally:
            driver.terminate()
