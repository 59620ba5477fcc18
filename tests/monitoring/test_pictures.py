"""The dashboards as a person sees them, in a browser: the demonstration's fleet, and a large one with long names.

What is not seen: Grafana's own page around the panels, tooltips, annotations, and the drawing of state timelines, which
is in none of its packages: of those, only names, words, colours and the height of rows are.
"""

import re
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from benchmarks.fleet.bodies import body
from benchmarks.fleet.crowd import crowd
from benchmarks.fleet.kinds import BASELINE, KINDS, kind_of
from demo.cast import CAST, LATER, PLAIN
from demo.fleet import PACE, RELEASE, Fleet
from kvm_exporter.kvm.features import FEATURES
from lab.guest import Guest, port_of
from lab.panels import dashboards, panels
from lab.patience import PATIENCE_SECONDS
from lab.process import Process
from lab.servers import start_prometheus
from tests.support.monitoring.pictures import Panel, Picture, Scene, Studio, studio
from tests.support.monitoring.prometheus import Prometheus
from tests.support.monitoring.stack import until
from tests.support.system.browser import Scheme, browser
from tests.support.tools import monitoring_program

BOARDS = {board: dashboards()[f"kvm-{board}.json"] for board in ("fleet", "guest", "shards")}

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
count(ALERTS{{alertstate="firing", alertname=~"KvmFeatureLost.*"}}) >= {MACHINES // 200}
and on () count(instance:kvm_problem:weight{{problem=~"lost.*"}}) >= {MACHINES // 200}
"""

SETTLED_SECONDS = 1.0
"""How old a moment is when a picture is drawn of it: by then Prometheus has all scrapes and rules of that moment."""

PHONE = 390
"""The width of a phone's screen in pixels."""

MEANINGS = {feature.meaning for feature in FEATURES}
"""All that may be cut, beside names of sixty characters on a narrow screen."""

Draw = Callable[[str, str, int, Scheme], Picture]


def name_of(machine: int) -> str:
    """A name of 58 characters."""
    return f"vm-{machine:05}.prod.eu-west-1.compute.internal.example.com:10401"


def widest(page: str) -> str:
    """The page of a build whose revision takes the most room: no digit of the boards' font is wider than a 4."""
    return re.sub(r'revision="[^"]*"', f'revision="{"4" * 12}"', page)


def moment(prometheus: Prometheus, query: str, machines: int) -> float:
    """The first time at which a query has an answer, and so many machines were scraped successfully."""

    def found() -> float | None:
        when = time.time() - SETTLED_SECONDS
        return when if prometheus.query(f"{query} and on () (sum(up) == {machines})", when) else None

    when = until(found, lambda when: when is not None)
    assert when is not None, query
    return when


def story(fleet: Fleet, prometheus: Prometheus) -> Iterator[tuple[str, Scene]]:
    """The demonstration's scenes, each when Prometheus knows all of it."""
    begin = moment(prometheus, "vector(1)", len(CAST))

    def scene(query: str, machines: int = len(CAST)) -> Scene:
        return Scene(prometheus, begin, moment(prometheus, query, machines), PACE)

    yield "well", scene(WELL)
    fleet.guests[PLAIN.name].change(LATER[True])
    drifted = scene(LOST)
    yield "drifted", drifted
    for name, machine in {"one": "hyperv", "uneven": "uneven", "baseline": "strict", "lost": "plain"}.items():
        yield name, Scene(prometheus, begin, drifted.end, PACE, instance=machine)
    yield "nothing", Scene(prometheus, begin, drifted.end, PACE, job="nowhere")
    fleet.guests[PLAIN.name].change(LATER[False])
    yield "given back", scene(f"absent({LOST})")
    fleet.exporters["firecracker"].stop()
    yield "down", scene(DOWN, len(CAST) - 1)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Scene]]:
    """Every scene by its name."""
    folder = tmp_path_factory.mktemp("scenes")
    monitoring_program(RELEASE, "prometheus")
    with ExitStack() as running:
        bodies = {kind: widest(body(folder / kind, boot, now, BASELINE)) for kind, (boot, now) in KINDS.items()}
        port = running.enter_context(crowd(lambda path: bodies[kind_of(int(path[1:]))].encode()))
        machines = {name_of(one): f"127.0.0.1:{port}/{one}" for one in range(MACHINES)}
        begin = time.time()
        server = start_prometheus(RELEASE, folder / "many", machines, NOWHERE, PACE, every=5)
        running.callback(server.process.stop)
        many = Prometheus(server.address)
        found = {"many": Scene(many, begin, moment(many, MANY, MACHINES), PACE)}
        fleet = Fleet(folder / "demo", running, lambda _: None, lambda *_: None)
        found |= story(fleet, Prometheus(fleet.prometheus))
        yield found


@pytest.fixture(scope="module")
def drawing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A browser that draws."""
    with browser() as running, studio(running, tmp_path_factory.mktemp("studio")) as place:
        yield place


@pytest.fixture(scope="module")
def draw(drawing: Studio, scenes: Mapping[str, Scene]) -> Draw:
    """Draws a board in a scene, once."""

    @cache
    def drawn(board: str, scene: str, width: int, mode: Scheme) -> Picture:
        name = f"{board}-{scene}-{width}-{mode}".replace(" ", "-")
        return drawing.draw(name, BOARDS[board], scenes[scene], width, mode)

    return drawn


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
    ("shards", "nothing", 1440, "dark"),
    ("shards", "drifted", 1440, "light"),
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
def test_a_person_sees_everything(draw: Draw, board: str, scene: str, width: int, mode: Scheme) -> None:
    """Every column is inside its panel, no name is cut, and every row of a timeline can be read."""
    picture = draw(board, scene, width, mode)
    assert {title: found for title, panel in picture.items() if (found := faults_of(panel))} == {}
    titles = {one["title"] for one in (*panels(BOARDS[board]), *BOARDS[board]["panels"])}
    assert set(picture) == titles


@pytest.mark.parametrize(("board", "scene", "width", "mode"), [one for one in sorted(TELLING) if one[1] == "nothing"])
def test_nothing_known_is_never_good_news(draw: Draw, board: str, scene: str, width: int, mode: Scheme) -> None:
    """A number is a grey question mark, the first table says that the state is unknown, and the others say why."""
    picture = draw(board, scene, width, mode)
    problems, *_ = (panel["title"] for panel in panels(BOARDS[board]) if panel["type"] == "table")
    for panel in panels(BOARDS[board]):
        seen = picture[panel["title"]]
        if panel["type"] == "stat":
            assert seen["text"].endswith("?"), panel["title"]
            assert seen["fills"], panel["title"]
            assert all(max(fill) - min(fill) < 16 for fill in seen["fills"]), panel["title"]
        elif panel["type"] == "table" and panel["title"] != problems:
            assert panel["fieldConfig"]["defaults"]["noValue"] in seen["text"], panel["title"]
        elif panel["type"] == "state-timeline":
            assert "no data" in seen["text"], panel["title"]
    assert picture[problems]["rows"] == [["unknown", "Check that Prometheus has exporters and rules."]]


FIRST = {
    ("fleet", "drifted", 1440, "dark"): ["plain", "lost", "steal_time"],
    ("guest", "lost", 1440, "dark"): ["plain", "lost", "steal_time"],
    ("guest", "baseline", 1440, "light"): ["strict", "required, not offered", "migration_control"],
    ("guest", "uneven", 1920, "dark"): ["uneven", "CPUs differ", "steal_time"],
    ("fleet", "down", 1440, "light"): ["uneven", "CPUs differ", "steal_time"],
    ("fleet", "many", 1440, "dark"): [name_of(300), "lost, dangerous", "steal_time"],
}
"""What the first row of the first table says."""


@pytest.mark.parametrize("drawn", FIRST)
def test_the_first_row_says_which_machine_which_feature_since_when_what_now(
    draw: Draw, drawn: tuple[str, str, int, Scheme]
) -> None:
    """Of the worst problem, on the first screen."""
    machine, problem, feature, since, action, _ = draw(*drawn)["Problems"]["rows"][0]
    assert [machine, problem, feature] == FIRST[drawn]
    assert re.search("(seconds|minutes?|hours?) ago", since)
    assert action.endswith(".")


@pytest.mark.parametrize(("board", "row"), [("fleet", ["plain", "lost"]), ("shards", ["lost", "1"])])
def test_on_a_phone_the_worst_problem_is_the_first_thing(draw: Draw, board: str, row: list[str]) -> None:
    """Before every number; and the first two columns are on the screen."""
    picture = draw(board, "drifted", PHONE, "dark")
    first = min(picture, key=lambda title: picture[title]["top"])
    assert first.startswith("Problems")
    panel = picture[first]
    assert panel["rows"][0][:2] == row
    assert not {*panel["headings"][:2]} & {*panel["outside"]}
    assert not {*panel["rows"][0][:2]} & {*panel["cut"]}


@pytest.mark.parametrize(
    ("board", "scene", "mode", "title"),
    [("guest", "lost", "dark", "Bits"), ("fleet", "drifted", "dark", "Outliers by feature")],
)
def test_a_table_has_room_for_every_bit(draw: Draw, board: str, scene: str, mode: Scheme, title: str) -> None:
    """The row of each bit is visible without scrolling, on the board of a machine and on that of the fleet."""
    panel = draw(board, scene, 1440, mode)[title]
    assert {feature.name for feature in FEATURES} <= {cell for row in panel["rows"] for cell in row}
    assert panel["below"] == 0


@pytest.mark.parametrize(
    ("scene", "width", "mode", "feature", "words"),
    [
        ("lost", 1440, "dark", "steal_time", {"lost", "used, not offered"}),
        ("uneven", 1920, "dark", "steal_time", {"some"}),
        ("baseline", 1440, "light", "migration_control", {"missing"}),
        ("baseline", 1440, "light", "pv_unhalt", {"unwanted"}),
    ],
)
def test_a_bit_that_is_wrong_says_so_in_its_row(
    draw: Draw, scene: str, width: int, mode: Scheme, feature: str, words: set[str]
) -> None:
    """Of all the bits of a machine; those that are right have none of these words."""
    rows = draw("guest", scene, width, mode)["Bits"]["rows"]
    wrong = {"lost", "some", "used, not offered", "missing", "unwanted"}
    assert {row[3]: wrong & {*row} for row in rows if wrong & {*row}}[feature] == words


def test_a_timeline_is_in_the_order_of_bits(draw: Draw) -> None:
    """As a table is: 2 comes before 10."""
    lines = draw("guest", "lost", 1440, "dark")["Offered over time"]["text"].splitlines()
    names = [line.removesuffix(" plain") for line in lines if line.endswith(" plain")]
    assert names == [feature.name for feature in FEATURES]


def test_only_what_is_wrong_has_a_colour(draw: Draw) -> None:
    """In a fleet that is well but for two machines, and in which no machine has lost anything."""
    picture = draw("fleet", "well", 1440, "light")
    coloured = {title for title, panel in picture.items() if panel["fills"]}
    assert coloured == {"Alerts", "CPUs differ", "Against baseline", "Feature sets"}


def test_a_machine_that_is_down_is_unknown(draw: Draw) -> None:
    """Not well: it is in the list of problems, and counted."""
    picture = draw("fleet", "down", 1440, "light")
    assert ["firecracker", "not sampled"] in [row[:2] for row in picture["Problems"]["rows"]]
    assert picture["Not sampled"]["text"].endswith("1")


def test_a_lost_feature_is_above_what_is_only_rare(draw: Draw) -> None:
    """Where two machines lost one, and others lack several that they never had."""
    machine, feature, offered, *_ = draw("fleet", "many", 1440, "dark")["Machines unlike most"]["rows"][0]
    assert [machine, feature, offered] == [name_of(300), "steal_time", "lost"]


def test_the_most_urgent_alert_is_the_first(draw: Draw) -> None:
    """Critical is above warning, and info is last."""
    rows = draw("fleet", "many", 1440, "dark")["Firing alerts"]["rows"]
    severities = [row[1] for row in rows]
    assert severities[0] == "critical"
    assert severities == sorted(severities, key=("critical", "warning", "info").index)


def faults_of(panel: Panel) -> list[str]:
    """What a person cannot see of a panel, or would misread."""
    found = [f"{heading} is outside" for heading in panel["outside"]]
    found += [f"{text!r} is cut" for text in panel["cut"] if text not in MEANINGS]
    if 0 < panel["lanes"] < 14:
        found.append(f"rows of {panel['lanes']:.0f} pixels")
    if panel["font"] < 10:
        found.append(f"letters of {panel['font']} pixels")
    found += [text for text in ("No data", "unexpected error", "undefined") if text in panel["text"]]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("board", "scene"), [("fleet", "drifted"), ("guest", "lost")])
def test_a_picture_of_the_docs_is_what_is_seen_first(
    drawing: Studio, scenes: Mapping[str, Scene], board: str, scene: str
) -> None:
    """With folded sections; the worst problem is in the first row of the first table."""
    picture = drawing.draw(f"docs-{board}", BOARDS[board], scenes[scene], 1440, "light", opened=False)
    assert picture["Problems"]["rows"][0][:3] == ["plain", "lost", "steal_time"]


@pytest.mark.slow
def test_the_landing_page_of_the_docs_names_the_lost_feature(drawing: Studio, tmp_path: Path) -> None:
    """Of the machine of the demonstration that drifts."""
    guest = Guest(tmp_path / PLAIN.name, PLAIN.cpus)
    guest.boot()
    exporter = Process(guest.exporter(), guest.environment)
    try:
        url = f"http://127.0.0.1:{port_of(exporter)}/"
        scrape(f"{url}metrics")
        guest.change(LATER[True])
        assert re.search("1 feature lost since", scrape(url))
        drawing.photograph("docs-page", url)
    finally:
        exporter.stop()


def scrape(url: str) -> str:
    """What is there."""
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as response:  # noqa: S310 - always http
        return str(response.read().decode())
