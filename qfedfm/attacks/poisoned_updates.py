"""Attacks through the update: what attackers send in place of what they trained.

Updates are local minus global, angles wrapped to the shorter way round. Means and deviations are over honest clients.
"""

import math
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from scipy.stats import norm
from torch import Tensor

from ..declaration import declared
from ..params import Params, Specs

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@declared
class SignFlip:
    """-scale times the attacker's own update."""

    scale: Positive = 1.0

    def craft(self, own: Params, honest: Params, specs: Specs, generator: np.random.Generator) -> Params:  # noqa: ARG002
        """Return the attackers' updates."""
        return {name: -self.scale * delta for name, delta in own.items()}


@declared
class Gaussian:
    """Independent normal numbers of standard deviation `sigma` in place of the update."""

    sigma: Positive = 1.0

    def craft(self, own: Params, honest: Params, specs: Specs, generator: np.random.Generator) -> Params:  # noqa: ARG002
        """Return the attackers' updates."""
        return {name: self.sigma * _normal(delta, generator) for name, delta in own.items()}


@declared
class Scaling:
    """`factor` times the attacker's own update, to outweigh the others (Bagdasaryan et al. 2020, arXiv:1807.00459)."""

    factor: Positive = 10.0

    def craft(self, own: Params, honest: Params, specs: Specs, generator: np.random.Generator) -> Params:  # noqa: ARG002
        """Return the attackers' updates."""
        return {name: self.factor * delta for name, delta in own.items()}


@declared
class FreeRider:
    """Nothing was trained: noise of standard deviation `sigma` around no change (Fraboni et al. 2021)."""

    sigma: Annotated[float, Field(ge=0)] = 1e-3

    def craft(self, own: Params, honest: Params, specs: Specs, generator: np.random.Generator) -> Params:  # noqa: ARG002
        """Return the attackers' updates."""
        return {name: self.sigma * _normal(delta, generator) for name, delta in own.items()}


@declared
class Alie:
    """A little is enough (Baruch et al. 2019, arXiv:1902.06156): mean - z deviations in every coordinate, from all.

    z: None takes the paper's, the largest that as many honest clients are beyond as a majority needs,
    Phi^-1((n - m - s) / (n - m)) with s = floor(n / 2 + 1) - m supporters.
    """

    z: Positive | None = None

    def craft(self, own: Params, honest: Params, specs: Specs, generator: np.random.Generator) -> Params:  # noqa: ARG002
        """Return the attackers' updates, all alike."""
        m, h = (len(next(iter(deltas.values()))) for deltas in (own, honest))
        z = self.z if self.z is not None else alie_z(m + h, m)
        return _repeated({name: mean - z * deviation for name, (mean, deviation) in _moments(honest).items()}, m)


@declared
class InnerProduct:
    """Inner-product manipulation (Xie et al. 2019, arXiv:1903.03936): -epsilon times the honest mean, from all."""

    epsilon: Positive = 0.5

    def craft(self, own: Params, honest: Params, specs: Specs, generator: np.random.Generator) -> Params:  # noqa: ARG002
        """Return the attackers' updates, all alike."""
        m = len(next(iter(own.values())))
        return _repeated({name: -self.epsilon * mean for name, (mean, _) in _moments(honest).items()}, m)


@declared
class MinMax:
    """Minimum-maximum distance (Shejwalkar and Houmansadr 2021, doi:10.14722/ndss.2021.24498), from all.

    mean - gamma deviation with the largest gamma at which the update is no farther from any honest one than two honest
    ones are from each other.
    """

    def craft(self, own: Params, honest: Params, specs: Specs, generator: np.random.Generator) -> Params:  # noqa: ARG002
        """Return the attackers' updates, all alike."""
        flat = torch.cat([delta.flatten(1).double() for delta in honest.values()], dim=1)
        mean = flat.mean(0)
        direction = flat.std(0, unbiased=False)
        widest = torch.cdist(flat, flat).max()
        low, high = 0.0, 1.0

        def farthest(gamma: float) -> Tensor:
            distance: Tensor = (flat - mean + gamma * direction).norm(dim=1)
            return distance.max()

        while farthest(high) < widest and high < 1e6:
            low, high = high, 2 * high
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (middle, high) if farthest(middle) <= widest else (low, middle)
        m = len(next(iter(own.values())))
        return _repeated({name: mean - low * deviation for name, (mean, deviation) in _moments(honest).items()}, m)


@declared
class PeriodShift:
    """Every angle reported `turns` periods away: the same circuit, and a mean that does not know circles is misled."""

    turns: int = 1

    def craft(self, own: Params, honest: Params, specs: Specs, generator: np.random.Generator) -> Params:  # noqa: ARG002
        """Return the attackers' updates."""
        periods = {spec.name: spec.period or 0.0 for spec in specs}
        return {name: delta + self.turns * periods[name] for name, delta in own.items()}


@declared
class AngleDrift:
    """Every angle moved by `radians` in a direction that never changes, on top of honest training: small, patient."""

    radians: Positive = 0.3
    seed: int = 0

    def craft(self, own: Params, honest: Params, specs: Specs, generator: np.random.Generator) -> Params:  # noqa: ARG002
        """Return the attackers' updates."""
        moved = dict(own)
        for spec in specs:
            if spec.period is not None:
                signs = np.random.default_rng(self.seed).choice([-1.0, 1.0], spec.shape)
                moved[spec.name] = own[spec.name] + self.radians * torch.from_numpy(signs).to(own[spec.name])
        return moved


def alie_z(clients: int, attackers: int) -> float:
    """Return the z of Baruch et al. for so many clients and attackers; 0 where attackers are the majority."""
    honest, supporters = clients - attackers, math.floor(clients / 2 + 1) - attackers
    return max(0.0, float(norm.ppf((honest - supporters) / honest))) if 0 < supporters < honest else 0.0


def _normal(like: Tensor, generator: np.random.Generator) -> Tensor:
    return torch.from_numpy(generator.standard_normal(tuple(like.shape))).to(like)


def _moments(honest: Params) -> dict[str, tuple[Tensor, Tensor]]:
    return {name: (delta.mean(0), delta.std(0, unbiased=False)) for name, delta in honest.items()}


def _repeated(one: Params, times: int) -> Params:
    return {name: tensor.expand(times, *tensor.shape).clone() for name, tensor in one.items()}
