"""Clipping: no vector is longer than C, which is what the noise of a private mechanism is measured against.

A vector is all parameters together, in the order of their specs, entries of all kinds in one Euclidean norm. An angle
moved by a whole period is the same angle, so that angular entries are taken the shorter way round first: an update that
is long on the line only is not long, and nobody hides length in turns.

The bound may itself be found in private: `AdaptiveClip` follows a quantile of the lengths (Andrew et al. 2021,
arXiv:1905.03871).
"""

import math
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Params, Specs, wrap

Positive = Annotated[float, Field(gt=0, lt=math.inf)]


def lengths(vectors: Params, lead: int = 1) -> Tensor:
    """Return the norm of each vector over all parameters together, float64.

    vectors: {name: (*lead axes, *shape)}. Returns the lead axes.
    """
    squares = [
        torch.linalg.vector_norm(t.reshape(*t.shape[:lead], -1), dim=-1, dtype=torch.float64).square()
        for t in vectors.values()
    ]
    return torch.stack(squares).sum(0).sqrt()


def factors(length: Tensor, clip: float) -> Tensor:
    """Return min(1, clip / length), for a length of any shape; 1 at length zero."""
    return clip / length.clamp(min=clip)


def wrapped(delta: Params, specs: Specs) -> Params:
    """Return updates with angular entries moved by whole periods into [-T/2, T/2)."""
    return {s.name: delta[s.name] if s.period is None else wrap(delta[s.name], s.period) for s in specs}


def clip_updates(delta: Params, clip: float, specs: Specs) -> tuple[Params, Tensor]:
    """Return updates {name: (n, *shape)} times min(1, clip / length) each, angles wrapped, and the lengths (n,)."""
    short = wrapped(delta, specs)
    length = lengths(short)
    share = factors(length, clip)
    clipped = {name: t * share.to(t.dtype).view(-1, *(1,) * (t.ndim - 1)) for name, t in short.items()}
    return clipped, length


@declared
class AdaptiveClip:
    """A clip C that follows the `quantile` of the lengths: C <- C exp(-rate (b - quantile)).

    b = (sum_i 1[length_i <= C] + N(0, (share n)^2)) / n is the noised part of n vectors that are short enough. The
    count is a second query of the same data, of sensitivity 1/2 (each indicator less one half). So that both together
    lose what one mechanism of `sigma` would, the sum of vectors gets sigma' = (sigma^-2 - (2 share n)^-2)^(-1/2). The
    paper's settings: quantile .5, rate .2, share 1/20.
    """

    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.5
    rate: Positive = 0.2
    share: Positive = 0.05

    def sigma_of_sum(self, sigma: float, n: int) -> float:
        """Return sigma'; raise `ConfigurationError` where the count alone would lose more than `sigma` allows."""
        left = sigma**-2 - (2 * self.share * n) ** -2
        if left <= 0:
            raise ConfigurationError(
                f"AdaptiveClip.share: the count of {n} clients gets noise {self.share * n:g}; sigma {sigma:g} needs "
                f"more than {sigma / 2:g}: take a share above {sigma / 2 / n:.3g}, or more clients a round"
            )
        return float(left**-0.5)

    def next(self, clip: float, length: Tensor, generator: np.random.Generator) -> float:
        """Return the next clip, from the lengths (n,) of the vectors before clipping."""
        n = len(length)
        noised = (float((length <= clip).sum()) + self.share * n * generator.standard_normal()) / n
        return clip * math.exp(-self.rate * (noised - self.quantile))
