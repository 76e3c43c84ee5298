"""Zeroth-order descent along seeded directions: training whose update is a list of seeds and scalars.

w <- w - rate (L(w + h z) - L(w - h z)) / 2h z with z of a fresh seed in each step: SPSA, Spall 1992,
doi:10.1109/9.119632; for language models MeZO, Malladi et al. 2023, arXiv:2305.17333; between clients and a server
FedKSeed, Qin et al. 2024, arXiv:2312.06353. Two values of the loss a step and no gradient: a circuit on hardware takes
two executions for each row, however many angles it has.

This is a function beside `training.train_cohort`, not a part of it: an `Optimizer` is given gradients and never the
loss. Departure from FedKSeed: each step has a seed of its own in place of one from a common pool of K.
"""

import math
from collections.abc import Callable

import numpy as np

from ..errors import ConfigurationError
from ..params import Params, Specs
from .seeds import Seeded, direction, draw_seeds, shifted


def descend(
    loss: Callable[[Params], float],
    params: Params,
    specs: Specs,
    *,
    steps: int,
    rate: float,
    spacing: float,
    generator: np.random.Generator,
) -> Seeded:
    """Return seeds and scalars of `steps` steps from `params`; the update is `reconstruct(seeded, specs)`.

    loss: of parameters {name: (*shape)}, for instance on a minibatch of its own choice; a value that is not finite
    raises `ConfigurationError`. specs: what is trained. spacing: h, in the parameters' unit. generator: draws seeds.
    """
    size = sum(spec.size for spec in specs)
    seeds, scalars, moved = draw_seeds(steps, generator), np.zeros(steps), np.zeros(size)
    for j, seed in enumerate(seeds):
        z = direction(int(seed), size)
        ahead, behind = (float(loss(shifted(params, moved + side * z, specs))) for side in (spacing, -spacing))
        if not (math.isfinite(ahead) and math.isfinite(behind)):
            raise ConfigurationError(
                f"step {j + 1}: the loss is {ahead} and {behind}: lower rate {rate} or the spacing"
            )
        scalars[j] = -rate * (ahead - behind) / (2 * spacing)
        moved += scalars[j] * z
    return Seeded(seeds, scalars)
