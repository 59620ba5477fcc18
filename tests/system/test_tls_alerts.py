"""Conversations that end in one of TLS' errors: a peer is told as much as by OpenSSL's own server.

The peer is tlslite-ng, which sends what it is told to send, right or wrong.
"""

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import pytest
from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey
from tlslite.constants import AlertDescription, CipherSuite, ContentType, ExtensionType
from tlslite.errors import TLSError, TLSRemoteAlert
from tlslite.messages import (
    Certificate,
    CertificateVerify,
    ClientHello,
    ClientKeyExchange,
    Finished,
    Message,
    TLSExtension,
)

from lab.certificates import Certificates
from lab.exporter import exporter
from lab.patience import PATIENCE_SECONDS
from lab.process import Process
from lab.secure import MUTUAL, until_the_end, web_config
from tests.support.rooms.certificates import certificates
from tests.support.tools import program

TLS_1_1, TLS_1_2, TLS_1_3 = (3, 2), (3, 3), (3, 4)

Change = Callable[[Message], Message]
"""What is sent in place of a message."""

M = TypeVar("M", bound=Message)


def changed(kind: type[M], change: Callable[[M], Message | None]) -> Change:
    """Return a change of messages of one kind: in place, or by a message that takes its place."""
    return lambda message: (change(message) or message) if isinstance(message, kind) else message


class Peer(TLSConnection):
    """A TLS client that changes what it sends."""

    def __init__(self, peer: socket.socket, change: Change) -> None:
        super().__init__(peer)
        self._change = change

    def _sendMsg(self, msg: Message, randomizeFirstBlock: bool = True, update_hashes: bool = True) -> Iterator[int]:  # noqa: FBT001, FBT002, N802, N803 - the library's names
        return super()._sendMsg(self._change(msg), randomizeFirstBlock, update_hashes)

    def send(self, message: Message) -> None:
        """Encrypt and send a message."""
        for _ in self._sendMsg(message):
            pass


@dataclass(frozen=True)
class Conversation:
    """What a peer does wrong."""

    #: Sent in place of a handshake.
    raw: bytes = b""
    change: Change = lambda message: message
    #: Done after the handshake.
    after: Callable[[Peer], None] = lambda _: None
    #: The highest version that the peer speaks.
    version: tuple[int, int] = TLS_1_3
    #: The peer's certificate; none if empty.
    certificate: str = "client"


def hello(change: Callable[[ClientHello], Message | None]) -> Change:
    """Return a change of the ClientHello."""
    return changed(ClientHello, change)


def extensions(change: Callable[[TLSExtension], list[TLSExtension]]) -> Change:
    """Return a change of the ClientHello that puts other extensions in the place of each."""

    def edit(message: ClientHello) -> None:
        message.extensions = [new for extension in message.extensions for new in change(extension)]

    return hello(edit)


def without(kind: int) -> Change:
    """Return a change that leaves out an extension."""
    return extensions(lambda extension: [] if extension.extType == kind else [extension])


def with_values(kind: int, name: str, values: object) -> Change:
    """Return a change of the values of an extension."""

    def edit(extension: TLSExtension) -> list[TLSExtension]:
        if extension.extType == kind:
            setattr(extension, name, values)
        return [extension]

    return extensions(edit)


def zero_key_shares(message: ClientHello) -> None:
    """Make each public key one that is on no curve."""
    for extension in message.extensions:
        if extension.extType == ExtensionType.key_share:
            for share in extension.client_shares:
                share.key_exchange = bytearray(len(share.key_exchange))


def flip(name: str) -> Callable[[Message], None]:
    """Return what makes a field of a message wrong, in its last bit."""

    def edit(message: Message) -> None:
        data = bytearray(getattr(message, name))
        data[-1] ^= 1
        setattr(message, name, data)

    return edit


def handshake(kind: int, body: bytes) -> Message:
    """Return a handshake message."""
    return Message(ContentType.handshake, bytes([kind]) + len(body).to_bytes(3, "big") + body)


def cut(message: ClientHello) -> Message:
    """Return a ClientHello whose last extension has lost its end."""
    return handshake(1, bytes(message.write()[4:-3]))


KEY_UPDATE = handshake(24, b"\2")
"""With a value that is neither 0 nor 1."""

CONVERSATIONS = {
    "an application's data first": Conversation(raw=b"\x17\x03\x03\x00\x05hello"),
    "the end of the handshake first": Conversation(raw=b"\x14\x03\x03\x00\x01\x01"),
    "another message first": Conversation(raw=b"\x16\x03\x03\x00\x10" + bytes(handshake(20, bytes(12)).write())),
    "a record that is too long": Conversation(raw=b"\x16\x03\x01\x48\x01" + bytes(0x4801)),
    "an old version": Conversation(version=TLS_1_1),
    "a version that is older than need be": Conversation(
        change=hello(lambda message: message.cipher_suites.append(CipherSuite.TLS_FALLBACK_SCSV)), version=TLS_1_2
    ),
    "no suite in common": Conversation(change=hello(lambda message: setattr(message, "cipher_suites", [0x00FF, 0]))),
    "no suite of TLS 1.2 in common": Conversation(
        change=hello(lambda message: setattr(message, "cipher_suites", [0x00FF, 0])), version=TLS_1_2
    ),
    "no group in common": Conversation(change=with_values(ExtensionType.supported_groups, "groups", [1])),
    "no signature in common": Conversation(change=with_values(ExtensionType.signature_algorithms, "sigalgs", [(1, 1)])),
    "no signatures": Conversation(change=without(ExtensionType.signature_algorithms)),
    "no groups": Conversation(change=without(ExtensionType.supported_groups)),
    "no key": Conversation(change=without(ExtensionType.key_share)),
    "a key on no curve": Conversation(change=hello(zero_key_shares)),
    "a key on no curve in TLS 1.2": Conversation(
        change=changed(ClientKeyExchange, lambda message: setattr(message, "ecdh_Yc", bytearray(65))), version=TLS_1_2
    ),
    "each extension twice": Conversation(change=extensions(lambda extension: [extension, extension])),
    "compression alone": Conversation(change=hello(lambda message: setattr(message, "compression_methods", [1]))),
    "a cut ClientHello": Conversation(change=hello(cut)),
    "no certificate": Conversation(certificate=""),
    "no certificate in TLS 1.2": Conversation(certificate="", version=TLS_1_2),
    "a certificate of a stranger": Conversation(certificate="unknown"),
    "a certificate of a stranger in TLS 1.2": Conversation(certificate="unknown", version=TLS_1_2),
    "a malformed certificate": Conversation(
        change=changed(Certificate, lambda _: handshake(11, b"\0\0\0\7\0\0\2no\0\0"))
    ),
    "the key of another certificate": Conversation(change=changed(CertificateVerify, flip("signature"))),
    "the key of another certificate in TLS 1.2": Conversation(
        change=changed(CertificateVerify, flip("signature")), version=TLS_1_2
    ),
    "a handshake that was changed": Conversation(change=changed(Finished, flip("verify_data"))),
    "a handshake that was changed in TLS 1.2": Conversation(
        change=changed(Finished, flip("verify_data")), version=TLS_1_2
    ),
    "a record that was changed": Conversation(
        after=lambda peer: peer.sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    ),
    "a record that was changed in TLS 1.2": Conversation(
        after=lambda peer: peer.sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32)), version=TLS_1_2
    ),
    "the end of the handshake afterwards": Conversation(
        after=lambda peer: peer.sock.sendall(b"\x14\x03\x03\x00\x01\x01")
    ),
    "a certificate afterwards": Conversation(after=lambda peer: peer.send(handshake(11, bytes(4)))),
    "a malformed update of keys": Conversation(after=lambda peer: peer.send(KEY_UPDATE)),
    "a finish afterwards in TLS 1.2": Conversation(
        after=lambda peer: peer.send(handshake(20, bytes(12))), version=TLS_1_2
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A server's certificate, a client's, and a stranger's."""
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def ours(made: Certificates) -> Iterator[int]:
    """The port of an exporter that requires certificates."""
    with exporter(f"--web.config.file={web_config(made.folder, MUTUAL)}") as running:
        yield running.port


@pytest.fixture(scope="module")
def theirs(made: Certificates) -> Iterator[int]:
    """The port of OpenSSL's server, configured alike."""
    flags = f"-rev -cert {made / 'server.crt'} -key {made / 'server.key'} -CAfile {made / 'ca.crt'} -Verify 1"
    listen = "-verify_return_error -no_renegotiation -min_protocol TLSv1.2 -accept 127.0.0.1:0"
    command = [program("openssl"), "s_server", *flags.split(), *listen.split()]
    running = Process(["sh", "-c", 'exec "$@" >&2', "-", *command])
    try:
        yield int(running.wait_for_log("ACCEPT 127.0.0.1:").rpartition(":")[2])
    finally:
        running.stop()


def told(port: int, conversation: Conversation, made: Certificates) -> str:
    """Return the name of the alert that the peer is sent, or nothing if its connection just ends."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as plain:
        if conversation.raw:
            plain.sendall(conversation.raw)
            received = until_the_end(plain)
            return AlertDescription.toStr(received[6]) if received.startswith(b"\x15") else ""
        peer, settings = Peer(plain, conversation.change), HandshakeSettings()
        settings.maxVersion = conversation.version
        settings.certificate_compression_send = settings.certificate_compression_receive = []  # not in OpenSSL 3.0
        try:
            peer.handshakeClientCert(*credentials(made, conversation.certificate), settings=settings)
            conversation.after(peer)
            peer.read(max=1, min=1)
        except TLSRemoteAlert as alert:
            return AlertDescription.toStr(alert.description)
        except (TLSError, OSError):
            pass
    return ""


def credentials(made: Certificates, name: str) -> tuple[X509CertChain | None, object]:
    """Return a certificate and its key; None, None without a name."""
    if not name:
        return None, None
    chain = X509CertChain()
    chain.parsePemList((made / f"{name}.crt").read_text())
    return chain, parsePEMKey((made / f"{name}.key").read_text(), private=True)


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_a_peer_is_told_as_much_as_by_openssl(name: str, ours: int, theirs: int, made: Certificates) -> None:
    """The alert is the one that OpenSSL's server sends."""
    expected, found = (told(port, CONVERSATIONS[name], made) for port in (theirs, ours))
    assert expected
    assert found == expected
