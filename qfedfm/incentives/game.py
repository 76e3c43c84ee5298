"""Cooperative games: players, and what each coalition of them is worth.

A game asks its worth function for many coalitions in one call and never twice for the same one, so a method of
valuation says what it wants to know and the game keeps the count of what that cost. `Valuation` is what Shapley values,
leave-one-out and influence have in common: a game in, one number for each player out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError

Coalitions = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Game:
    """Players 0..n-1 and the worth of their coalitions.

    players: n. worth: coalitions (G, n) bool to their worth (G,), finite. scaled: factors (G, n) to the worth of all
    players together where each player's part is multiplied by its factor; None where that has no meaning.
    """

    def __init__(
        self,
        players: int,
        worth: Callable[[Coalitions], Floats],
        scaled: Callable[[Floats], Floats] | None = None,
    ) -> None:
        if players < 1:
            raise ConfigurationError(f"a game has at least one player; got {players}")
        self.players, self.scaled, self._worth = players, scaled, worth
        self._known: dict[bytes, float] = {}

    def __call__(self, coalitions: Coalitions) -> Floats:
        """Return the worth of each coalition (G, n) bool, (G,); those not known yet are asked for in one call."""
        keys = [row.tobytes() for row in np.packbits(coalitions, axis=1)]
        new = {key: i for i, key in enumerate(keys) if key not in self._known}
        if new:
            values = np.asarray(self._worth(coalitions[list(new.values())]), dtype=np.float64)
            if values.shape != (len(new),) or not np.isfinite(values).all():
                raise ConfigurationError(
                    f"the worth of {len(new)} coalitions should be as many finite numbers; got shape {values.shape}, "
                    f"{int((~np.isfinite(values)).sum())} of them NaN or infinite"
                )
            self._known |= zip(new, values.tolist(), strict=True)
        return np.array([self._known[key] for key in keys])

    @property
    def evaluations(self) -> int:
        """How many distinct coalitions were evaluated so far."""
        return len(self._known)

    @property
    def empty(self) -> float:
        """The worth of nobody."""
        return float(self(np.zeros((1, self.players), dtype=np.bool_))[0])

    @property
    def whole(self) -> float:
        """The worth of all players together."""
        return float(self(np.ones((1, self.players), dtype=np.bool_))[0])


@dataclass(frozen=True)
class Values:
    """What each player is worth, (n,), with an interval at `confidence` where the method has one.

    evaluations: distinct coalitions whose worth was computed. oracle_calls: evaluations of the worth in superposition
    that a quantum computer would make, where the method is one for it.
    """

    value: Floats
    evaluations: int
    low: Floats | None = None
    high: Floats | None = None
    confidence: float | None = None
    oracle_calls: int | None = None


@runtime_checkable
class Valuation(Protocol):
    """A way to say what each player of a game is worth."""

    def values(self, game: Game, generator: np.random.Generator) -> Values:
        """Return the value of each player; methods that sample draw from `generator`."""
        ...


def all_coalitions(players: int) -> Coalitions:
    """Return all coalitions, (2^n, n): player i takes part in coalition k if bit i of k is set."""
    return (np.arange(2**players)[:, None] >> np.arange(players) & 1).astype(np.bool_)


def weighted_voting(quota: float, weights: Sequence[float]) -> Game:
    """Return the game [quota; weights]: a coalition is worth 1 if its weights sum to the quota or more, and else 0."""
    each = np.asarray(weights, dtype=np.float64)
    return Game(len(each), lambda coalitions: (coalitions @ each >= quota).astype(np.float64))
