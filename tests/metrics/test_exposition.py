"""kvm_exporter.metrics.exposition: bodies in every format and coding, read by clients' parsers and decompressors."""

import asyncio
import gzip
import re
import subprocess
import zlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from kvm_exporter.collector.sampler import Tally
from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.cpuid.registers import Registers
from kvm_exporter.kvm.sample import Sample
from kvm_exporter.metrics.exporter import build_families, counter_families, sample_families, settings_families
from kvm_exporter.metrics.exposition import PIECE_SERIES, Body, Cache, Families, render, rendered
from kvm_exporter.metrics.machine import machine_families
from kvm_exporter.metrics.negotiation import Format
from lab.readers import Machine, guest, intel_reader, kvm_rows, reader, sample_of
from tests.support.rooms.loop import in_loop

TEXT, TEXT_1, OPENMETRICS = Format.TEXT_0_0_4, Format.TEXT_1_0_0, Format.OPENMETRICS_1_0_0
FORMATS = pytest.mark.parametrize("form", Format, ids=lambda form: form.name)

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Parts(NamedTuple):
    """The two parts of a body: families that are rendered once, and families that are added to it."""

    fixed: tuple[Metric, ...]
    live: tuple[Metric, ...]


def scrape() -> Parts:
    """Return all families of a machine with every optional leaf, an unassigned bit and a divergent CPU."""
    rows = kvm_rows(0x81007EFB, 1, timing=Registers(2_600_000, 1_000_000, 0, 0))
    sample = sweep(
        Machine({0: reader(rows), 1: reader(rows), 2: intel_reader(kvm_rows(0x01007EFB))}), CpuSelection(), None
    )
    fixed = (*machine_families(sample, per_cpu_features=True), *build_families())
    process = (*ProcessCollector(registry=None).collect(), *PlatformCollector(registry=None).collect())
    own = (*sample_families(sample, success=True), *settings_families(60.0), *counter_families(Tally()))
    return Parts(fixed, (*own, *process))


SCRAPE = scrape()
NOW = b"# TYPE now gauge\nnow 1.0\n"
"""Text that is added to a body for one response only."""


def body(families: Families, form: Format) -> Body:
    """Render a body in an event loop of its own."""
    return asyncio.run(rendered(families, form))


BODY = {form: body((*SCRAPE.fixed, *SCRAPE.live), form) for form in Format}


def series(families: Iterable[Metric]) -> Series:
    """Return the value of each series by name and labels, and check that no series is duplicated."""
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, frozenset(sample.labels.items())): float(sample.value) for sample in samples}
    assert len(found) == len(samples)
    return found


def parsed(body: bytes, form: Format) -> tuple[Metric, ...]:
    """Parse a body with prometheus_client; its parser of OpenMetrics is strict."""
    if form is OPENMETRICS:
        return tuple(parse_openmetrics(body.decode()))  # type: ignore[no-untyped-call]
    return tuple(parse_text(body.decode()))


@FORMATS
def test_a_body_holds_the_series_of_both_parts(form: Format) -> None:
    """A parser finds the series of both parts in the body."""
    assert series(parsed(BODY[form].identity(), form)) == series(SCRAPE.fixed + SCRAPE.live)


def test_openmetrics_ends_with_its_marker_once() -> None:
    """OpenMetrics ends with one marker after all parts; text has no marker."""
    lines = BODY[OPENMETRICS].identity(NOW).splitlines()
    assert (lines[-1], lines.count(b"# EOF")) == (b"# EOF", 1)
    assert b"# EOF" not in BODY[TEXT].identity(NOW)


def test_both_versions_of_text_have_the_same_body() -> None:
    """Both versions of text have the same body, because they differ only in names that the exporter does not have."""
    assert BODY[TEXT_1].identity(NOW) == BODY[TEXT].identity(NOW)


@FORMATS
def test_no_series_tells_when_a_counter_was_created(form: Format) -> None:
    """No series has the suffix _created, which only one of the formats would have."""
    assert b"_created" not in BODY[form].identity()


def test_a_unit_is_given_only_where_the_name_ends_in_it() -> None:
    """A unit is declared only for families whose name ends with it, as OpenMetrics requires."""
    text = BODY[OPENMETRICS].identity().decode()
    units = dict(re.findall(r"^# UNIT (\S+) (\S+)$", text, re.MULTILINE))
    assert {name: unit for name, unit in units.items() if name.startswith("kvm_")} == {
        "kvm_tsc_frequency_hertz": "hertz",
        "kvm_bus_frequency_hertz": "hertz",
        "kvm_exporter_sample_timestamp_seconds": "seconds",
        "kvm_exporter_sample_duration_seconds": "seconds",
        "kvm_exporter_sample_max_age_seconds": "seconds",
    }
    assert all(name.endswith(f"_{unit}") for name, unit in units.items())


def test_openmetrics_names_families_without_their_suffixes() -> None:
    """In OpenMetrics a family's name lacks the suffix _info or _total of its series."""
    families = {family.name: family.type for family in parsed(BODY[OPENMETRICS].identity(), OPENMETRICS)}
    assert families["kvm_signature"] == "info"
    assert families["kvm_exporter_samples"] == "counter"
    assert not [name for name in families if name.startswith("kvm_") and name.endswith(("_info", "_total"))]


@FORMATS
def test_gzip_is_the_same_body_in_one_member(form: Format) -> None:
    """The compressed body is a single gzip member, because some decompressors stop after the first."""
    compressed, plain = BODY[form].gzip(NOW), BODY[form].identity(NOW)
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    assert stream.decompress(compressed) == plain
    assert (stream.eof, stream.unused_data) == (True, b"")
    assert gzip.decompress(compressed) == plain
    assert len(compressed) < len(plain) / 4


@FORMATS
def test_gzip_is_what_the_program_of_that_name_reads(form: Format) -> None:
    """The program gzip, which checks length and checksum, decompresses the body without a warning."""
    result = subprocess.run(["gzip", "-dc"], input=BODY[form].gzip(NOW), check=True, capture_output=True)
    assert (result.stdout, result.stderr) == (BODY[form].identity(NOW), b"")


def gauge(name: str, text: str, value: float) -> Metric:
    """Return a family with any text in its label and its documentation."""
    family = GaugeMetricFamily(name, f"Of {text}.", labels=("label",))
    family.add_metric((text,), value)
    return family


TEXTS = st.text(st.characters(codec="utf-8"))
FAMILIES = st.lists(st.tuples(TEXTS, st.floats()), max_size=4).map(
    lambda pairs: [gauge(f"family_{number}", *pair) for number, pair in enumerate(pairs)]
)


@given(FAMILIES, st.binary(), st.sampled_from(Format))
def test_any_parts_are_one_body(families: list[Metric], now: bytes, form: Format) -> None:
    """Parts that are rendered separately are joined and compressed correctly, even if one of them is empty."""
    made = body(families, form)
    end = b"# EOF\n" if form is OPENMETRICS else b""
    plain = made.identity(now)
    assert plain == render(families, form) + now + end
    stream = zlib.decompressobj(zlib.MAX_WBITS | 16)
    assert stream.decompress(made.gzip(now)) == plain
    assert (stream.eof, stream.unused_data) == (True, b"")


@given(TEXTS)
def test_any_label_survives_the_text(text: str) -> None:
    """Backslashes, quotes and newlines in a label are escaped."""
    assert series(parsed(render([gauge("family", text, 1)], TEXT), TEXT)) == {
        ("family", frozenset({("label", text)})): 1
    }


@pytest.mark.parametrize("size", [0, 0xFFFF - 6, 0xFFFF, 0x10000, 0x20000, 1 << 20])
def test_a_text_of_the_moment_may_have_any_length(size: int) -> None:
    """The text for one response can be of any length, also if it needs several uncompressed blocks."""
    now = bytes(number % 251 for number in range(size))
    assert gzip.decompress(BODY[OPENMETRICS].gzip(now)) == BODY[OPENMETRICS].identity(now)


@FORMATS
def test_an_empty_body_is_a_body(form: Format) -> None:
    """A body without families is valid in every format."""
    end = b"# EOF\n" if form is OPENMETRICS else b""
    assert body((), form).identity() == end
    assert gzip.decompress(body((), form).gzip()) == end


def many_cpus(count: int) -> Sample:
    """Return a sample of so many CPUs."""
    return sample_of(dict.fromkeys(range(count), guest(0x01007EFB)))


@FORMATS
def test_a_family_in_parts_is_one_family(form: Format) -> None:
    """The parts of a family have its help and type once, and the text is that of the whole family."""
    families = list(machine_families(many_cpus(PIECE_SERIES), per_cpu_features=True))
    whole = {family.name: GaugeMetricFamily(family.name, family.documentation) for family in families}
    for family in families:
        whole[family.name].samples += family.samples
        whole[family.name].type, whole[family.name].unit = family.type, family.unit
    assert len(whole) < len(families)
    assert render(families, form) == render(whole.values(), form)


@FORMATS
@in_loop
async def test_the_loop_turns_while_a_body_is_rendered(form: Format) -> None:
    """However many CPUs there are, few series are made and rendered between two turns of the event loop."""
    made, turns = 0, [0]

    def counted() -> Iterator[Metric]:
        nonlocal made
        for family in machine_families(many_cpus(4 * PIECE_SERIES), per_cpu_features=True):
            made += len(family.samples)
            yield family

    async def turn() -> None:
        while True:
            turns.append(made)
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    await rendered(counted(), form)
    turning.cancel()
    turns.append(made)
    assert made > 50 * PIECE_SERIES
    assert max(after - before for before, after in pairwise(turns)) < 2 * PIECE_SERIES


@in_loop
async def test_scrapes_of_one_state_share_a_rendering() -> None:
    """Those that come during it or later get the same body, also if the first of them is cancelled."""
    made = []

    def families(state: str) -> Iterator[Metric]:
        made.append(state)
        yield from machine_families(many_cpus(PIECE_SERIES))

    cache = Cache(families)
    first, second = (asyncio.create_task(cache.get("a", TEXT)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await cache.get("a", TEXT_1) is await second
    assert made == ["a"]


@in_loop
async def test_each_scrape_gets_the_body_of_its_state() -> None:
    """A state that comes during a rendering does not change it; the last one is kept, and the others are not."""
    made = []

    def families(state: str) -> Iterator[Metric]:
        made.append(state)
        yield from machine_families(many_cpus(PIECE_SERIES))
        yield gauge("state", state, 1)

    cache = Cache(families)
    scrapes = [asyncio.create_task(cache.get(state, TEXT)) for state in ("a", "b")]
    assert [(await scrape).identity().splitlines()[-1] for scrape in scrapes] == [
        b'state{label="a"} 1.0',
        b'state{label="b"} 1.0',
    ]
    await cache.get("b", TEXT)
    await cache.get("b", OPENMETRICS)
    await cache.get("a", TEXT)
    assert made == ["a", "b", "b", "a"]


@FORMATS
@pytest.mark.parametrize(
    ("fixed", "live"),
    [
        ([gauge("twice", "a", 1), gauge("twice", "b", 1)], []),
        ([], [gauge("twice", "a", 1), gauge("twice", "b", 1)]),
        ([InfoMetricFamily("twice", "", {}), GaugeMetricFamily("twice_info", "", 1)], []),
        ([], [CounterMetricFamily("twice", "", 1), GaugeMetricFamily("twice_total", "", 1)]),
    ],
    ids=["fixed", "live", "info", "counter"],
)
def test_a_name_that_is_there_twice_is_an_error(form: Format, fixed: list[Metric], live: list[Metric]) -> None:
    """Duplicate names raise ValueError, because Prometheus would reject the whole scrape."""
    with pytest.raises(ValueError, match="twice"):
        body((*fixed, *live), form)


def test_words_of_32_bits_are_exact() -> None:
    """The largest 32-bit values are unchanged after rendering and parsing."""
    sample = sample_of(
        {0: sweep(Machine({0: reader(kvm_rows(0xFFFF_FFFF, 0xFFFF_FFFE))}), CpuSelection(), None).common}
    )
    for form in Format:
        values = series(parsed(body(machine_families(sample), form).identity(), form))
        registers = {
            dict(labels)["register"]: value for (name, labels), value in values.items() if name == "kvm_cpu_register"
        }
        assert registers == {"eax": 0xFFFF_FFFF, "edx": 0xFFFF_FFFE}
