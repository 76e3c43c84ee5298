"""A round as a cooperative game: the model that each coalition's updates would have made, and how good it is.

v(S) is the utility, on the server's validation rows, of the rule applied to the updates of S alone, from the same
parameters and the same state; v(empty) that of the model as it was. No client trains again (Song et al. 2019,
doi:10.1109/BigData47090.2019.9006327). Models are rebuilt one by one, since a rule is any function of its updates, and
evaluated together over the cohort axis.
"""

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np

from ..aggregation import Aggregator, Context, Updates
from ..aggregation.updates import Metric
from ..errors import ConfigurationError
from ..params import Params, Specs, stack
from .game import Coalitions, Floats, Game

MEMORY_BUDGET = 256 * 2**20
"""Bytes of models that are held at once."""


@dataclass(frozen=True)
class _Rebuilding:
    """What the models of a round are made from."""

    rule: Aggregator
    state: Params
    params: Params
    specs: Specs
    context: Context

    def model(self, updates: Updates) -> Params:
        """Return what the rule makes of some updates; every call sees the same random stream."""
        if not updates.clients:
            return self.params
        context = replace(self.context, generator=deepcopy(self.context.generator))
        return self.rule(self.state, self.params, updates, self.specs, context)[0]


def round_game(
    rule: Aggregator,
    state: Params,
    params: Params,
    updates: Updates,
    specs: Specs,
    context: Context,
    metric: Metric = "loss",
    budget: int = MEMORY_BUDGET,
) -> Game:
    """Return the game that the clients of a round play; player i is updates.clients[i].

    Arguments as a rule gets them; metric: what a model is worth, see `Utility`. The rule must accept every coalition
    that is asked for: one that needs several clients raises for the small ones. Raises `ConfigurationError` where the
    server has no validation rows.
    """
    utility = context.utility
    if utility is None:
        raise ConfigurationError(
            "contributions need validation rows on the server to say how good a model is: pass Context(utility=...), "
            "as `run` does"
        )
    making = _Rebuilding(rule, state, params, specs, context)
    one = sum(tensor.numel() * tensor.element_size() for tensor in params.values())
    at_once = max(1, budget // one)

    def worth_of(rounds: Callable[[int], Updates], count: int) -> Floats:
        pieces: Iterable[range] = (range(k, min(k + at_once, count)) for k in range(0, count, at_once))
        return np.concatenate([utility(stack([making.model(rounds(k)) for k in piece]), metric) for piece in pieces])

    def worth(coalitions: Coalitions) -> Floats:
        return worth_of(lambda k: updates.only(np.flatnonzero(coalitions[k])), len(coalitions))

    def scaled(factors: Floats) -> Floats:
        return worth_of(lambda k: scale(updates, factors[k]), len(factors))

    return Game(len(updates.clients), worth, scaled)


def scale(updates: Updates, factors: Floats) -> Updates:
    """Return the updates with each client's delta multiplied by its factor (n,)."""
    return replace(
        updates,
        delta={
            name: delta * delta.new_tensor(factors).view(-1, *[1] * (delta.ndim - 1))
            for name, delta in updates.delta.items()
        },
    )
