"""GTG-Shapley: guided sampling and truncation, between rounds and within (Liu et al. 2022, arXiv:2109.02053).

A round that hardly changed the model is worth nothing to anybody. Otherwise orders of arrival are drawn in blocks: in a
block every choice of the first `prefix` players occurs once, since those who come first matter most, and the rest is
random. An order is given up when its coalition is about as good as everybody (see `gains`). It goes on until the values
settle. Models are rebuilt from updates, nobody trains again; that is `round_game`'s part.

Departures from the paper: values settle by blocks instead of single orders, since a block is evaluated at once; and
blocks, being independent, give Student's intervals, which know nothing of truncation and of stopping early.
"""

import math
from itertools import permutations
from typing import Annotated

import numpy as np
from pydantic import Field

from ..declaration import declared
from ..errors import ConfigurationError
from .game import Floats, Game, Values
from .permutations import Orders, gains, interval

LARGEST_BLOCK = 50_000


@declared
class Gtg:
    """Guided truncated Shapley values.

    blocks: most blocks of orders, at least 2. prefix: leading positions that a block enumerates: a block holds
    n!/(n - prefix)! orders. round_truncation: a round that changes the worth by less is worth nothing. truncation:
    see `gains`. settled: stop when no value moved by more than this share of the largest in a block (0:
    never). With prefix=n and both truncations 0 the values are exact.
    """

    blocks: Annotated[int, Field(ge=2)] = 20
    prefix: Annotated[int, Field(ge=1)] = 1
    round_truncation: Annotated[float, Field(ge=0)] = 0.01
    truncation: Annotated[float, Field(ge=0)] = 0.001
    settled: Annotated[float, Field(ge=0)] = 0.01
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95

    def values(self, game: Game, generator: np.random.Generator) -> Values:
        """Return the values, with intervals over blocks unless the round was truncated."""
        if self.prefix > game.players or math.perm(game.players, self.prefix) > LARGEST_BLOCK:
            raise ConfigurationError(
                f"Gtg.prefix: {self.prefix} leading positions of {game.players} players; choose at most as many as "
                f"there are players, and so few that a block has at most {LARGEST_BLOCK} orders"
            )
        if abs(game.whole - game.empty) < self.round_truncation:
            return Values(np.zeros(game.players), game.evaluations)
        blocks: list[Floats] = []
        values = np.full(game.players, np.inf)
        while len(blocks) < self.blocks:
            orders = guided(game.players, self.prefix, generator)
            blocks.append(gains(game, orders, self.truncation).mean(0))
            before, values = values, np.mean(blocks, axis=0)
            if np.abs(values - before).max() < self.settled * np.abs(values).max():
                break
        return Values(values, game.evaluations, *interval(np.array(blocks), self.confidence), self.confidence)


def guided(players: int, prefix: int, generator: np.random.Generator) -> Orders:
    """Return orders of arrival (n!/(n - prefix)!, n) that begin in every possible way, and go on at random."""
    leading = np.array(list(permutations(range(players), prefix)))
    rest = np.array([np.setdiff1d(np.arange(players), first) for first in leading], dtype=np.int64)
    return np.concatenate([leading, generator.permuted(rest, axis=1)], axis=1)
