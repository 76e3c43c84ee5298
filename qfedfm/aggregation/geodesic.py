"""The angular mean with a server's step length and momentum: walking on along the geodesic of the mean update.

v <- momentum v + sum_i w_i wrap_T(delta_i), theta <- theta + wrap_T(step v): server momentum (FedAvgM, Hsu et al. 2019,
arXiv:1909.06335) in the tangent space of the torus of angles. A torus is flat, so that the velocity of the last round
needs no transport, and a geodesic is a straight line modulo the period. step 1 without momentum is `AngularMean`.

Cost: O(n d), and d numbers of state. Breakdown point 0, as of every mean. It beats the mean where the rounds make slow
progress in a steady direction (badly conditioned losses); with a step of 2 or strong momentum on a well conditioned
loss it overshoots and loses.
"""

import math

import torch

from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Params, Specs
from .geometry import added, combined
from .updates import Context, Info, Updates


@declared
class GeodesicMean:
    """Weighted angular mean, then a step on the circle. step: factor on the update, positive. momentum: in [0, 1)."""

    step: float = 1.0
    momentum: float = 0.0

    def __post_init__(self) -> None:
        wrong = []
        if not 0 < self.step < math.inf:
            wrong.append(f"GeodesicMean.step: expected a positive number; got {self.step}")
        if not 0 <= self.momentum < 1:
            wrong.append(f"GeodesicMean.momentum: expected a number in [0, 1); got {self.momentum}")
        if wrong:
            raise ConfigurationError(wrong)

    def init(self, specs: Specs) -> Params:
        """Return the velocity before the first round, zero, {name: (*shape)} float64, in the tangent space."""
        return {spec.name: torch.zeros(spec.shape, dtype=torch.float64) for spec in specs} if self.momentum else {}

    def __call__(
        self,
        state: Params,
        params: Params,
        updates: Updates,
        specs: Specs,
        context: Context,  # noqa: ARG002
    ) -> tuple[Params, Params, Info]:
        """Return the parameters one step further along the velocity."""
        velocity = combined(updates.delta, updates.weights, specs)
        if self.momentum:
            velocity = {name: self.momentum * state[name] + mean for name, mean in velocity.items()}
        new = added(params, {name: self.step * speed for name, speed in velocity.items()}, specs)
        return new, velocity if self.momentum else {}, {}
