"""Both dashboards as a person sees them, in a browser: the demonstration's fleet, and a large one with long names.

What is not seen: Grafana's own page around the panels, tooltips, annotations, and the drawing of state timelines, which
is in none of its packages: of those, only names, words, colours and the height of rows are.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pytest

from benchmarks.fleet.bodies import body
from benchmarks.fleet.crowd import crowd
from benchmarks.fleet.scale import BASELINE, KINDS, kind_of
from demo.cast import CAST, LATER, PLAIN
from demo.fleet import PACE, RELEASE, Fleet
from kvm_exporter.kvm.features import FEATURES
from lab.panels import dashboards, panels
from lab.servers import start_prometheus
from tests.support.monitoring.pictures import Scene, Studio, studio
from tests.support.monitoring.prometheus import Prometheus
from tests.support.monitoring.stack import until
from tests.support.system.browser import Scheme, browser
from tests.support.tools import monitoring_program

BOARDS = {board: dashboards()[f"kvm-{board}.json"] for board in ("fleet", "guest")}

WELL = """
cohort:kvm_present:sum == 5
and on () count(ALERTS{alertstate="firing", alertname=~"KvmCpusDiffer|KvmFeature(Missing|Forbidden)"}) == 3
and on () count(instance:kvm_problem:weight) == 3
"""
"""The demonstration as it starts: one machine's CPUs differ, and another violates its baseline twice."""

LOST = 'ALERTS{alertstate="firing", alertname=~"KvmFeatureLost.*", instance="plain"}'
DOWN = 'ALERTS{alertstate="firing", alertname="KvmExporterDown", instance="firecracker"}'

MACHINES = 500
NOWHERE = "127.0.0.1:9"
"""Nobody takes messages there: the discard port."""

MANY = f"""
sum(up) == {MACHINES}
and on () count(ALERTS{{alertstate="firing", alertname=~"KvmFeatureLost.*"}}) >= {MACHINES // 200}
and on () count(instance:kvm_problem:weight{{problem="lost"}}) >= {MACHINES // 200}
"""

MEANINGS = {feature.meaning for feature in FEATURES}
"""All that may be cut, beside names of sixty characters on a narrow screen."""

GREEN = ("rgb(115, 191, 105)", "rgb(86, 166, 75)", "rgb(55, 135, 45)", "rgb(26, 127, 75)")
"""Grafana's greens: what is good is quiet."""


def name_of(machine: int) -> str:
    """A name of 58 characters."""
    return f"vm-{machine:05}.prod.eu-west-1.compute.internal.example.com:10401"


def story(fleet: Fleet, prometheus: Prometheus) -> Iterator[tuple[str, Scene]]:
    """The demonstration's scenes, each when Prometheus knows all of it."""
    assert until(lambda: prometheus.query(f"sum(up) == {len(CAST)}"), bool), "not all machines are scraped"
    begin = time.time()

    def scene(query: str, *, empty: bool = False) -> Scene:
        assert until(lambda: bool(prometheus.query(query)) is not empty, bool), query
        return Scene(prometheus, begin, time.time(), PACE)

    yield "well", scene(WELL)
    fleet.guests[PLAIN.name].change(LATER[True])
    drifted = scene(LOST)
    yield "drifted", drifted
    for name, machine in {"one": "hyperv", "uneven": "uneven", "baseline": "strict", "lost": "plain"}.items():
        yield name, Scene(prometheus, begin, drifted.end, PACE, instance=machine)
    yield "nothing", Scene(prometheus, begin, drifted.end, PACE, job="nowhere")
    fleet.guests[PLAIN.name].change(LATER[False])
    yield "given back", scene(LOST, empty=True)
    fleet.exporters["firecracker"].stop()
    yield "down", scene(DOWN)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Scene]]:
    """Every scene by its name."""
    folder = tmp_path_factory.mktemp("scenes")
    monitoring_program(RELEASE, "prometheus")
    with ExitStack() as running:
        bodies = {kind: body(folder / kind, boot, now, BASELINE).encode() for kind, (boot, now) in KINDS.items()}
        port = running.enter_context(crowd(lambda path: bodies[kind_of(int(path[1:]))]))
        machines = {name_of(one): f"127.0.0.1:{port}/{one}" for one in range(MACHINES)}
        begin = time.time()
        server = start_prometheus(RELEASE, folder / "many", machines, NOWHERE, PACE, every=5)
        running.callback(server.process.stop)
        many = Prometheus(server.address)
        assert until(lambda: many.query(MANY), bool), "the large fleet is not what it should be"
        found = {"many": Scene(many, begin, time.time(), PACE)}
        fleet = Fleet(folder / "demo", running, lambda _: None, lambda *_: None)
        found |= story(fleet, Prometheus(fleet.prometheus))
        yield found


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A browser that draws."""
    with browser() as running, studio(running, tmp_path_factory.mktemp("studio")) as place:
        yield place


SCENES = ("nothing", "one", "well", "drifted", "given back", "down", "many", "baseline", "uneven", "lost")

TELLING = {
    ("fleet", "nothing", 1440, "dark"),
    ("guest", "nothing", 1440, "light"),
    ("fleet", "well", 1440, "light"),
    ("fleet", "drifted", 1440, "dark"),
    ("fleet", "drifted", 1920, "light"),
    ("guest", "lost", 1440, "dark"),
    ("guest", "baseline", 1440, "light"),
    ("guest", "uneven", 1920, "dark"),
    ("fleet", "down", 1440, "light"),
    ("fleet", "many", 1440, "dark"),
    ("guest", "many", 1440, "light"),
    ("guest", "one", 1440, "dark"),
}
"""The drawings of every run: those that tell most."""

ALL = [
    pytest.param(*one, marks=() if one in TELLING else pytest.mark.slow, id="-".join(map(str, one)).replace(" ", "-"))
    for one in (
        (board, scene, width, mode)
        for board in BOARDS
        for scene in SCENES
        for width in (1440, 1920)
        for mode in ("dark", "light")
    )
]


@pytest.mark.parametrize(("board", "scene", "width", "mode"), ALL)
def test_a_person_sees_everything(
    drawing: Studio, scenes: Mapping[str, Scene], board: str, scene: str, width: int, mode: Scheme
) -> None:
    """Every column is inside its panel, no name is cut, every row of a timeline can be read, nothing good is loud."""
    picture = drawing.draw(
        f"{board}-{scene}-{width}-{mode}".replace(" ", "-"), BOARDS[board], scenes[scene], width, mode
    )
    faults = {title: found for title, panel in picture.items() if (found := faults_of(panel))}
    assert faults == {}
    assert set(picture) == {panel["title"] for panel in panels(BOARDS[board])} | {
        row["title"] for row in BOARDS[board]["panels"] if row["type"] == "row"
    }


def faults_of(panel: Mapping[str, object]) -> list[str]:
    """What a person cannot see of a panel, or would misread."""
    found = [f"{heading} is outside" for heading in panel["outside"]]
    found += [f"{text!r} is cut" for text in panel["cut"] if text not in MEANINGS]
    if 0 < panel["lanes"] < 14:
        found.append(f"rows of {panel['lanes']:.0f} pixels")
    if panel["font"] < 10:
        found.append(f"letters of {panel['font']} pixels")
    if panel["kind"] == "stat" and set(panel["colors"]) & set(GREEN):
        found.append("green")
    found += [text for text in ("No data", "unexpected error", "undefined") if text in panel["text"]]
    return found
