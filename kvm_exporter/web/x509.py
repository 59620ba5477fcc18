"""The names and the end of an X.509 certificate, decoded from PEM. No I/O.

Python's ssl module decodes the certificate of a verified peer only. A handshake with the server's own context would
show it as well, but fails where the context demands a client's certificate, or the certificate is not for servers or
has expired. So the four fields that are needed are read here; OpenSSL has accepted the certificate before.

Source: RFC 5280 section 4.1 (fields), ITU-T X.690 (DER), RFC 4514 (names as text).
"""

import re
from base64 import b64decode
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

_PEM = re.compile(rb"-----BEGIN (?:TRUSTED |X509 )?CERTIFICATE-----(.*?)-----END ", re.DOTALL)
"""The first certificate of a file, by the labels that OpenSSL takes for one (PEM_read_bio_X509_AUX(3))."""

_ATTRIBUTES = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
"""The attributes of a name that have short forms (RFC 4514 section 3)."""

_VERSION, _UTC_TIME, _UNIVERSAL_STRING, _BMP_STRING = 0xA0, 0x17, 0x1C, 0x1E
"""Tags of DER."""

_LONG = 0x80
"""A length from here on is the number of bytes that have the length."""


class Certificate(NamedTuple):
    """What tells one certificate from another."""

    #: Names as text, such as ``CN=guest-1.example.org,O=Example``; empty if there are only alternative names.
    subject: str
    issuer: str
    #: End of the validity, in seconds since the epoch.
    end: float

    def __str__(self) -> str:
        until = datetime.fromtimestamp(self.end, UTC).isoformat()
        return f"{self.subject or 'no subject'}, issued by {self.issuer or 'no issuer'}, valid until {until}"


def parse_certificate(pem: bytes) -> Certificate:
    """Return the first certificate in PEM. Raises ValueError if it is not as RFC 5280 says."""
    found = _PEM.search(pem)
    if found is None:
        raise ValueError("there is no certificate")
    _, certificate = next(_elements(b64decode(found[1])), (0, b""))
    _, signed = next(_elements(certificate), (0, b""))
    fields = list(_elements(signed))
    if fields and fields[0][0] == _VERSION:
        del fields[0]
    _, _, (_, issuer), (_, validity), (_, subject), *_ = fields
    _, (tag, end) = _elements(validity)
    return Certificate(_name(subject), _name(issuer), _time(tag, end.decode("ascii")))


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each of several elements in DER. Raises ValueError."""
    while data:
        size, start = int.from_bytes(data[1:2]), 2
        if size >= _LONG:
            start += size - _LONG
            size = int.from_bytes(data[2:start])
        if len(data) < start + size:
            raise ValueError("an element is longer than what it is in")
        yield data[0], data[start : start + size]
        data = data[start + size :]


def _time(tag: int, text: str) -> float:
    """Return a time in seconds since the epoch. UTCTime has two digits of the year, from 1950 on."""
    if tag == _UTC_TIME:
        text = f"{'19' if text >= '50' else '20'}{text}"
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _name(content: bytes) -> str:
    """Return a name as text, with its last part first."""
    parts = ("+".join(_attribute(one) for _, one in _elements(part)) for _, part in _elements(content))
    return ",".join(reversed(list(parts)))


def _attribute(content: bytes) -> str:
    (_, identifier), (tag, value) = _elements(content)
    encoding = {_BMP_STRING: "utf-16-be", _UNIVERSAL_STRING: "utf-32-be"}.get(tag, "utf-8")
    text = re.sub(r'[,+"\\<>;]', r"\\\g<0>", value.decode(encoding, "backslashreplace"))
    dotted = _dotted(identifier)
    return f"{_ATTRIBUTES.get(dotted, dotted)}={text}"


def _dotted(identifier: bytes) -> str:
    """Return an object identifier in dotted notation: each byte has seven bits of a number, and whether it goes on."""
    numbers, number = [], 0
    for byte in identifier:
        number = number << 7 | byte & 0x7F
        if not byte & _LONG:
            numbers.append(number)
            number = 0
    both, *others = numbers  # the first two numbers are encoded as one: 40 times the first, which is at most 2
    first = min(both // 40, 2)
    return ".".join(map(str, (first, both - 40 * first, *others)))
