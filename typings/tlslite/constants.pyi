class AlertDescription:
    @staticmethod
    def toStr(value: int) -> str: ...

class CipherSuite:
    TLS_FALLBACK_SCSV: int

class ContentType:
    handshake: int
    application_data: int

class ExtensionType:
    supported_groups: int
    signature_algorithms: int
    key_share: int
