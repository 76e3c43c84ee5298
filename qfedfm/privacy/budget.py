"""What a client has spent of its privacy: a pure function of what was declared and what is on record.

Rows and steps of a round are public, so that anybody who holds the ledger can work the loss out again, and no client
has to be believed.
"""

import math
from collections.abc import Iterable

from ..errors import PrivacyExhausted
from ..ledger import Entry
from .mechanisms import Mechanism
from .rdp import Spent, epsilon


def spent(mechanism: Mechanism, rows: int, batch_size: int, steps: int, rounds: int) -> Spent:
    """Return what a client with so many rows loses in `rounds` rounds of `steps` minibatches each."""
    return epsilon(rounds * mechanism.rdp(rows, batch_size, steps), mechanism.delta)


def check_budget(mechanism: Mechanism, rows: int, batch_size: int, steps: int, rounds: int) -> None:
    """Raise `PrivacyExhausted` if a client that took part in `rounds` rounds cannot afford one more."""
    if mechanism.budget is None:
        return
    after = spent(mechanism, rows, batch_size, steps, rounds + 1).eps
    if after > mechanism.budget:
        before = spent(mechanism, rows, batch_size, steps, rounds).eps if rounds else 0.0
        raise PrivacyExhausted(
            f"the privacy budget is spent: eps {before:.4g} after {rounds} rounds, {after:.4g} after one more, and "
            f"{mechanism.budget:g} allowed (delta {mechanism.delta:g}): stop here, or begin again with more noise, "
            "smaller batches or fewer steps"
        )


def spent_by_client(mechanism: Mechanism, batch_size: int, entries: Iterable[Entry]) -> dict[str, float]:
    """Return the eps of each client in a ledger, at the mechanism's delta.

    Every round whose update left the client counts, those that the server refused too. A client of which no update was
    accepted has not said how it trained: its eps is infinite.
    """
    sent: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.bytes_up or entry.rows:
            sent.setdefault(entry.client, []).append(entry)
    eps = {}
    for client, mine in sorted(sent.items()):
        known = [entry for entry in mine if entry.rows]
        worst = [spent(mechanism, rows, batch_size, steps, len(mine)).eps for rows, steps in _trainings(known)]
        eps[client] = max(worst, default=math.inf)
    return eps


def _trainings(entries: list[Entry]) -> set[tuple[int, int]]:
    return {(entry.rows, entry.steps) for entry in entries}
