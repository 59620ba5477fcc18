class Message:
    contentType: int
    def __init__(self, contentType: int, data: bytes) -> None: ...
    def write(self) -> bytearray: ...

class _KeyShare:
    key_exchange: bytearray

class TLSExtension:
    extType: int
    groups: list[int]
    sigalgs: list[tuple[int, int]]
    client_shares: list[_KeyShare]

class ClientHello(Message):
    cipher_suites: list[int]
    compression_methods: list[int]
    extensions: list[TLSExtension]

class Certificate(Message): ...

class CertificateVerify(Message):
    signature: bytearray

class ClientKeyExchange(Message):
    ecdh_Yc: bytearray

class Finished(Message):
    verify_data: bytearray
