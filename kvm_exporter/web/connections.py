"""The open connections, in the order in which they are closed to make room for others."""

from collections.abc import Iterator
from itertools import chain

from kvm_exporter.web.connection import Connection, State


class ConnectionTable:
    """Connections in the order of their states: the idle ones first, the longest unused of them before the others.

    Then come those with requests that were sent ahead, those whose first request is not complete, and at last those
    that are being answered. A change takes the same time however many there are.
    """

    def __init__(self) -> None:
        #: Those in each state, in the order in which they entered it.
        self._by_state: dict[State, dict[Connection, None]] = {state: {} for state in sorted(State)}

    def __len__(self) -> int:
        return sum(map(len, self._by_state.values()))

    def __iter__(self) -> Iterator[Connection]:
        return chain.from_iterable(self._by_state.values())

    def add(self, connection: Connection) -> None:
        """Add a connection that has just entered its state."""
        self._by_state[connection.state][connection] = None

    def discard(self, connection: Connection) -> None:
        """Remove a connection, if it is there."""
        self._by_state[connection.state].pop(connection, None)

    def move(self, connection: Connection, state: State) -> None:
        """Move a connection, if it is there, to a state that it is about to enter."""
        if connection in self._by_state[connection.state]:
            del self._by_state[connection.state][connection]
            self._by_state[state][connection] = None
