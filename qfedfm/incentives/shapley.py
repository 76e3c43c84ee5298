"""Shapley values from the worth of every coalition (Shapley 1953, doi:10.1515/9781400881970-018).

    phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S))

They are the only values that share out exactly v(N) - v(empty), treat equal players equally, give nothing to a player
who adds nothing, and add up over games.
"""

import math

import numpy as np

from ..declaration import declared
from ..errors import ConfigurationError
from .game import Floats, Game, Values, all_coalitions

MOST_PLAYERS = 16


@declared
class Shapley:
    """Exact Shapley values: 2^n coalitions of n players, in one batched call; at most `MOST_PLAYERS` players."""

    def values(self, game: Game, generator: np.random.Generator) -> Values:  # noqa: ARG002
        """Return the value of each player; nothing is drawn."""
        if game.players > MOST_PLAYERS:
            raise ConfigurationError(
                f"exact Shapley values of {game.players} players need 2^{game.players} coalitions; at most "
                f"{MOST_PLAYERS} players: use MonteCarlo() or Gtg()"
            )
        return Values(shapley_values(game(all_coalitions(game.players))), game.evaluations)


def shapley_values(worth: Floats) -> Floats:
    """Return the Shapley values (n,) of a game given by the worth of all coalitions (2^n,), as in `all_coalitions`."""
    players = len(worth).bit_length() - 1
    size = np.array([k.bit_count() for k in range(len(worth))])
    weights = np.array([1 / (players * math.comb(players - 1, s)) for s in range(players)])
    values = np.empty(players)
    for i in range(players):
        without = np.flatnonzero(np.arange(len(worth)) >> i & 1 == 0)
        values[i] = weights[size[without]] @ (worth[without + 2**i] - worth[without])
    return values
