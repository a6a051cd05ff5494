"""One point of the benchmark as plain values, which can be sent to a process."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

MODEL = "lenet"  # 61,706 parameters on Fashion-MNIST, 0.25 MB
BATCH_SIZE = 32


@dataclass(frozen=True)
class Case:
    """Federated learning of LeNet on Fashion-MNIST.

    Attributes:
        method: `fedavg` or `fd`.
        clients: N of each seed.
        cohort: clients drawn per round and seed; None is everybody.
        examples: of each client; under `dirichlet` it is what comes out.
        keep: where clients' state lives: `resident` on the device, or streamed from `memory` or
            from `disk`.
        filled: whether every client of a store has a row before the first round, as after many
            rounds; else rows are drawn when a client first takes part.
        partition: `shared`, every client draws its examples out of all, so clients may share some;
            `equal`, every example belongs to one client; `dirichlet`, 0.1, likewise.
        rounds: of one turn.
        seeds: S, stacked into one program.
        devices: of the CPU; None is one for each core.
        threads: whether a device uses several threads.
        batch_size: examples of a local step.
    """

    method: str
    clients: int
    cohort: int | None
    examples: int
    keep: str = "resident"
    filled: bool = False
    partition: str = "shared"
    rounds: int = 1
    seeds: int = 1
    devices: int | None = None
    threads: bool = False
    batch_size: int = BATCH_SIZE

    def as_json(self) -> dict[str, Any]:
        """Plain values, which `Case(**values)` reads."""
        return asdict(self)

    @property
    def participants(self) -> int:
        """Clients that train in a round, over all seeds."""
        return self.seeds * (self.cohort or self.clients)

    @property
    def steps(self) -> int:
        """Local steps of one client in a round of one epoch."""
        return -(-self.examples // self.batch_size)

    @property
    def label(self) -> str:
        """The point in a few words, for progress and logs."""
        who = f"{self.cohort} of {self.clients}" if self.cohort else f"{self.clients}"
        seeds = f", {self.seeds} seeds" if self.seeds > 1 else ""
        return f"{self.method} {self.keep}, {who} clients{seeds}"
