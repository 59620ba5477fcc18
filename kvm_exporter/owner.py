"""What a connection needs of the one who keeps account of all of them."""

from typing import Any, Protocol, TypeVar

from kvm_exporter.deadlines import Deadlines
from kvm_exporter.messages import Answer

C_contra = TypeVar("C_contra", contravariant=True)


class Owner(Protocol[C_contra]):
    """Who keeps account of connections."""

    #: Shared by all connections: filled and emptied within one turn of the event loop.
    buffer: bytearray
    answer: Answer
    deadlines: Deadlines
    stopping: bool

    def opened(self, connection: C_contra, peer: Any) -> None:  # noqa: ANN401 - asyncio's "extra info"
        """A connection can be used; ``peer`` is the SSL object where there is TLS, after its handshake."""
        ...

    def served(self, connection: C_contra) -> None:
        """A request was answered."""
        ...

    def closed(self, connection: C_contra) -> None:
        """A connection is over."""
        ...
