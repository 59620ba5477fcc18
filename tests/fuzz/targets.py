"""The targets: each takes bytes from outside, and raises AssertionError if a property does not hold.

A parser may raise the errors that it documents; any other exception is a finding. Does not depend on a fuzzer.
"""

import json
import re
import struct
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import h11

from kvm_exporter.collector.boot import Boot, format_reference, parse_reference
from kvm_exporter.collector.conditions import Found
from kvm_exporter.collector.guest import read_evidence
from kvm_exporter.collector.in_use import features_in_use
from kvm_exporter.collector.observer import Observation
from kvm_exporter.collector.sweep import CpuSelection, sweep
from kvm_exporter.config.baseline import parse_baseline
from kvm_exporter.config.duration import nanoseconds
from kvm_exporter.config.web import parse_web_config
from kvm_exporter.cpuid.cpulist import format_cpu_list, parse_cpu_list
from kvm_exporter.cpuid.dump import format_dump, parse_dump
from kvm_exporter.errors import InputError
from kvm_exporter.kvm.baseline import Baseline
from kvm_exporter.kvm.clock import SIZE, decode_pvclock
from kvm_exporter.kvm.leaves import Kvm, Leaves
from kvm_exporter.metrics.exposition import render
from kvm_exporter.metrics.machine import machine_families
from kvm_exporter.metrics.negotiation import Format, choose_format, choose_gzip
from kvm_exporter.report import table as report
from kvm_exporter.report.findings import findings
from kvm_exporter.report.page import landing_page
from kvm_exporter.web.addresses import TcpAddress, parse_address
from kvm_exporter.web.credentials import MAX_PASSWORD_BYTES, parse_basic
from kvm_exporter.web.http import Http1, Request, Response, text_response
from kvm_exporter.web.tls import server_context
from kvm_exporter.web.x509 import parse_certificate
from lab.scrape import Scrape

MOST_LETTERS = 500
"""The maximum length of an error message, without the parts that are quoted from the input."""

BOOT = Boot("b", 1704066200.0, 1100.0)


def http(data: bytes) -> None:
    """Splitting the bytes does not change the requests, and an HTTP client understands the responses."""
    size, stream = (data[0] + 1, data[1:]) if data else (1, b"")
    answers = _answers([stream])
    pieces = _answers([stream[start : start + size] for start in range(0, len(stream), size)])
    assert [_said(answer) for answer, _ in answers] == [_said(answer) for answer, _ in pieces]
    client = h11.Connection(h11.CLIENT)
    for answer, has_body in answers:
        if client.our_state is h11.DONE:
            client.start_next_cycle()
        client.send(h11.Request(method="GET" if has_body else "HEAD", target="/", headers=[("Host", "a")]))
        client.send(h11.EndOfMessage())
        client.receive_data(answer)
        assert isinstance(client.next_event(), h11.Response)
        while not isinstance(event := client.next_event(), h11.EndOfMessage):
            assert isinstance(event, h11.Data)
        assert client.trailing_data[0] == b""


def _answers(pieces: list[bytes]) -> list[tuple[bytes, bool]]:
    """Return each response, and whether it has a body; the last one may be a refusal."""
    parser = Http1()
    sent: list[tuple[bytes, bool]] = []
    for piece in pieces:
        if piece:  # to receive nothing means that there is no more
            parser.receive(piece)
        while isinstance(taken := parser.take(), Request | Response):
            response = taken if isinstance(taken, Response) else _answer(taken)
            refused = response is taken
            answer = parser.send(response, last=refused)
            sent.append((answer, answer.endswith(b"\r\n\r\n" + response.body)))
            if refused or not parser.next_request():
                return sent
    return sent


def _answer(request: Request) -> Response:
    assert all(name == name.lower() for name in request.headers)
    known = request.method in {"GET", "HEAD"}
    return text_response(HTTPStatus.OK if known else HTTPStatus.METHOD_NOT_ALLOWED, f"{request.method} {request.path}")


def _said(answer: bytes) -> bytes:
    """Return the status, with the echoed request if it is 200; the reason of a refusal can depend on the splitting."""
    status, _, rest = answer.partition(b"\r\n")
    return status + rest.rpartition(b"\r\n")[2] if b" 200 " in status else status


_PASTED = (
    ("> ", ""),
    ("/// ", ""),
    ('"', '\\n" +'),
    ("May  1 09:59:01 host cpuid[7]: ", "\r"),
    ("\x1b[1m\t", "\x1b[0m"),
)
"""What mails, programs, logs and terminals put before and after each line."""


def dump(data: bytes) -> None:
    """Parsing a formatted dump, also as others paste it, returns the same dump, and all outputs can be made from it."""
    try:
        parsed = parse_dump(data)
        sample = sweep(parsed, CpuSelection(), None)
    except InputError as error:
        _is_a_message(error, "line ", data)
        return
    text = format_dump(parsed)
    assert parse_dump(text.encode()) == parsed
    for before, after in _PASTED:
        pasted = "\n".join(f"{before}{line}{after}" for line in text.splitlines())
        assert parse_dump(f"Title\n{pasted}\n$ ".encode()) == parsed
    assert parse_dump(text.replace(" ", "\xa0").encode("utf-16")) == parsed
    observation = Observation(sample)
    report.table(observation)
    json.loads(report.as_json(observation))
    landing_page(observation, findings(observation, None, success=True), {})
    scrape = Scrape(render(machine_families(sample), Format.TEXT_0_0_4).decode())
    assert scrape.value("kvm_present") == (sample.common.kvm is not None)
    render(machine_families(sample), Format.OPENMETRICS_1_0_0)


def web_config(data: bytes) -> None:
    """A configuration has valid headers and hashes, and usable or rejected certificates; an error names the line."""
    try:
        config = parse_web_config(data, Path("/nonexistent"))
    except InputError as error:
        _is_a_message(error, "line ", data)
        return
    assert all(value.isascii() and value.isprintable() for _, value in config.headers)
    assert all(re.fullmatch(rb"\$2[aby]\$[0-9]{2}\$.{53}", hashed) for hashed in config.users.values())
    if config.rate_limit is not None:
        assert config.rate_limit.interval > 0
        assert config.rate_limit.burst > 0
    # Files that the input names are not opened.
    if config.tls is not None and not config.tls.files:
        try:
            server_context(config.tls)
        except InputError as error:
            _is_a_message(error, "", data)


def baseline(data: bytes) -> None:
    """A baseline is the same after writing and parsing it; an error names the line."""
    try:
        parsed = parse_baseline(data)
    except InputError as error:
        _is_a_message(error, "line ", data)
        return
    lists = (
        f"{called}: [{', '.join(feature.name for feature in features)}]"
        for called, features in (("required", parsed.required), ("forbidden", parsed.forbidden))
    )
    assert parse_baseline(f"features: {{{', '.join(lists)}}}".encode()) == parsed
    assert parsed == Baseline() or not set(parsed.required) & set(parsed.forbidden)


def reference(data: bytes) -> None:
    """A reference is the same after writing and parsing it; any other input is damaged."""
    try:
        parsed = parse_reference(data, BOOT)
    except InputError as error:
        _is_a_message(error, ("it is damaged: ", "it belongs to another boot, "), data)
        return
    assert parse_reference(format_reference(parsed, BOOT), BOOT) == parsed


def pvclock(data: bytes) -> None:
    """What is believed has a plausible frequency, which moves with the factor by no more than rounding allows."""
    found = decode_pvclock(data)
    if found is None:
        return
    assert len(data) >= SIZE
    assert data[0] % 2 == 0
    assert 100_000 <= found.tsc_khz <= 10_000_000
    mul, shift = struct.unpack_from("<Ib", data, 24)
    assert abs(mul * found.tsc_khz * 2.0**shift - 1e6 * 2**32) <= mul * 2.0**shift
    assert decode_pvclock(data[:SIZE]) == found


def cpu_list(data: bytes) -> None:
    """The CPUs are ascending and unique, and the same after writing and parsing; an error names the invalid part."""
    try:
        cpus = parse_cpu_list(data.decode("ascii", "replace"))
    except ValueError as error:
        _is_a_message(error, "", data)
        return
    assert list(cpus) == sorted(set(cpus))
    assert parse_cpu_list(format_cpu_list(cpus)) == cpus


def accept(data: bytes) -> None:
    """The result is one of the formats, with a content type of one line, and a decision about gzip."""
    header = data.decode("latin-1")
    choice = choose_format(header)
    assert choice.content_type.isascii()
    assert choice.content_type.isprintable()
    assert choice.content_type.startswith(choice.format.value[0])
    assert choose_format(f"{header},image/png").format is choice.format
    assert isinstance(choose_gzip(header), bool)
    assert not choose_gzip("")


def authorization(data: bytes) -> None:
    """A login contains only what bcrypt accepts; any other header is no login."""
    login = parse_basic(data.decode("latin-1"))
    if login is not None:
        assert b":" not in login.user
        assert b"\0" not in login.password
        assert len(login.password) <= MAX_PASSWORD_BYTES


def certificate(data: bytes) -> None:
    """A certificate has an end that a clock can show, and names; all else is a ValueError, however it is damaged."""
    try:
        parsed = parse_certificate(data)
    except ValueError:
        return
    assert datetime.fromtimestamp(parsed.end, UTC).timestamp() == parsed.end
    assert str(parsed).count(", issued by ") >= 1


def duration(data: bytes) -> None:
    """The result fits in 63 bits of nanoseconds; an error gives an example."""
    try:
        total = nanoseconds(data.decode("utf-8", "replace"))
    except ValueError as error:
        _is_a_message(error, "", data)
        return
    assert 0 <= total < 1 << 63
    assert nanoseconds(f"{total}ns") == total


def address(data: bytes) -> None:
    """An address is the same after writing and parsing it; an error says what to write."""
    try:
        parsed = parse_address(data.decode("utf-8", "surrogateescape"))
    except ValueError as error:
        _is_a_message(error, "", data)
        return
    # Excepted: hosts with brackets, which the resolver rejects, and the host 'unix', which looks like a path.
    if not (isinstance(parsed, TcpAddress) and (set("[]") & set(parsed.host) or parsed.host == "unix")):
        assert parse_address(str(parsed)) == parsed


def evidence(data: bytes) -> None:
    """Any content of the files under /proc and /sys can be read and evaluated."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for name, content in zip(_FILES, data.split(b"\xff"), strict=False):
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        found = read_evidence(Path(folder))
    for boot in (Leaves(hypervisor_bit=False), _BOOT):
        assert all(use.reason for use in features_in_use(found, Found(boot), _BOOT).values())
    assert found.steal_ticks is None or found.steal_ticks >= 0
    assert found.hypervisor_interrupts is None or found.hypervisor_interrupts >= 0


_FILES = (
    "proc/cmdline",
    "proc/stat",
    "proc/interrupts",
    "proc/cpuinfo",
    "sys/devices/system/clocksource/clocksource0/available_clocksource",
    "sys/devices/system/clocksource/clocksource0/current_clocksource",
    "sys/devices/system/cpu/cpuidle/current_driver",
    "sys/devices/system/cpu/possible",
    "proc/sys/kernel/osrelease",
    "proc/config.gz",
    "boot/config-6.1.0",
)

_BOOT = Leaves(hypervisor_bit=True, kvm=Kvm(0x4000_0000, 0xFFFF_FFFF, 0xFFFF_FFFF))


def _is_a_message(error: Exception, start: str | tuple[str, ...], data: bytes) -> None:
    """Check that a message is one line, and quotes its subject at most twice, with every byte escaped."""
    text = str(error)
    assert text.startswith(start)
    assert text.isprintable()
    assert 0 < len(text) <= MOST_LETTERS + 2 * len(r"\U00000000") * len(data)


TARGETS: Mapping[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        http,
        dump,
        web_config,
        baseline,
        reference,
        pvclock,
        cpu_list,
        accept,
        authorization,
        certificate,
        duration,
        address,
        evidence,
    )
}
