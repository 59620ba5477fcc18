"""kvm_exporter.config.baseline: valid baseline files, the errors of invalid ones, and reloads after a change."""

import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvm_exporter.config.baseline import MAX_BYTES, load_baseline, parse_baseline, watch_baseline
from kvm_exporter.config.files import write_atomically
from kvm_exporter.errors import InputError
from kvm_exporter.kvm.baseline import Baseline
from kvm_exporter.kvm.features import FEATURES, Feature, feature_at, feature_named
from tests.support.rooms.unprivileged import PERMISSION, unprivileged

STEAL, CLOCK, STABLE, HINT = (
    feature_named(name) for name in ("steal_time", "clocksource2", "clocksource_stable_bit", "hints_realtime")
)
NAMES = ", ".join(feature.name for feature in FEATURES)

GOOD = """\
features:
  required: [clocksource2, steal_time, clocksource_stable_bit]
  forbidden: [hints_realtime]
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, Baseline((CLOCK, STEAL, STABLE), (HINT,))),
        ("features: {required: [steal_time]}", Baseline(required=(STEAL,))),
        ("features:\n  forbidden:\n    - steal_time\n    - hints_realtime\n", Baseline(forbidden=(STEAL, HINT))),
        ("features: {}", Baseline()),
        ("features: {required: [], forbidden: []}", Baseline()),
        ("features:\n  required:\n  forbidden: ~\n", Baseline()),
        ("# ours\nfeatures: # all\n  required: [ 'steal_time', \"clocksource2\" ]\n", Baseline((STEAL, CLOCK))),
        ("\ufefffeatures: {required: [steal_time]}", Baseline(required=(STEAL,))),
        ("features:\r\n  required: [steal_time]\r\n", Baseline(required=(STEAL,))),
        ('{"features": {"required": ["steal_time"], "forbidden": null}}', Baseline(required=(STEAL,))),
        ("---\nfeatures: {required: [steal_time]}\n...\n", Baseline(required=(STEAL,))),
        ("features: {required: [eax_bit_30, edx_bit_31]}", Baseline((feature_at("eax", 30), feature_at("edx", 31)))),
        ("features: {required: [eax_bit_24], forbidden: [edx_bit_0]}", Baseline((STABLE,), (HINT,))),
        ("features: {required: [&one steal_time], forbidden: [&two hints_realtime]}", Baseline((STEAL,), (HINT,))),
        ("features: {required: [!!python/object/apply:os.abort steal_time]}", Baseline(required=(STEAL,))),
    ],
    ids=[
        *("both", "required", "forbidden", "no list", "empty lists", "lists without items", "comments and quotes"),
        *("byte order mark", "CRLF", "JSON", "one document", "unassigned bits", "assigned bits by place", "anchors"),
        "tags say nothing",
    ],
)
def test_a_baseline(text: str, expected: Baseline) -> None:
    """Both lists are optional and keep their order; a feature can be given by name or by its place."""
    assert parse_baseline(text.encode()) == expected


@pytest.mark.parametrize("bit", range(32))
@pytest.mark.parametrize("register", ["eax", "edx"])
def test_every_place_is_a_name(register: str, bit: int) -> None:
    """``eax_bit_N`` and ``edx_bit_N`` stay valid when a bit is assigned, and mean the same feature as its name."""
    [feature] = parse_baseline(f"features: {{required: [{register}_bit_{bit}]}}".encode()).required
    assert (feature.register, feature.bit) == (register, bit)


def required(*items: str) -> bytes:
    """Return a baseline that requires these items, one per line, from line 3 on."""
    return "\n".join(["features:", "  required:", *(f"    - {item}" for item in items), ""]).encode()


BOMB = ", ".join(["&a0 [x]", *(f"&a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 40))])
"""Forty nested aliases that would expand to 9 ** 39 items."""

A_NAME = "expected a name, not a list or a mapping"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "line 1: the file is empty; begin it with features:"),
        (b"# nothing yet\n", "line 1: the file is empty; begin it with features:"),
        (b"{}", "line 1: features is missing; add it, with the lists required and forbidden"),
        (b"[features]", "line 1: expected features:"),
        (b"steal_time", "line 1: expected features:"),
        (b"features:\n", "line 1: expected forbidden: and required:"),
        (b"features: [steal_time]\n", "line 1: expected forbidden: and required:"),
        (b"\n\nfeature: {}\n", "line 3: unknown key 'feature'; use one of features"),
        (GOOD.encode() + b"owner: me\n", "line 4: unknown key 'owner'; use one of features"),
        (b"features:\n  require: []\n", "line 2: unknown key 'require'; use one of forbidden, required"),
        (b"<<: {features: {}}", "line 1: unknown key '<<'; use one of features"),
        (b"? [features]\n: {}\n", f"line 1: {A_NAME}"),
        (b"features: {}\nfeatures: {}\n", "line 2: duplicate key features; keep one"),
        (
            b"features:\n  required: []\n  forbidden: []\n  required: []\n",
            "line 4: duplicate key required; keep one",
        ),
        (b"features: {required: steal_time}", "line 1: required must be a list of feature names"),
        (b"features:\n  required: []\n  forbidden: {a: 1}\n", "line 3: forbidden must be a list of feature names"),
        (required("steal_tme"), "line 3: unknown feature 'steal_tme'; did you mean steal_time?"),
        (
            required("steal_time", "Clocksource2"),
            "line 4: unknown feature 'Clocksource2'; did you mean clocksource2?",
        ),
        (required("qqq"), f"line 3: unknown feature 'qqq'; known features: {NAMES}, eax_bit_N and edx_bit_N"),
        (required("5"), f"line 3: unknown feature '5'; known features: {NAMES}, eax_bit_N and edx_bit_N"),
        (
            required("dx_bit_32"),
            f"line 3: unknown feature 'dx_bit_32'; known features: {NAMES}, eax_bit_N and edx_bit_N",
        ),
        (required(""), f"line 3: unknown feature ''; known features: {NAMES}, eax_bit_N and edx_bit_N"),
        (required("steal_time: true"), f"line 3: {A_NAME}"),
        (required("pv_eoi", "[steal_time]"), f"line 4: {A_NAME}"),
        (
            required("steal_time", "pv_eoi", "steal_time"),
            "line 5: duplicate steal_time: it is already required; keep one",
        ),
        (required("steal_time", "eax_bit_5"), "line 4: duplicate eax_bit_5: it is already required; keep one"),
        (
            b"features:\n  required: [steal_time]\n  forbidden: [steal_time]\n",
            "line 3: duplicate steal_time: it is already required; keep one",
        ),
        (
            b"features:\n  forbidden: [eax_bit_5]\n  required: [steal_time]\n",
            "line 2: duplicate eax_bit_5: it is already required; keep one",
        ),
        (
            b"features: {required: &both [steal_time], forbidden: *both}",
            "line 1: duplicate steal_time: it is already required; keep one",
        ),
        (required("*steal"), "line 3: not valid YAML: found undefined alias 'steal'"),
        (required(f"[{BOMB}]"), f"line 3: {A_NAME}"),
        (f"? [{BOMB}]\n: 1\n".encode(), f"line 1: {A_NAME}"),
        (b"features: &a {required: *a}", "line 1: required must be a list of feature names"),
        (b"features: {required: &a [*a]}", f"line 1: {A_NAME}"),
        (
            b"features:\n\trequired: []\n",
            (
                "line 2: not valid YAML: while scanning for the next token, "
                "found character '\\t' that cannot start any token"
            ),
        ),
        (
            b"features: {required: [steal_time\n",
            "line 2: not valid YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'",
        ),
        (
            b"features: {}\n---\nfeatures: {}\n",
            "line 2: not valid YAML: expected a single document in the stream, but found another document",
        ),
        (
            b"\x7fELF\x02\x01\x01\0\0",
            "line 1: not valid YAML: unacceptable character #x007f: special characters are not allowed",
        ),
        (b"features: \xff", "line 1: not valid YAML: unacceptable character #x00ff: invalid start byte"),
        (required(r'"\UFFFFFFFF"'), "line 1: not valid YAML: Python int too large to convert to C int"),
        (required(r'"\U00110000"'), "line 1: not valid YAML: chr() arg not in range(0x110000)"),
    ],
)
def test_no_baseline(text: bytes, message: str) -> None:
    """The error has the line, the problem, and what to write; nested aliases do not make it long."""
    with pytest.raises(InputError) as error:
        parse_baseline(text)
    assert str(error.value) == message


def test_no_depth_is_too_much() -> None:
    """Lists that are nested too deeply for the parser are an error like any other invalid YAML."""
    with pytest.raises(InputError, match=r"^line 1: not valid YAML: maximum recursion depth exceeded"):
        parse_baseline(b"[" * MAX_BYTES)


@pytest.mark.parametrize("line", [b"a:\n", b"- x\n", b"x ", b"{", b"? ", b"!a ", b"&a\n", b"'", b"#\n"])
def test_ten_times_the_file_takes_ten_times_as_long(line: bytes, figure: Callable[[str], None]) -> None:
    """A scrape waits for it: the time to read a large file grows with its length, and not with its square."""
    tenth = min(cpu_seconds(line, MAX_BYTES // 80) for _ in range(3))
    whole = cpu_seconds(line, MAX_BYTES // 8)
    figure(f"{whole * 1000:.0f} ms, {whole / tenth:.1f} times a tenth")
    assert whole < 50 * tenth


def cpu_seconds(line: bytes, size: int) -> float:
    """What it takes to read a file of so many bytes."""
    content = (line * size)[:size]
    start = time.process_time()
    outcome(content)
    return time.process_time() - start


@given(
    st.binary()
    | st.text().map(str.encode)
    | st.text("[]{}:,-&*!|>'\"%@`#?\\ \n\tUx0F~<=aefr").map(str.encode)
    | st.lists(st.sampled_from([*GOOD.split(), "\n", "\n  ", "- ", ": ", "[", "]", "&a ", "*a", "? ", '"\\U']))
    .map("".join)
    .map(str.encode)
)
@example(b'"\\UFFFFFFFF"')
@example(b"? ")
def test_no_text_raises_anything_else(text: bytes) -> None:
    """Any input is a baseline or an error of one line with a line number; no feature is declared twice."""
    found = outcome(text)
    if isinstance(found, str):
        assert found.startswith("line ")
        assert "\n" not in found
    else:
        declared = [*found.required, *found.forbidden]
        assert len(declared) == len(set(declared))


def outcome(text: bytes) -> Baseline | str:
    """Return the baseline in a text, or the message of the error."""
    try:
        return parse_baseline(text)
    except InputError as error:
        return str(error)


@given(st.permutations(FEATURES), st.integers(0, len(FEATURES)), st.integers(0, len(FEATURES)))
def test_what_is_declared_is_what_is_read(features: list[Feature], first: int, second: int) -> None:
    """Any features in any order, required or forbidden, are parsed to the same baseline."""
    wanted, unwanted = features[:first], features[first : first + second]
    text = f"features:\n  required: {[feature.name for feature in wanted]}\n"
    text += f"  forbidden: {[feature.name for feature in unwanted]}\n"
    assert parse_baseline(text.encode()) == Baseline(tuple(wanted), tuple(unwanted))


def _missing(path: Path) -> str:
    del path
    return "cannot be read: No such file or directory; kvm-exporter baseline prints one"


def _directory(path: Path) -> str:
    path.mkdir()
    return "cannot be read: Is a directory; kvm-exporter baseline prints one"


def _empty(path: Path) -> str:
    path.write_bytes(b"")
    return "line 1: the file is empty; begin it with features:"


def _wrong(path: Path) -> str:
    path.write_bytes(required("steal_tme"))
    return "line 3: unknown feature 'steal_tme'; did you mean steal_time?"


def _huge(path: Path) -> str:
    with path.open("wb") as file:
        file.truncate(1 << 40)
    return f"is larger than {MAX_BYTES} bytes; check that it is a baseline"


@pytest.mark.parametrize("spoil", [_missing, _directory, _empty, _wrong, _huge])
def test_the_message_names_the_file(tmp_path: Path, spoil: Callable[[Path], str]) -> None:
    """Every error begins with the path of the file."""
    path = tmp_path / "baseline.yml"
    message = spoil(path)
    with pytest.raises(InputError) as error:
        load_baseline(path)
    assert str(error.value) == f"{path}: {message}"


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """A file without read permission is an error that names the reason."""
    path = tmp_path / "baseline.yml"
    path.write_text(GOOD)
    path.chmod(0)
    with unprivileged(), pytest.raises(InputError) as error:
        load_baseline(path)
    assert str(error.value) == f"{path}: cannot be read: Permission denied; {PERMISSION}"


FIRST, SECOND = Baseline(required=(STEAL,)), Baseline(required=(CLOCK,))
FIRST_TEXT, SECOND_TEXT = b"features: {required: [steal_time]}\n", b"features: {required: [clocksource2]}\n"
BROKEN_TEXT = b"features: {required: [steal_tme]}\n"
WHY_BROKEN = "line 1: unknown feature 'steal_tme'; did you mean steal_time?"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a valid baseline."""
    found = tmp_path / "baseline.yml"
    found.write_bytes(FIRST_TEXT)
    return found


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log, from the level DEBUG on."""
    caplog.set_level(logging.DEBUG)
    return caplog


def test_the_baseline_of_a_file(path: Path, log: pytest.LogCaptureFixture) -> None:
    """The baseline is available after construction; the duration is recorded, and nothing is logged."""
    start = time.perf_counter()
    file = watch_baseline(path)
    assert (file.value, file.success) == (FIRST, True)
    assert 0 < file.seconds < time.perf_counter() - start
    assert log.messages == []


def test_a_broken_file_does_not_end_the_start(path: Path, log: pytest.LogCaptureFixture) -> None:
    """An invalid file at the start is logged and shown; the empty baseline stands for it until the file is valid."""
    path.write_bytes(BROKEN_TEXT)
    file = watch_baseline(path)
    assert (file.value, file.success) == (Baseline(), False)
    why = f"could not load the baseline, starting without it: {path}: {WHY_BROKEN}"
    assert [(record.levelname, record.message) for record in log.records] == [("ERROR", why)]
    replaced(path, FIRST_TEXT)
    file.refresh()
    assert (file.value, file.success) == (FIRST, True)


def test_a_file_that_has_not_changed_is_not_read_again(path: Path, log: pytest.LogCaptureFixture) -> None:
    """The baseline stays the same object, so that nothing has to be rendered again."""
    file = watch_baseline(path)
    before = file.value
    for _ in range(3):
        file.refresh()
    assert file.value is before
    assert log.messages == []


def replaced(path: Path, text: bytes) -> None:
    """Replace the file by another one, as editors and configuration management do."""
    write_atomically(path, text)


def edited(path: Path, text: bytes) -> None:
    """Overwrite the content of the file."""
    path.write_bytes(text)


def linked(path: Path, text: bytes) -> None:
    """Replace the file by a symbolic link to another one, as Kubernetes does with ConfigMaps."""
    other = path.with_name("..data")
    other.write_bytes(text)
    path.unlink()
    path.symlink_to(other)


@pytest.mark.parametrize("change", [replaced, edited, linked])
def test_a_file_that_has_changed_is_read_again(
    path: Path, log: pytest.LogCaptureFixture, change: Callable[[Path, bytes], None]
) -> None:
    """However the file was changed, the new baseline is loaded and logged once."""
    file = watch_baseline(path)
    change(path, SECOND_TEXT)
    assert file.value == FIRST
    file.refresh()
    file.refresh()
    assert (file.value, file.success) == (SECOND, True)
    assert log.messages == [f"reloaded the baseline from {path}"]


def test_on_demand_it_is_read_again_although_it_has_not_changed(path: Path, log: pytest.LogCaptureFixture) -> None:
    """reload(), which SIGHUP triggers, reads the file even if it has not changed."""
    file = watch_baseline(path)
    file.reload()
    assert file.value == FIRST
    assert log.messages == [f"reloaded the baseline from {path}"]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (partial(edited, text=BROKEN_TEXT), WHY_BROKEN),
        (partial(replaced, text=b""), "line 1: the file is empty; begin it with features:"),
        (Path.unlink, "cannot be read: No such file or directory; kvm-exporter baseline prints one"),
    ],
    ids=["broken", "empty", "gone"],
)
def test_a_broken_file_leaves_the_last_good_baseline(
    path: Path, log: pytest.LogCaptureFixture, spoil: Callable[[Path], None], why: str
) -> None:
    """The previous baseline is kept. The error is logged once and success stays False until the file is valid again."""
    file = watch_baseline(path)
    before = file.value
    spoil(path)
    for _ in range(3):
        file.refresh()
        assert (file.value is before, file.success) == (True, False)
    assert [(record.levelname, record.message) for record in log.records] == [
        ("ERROR", f"could not reload the baseline, keeping the previous one: {path}: {why}")
    ]
    log.clear()
    replaced(path, SECOND_TEXT)
    for _ in range(3):
        file.refresh()
        assert (file.value, file.success) == (SECOND, True)
    assert [(record.levelname, record.message) for record in log.records] == [
        ("INFO", f"reloaded the baseline from {path}")
    ]


def test_a_file_that_comes_back_is_read_again(path: Path) -> None:
    """A file that was moved away and back unchanged is loaded again."""
    file = watch_baseline(path)
    path.rename(path.with_name("away"))
    file.refresh()
    path.with_name("away").rename(path)
    file.refresh()
    assert (file.value, file.success) == (FIRST, True)


def test_each_broken_state_is_an_error_of_its_own(path: Path, log: pytest.LogCaptureFixture) -> None:
    """Each invalid content is logged, so that an operator who edits the file learns what is still wrong."""
    file = watch_baseline(path)
    for text in (BROKEN_TEXT, b"", BROKEN_TEXT):
        replaced(path, text)
        file.refresh()
    assert len(log.records) == 3
    assert file.value == FIRST
