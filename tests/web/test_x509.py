"""kvm_exporter.web.x509: names and end of certificates, as Python itself decodes them, and what is no certificate."""

import ssl
from base64 import encodebytes
from pathlib import Path

import pytest

from kvm_exporter.web.x509 import Certificate, parse_certificate
from tests.support.rooms.certificates import COMMITTED

DECODE = ssl._ssl._test_decode_cert  # type: ignore[attr-defined]  # noqa: SLF001 - the oracle; the package does not use it

HEADER = b"-----BEGIN CERTIFICATE-----\n"
FOOTER = b"\n-----END CERTIFICATE-----\n"


def der(tag: int, *contents: bytes) -> bytes:
    """Return an element in DER."""
    content = b"".join(contents)
    size = len(content)
    length = bytes([size]) if size < 0x80 else b"\x82" + size.to_bytes(2)
    return bytes([tag]) + length + content


def attribute(identifier: str, tag: int, value: bytes) -> bytes:
    """Return one attribute of a name, by the bytes of its object identifier in hexadecimal digits."""
    return der(0x30, der(0x06, bytes.fromhex(identifier)), der(tag, value))


def pem(subject: bytes, end: bytes, *, version: bool = True, label: bytes = b"CERTIFICATE") -> bytes:
    """Return a certificate of which only the subject and the end are given."""
    signed = der(
        0x30,
        der(0xA0, der(0x02, b"\2")) if version else b"",
        der(0x02, b"\1"),
        der(0x30),
        der(0x30),
        der(0x30, der(0x17, b"000101000000Z"), end),
        der(0x30, subject),
        der(0x30, bytes(200)),
    )
    data = encodebytes(der(0x30, signed, der(0x30), der(0x03)))
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label, data, label)


END = der(0x17, b"370101000000Z")


@pytest.mark.parametrize("path", sorted(COMMITTED.glob("*.crt")), ids=lambda path: path.stem)
def test_it_reads_what_python_reads(path: Path) -> None:
    """Of each certificate of the tests, of both kinds of keys: subject, issuer and end."""
    theirs = DECODE(str(path))
    [[(_, subject)]], [[(_, issuer)]] = theirs["subject"], theirs["issuer"]
    expected = Certificate(f"CN={subject}", f"CN={issuer}", ssl.cert_time_to_seconds(theirs["notAfter"]))
    assert parse_certificate(path.read_bytes()) == expected


def test_the_first_certificate_is_the_servers() -> None:
    """Text before it and the certificates of authorities behind it are ignored."""
    chain = b"".join((COMMITTED / f"{name}.crt").read_bytes() for name in ("below", "between"))
    assert parse_certificate(b"a server:\n" + chain).subject == "CN=below"


@pytest.mark.parametrize(
    ("subject", "text"),
    [
        (b"", ""),
        (
            der(0x31, attribute("550406", 0x13, b"DE")) + der(0x31, attribute("55040a", 0x0C, "Bücher, Inc.".encode())),
            "O=Bücher\\, Inc.,C=DE",
        ),
        (
            der(0x31, attribute("550403", 0x1E, "bmp".encode("utf-16-be")), attribute("55040b", 0x0C, b"a+b")),
            "CN=bmp+OU=a\\+b",
        ),
        (der(0x31, attribute("0992268993f22c640119", 0x16, b"example")), "DC=example"),
        (der(0x31, attribute("2b0601040182370215", 0x0C, b"x")), "1.3.6.1.4.1.311.2.21=x"),
        (der(0x31, attribute("8837", 0x14, b"\xe9")), "2.999=\\\\xe9"),
    ],
    ids=["none", "order", "several values", "domain", "no short form", "large number, no text"],
)
def test_names(subject: bytes, text: str) -> None:
    """As RFC 4514 writes them: last part first, special characters with a backslash, unknown attributes by number."""
    assert parse_certificate(pem(subject, END)).subject == text


@pytest.mark.parametrize(
    ("end", "seconds"),
    [
        (der(0x17, b"491231235959Z"), 2_524_607_999),
        (der(0x17, b"500101000000Z"), -631_152_000),
        (der(0x18, b"99991231235959Z"), 253_402_300_799),
    ],
)
def test_times(end: bytes, seconds: float) -> None:
    """UTCTime is of the years 1950 to 2049, GeneralizedTime has four digits (RFC 5280 section 4.1.2.5)."""
    assert parse_certificate(pem(b"", end)).end == seconds


@pytest.mark.parametrize("label", [b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE"])
def test_other_labels(label: bytes) -> None:
    """OpenSSL takes three labels; a certificate of version 1 does not state its version."""
    assert parse_certificate(pem(b"", END, label=label, version=False)).subject == ""


def test_it_says_which_certificate_it_is() -> None:
    """A line of the log has names and end; certificates for many machines have no subject."""
    assert str(Certificate("CN=a", "CN=b", 0)) == "CN=a, issued by CN=b, valid until 1970-01-01T00:00:00+00:00"
    assert str(Certificate("", "", 0)) == "no subject, issued by no issuer, valid until 1970-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense",
        HEADER + FOOTER,
        HEADER + b"MA==" + FOOTER,
        HEADER + b"MIIB" + FOOTER,
        HEADER + b"MAAwAA" + FOOTER,
    ],
)
def test_what_is_no_certificate(content: bytes) -> None:
    """A ValueError; in use OpenSSL has read the file before."""
    with pytest.raises(ValueError, match=r"."):
        parse_certificate(content)
    with pytest.raises(ValueError, match=r"."):
        parse_certificate(pem(b"", der(0x17, b"tomorrow")))
