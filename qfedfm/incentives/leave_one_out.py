"""Leave-one-out: what is lost without a player, v(N) - v(N without i).

Cheap, n + 1 coalitions, and blind to what players have in common: of two with the same data neither is missed (Ghorbani
and Zou 2019, arXiv:1904.02868). The values do not sum to v(N) - v(empty).
"""

import numpy as np

from ..declaration import declared
from .game import Game, Values


@declared
class LeaveOneOut:
    """What is lost without each player."""

    def values(self, game: Game, generator: np.random.Generator) -> Values:  # noqa: ARG002
        """Return the value of each player; nothing is drawn."""
        without = game(~np.eye(game.players, dtype=np.bool_))
        return Values(game.whole - without, game.evaluations)
