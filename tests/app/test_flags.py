"""kvm_exporter.app.flags: the values of the daemon's flags, and the message for each invalid value."""

import argparse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.app.cli import main
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
        "exporter_metrics": True,
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
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations have the syntax of Go and Prometheus."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "s", "-1s", "1 s", "1d", "1s ", "1,5s", "1e3s", "1s30", "infs"])
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


WRONG_FLAGS = [
    ("--web.listen-address=10401", "'10401' is not a valid address; give host:port or :port, such as 127.0.0.1:10401"),
    ("--web.listen-address=::1", "'::1' is not a valid address; put an IPv6 host in brackets, such as [::1]:10401"),
    ("--web.telemetry-path=metrics", "'metrics' cannot be the path of the metrics; use one such as /metrics"),
    ("--web.telemetry-path=/", "'/' cannot be the path of the metrics; use one such as /metrics"),
    ("--web.telemetry-path=/-/ready", "'/-/ready' cannot be the path of the metrics; use one such as /metrics"),
    ("--web.telemetry-path=/-/healthy", "'/-/healthy' cannot be the path of the metrics; use one such as /metrics"),
    ("--web.telemetry-path=/a?b", "'/a?b' cannot be the path of the metrics; use one such as /metrics"),
    ("--web.telemetry-path=/a#b", "'/a#b' cannot be the path of the metrics; use one such as /metrics"),
    ("--web.telemetry-path=/a b", "'/a b' cannot be the path of the metrics; use one such as /metrics"),
    ("--web.telemetry-path=/\xe9", "'/\xe9' cannot be the path of the metrics; use one such as /metrics"),
    ("--sample.max-age=60", "'60' is not a duration; use one such as 60s, 1m30s or 500ms"),
    ("--sample.max-age=-1s", "'-1s' is not a duration; use one such as 60s, 1m30s or 500ms"),
    ("--sample.timeout=5", "'5' is not a duration; use one such as 60s, 1m30s or 500ms"),
    ("--sample.timeout=0", "'0' must be greater than zero; use a duration such as 5s"),
    ("--sample.timeout=0ms", "'0ms' must be greater than zero; use a duration such as 5s"),
    ("--sample.isolated=maybe", "invalid choice: 'maybe' (choose from 'once', 'always', 'never')"),
    ("--sample.cpus=", "the list of CPUs is empty; use one such as 0-3,8"),
    ("--sample.cpus=a", "'a' is not a CPU or a range of CPUs such as 0-3"),
    ("--sample.cpus=3-1", "'3-1' is not an ascending range below 1048576"),
    ("--sample.cpus=0,9999999", "'9999999' is not an ascending range below 1048576"),
    ("--log.level=loud", "invalid choice: 'loud' (choose from 'debug', 'info', 'warn', 'error')"),
    ("--log.format=xml", "invalid choice: 'xml' (choose from 'logfmt', 'json', 'journal')"),
]


@pytest.mark.parametrize(("flag", "message"), WRONG_FLAGS)
@pytest.mark.parametrize("command", [(), ("serve",)], ids=["default", "serve"])
def test_wrong_flags(command: tuple[str, ...], flag: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid value ends in exit code 2 and one line with the flag and the value."""
    with pytest.raises(SystemExit) as ended:
        main([*command, flag])
    name = flag.partition("=")[0]
    assert ended.value.code == 2
    assert capsys.readouterr() == (
        "",
        f"kvm-exporter: argument {name}: {message}; see kvm-exporter serve --help\n",
    )
