"""How often things are measured, and where what is built for that lies."""

from dataclasses import dataclass
from pathlib import Path

from lab.tree import REPOSITORY

PEERS = REPOSITORY / "build" / "peers"
"""Where scripts/benchmark-peers unpacks."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How often."""

    #: A scratch folder.
    folder: Path
    #: Rounds of requests, each of which is one value.
    rounds: int = 30
    requests: int = 100
    #: Blocks of sweeps.
    blocks: int = 60
    #: Starts of a process.
    starts: int = 10
    idle_seconds: float = 60
    cpus: tuple[int, ...] = (2, 64, 448, 4096)
