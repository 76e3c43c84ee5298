"""What a federation costs, counted from what really happened.

One `Entry` per client and round. Bytes are the lengths of real envelopes, key bits are those drawn from the key source
for them, circuit executions are rows put through a circuit. Times are kept apart, in the run's events: they differ
between two runs of the same experiment, and everything here does not.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from .notebook import table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Entry:
    """The cost of one client in one round.

    bytes_down, bytes_up: envelope sizes from and to the server. key_bits: bits of key by purpose ("model", "update").
    executions: circuits run in training: on the exact simulator one for each row of each step; on a machine each of its
    measurement settings, with the points of its gradient. shots: over all of them, 0 where values are exact.
    qpu_seconds: billed time on a quantum processor, or estimated where nothing is billed; a client's share of each job.
    """

    round: int
    client: str
    bytes_down: int = 0
    bytes_up: int = 0
    key_bits: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    steps: int = 0
    executions: int = 0
    shots: int = 0
    qpu_seconds: float = 0.0


class Ledger:
    """All entries of a run, with totals.

    `ledger.to_frame()` has one row per client and round; `ledger.totals()` sums them.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries: list[Entry] = list(entries)

    def __len__(self) -> int:
        return len(self.entries)

    def to_frame(self) -> "pd.DataFrame":
        """Return a pandas frame with one row per client and round, key bits spread over one column per purpose."""
        import pandas as pd

        rows = []
        for entry in self.entries:
            row = asdict(entry)
            bits = row.pop("key_bits")
            rows.append(row | {f"key_bits_{purpose}": count for purpose, count in bits.items()})
        return pd.DataFrame(rows)

    def _repr_html_(self) -> str:
        totals = self.totals()
        rounds, clients = totals.pop("rounds"), len({entry.client for entry in self.entries})
        shown = {name.replace("_", " "): f"{value:,.6g}" for name, value in totals.items() if value}
        return table(f"Ledger of {clients} clients, {rounds} rounds", shown)

    def totals(self) -> dict[str, int | float]:
        """Return the sum of every counted quantity over clients and rounds, and the number of rounds."""
        names = ("bytes_down", "bytes_up", "steps", "executions", "shots", "qpu_seconds")
        totals = {name: sum(getattr(entry, name) for entry in self.entries) for name in names}
        totals["key_bits"] = sum(sum(entry.key_bits.values()) for entry in self.entries)
        totals["rounds"] = len({entry.round for entry in self.entries})
        return totals
