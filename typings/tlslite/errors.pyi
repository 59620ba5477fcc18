class TLSError(Exception): ...

class TLSRemoteAlert(TLSError):
    description: int
    level: int
