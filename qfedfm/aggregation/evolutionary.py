"""Aggregation weights found by search: quantum-inspired evolution, with CMA-ES and random search beside it.

theta = global + sum_i w_i delta_i with w in the simplex that minimises what a server can know about the result:

- `MedianDistance`: median_j |sum_i w_i delta_i - delta_j|^2, the least median of squares (Rousseeuw 1984,
  doi:10.1080/01621459.1984.10477105): agreement with the nearest half of the clients. Needs nothing but the updates.
- `RootDistance`: |sum_i w_i delta_i - delta_root|^2, agreement with the update that the server's own rows would make.
- `ValidationLoss`: mean cross-entropy on the server's validation rows.

The first two are distances and not losses: a small value does not promise a good model. Points of the cube become
weights by w = z / sum z. The row-weighted mean is a candidate too, so that the objective never gets worse than the
mean's; `info` holds both values. The search is `weight_search`'s, all at the same number of evaluations.

Cost: n^2 d once and n^2 an evaluation for distances, n d + the evaluation of a model for the loss. It beats the mean
where some clients are hostile or useless (for MedianDistance fewer than half); it does not for honest IID clients,
where equal weights are best and a robust objective throws clients away. It is no guarantee against an attacker who
knows the objective.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Params, Specs, stack
from .geometry import added, combined, update_distances
from .updates import Context, Info, Updates
from .weight_search import QuantumEvolution, Search

Floats = NDArray[np.float64]
Values = Callable[[Floats], Floats]
TOGETHER = 64
"""Models that are held at a time while their losses are computed."""
FARTHEST = 1e100
"""Squared distances beyond are this one: a weight of zero times infinity would be no number."""


@runtime_checkable
class Objective(Protocol):
    """What weights are chosen for."""

    def of(self, params: Params, updates: Updates, specs: Specs, context: Context) -> Values:
        """Return the function of weights (count, n), rows summing to one, to values (count,), less being better."""
        ...


@declared
class MedianDistance:
    """Squared distance to the nearest half of the clients: the (n // 2 + 1)-th smallest."""

    def of(self, params: Params, updates: Updates, specs: Specs, context: Context) -> Values:  # noqa: ARG002
        """Return the least-median-of-squares objective."""
        squared = np.minimum(update_distances(updates.delta, specs).numpy(), FARTHEST)
        half = len(squared) // 2
        return lambda weights: np.sort(distances_to_mixture(weights, squared, squared), axis=1)[:, half]


@declared
class RootDistance:
    """Squared distance to the server's own update."""

    def of(self, params: Params, updates: Updates, specs: Specs, context: Context) -> Values:
        """Return the objective; raise `ConfigurationError` where the server has no rows of its own."""
        if context.root is None:
            raise ConfigurationError("RootDistance compares with the server's own update, and the server has no rows")
        own = context.root(params)
        together = {name: torch.cat([tensor, own[name].unsqueeze(0)]) for name, tensor in updates.delta.items()}
        squared = np.minimum(update_distances(together, specs).numpy(), FARTHEST)
        return lambda weights: distances_to_mixture(weights, squared[:-1, :-1], squared[:-1, -1:])[:, 0]


@declared
class ValidationLoss:
    """Mean cross-entropy on the server's validation rows, nats."""

    def of(self, params: Params, updates: Updates, specs: Specs, context: Context) -> Values:
        """Return the objective; raise `ConfigurationError` where the server has no validation rows."""
        utility = context.utility
        if utility is None:
            raise ConfigurationError("ValidationLoss needs validation rows on the server, and it has none")

        def losses(weights: Floats) -> Floats:
            found = []
            for start in range(0, len(weights), TOGETHER):
                some = torch.from_numpy(weights[start : start + TOGETHER])
                models = stack([added(params, combined(updates.delta, w, specs), specs) for w in some])
                found.append(-utility(models, "loss"))
            return np.concatenate(found)

        return losses


@declared
class EvolutionaryWeights:
    """Angular mean with searched weights. objective, search: as above. evaluations: of the objective, in all."""

    objective: Objective = MedianDistance()
    search: Search = QuantumEvolution()
    evaluations: int = 2000

    def __post_init__(self) -> None:
        if self.evaluations < 1:
            raise ConfigurationError(f"EvolutionaryWeights.evaluations: expected one or more; got {self.evaluations}")

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty state."""
        return {}

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        """Return the mean with the best weights; info: `weights`, their `value`, `mean_value` of row-weighted ones."""
        values = self.objective.of(params, updates, specs, context)
        weights = updates.weights.numpy()
        of_mean = value = float(values(weights[None])[0])
        point, found = self.search.minimise(
            lambda points: values(as_weights(points)), len(weights), self.evaluations, context.generator
        )
        if found < of_mean:
            weights, value = as_weights(point[None])[0], found
        step = combined(updates.delta, torch.from_numpy(weights), specs)
        return added(params, step, specs), state, {"weights": weights.tolist(), "value": value, "mean_value": of_mean}


def as_weights(points: Floats) -> Floats:
    """Return points (count, n) of the unit cube as weights that sum to one; the origin becomes equal weights."""
    sums = points.sum(1, keepdims=True)
    return np.where(sums > 0, points / np.where(sums > 0, sums, 1), 1 / points.shape[1])


def distances_to_mixture(weights: Floats, squared: Floats, to_others: Floats) -> Floats:
    """Return |sum_i w_i x_i - y_j|^2, (count, others), of squared distances alone.

    = sum_i w_i |x_i - y_j|^2 - sum_{i<k} w_i w_k |x_i - x_k|^2 for weights that sum to one. weights: (count, n).
    squared: between the x, (n, n). to_others: from x to y, (n, others). Exact on lines; on circles where all lie within
    half a period of each other.
    """
    inner = ((weights @ squared) * weights).sum(1, keepdims=True) / 2
    result: Floats = np.maximum(weights @ to_others - inner, 0)
    return result
