"""The geometric median by the smoothed Weiszfeld algorithm (Pillutla et al. 2022, arXiv:1912.13445, "RFA").

The point z with the smallest sum of distances sum_i |x_i - z|: a client pulls with the same force from anywhere, so
fewer than half cannot pull it away. Iteration: z = sum_i a_i x_i with a_i proportional to 1 / max(nu, |x_i - z|). As z
is always a mean of the updates, their inner products, taken once, hold all that an iteration needs: it costs n^2.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ..declaration import declared
from ..params import Params, Specs
from .geometry import added, average, products, update_distances
from .updates import Context, Info, Updates


@declared
class GeometricMedian:
    """params + argmin_z sum_i |x_i - z|.

    nu: distances below it count as nu, in the units of the updates. iterations: at most. tolerance: the largest change
    of a weight at which the iteration ends. Cost 2 n^2 d for distances and inner products, n^2 an iteration. Any n;
    fewer than n / 2 clients of any size move it by a bounded length.

    Departures: all clients count the same, where the paper weighs them by rows, since rows are a client's own word.
    Angles are unrolled around the medoid, the client nearest to all others by geodesic distance, and the median is
    taken in that chart: exact for what lies within half a period of it.
    """

    nu: Annotated[float, Field(gt=0)] = 1e-6
    iterations: Annotated[int, Field(ge=1)] = 1000
    tolerance: Annotated[float, Field(gt=0)] = 1e-10

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty state: the geometric median remembers nothing."""
        return {}

    def __call__(
        self,
        state: Params,
        params: Params,
        updates: Updates,
        specs: Specs,
        context: Context,  # noqa: ARG002
    ) -> tuple[Params, Params, Info]:
        """Return the new parameters and the number of "iterations" it took."""
        n = len(updates.clients)
        squared = update_distances(updates.delta, specs)
        near = int(squared.sqrt().sum(1).argmin())
        start = torch.zeros(n, dtype=torch.float64)
        start[squared[near].argsort(stable=True)[: n // 2 + 1]] = 1 / (n // 2 + 1)
        medoid = {spec.name: updates.delta[spec.name][near] for spec in specs}
        gram = products(updates.delta, specs, medoid)
        weights, count = weiszfeld(gram, start, self.nu, self.iterations, self.tolerance)
        return added(params, average(updates.delta, weights, specs, near), specs), state, {"iterations": count}


def weiszfeld(gram: Tensor, weights: Tensor, nu: float, iterations: int, tolerance: float) -> tuple[Tensor, int]:
    """Return the weights (n,) whose mean is the geometric median, and the number of iterations.

    gram: (n, n) inner products of the points. weights: (n,), where to start. Points whose square overflows weigh
    nothing.
    """
    usable = gram.diagonal().isfinite()
    gram = gram.where(usable & usable.unsqueeze(1), 0)
    count, change = 0, tolerance + 1
    while count < iterations and change > tolerance:
        reached = gram @ weights
        squared = gram.diagonal() - 2 * reached + weights @ reached
        pull = usable / squared.clamp(min=nu * nu).sqrt()
        before, weights = weights, pull / pull.sum()
        change = float((weights - before).abs().max())
        count += 1
    return weights, count
