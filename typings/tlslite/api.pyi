import socket
from collections.abc import Iterator

from tlslite.messages import Message

class HandshakeSettings:
    minVersion: tuple[int, int]
    maxVersion: tuple[int, int]
    certificate_compression_send: list[str]
    certificate_compression_receive: list[str]

class X509CertChain:
    def parsePemList(self, s: str) -> None: ...

class TLSConnection:
    sock: socket.socket
    def __init__(self, sock: socket.socket) -> None: ...
    def handshakeClientCert(
        self,
        certChain: X509CertChain | None = ...,
        privateKey: object = ...,
        *,
        settings: HandshakeSettings | None = ...,
    ) -> None: ...
    def read(self, max: int | None = ..., min: int = ...) -> bytes: ...
    def _sendMsg(self, msg: Message, randomizeFirstBlock: bool = ..., update_hashes: bool = ...) -> Iterator[int]: ...

def parsePEMKey(s: str, private: bool = ...) -> object: ...
