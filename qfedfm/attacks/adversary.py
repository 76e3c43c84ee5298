"""Who attacks, and the two things that an attacker can change: its training rows, or what it sends.

Attackers hold keys and follow the protocol: envelopes protect links, not against their owners. An attack on updates may
know what all honest clients of the round are about to send, which is the strongest attacker of the literature; one that
knows less is no worse for a rule.
"""

import math
from typing import Annotated, Protocol, runtime_checkable

import numpy as np
from pydantic import Field
from torch import Tensor

from ..declaration import declared
from ..params import Params, Specs
from ..seeds import stream


@runtime_checkable
class DataAttack(Protocol):
    """Changes rows and labels before training; the attacker then trains on them like everybody else."""

    @property
    def share(self) -> float:
        """The share of an attacker's rows that is changed, in (0, 1]."""
        ...

    def poison(self, table: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """Return what becomes of features (rows, F) and labels (rows,) int64."""
        ...


@runtime_checkable
class UpdateAttack(Protocol):
    """Changes the updates that attackers send, all of them together."""

    def craft(self, own: Params, honest: Params, specs: Specs, generator: np.random.Generator) -> Params:
        """Return the attackers' updates {name: (m, *shape)}.

        own: what their training gave. honest: {name: (n - m, *shape)}, those of the others in this round.
        """
        ...


Attack = DataAttack | UpdateAttack


@declared
class Adversary:
    """A fraction of the clients attacks, from round `first` on.

    fraction: of all clients, rounded down, chosen from the experiment's seed. An attack on data begins with the first
    round whatever `first` says.
    """

    attack: DataAttack | UpdateAttack
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    first: Annotated[int, Field(ge=1)] = 1

    def number(self, clients: int) -> int:
        """Return how many of `clients` attack."""
        return math.floor(self.fraction * clients + 1e-9)

    def members(self, clients: list[str], seed: int) -> frozenset[str]:
        """Return who attacks."""
        chosen = stream(seed, "adversary").choice(len(clients), self.number(len(clients)), replace=False)
        return frozenset(clients[i] for i in chosen)
