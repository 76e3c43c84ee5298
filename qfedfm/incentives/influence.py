"""Influence: how the worth of all together changes as one client's update is scaled, to first order.

    I_i = d/ds U(model with delta_i replaced by s delta_i) at s = 1,

the upweighting of Koh and Liang (2017, arXiv:1703.04730) applied to updates: for a mean with fixed weights it is
-grad L . (w_i delta_i), the client's part of the round's progress along the gradient at the new model. It is taken by
central differences, 2n models in one call, and so holds for any rule: a client whom a robust rule does not heed has
none. Departure from influence functions: the weights of the others stay as they are, so the values do not sum to zero.
"""

from typing import Annotated

import numpy as np
from pydantic import Field

from ..declaration import declared
from ..errors import ConfigurationError
from .game import Game, Values


@declared
class Influence:
    """The derivative of the worth by the size of each client's update.

    step: of the central difference, as a share of the update. A worth that moves in steps, such as accuracy, has no
    derivative: use it with the loss.
    """

    step: Annotated[float, Field(gt=0, lt=1)] = 0.05

    def values(self, game: Game, generator: np.random.Generator) -> Values:  # noqa: ARG002
        """Return the influence of each player; nothing is drawn, and no coalition is evaluated but 2n scaled wholes."""
        if game.scaled is None:
            raise ConfigurationError(
                "influence scales what a player brings, which this game does not know: use it on a round of updates"
            )
        shift = self.step * np.eye(game.players)
        worth = game.scaled(np.concatenate([1 + shift, 1 - shift]))
        return Values((worth[: game.players] - worth[game.players :]) / (2 * self.step), 2 * game.players)
