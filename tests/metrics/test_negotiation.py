"""kvm_exporter.metrics.negotiation: Accept and Accept-Encoding of real clients, of RFC 9110, and invalid ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_exporter.metrics.negotiation import Choice, Format, choose_format, choose_gzip

TEXT_0 = "text/plain; version=0.0.4; charset=utf-8"
TEXT_1 = "text/plain; version=1.0.0; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

PROMETHEUS_2_42 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_2_42_NATIVE_HISTOGRAMS = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
    "application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3_5 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
FIREFOX = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
TEXT_1_ONLY = "text/plain;version=1.0.0;escaping=underscores;q=0.5,*/*;q=0.1"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        # Headers of real clients.
        (PROMETHEUS_2_42, OPENMETRICS),
        (PROMETHEUS_2_42_NATIVE_HISTOGRAMS, OPENMETRICS),
        (PROMETHEUS_3_5, f"{OPENMETRICS}; escaping=allow-utf-8"),
        (TEXT_1_ONLY, f"{TEXT_1}; escaping=underscores"),
        (FIREFOX, TEXT_0),
        ("*/*", TEXT_0),
        ("", TEXT_0),
        # Names and versions.
        ("text/plain", TEXT_0),
        ("text/plain;version=0.0.4", TEXT_0),
        ("text/plain; version=1.0.0", TEXT_1),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", OPENMETRICS),
        ('Application/OpenMetrics-Text; Version="1.0.0"', OPENMETRICS),
        ("application/*", OPENMETRICS),
        ("text/*", TEXT_0),
        # Versions and types that the exporter does not have.
        ("application/openmetrics-text;version=0.0.1", TEXT_0),
        ("application/openmetrics-text;version=2.0.0", TEXT_0),
        ("text/plain;version=0.0.5", TEXT_0),
        ("text/plain;version=latest", TEXT_0),
        ("application/json", TEXT_0),
        ("image/*", TEXT_0),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", TEXT_0),
        ("application/openmetrics-text;version=0.0.1,text/plain;version=1.0.0;q=0.1", TEXT_1),
        # Weights.
        ("text/plain;version=0.0.4;q=0.9,application/openmetrics-text;version=1.0.0;q=0.8", TEXT_0),
        ("text/plain;version=0.0.4;q=0.8,application/openmetrics-text;version=1.0.0;q=0.9", OPENMETRICS),
        ("text/plain;version=0.0.4;q=0.8,application/openmetrics-text;version=1.0.0", OPENMETRICS),
        ("text/plain;version=0.0.4 ; q=0.801 , application/openmetrics-text ; q=0.8", TEXT_0),
        ("application/openmetrics-text;q=0.001", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;Q=0.1,text/plain;Q=0.2", TEXT_0),
        ("text/plain;version=1.0.0;q=1,application/openmetrics-text;version=1.0.0;q=7", TEXT_1),
        # A weight of 0 forbids.
        ("application/openmetrics-text;q=0", TEXT_0),
        ("application/openmetrics-text;q=0.000,*/*;q=0.1", TEXT_0),
        ("text/plain;version=0.0.4;q=0,text/plain;q=0.5", TEXT_1),
        ("text/plain;q=0,*/*;q=0.5", OPENMETRICS),
        ("text/*;q=0,*/*;q=0.5", OPENMETRICS),
        ("*/*;q=0", TEXT_0),
        # The weight of a format is that of the most specific range that matches it.
        ("text/*;q=0.9,text/plain;version=0.0.4;q=0.1,application/openmetrics-text;q=0.5", TEXT_1),
        ("text/plain;version=1.0.0;q=0.1,text/plain;q=0.2,*/*;q=0.9", OPENMETRICS),
        ("*/*,application/*;q=0.5", TEXT_0),
        ("*/*;q=0.5,application/*;q=0.6", OPENMETRICS),
        # Equal weights: the more specific range wins, then the first one, then text 0.0.4.
        ("*/*,application/openmetrics-text", OPENMETRICS),
        ("text/plain,application/openmetrics-text;version=1.0.0", OPENMETRICS),
        ("text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0", TEXT_0),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4", OPENMETRICS),
        ("text/plain;version=1.0.0,text/plain;version=0.0.4", TEXT_1),
        ("text/*,application/*", TEXT_0),
        ("application/*,text/*", OPENMETRICS),
        # Escaping schemes: kept if the format has this parameter and the scheme is known.
        ("text/plain;version=0.0.4;escaping=values", TEXT_0),
        ("text/plain;version=1.0.0;escaping=dots", f"{TEXT_1}; escaping=dots"),
        ("application/openmetrics-text;version=1.0.0;escaping=values", f"{OPENMETRICS}; escaping=values"),
        ("application/openmetrics-text;version=1.0.0;escaping=../../etc", OPENMETRICS),
        ("text/plain;version=1.0.0;escaping=dots\r\nSet-Cookie: a=b", TEXT_1),
        # Invalid headers.
        (",,;;==,", TEXT_0),
        (";q=1,application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text;q=high,text/plain;version=1.0.0;q=0.1", TEXT_1),
        ("application/openmetrics-text;q=-1,text/plain;version=1.0.0;q=0.1", TEXT_1),
        ("application/openmetrics-text;q=nan,text/plain;version=1.0.0;q=0.1", TEXT_1),
        ("application/openmetrics-text;q=1e3,text/plain;version=1.0.0;q=0.1", TEXT_1),
        ("application/openmetrics-text;q=,text/plain;version=1.0.0;q=0.1", TEXT_1),
        ("application/openmetrics-text;q=0.5.5,text/plain;version=1.0.0;q=0.1", TEXT_1),
        ("application/openmetrics-text;q=٣,text/plain;version=1.0.0;q=0.1", TEXT_1),
        ("application/openmetrics-text;q=²,text/plain;version=1.0.0;q=0.1", TEXT_1),
        ("application/openmetrics-text;q=.,text/plain;version=1.0.0;q=0.1", TEXT_1),
        ("application/openmetrics-text;charset;=;version=1.0.0", OPENMETRICS),
        ("openmetrics", TEXT_0),
        ("*", TEXT_0),
    ],
)
def test_the_format_that_the_client_likes_best_is_chosen(accept: str, content_type: str) -> None:
    """The format with the highest weight is chosen, or text 0.0.4 if none is acceptable; there is never an error."""
    assert choose_format(accept).content_type == content_type


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("GZIP;q=0.5", True),
        ("x-gzip", True),
        ("*", True),
        ("*;q=0.1", True),
        ("identity, gzip", True),
        ("identity;q=0.5, gzip;q=0.5", True),
        ("gzip, identity;q=0", True),
        ("deflate, *;q=0.5", True),
        ("gzip;q=0, x-gzip", False),
        ("", False),
        ("identity", False),
        ("deflate, br", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip;q=0, *", False),
        ("*;q=0", False),
        ("identity, gzip;q=0.5", False),
        ("identity;q=0.5, *;q=0.1", False),
        ("gzip;q=soon", False),
        (",;=", False),
    ],
)
def test_gzip_is_sent_to_who_takes_it(accept_encoding: str, *, expected: bool) -> None:
    """Compression is chosen if gzip or a wildcard is named with a weight above 0 and not below identity's."""
    assert choose_gzip(accept_encoding) is expected


TYPES = ["*/*", "text/plain", "text/*", "application/openmetrics-text", "gzip", "identity"]
GARBAGE = st.one_of(
    st.text(),
    st.text(alphabet="*/;,=q.019 \"'"),
    st.lists(st.sampled_from([*TYPES, *'*/;,=q"019.-', "q=", "version=", "1.0.0", "escaping=", "dots", "9" * 400])).map(
        "".join
    ),
)


@given(GARBAGE)
def test_any_accept_header_has_an_answer(accept: str) -> None:
    """Any header gives one of the formats, and no text of the header is copied into the content type."""
    choice = choose_format(accept)
    assert choice.format in Format
    assert choice.escaping in {"", "allow-utf-8", "underscores", "dots", "values"}


@given(GARBAGE)
def test_any_accept_encoding_header_has_an_answer(accept_encoding: str) -> None:
    """Compression is chosen only if the header contains gzip or a wildcard."""
    gzip = choose_gzip(accept_encoding)
    assert not gzip or "gzip" in accept_encoding.lower() or "*" in accept_encoding


def test_each_format_has_its_content_type() -> None:
    """The content types are those of Prometheus' documentation."""
    assert [Choice(form).content_type for form in Format] == [TEXT_0, TEXT_1, OPENMETRICS]
