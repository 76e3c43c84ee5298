"""Descent along seeded random directions of plus and minus one, by two values of the loss a step and no gradient.

w <- w - lr s z with s = (L(w + h z) - L(w - h z)) / 2h and z of a fresh seed in each step: Spall 1992,
doi:10.1109/9.119632 (SPSA); for language models MeZO, Malladi et al. 2023, arXiv:2305.17333. A circuit on hardware
takes two executions for each row, however many angles it has. The update of a round is a list of seeds and scalars
-lr s, which the codec `SeedScalar` sends in place of all parameters: FedKSeed, Qin et al. 2024, arXiv:2312.06353.
Departure from it: each step has a seed of its own in place of one from a common pool of K. All parameters move together
here; `backends.Spsa` estimates the derivatives of a circuit alone and leaves the layers around it to torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ..codecs.seeds import Seeded, direction, draw_seeds
from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Params
from .optimizers import check_rates, spread
from .problem import Problem


@declared
class SeededDescent:
    """lr: the step along a direction for a unit of slope. spacing: h, in the parameters' unit.

    The slope along z is the gradient times z: of n parameters, its square is n times as large as that of one of them,
    so that lr has to be smaller than that of `Sgd`, by about n. All parts have one rate; `rates` stays empty.
    """

    lr: float = 0.001
    spacing: Annotated[float, Field(gt=0)] = 0.01
    rates: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_rates("SeededDescent", self.lr, self.rates)
        if self.rates:
            raise ConfigurationError(
                "SeededDescent.rates: a direction runs through all parts with one rate; leave rates empty"
            )

    def init(self, params: Params) -> Params:  # noqa: ARG002
        """Return the empty state."""
        return {}

    def step(self, params: Params, grads: Params, state: Params, rates: Params) -> None:  # noqa: ARG002
        """Take one step in place; grads: s z."""
        for name, param in params.items():
            param.sub_(spread(rates[name], param) * grads[name])


@dataclass
class Walk:
    """A cohort's directions: spacing h, seeds (C, steps) uint64, and how far it went along each, (C, steps)."""

    spacing: float
    seeds: NDArray[np.uint64]
    scalars: NDArray[np.float64]
    _taken: int = 0

    @classmethod
    def of(cls, descent: SeededDescent, lanes: Sequence[tuple[np.random.Generator, int]]) -> "Walk":
        """Return a walk not yet taken; lanes: of each client who draws its seeds, and how many steps it will take."""
        seeds = np.zeros((len(lanes), max(steps for _, steps in lanes)), np.uint64)
        for i, (generator, steps) in enumerate(lanes):
            seeds[i, :steps] = draw_seeds(steps, generator)
        return cls(descent.spacing, seeds, np.zeros(seeds.shape))

    def init(self, params: Params) -> Params:  # noqa: ARG002
        """Return the empty state."""
        return {}

    def advance(self, problem: Problem, params: Params, state: Params, rates: Params) -> Tensor:  # noqa: ARG002
        """Go one step along the next direction, as far as the losses on both sides say, and note how far.

        Returns the mean of both losses for each row, (C, R).
        """
        step, active = self._taken, len(problem.labels)
        self._taken += 1
        shapes = [tensor.shape[1:] for tensor in params.values()]
        sizes = [shape.numel() for shape in shapes]
        z = torch.from_numpy(np.stack([direction(int(seed), sum(sizes)) for seed in self.seeds[:active, step]]))
        parts = {
            name: part.reshape(tensor.shape).to(tensor)
            for (name, tensor), part in zip(params.items(), torch.split(z, sizes, dim=1), strict=True)
        }
        away = {name: self.spacing * part for name, part in parts.items()}
        sides = {name: torch.stack([t + away[name], t - away[name]], dim=1).flatten(0, 1) for name, t in params.items()}
        ahead, behind = problem.value(sides).view(active, 2).unbind(1)
        slopes = (ahead - behind) / (2 * self.spacing)
        rate = next(iter(rates.values()))
        self.scalars[:active, step] = -(rate * slopes).double().cpu().numpy()
        for name, tensor in params.items():
            tensor.sub_(spread(rate, tensor) * (spread(slopes, tensor) * parts[name]))
        return ((ahead + behind) / 2).unsqueeze(1).expand(problem.labels.shape)

    def made(self, lane: int, steps: int) -> Seeded:
        """Return seeds and scalars of one client that took so many steps."""
        return Seeded(self.seeds[lane, :steps], self.scalars[lane, :steps])
