"""Schedules of learning rates over the rounds of a federation. Within a round a rate stays as it is."""

import math
from typing import Annotated, Protocol, runtime_checkable

from pydantic import Field

from ..declaration import declared


@runtime_checkable
class Schedule(Protocol):
    """Says what learning rates are multiplied by in a round."""

    def factor(self, round: int) -> float:
        """Return the factor of a round, counted from 1; positive."""
        ...


@declared
class Cosine:
    """From 1 in the first round down half a cosine to `floor` in round `rounds`, and `floor` from then on."""

    rounds: Annotated[int, Field(ge=2)]
    floor: Annotated[float, Field(gt=0, le=1)] = 0.01

    def factor(self, round: int) -> float:
        """Return floor + (1 - floor) (1 + cos(pi t)) / 2 with t the share of the rounds that are over."""
        share = min(1.0, (round - 1) / (self.rounds - 1))
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * share)) / 2


@declared
class Step:
    """Multiplied by `by` after every `every` rounds."""

    every: Annotated[int, Field(ge=1)]
    by: Annotated[float, Field(gt=0, le=1)] = 0.1

    def factor(self, round: int) -> float:
        """Return by^floor((round - 1) / every)."""
        return float(self.by ** ((round - 1) // self.every))
