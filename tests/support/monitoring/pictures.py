"""Dashboards drawn in a browser: the answers of a real Prometheus, by Grafana's own components; see tests/node."""

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypedDict

from lab.panels import EVERYTHING, asked_by, panels, replaced, variables
from lab.patience import PATIENCE_SECONDS
from lab.tree import REPOSITORY
from tests.support.monitoring.prometheus import Prometheus
from tests.support.monitoring.tables import PACKAGES
from tests.support.system.browser import Browser, Scheme
from tests.support.tools import missing, program

NODE = REPOSITORY / "tests" / "node"

SCREENSHOTS = REPOSITORY / "build" / "screenshots"
"""Written for people to look at."""

FONTS = {"Inter-Regular": 400, "Inter-Medium": 500}
"""The weights of Grafana's font, by the names that its styles ask for: columns are as wide as their letters are."""

STEPS = 60
"""The number of points of a series over time."""

PAGE = """<!doctype html>
<meta charset="utf-8">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="page.css">
<div id="root"></div>
<script>window.STATE = {state};</script>
<script src="page.js"></script>
"""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a Prometheus knows at a time, and the machines that a person has selected."""

    prometheus: Prometheus
    #: In seconds.
    begin: float
    end: float
    #: The factor by which its time passes faster than on the picture.
    pace: float
    job: str = ".+"
    instance: str = ".+"


class Panel(TypedDict):
    """What can be seen of a panel: see measure.js."""

    text: str
    top: float
    outside: list[str]
    #: How many rows of a table are below its edge, or across.
    below: int
    cut: list[str]
    headings: list[str]
    rows: list[list[str]]
    fills: list[list[float]]
    lanes: float
    font: float


Picture = Mapping[str, Panel]
"""The panels of a drawn dashboard by title."""


class Studio:
    """A browser, and a folder that a web server shows it."""

    def __init__(self, browser: Browser, folder: Path, url: str) -> None:
        self._browser = browser
        self._folder = folder
        self._url = url
        self._measure = (NODE / "measure.js").read_text(encoding="utf-8")

    def draw(
        self, name: str, dashboard: Mapping[str, Any], scene: Scene, width: int, mode: Scheme, *, opened: bool = True
    ) -> Picture:
        """Draw a dashboard, with folded sections opened or not, and write the picture into SCREENSHOTS."""
        begin, end = (round(1000 * on_picture(scene, time)) for time in (scene.begin, scene.end))
        state = {
            "dashboard": dashboard,
            "answers": answers(dashboard, scene),
            "range": {"from": begin, "to": end, "step": (end - begin) / STEPS},
            "mode": mode,
            "opened": opened,
        }
        text = json.dumps(state).replace("</", "<\\/")
        (self._folder / f"{name}.html").write_text(PAGE.replace("{state}", text), encoding="utf-8")
        self._browser.show(width, mode)
        self._browser.open(f"{self._url}/{name}.html")
        picture: Picture = self._browser.run(self._measure)
        assert (said := self._browser.complaints()) == [], said
        self._browser.screenshot(SCREENSHOTS / f"{name}.png")
        return picture

    def photograph(self, name: str, url: str) -> None:
        """Write the picture of another page's beginning into SCREENSHOTS, as at a desk in daylight."""
        self._browser.show(1280, "light", height=1220)
        self._browser.open(url)
        self._browser.screenshot(SCREENSHOTS / f"{name}.png", whole=False)


@contextmanager
def studio(browser: Browser, folder: Path) -> Iterator[Studio]:
    """A place to draw, with the page that draws as it is now."""
    modules = PACKAGES / "node_modules"
    if not (modules / "@grafana" / "ui").exists():
        missing("@grafana/ui (scripts/grafana-packages build/grafana)")
    subprocess.run(
        [program("node"), NODE / "bundle.cjs", folder], env={**os.environ, "NODE_PATH": str(modules)}, check=True
    )
    (folder / "public" / "fonts" / "inter").mkdir(parents=True)
    (folder / "public" / "img").symlink_to(modules / "@grafana" / "ui" / "dist" / "public" / "img")
    for name, weight in FONTS.items():
        font = modules / "@fontsource" / "inter" / "files" / f"inter-latin-{weight}-normal.woff2"
        (folder / "public" / "fonts" / "inter" / f"{name}.woff2").symlink_to(font)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Studio(browser, folder, f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join(PATIENCE_SECONDS)


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


def answers(dashboard: Mapping[str, Any], scene: Scene) -> dict[int, dict[str, Any]]:
    """The results of the queries of every panel, by its number and the query's name, at times of the picture."""
    values = selection(dashboard, scene)
    return {
        panel["id"]: {target["refId"]: _answer(target, values, scene) for target in panel["targets"]}
        for panel in panels(dashboard)
    }


def selection(dashboard: Mapping[str, Any], scene: Scene) -> dict[str, str]:
    """The values of the variables: the machines that are shown are those that its own query finds."""
    seconds = round(max(4 * (scene.end - scene.begin) / STEPS, 8))
    values = {**EVERYTHING, "job": scene.job, "instance": scene.instance, "__rate_interval": f"{seconds}s"}
    for shown in (one for one in variables(dashboard) if one["name"] == "machine"):
        expression = replaced(asked_by(shown["query"]), values)
        found = scene.prometheus.ask("query", query=expression, time=str(scene.end))["result"]
        names = [re.escape(one["metric"]["instance"]).replace("\\", "\\\\") for one in found]
        values["machine"] = "|".join(names)
    return values


def _answer(target: Mapping[str, Any], values: Mapping[str, str], scene: Scene) -> list[Any]:
    expression = replaced(target["expr"], values)
    if target["instant"]:
        found = scene.prometheus.ask("query", query=expression, time=str(scene.end))["result"]
        return [{**one, "value": _point(scene, *one["value"])} for one in found]
    step = str((scene.end - scene.begin) / STEPS)
    found = scene.prometheus.ask(
        "query_range", query=expression, start=str(scene.begin), end=str(scene.end), step=step
    )["result"]
    return [{**one, "values": [_point(scene, *point) for point in one["values"]]} for one in found]


def on_picture(scene: Scene, time: float) -> float:
    """A time of the picture, which ends when the scene does."""
    return scene.end - (scene.end - time) * scene.pace


def _point(scene: Scene, time: float, value: str) -> tuple[float, str]:
    """A point of a series; a value between 2017 and 2049 in milliseconds is a time as well."""
    number = float(value)
    if 1.5e12 < number < 2.5e12:
        value = repr(1000 * on_picture(scene, number / 1000))
    return on_picture(scene, time), value
