"""Web configurations in a folder of certificates, and clients that use TLS and passwords."""

import base64
import http.client
import socket
import ssl
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from lab.certificates import Certificates
from lab.patience import PATIENCE_SECONDS

TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
MUTUAL = f"{TLS}  client_ca_file: ca.crt\n  client_auth_type: RequireAndVerifyClientCert\n"

PASSWORD = "secret"  # noqa: S105 - of tests only
HASH = "$2b$04$YNGuqjHZaU7I2P7P6IVKhuc66U4IYN1sdp5RZyzkAbvHh3lDMVuK."
SLOW_HASH = "$2b$10$X80dGT/Mm4dDUfCjQ85ZW.yzWoMlAy5WJwCGQa0MdaiFo9zr1tt3q"
"""A hash of the same password that takes tens of milliseconds to verify."""

USERS = f"basic_auth_users:\n  prometheus: {HASH}\n"

REFUSED = (ssl.SSLError, ConnectionError)
"""The errors of a client whose connection the server refuses: a TLS alert, or the end of the connection."""


class Reply(NamedTuple):
    """A response; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: str


def web_config(folder: Path, text: str) -> Path:
    """Write a web configuration into a folder, and return its path."""
    path = folder / "web.yml"
    path.write_text(text)
    return path


def make_server(folder: Path) -> Certificates:
    """Make an authority, and a server certificate that it has signed."""
    made = Certificates(folder)
    made.make("ca")
    made.make("server", signer="ca", sans="IP:127.0.0.1")
    return made


def client(certificates: Certificates, name: str = "", version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """Return a client's TLS context that trusts the authority; ``name`` adds a certificate."""
    context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    if name:
        context.load_cert_chain(certificates / f"{name}.crt", certificates / f"{name}.key")
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def basic(user: str, password: str = PASSWORD) -> dict[str, str]:
    """Return the header of basic authentication."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def connection(port: int, context: ssl.SSLContext | None = None) -> http.client.HTTPConnection:
    """Return a connection that is opened when it is first used."""
    if context is None:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS, context=context)


def ask_on(kept: http.client.HTTPConnection, path: str = "/metrics", login: dict[str, str] | None = None) -> Reply:
    """Send a request on a connection, which stays open, and return the response."""
    kept.request("GET", path, headers=login or {})
    with kept.getresponse() as response:
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Reply(response.status, headers, response.read().decode())


def ask(
    port: int, path: str = "/metrics", *, context: ssl.SSLContext | None = None, login: dict[str, str] | None = None
) -> Reply:
    """Send a request on a new connection, and return the response. Raises one of REFUSED."""
    with closing(connection(port, context)) as used:
        return ask_on(used, path, login)


def until_the_end(peer: socket.socket) -> bytes:
    """Read everything until the connection is closed or reset."""
    received = b""
    try:
        while data := peer.recv(1 << 16):
            received += data
    except ConnectionResetError:
        pass
    return received
