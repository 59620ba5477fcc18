"""kvm_exporter.app.flags: the values of the daemon's flags, and the message for each invalid value."""

import argparse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.app.flags import add_serve_flags, parse_cpus, parse_duration, parse_telemetry_path, parse_timeout
from kvm_exporter.web.addresses import TcpAddress


def options(*flags: str) -> argparse.Namespace:
    """Parse the flags of the daemon."""
    parser = argparse.ArgumentParser()
    add_serve_flags(parser)
    return parser.parse_args(flags)


def test_defaults() -> None:
    """The defaults are fixed, because the README and the unit file rely on them."""
    assert vars(options()) == {
        "addresses": None,
        "systemd_socket": False,
        "web_config": None,
        "web_config_check": False,
        "max_requests": 40,
        "telemetry_path": "/metrics",
        "disable_exporter_metrics": False,
        "max_age": 60.0,
        "timeout": 5.0,
        "isolated": "once",
        "cpus": None,
        "reference_directory": None,
        "config_check": False,
        "baseline": None,
        "host": True,
        "cpu_features": False,
        "log_level": "info",
        "log_format": None,
    }


def test_addresses_add_up() -> None:
    """The flag --web.listen-address can be repeated."""
    flags = ("--web.listen-address=:1", "--web.listen-address=[::1]:2")
    assert options(*flags).addresses == [TcpAddress("", 1), TcpAddress("::1", 2)]


@pytest.mark.parametrize("flag", ["web.systemd-socket", "web.disable-exporter-metrics"])
def test_boolean_flags_of_the_toolkit_have_a_negation(flag: str) -> None:
    """As in Go's kingpin, --no-FLAG is the default in words."""
    assert options(f"--no-{flag}") == options()
    assert options(f"--{flag}") != options()


def test_no_web_configuration() -> None:
    """An empty --web.config.file is none: the toolkit's default."""
    assert options("--web.config.file=") == options()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("1ms", 0.001),
        ("500ms", 0.5),
        ("1.5s", 1.5),
        ("90s", 90),
        ("1m30s", 90),
        ("1h2m3s4ms", 3723.004),
        ("1d", 86_400),
        ("2w1d12h", 15.5 * 86_400),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations have the syntax of Go and Prometheus."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "s", "-1s", "1 s", "1y", "1s ", "1,5s", "1e3s", "1s30", "infs"])
def test_what_is_no_duration(text: str) -> None:
    """The error names the text and gives an example."""
    with pytest.raises(ValueError, match=r"^.* is not a duration; use one such as 60s, 1m30s or 500ms$"):
        parse_duration(text)


@pytest.mark.parametrize("parse", [parse_duration, parse_timeout, parse_cpus, parse_telemetry_path])
@given(text=st.text(alphabet=st.characters() | st.sampled_from("0123456789hms.,-/"), max_size=12))
def test_any_text_is_a_value_or_a_value_error(parse: Callable[[str], object], text: str) -> None:
    """Any text is parsed, or raises ValueError with a message of one line."""
    message = ""
    try:
        parse(text)
    except ValueError as error:
        message = str(error)
    assert "\n" not in message


@pytest.mark.parametrize("path", ["/metrics", "/a/b", "/-/metrics", "/%20", "/~;=&"])
def test_telemetry_paths(path: str) -> None:
    """Any path that a request can have is valid, unless something else is served there."""
    assert parse_telemetry_path(path) == path


def test_lists_of_cpus() -> None:
    """A list of CPUs has the kernel's syntax."""
    assert parse_cpus("0-2,8") == {0, 1, 2, 8}
