"""Shapley values from sampled orders of arrival, in antithetic pairs.

Truncated Monte Carlo after Ghorbani and Zou (2019, arXiv:1904.02868); every second order is the reverse of the one
before it (Mitchell et al. 2022, arXiv:2104.12199), so that who came late in one comes early in the other and errors
partly cancel. Pairs are independent, and intervals are Student's over pairs: each covers its own player's value.
Truncation saves evaluations and adds a bias that the intervals do not know of.
"""

from typing import Annotated

import numpy as np
from pydantic import Field

from ..declaration import declared
from ..errors import ConfigurationError
from .game import Game, Values
from .permutations import gains, interval


@declared
class MonteCarlo:
    """Sampled Shapley values.

    permutations: orders drawn, in pairs: an even number from 4. truncation: see `gains`, in the unit of the worth.
    confidence: of the intervals.
    """

    permutations: Annotated[int, Field(ge=4)] = 200
    truncation: Annotated[float, Field(ge=0)] = 0.0
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95

    def __post_init__(self) -> None:
        if self.permutations % 2:
            raise ConfigurationError(
                f"MonteCarlo.permutations: orders are drawn in pairs, so an even number; got {self.permutations}"
            )

    def values(self, game: Game, generator: np.random.Generator) -> Values:
        """Return the mean gain of each player and its interval."""
        drawn = np.tile(np.arange(game.players), (self.permutations // 2, 1))
        orders = generator.permuted(drawn, axis=1)
        forth, back = (gains(game, some, self.truncation) for some in (orders, orders[:, ::-1]))
        pairs = (forth + back) / 2
        return Values(pairs.mean(0), game.evaluations, *interval(pairs, self.confidence), self.confidence)
