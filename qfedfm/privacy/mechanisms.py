"""Private training, as declared values: what a client hides of its rows before anything leaves it.

- `DpSgd`: every step clips the gradient of each row and adds noise (Abadi et al. 2016, arXiv:1607.00133). Protects one
  row of a client from everybody else, the server too. Whatever follows (Adam, momentum, several steps, the codec) is
  made of noised gradients and costs nothing more.
- `LocalDp`: the client clips and noises its whole update. Protects all of a client's data from everybody else.

For a trusted server that adds the noise itself, see `aggregation.dp_fedavg`. A private client's report names its rows
and steps, which count as public, and withholds its training loss, which is no part of any guarantee. Evaluation during
research (validation, test, per client) reads other rows than training does and is not private.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ..declaration import declared
from ..params import Params, Specs, wrap
from .clipping import Positive, clip_updates, factors, lengths
from .noise import gaussian
from .rdp import ORDERS, subsampled_gaussian

Probability = Annotated[float, Field(gt=0, lt=1)]
WITHHELD_LOSS = math.log(2)
"""What a private client reports as its training loss, always: that of tossing a coin, in nats."""


class Mechanism(Protocol):
    """A mechanism of one client that loses privacy with every round it takes part in."""

    @property
    def delta(self) -> float:
        """The probability, in (0, 1), outside of which eps holds."""
        ...

    @property
    def budget(self) -> float | None:
        """The eps that a client may spend; None for no limit."""
        ...

    def rdp(self, rows: int, batch_size: int, steps: int) -> NDArray[np.float64]:
        """Return the loss of one round at each of `ORDERS`, for a client with so many rows that takes so many steps."""
        ...


@declared
class DpSgd:
    """Example-level privacy: g = (sum_i g_i min(1, clip / |g_i|) + N(0, (sigma clip)^2)) / expected batch.

    clip: C, in the units of a gradient's norm over all trainable parameters. sigma: noise over C. Neighbouring data
    differ in one row, there or not (its gradient replaced by zero); the number of rows is public. sampling:

    - "poisson": each row enters each batch with probability q = batch_size / rows, on its own. What the accounting with
      amplification needs, and the default. Batches vary in size and may be empty (noise only).
    - "permutation": batches cut from a shuffled epoch, as without privacy. Amplification is then not proven, so none is
      claimed: every pass over the rows counts as one Gaussian mechanism with q = 1.

    delta: of the reported eps. budget: eps at which a client refuses to go on.
    """

    clip: Positive = 1.0
    sigma: Positive = 1.0
    delta: Probability = 1e-5
    sampling: Literal["poisson", "permutation"] = "poisson"
    budget: Positive | None = None

    def rdp(self, rows: int, batch_size: int, steps: int) -> NDArray[np.float64]:
        """Return the loss of one round: `steps` with q = batch_size / rows, or with q = 1 once for each pass begun."""
        if self.sampling == "poisson":
            return steps * subsampled_gaussian(min(1.0, batch_size / rows), self.sigma)
        passes = -(-steps // -(-rows // batch_size))
        return passes * subsampled_gaussian(1.0, self.sigma)

    def batch(self, rows: NDArray[np.int64], batch_size: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Return a Poisson sample of a client's rows, maybe none."""
        return rows[generator.random(len(rows)) < batch_size / len(rows)]

    def gradient(
        self, each: Params, mask: Tensor, expected: Tensor, noise: Sequence[np.random.Generator]
    ) -> Sequence[Tensor]:
        """Return the private mean gradients (C, *shape), in the order of `each`.

        each: {name: (C, R, *shape)}, gradients by row. mask: (C, R), False for rows that only fill up a batch.
        expected: (C,) rows that a batch is expected to have. noise: a generator for each client.
        """
        share = factors(lengths(each, lead=2), self.clip) * mask
        sums = {name: torch.einsum("cr,cr...->c...", share.to(grad.dtype), grad) for name, grad in each.items()}
        added = gaussian(sums, self.sigma * self.clip, noise)
        return [(sums[name] + added[name]) / expected.view(-1, *(1,) * (sums[name].ndim - 1)) for name in sums]


@declared
class LocalDp:
    """Client-level privacy without a trusted server: delta min(1, clip / |delta|) + N(0, (sigma clip)^2).

    clip: C, in the units of an update's norm. sigma: noise over C. Neighbours are any two data sets of the client,
    whose clipped updates lie up to 2 C apart, so that a round loses rho = 2 alpha / sigma^2. delta: of the reported
    eps. budget: eps at which a client refuses to go on. Angular entries leave as angles in [-T/2, T/2).
    """

    clip: Positive = 1.0
    sigma: Positive = 1.0
    delta: Probability = 1e-5
    budget: Positive | None = None

    def rdp(self, rows: int, batch_size: int, steps: int) -> NDArray[np.float64]:  # noqa: ARG002
        """Return the loss of one round, 2 alpha / sigma^2, however the client trained."""
        return 4 * np.asarray(ORDERS) / (2 * self.sigma**2)

    def perturb(self, delta: Params, specs: Specs, generator: np.random.Generator) -> Params:
        """Return a client's update {name: (*shape)}, clipped and noised."""
        clipped, _ = clip_updates({spec.name: delta[spec.name].unsqueeze(0) for spec in specs}, self.clip, specs)
        added = gaussian(clipped, self.sigma * self.clip, [generator])
        private = {}
        for spec in specs:
            noised = (clipped[spec.name] + added[spec.name])[0]
            private[spec.name] = noised if spec.period is None else wrap(noised, spec.period)
        return private
