"""The number of repetitions of each measurement, and the folder of the programs to compare with."""

from dataclasses import dataclass
from pathlib import Path

from lab.tree import REPOSITORY

PEERS = REPOSITORY / "build" / "peers"
"""The folder that scripts/benchmark-peers unpacks to."""


@dataclass(frozen=True, slots=True)
class Effort:
    """The number of repetitions."""

    #: A scratch folder.
    folder: Path
    #: The number of rounds of requests; each round gives one value.
    rounds: int = 30
    #: The number of requests in a round.
    requests: int = 100
    #: The number of blocks of sweeps.
    blocks: int = 60
    #: The number of starts of a process.
    starts: int = 10
    idle_seconds: float = 60
    #: How long scrapes go on after all peers of an attack are there.
    attack_seconds: float = 10
    #: The share of an attack's peers that come at once.
    attackers: float = 1
    cpus: tuple[int, ...] = (2, 64, 448, 4096)
