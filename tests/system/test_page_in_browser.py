"""The landing page in a real browser: what a person reads there is what the metrics say, and it can be read."""

import base64
import math
import re
import socket
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from kvm_exporter.report.page import HEADERS
from lab.exporter import Exporter, exporter
from lab.scrape import Scrape
from lab.tree import REPOSITORY
from tests.support.rooms.palettes import LIGHT
from tests.support.system.browser import Browser, Scheme, browser
from tests.support.system.staged_daemon import SCENES

SCREENSHOTS = REPOSITORY / "build" / "screenshots"
"""Written for people to look at."""

DESK, PAPER, PHONE = 1280, 718, 390
WIDTHS = (DESK, PHONE)
SCHEMES: tuple[Scheme, ...] = ("light", "dark")

KERNEL = {
    "proc/cmdline": "quiet nopvspin",
    "proc/stat": "cpu  9 9 9 9 9 9 9 9 0 0\n",
    "sys/devices/system/clocksource/clocksource0/available_clocksource": "tsc kvm-clock acpi_pm\n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "kvm-clock\n",
}
"""A guest's kernel that uses some features, and was told not to use another."""


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    """One for all tests."""
    with browser() as running:
        yield running


@pytest.fixture
def chromium(window: Browser) -> Browser:
    """The window as each test finds it: on a desk, in daylight."""
    window.show(DESK, "light")
    return window


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of KERNEL."""
    folder = tmp_path_factory.mktemp("root")
    for name, text in KERNEL.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def staged(scene: str, root: Path) -> AbstractContextManager[Exporter]:
    """A daemon on a machine that is in some state."""
    program = (sys.executable, "-m", "tests.support.system.staged_daemon", scene, str(root))
    return exporter(program=program)


@pytest.fixture(scope="module", params=["real", "drifted", "gone"])
def machine(request: pytest.FixtureRequest, root: Path) -> Iterator[Exporter]:
    """This machine, and two that are not well."""
    with exporter() if request.param == "real" else staged(request.param, root) as running:
        yield running


ROWS = """
const texts = row => [...row.cells].map(cell => cell.textContent);
const [head, ...rows] = [...document.querySelectorAll("tr")].map(texts);
return rows.map(row => Object.fromEntries(row.map((text, column) => [head[column], text])));
"""


def words(found: Scrape, name: str, texts: dict[float, str]) -> dict[tuple[str, ...], str]:
    """The values of a family by feature, register and bit, in the page's words."""
    return {labels: texts[value] for labels, value in found.values(name, "feature", "register", "bit").items()}


def test_the_table_says_what_the_metrics_say(machine: Exporter, chromium: Browser) -> None:
    """Each cell that a browser shows equals the series of the same exporter, and there is a row for every one."""
    chromium.open(machine.url)
    rows = {(row["Feature"], *row["Bit"].split(" ")): row for row in chromium.run(ROWS)}
    found = machine.scrape()
    answers = {1.0: "yes", 0.0: "no"}
    unknown = dict.fromkeys(rows, "?")
    assert {key: row["Offered"] for key, row in rows.items()} == words(found, "kvm_feature_offered", answers)
    counts = found.values("kvm_feature_offered_cpus", "feature", "register", "bit")
    assert {key: int(row["CPUs"].split(" of ")[0]) for key, row in rows.items()} == counts
    used = words(found, "kvm_feature_in_use", answers)
    starts = {key: re.match("yes|no|[?-]|enabled", row["Used"]) for key, row in rows.items()}
    enabled = {"yes": "yes", "enabled": "yes", "no": "no"}
    shown = {key: enabled.get(start[0], "?") for key, start in starts.items() if start is not None}
    assert shown == unknown | used
    changed = words(found, "kvm_boot_feature_changed", {-1.0: "lost", 1.0: "gained"})
    assert {key: row["Change"] for key, row in rows.items()} == dict.fromkeys(rows, "same") | changed
    host = words(found, "kvm_host_feature_supported", answers)
    shown = {key: row["Own KVM"] for key, row in rows.items() if "Own KVM" in row}
    assert shown == ({key: host.get(key, "?") for key in rows} if host else {})


def test_the_text_says_what_the_metrics_say(machine: Exporter, chromium: Browser) -> None:
    """Signatures, fingerprint, CPUs and their states, and the time of the sample."""
    before = machine.scrape()
    chromium.open(machine.url)
    text = chromium.run("return document.querySelector('main').innerText")
    found = machine.scrape()
    for signature, base in found.values("kvm_signature_info", "signature", "base"):
        assert f"{signature} at {base}" in text
    for [fingerprint] in found.values("kvm_fingerprint_info", "fingerprint"):
        assert fingerprint in text
    states = [f"{count:g} {state}" for [state], count in found.values("kvm_cpus", "state").items() if count]
    assert ", ".join([f"{found.value('kvm_cpus_online'):g} online", *states]) in text
    seconds = chromium.run("return Date.parse(document.querySelector('.when time').dateTime) / 1000")
    # Each scrape may take another sample; the page has whole seconds.
    earliest, latest = (one.value("kvm_exporter_sample_timestamp_seconds") for one in (before, found))
    assert math.floor(earliest) <= seconds <= latest
    divergent = found.value("kvm_cpus_divergent")
    assert re.search(r"UTC, (less than a second|\d+ [a-z]+) before this page was loaded", text)
    assert ("differs" in text) == (divergent == 1)


HEADLINES = {
    "alike": "OK KVM, all 2 CPUs alike, nothing changed since boot",
    "stock": "OK KVM, all 2 CPUs alike, nothing changed since boot",
    "drifted": "WARNING 7 features lost since boot; CPU 1 differs; CPU 3 could not be read; "
    "1 feature gained since boot",
    "gone": "CRITICAL KVM is gone since boot; 14 features lost since boot",
    "bare": "NOTE No KVM",
    "stale": "WARNING Last attempt to sample failed",
    "silent": "CRITICAL No sample yet",
}


@pytest.mark.parametrize("scene", SCENES)
def test_every_state_can_be_read_everywhere(scene: str, root: Path, chromium: Browser) -> None:
    """In light and dark, at a desk and on a phone: nothing is cut off or runs over, and the console is silent."""
    with staged(scene, root) as running:
        for width in WIDTHS:
            for scheme in SCHEMES:
                chromium.show(width, scheme)
                chromium.open(running.url)
                assert chromium.complaints() == []
                level, _, words = HEADLINES[scene].partition(" ")
                headline = f"{level} on {socket.gethostname()} {words}"
                assert chromium.run("return document.querySelector('h1').textContent") == headline
                assert chromium.run("return [innerWidth, document.documentElement.scrollWidth]") == [width, width]
                assert chromium.run(CUT_OFF) == []
                faint = chromium.run(FAINT)
                assert faint["checked"] > 5
                assert faint["below"] == []
                chromium.screenshot(SCREENSHOTS / f"{scene}-{scheme}-{width}.png")


CUT_OFF = """
const beyond = box => box.getBoundingClientRect().right > innerWidth || box.scrollWidth > box.clientWidth + 1;
const boxes = [...document.querySelectorAll("h1, h2, p, li, dl, dd, td, caption, section, .sheet")];
return boxes.filter(beyond).map(box => box.outerHTML);
"""
"""What is wider than the window, or than the box around it."""

FAINT = """
const channels = colour => colour.match(/[0-9.]+/g).map(Number);
const linear = c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
const ground = element => {
  if (!element) return [255, 255, 255];
  const colour = channels(getComputedStyle(element).backgroundColor);
  return colour[3] === 0 ? ground(element.parentElement) : colour;
};
const contrast = element => {
  const colours = [channels(getComputedStyle(element).color), ground(element)].map(luminance);
  return (Math.max(...colours) + 0.05) / (Math.min(...colours) + 0.05);
};
const own = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
const texts = [...document.body.querySelectorAll("*")].filter(element => own(element) && element.checkVisibility());
return {checked: texts.length, below: texts.filter(element => contrast(element) < 4.5).map(e => e.outerHTML)};
"""
"""Texts whose colour does not stand out from what the browser paints behind them: WCAG 2.2, 1.4.3."""


def test_at_every_width_it_fits(machine: Exporter, chromium: Browser) -> None:
    """Cards become a table where there is room for all its columns; nowhere does the page scroll sideways."""
    chromium.open(machine.url)
    layouts = []
    for width in range(320, DESK + 1, 40):
        chromium.show(width, "light")
        assert chromium.run("return document.documentElement.scrollWidth") == width
        assert chromium.run(CUT_OFF) == [], width
        layouts.append(chromium.run("return getComputedStyle(document.querySelector('tbody tr')).display"))
        assert chromium.run("return document.querySelector('table').offsetWidth") < width
    assert set(layouts) == {"flex", "table-row"}
    assert layouts == sorted(layouts)


def test_on_paper_it_is_light_and_a_table(root: Path, chromium: Browser) -> None:
    """Whatever the screen's width and scheme were: dark ink, no links to follow, and the whole table on one page."""
    with staged("alike", root) as running:
        chromium.show(PAPER, "dark", media="print")
        chromium.open(running.url)
        shown = chromium.run(
            "const style = of => getComputedStyle(document.querySelector(of));"
            "const {color, backgroundColor} = style('body');"
            "return [color, backgroundColor, style('nav').display, style('tbody tr').display]"
        )
        assert chromium.run(FAINT)["below"] == []
        chromium.screenshot(SCREENSHOTS / "alike-print.png")
        printed = chromium.command("Page.printToPDF", paperWidth=8.27, paperHeight=11.69)
    ink = tuple(int(LIGHT["ink"][start : start + 2], 16) for start in (1, 3, 5))
    assert shown == [f"rgb{ink}", "rgba(0, 0, 0, 0)", "none", "table-row"]
    assert re.findall(rb"/Type /Pages\s*/Count (\d+)", base64.b64decode(printed["data"])) == [b"1"]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_screen_reader_finds_its_way(width: int, root: Path, chromium: Browser) -> None:
    """The landmarks, one heading of the first level, and a table with heads, also where it is laid out as cards."""
    with staged("drifted", root) as running:
        chromium.show(width, "light")
        chromium.open(running.url)
        rows = len(chromium.run(ROWS))
        columns = chromium.run("return document.querySelectorAll('thead th').length")
        roles = chromium.roles()
    assert [roles[role] for role in ("banner", "navigation", "main", "contentinfo", "table", "caption")] == [1] * 6
    assert (roles["rowheader"], roles["columnheader"], roles["row"]) == (rows, columns, rows + 1)
    assert roles["cell"] == rows * (columns - 1)
    # The sample, the boot reference, and since when two features are lost and one is gained.
    assert roles["time"] == 4


def test_the_keyboard_reaches_every_link(root: Path, chromium: Browser) -> None:
    """In order, with an outline around it; each leads to what it says."""
    with staged("alike", root) as running:
        chromium.show(PHONE, "dark")
        chromium.open(running.url)
        reached = []
        for _ in range(3):
            chromium.press("Tab", 9)
            reached.append(
                chromium.run(
                    "const link = document.activeElement, style = getComputedStyle(link);"
                    "return [link.textContent, link.getAttribute('href'), style.outlineStyle, style.outlineWidth]"
                )
            )
        answers = [running.get(f"/{path}").splitlines()[0] for _, path, *_ in reached]
    assert reached == [
        ["Metrics", "metrics", "solid", "3px"],
        ["Health", "-/healthy", "solid", "3px"],
        ["Readiness", "-/ready", "solid", "3px"],
    ]
    assert answers[0].startswith("# HELP kvm_")
    assert answers[1:] == ["kvm-exporter is healthy.", "kvm-exporter is ready."]


def test_what_cpuid_says_stays_text(root: Path, chromium: Browser) -> None:
    """A signature that would load an image, and a reason with markup, are there to read and nothing else."""
    with staged("drifted", root) as running:
        chromium.open(running.url)
        text = chromium.run("return document.body.innerText")
        elements = chromium.run("return [document.images.length, document.querySelectorAll('b').length]")
    assert "<img src=x> at 0x40000100" in text
    assert "it is held by <b>\"another\" task</b> & 'friends'" in text
    assert elements == [0, 0]


def test_the_browser_obeys_the_policy(root: Path, chromium: Browser) -> None:
    """A script or a style that found its way into the page does nothing, and the console says so."""
    with staged("alike", root) as running:
        with urllib.request.urlopen(running.url) as response:  # noqa: S310 - always http
            sent = {name: response.headers[name] for name, _ in HEADERS}
        chromium.open(running.url)
        before = chromium.complaints()
        chromium.run(
            "for (const [tag, text] of [['script', 'document.title = 0'], ['style', 'body { display: none }']])"
            "  document.body.append(Object.assign(document.createElement(tag), {textContent: text}))"
        )
        title, display = chromium.run("return [document.title, getComputedStyle(document.body).display]")
        after = chromium.complaints()
    assert sent == dict(HEADERS)
    assert (title, display) == (
        f"{socket.gethostname()}: KVM, all 2 CPUs alike, nothing changed since boot - kvm-exporter",
        "block",
    )
    assert before == []
    assert len(after) == 2
    assert all("Content Security Policy" in complaint for complaint in after)
