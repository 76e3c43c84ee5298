"""Krum and Multi-Krum (Blanchard et al. 2017, arXiv:1703.02757): trust the update that has the closest company.

The score of a client is the sum of its squared distances to its n - f - 2 nearest neighbours. An attacker far from all
scores badly; one near to the honest does little harm. Distances are geodesic: an angle reported in another turn of the
circle is no outlier.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Params, Specs
from .admissible import require
from .geometry import added, average, update_distances
from .updates import Context, Info, Updates


@declared
class Krum:
    """params + the update of the smallest score; equal scores are decided by client name.

    Cost n^2 d for the distances. Needs n >= 2f + 3; then f clients cannot move it further than the honest are apart.
    """

    f: Annotated[int, Field(ge=0)] = 1

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty state: Krum remembers nothing."""
        return {}

    def admit(self, n: int) -> None:
        """Raise `ConfigurationError` unless n >= 2f + 3."""
        require(self, n, self.f, 2 * self.f + 3, "n >= 2f + 3")

    def __call__(
        self,
        state: Params,
        params: Params,
        updates: Updates,
        specs: Specs,
        context: Context,  # noqa: ARG002
    ) -> tuple[Params, Params, Info]:
        """Return the parameters moved by one client's update, named in the info "chosen".

        `ConfigurationError` where n < 2f + 3.
        """
        self.admit(len(updates.clients))
        best = by_score(update_distances(updates.delta, specs), self.f, updates.clients)[0]
        step = {spec.name: updates.delta[spec.name][best] for spec in specs}
        return added(params, step, specs), state, {"chosen": [updates.clients[best]]}


@declared
class MultiKrum:
    """params + the mean of the m updates of the smallest scores, angles as seen from the best of them.

    m: None for n - f, the most that f clients cannot take part in from afar; m = 1 is Krum. Cost n^2 d for the
    distances. Needs n >= 2f + 3 and m <= n - f. The paper proves convergence for m < n - 2f - 2 only. All chosen
    clients count the same: rows are a client's own word.
    """

    f: Annotated[int, Field(ge=0)] = 1
    m: Annotated[int, Field(ge=1)] | None = None

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty state: Multi-Krum remembers nothing."""
        return {}

    def admit(self, n: int) -> None:
        """Raise `ConfigurationError` unless n >= 2f + 3."""
        require(self, n, self.f, 2 * self.f + 3, "n >= 2f + 3")

    def __call__(
        self,
        state: Params,
        params: Params,
        updates: Updates,
        specs: Specs,
        context: Context,  # noqa: ARG002
    ) -> tuple[Params, Params, Info]:
        """Return the parameters moved by the mean of the clients named in the info "chosen", best first.

        `ConfigurationError` where n < 2f + 3 or m > n - f.
        """
        n = len(updates.clients)
        self.admit(n)
        m = n - self.f if self.m is None else self.m
        if m > n - self.f:
            raise ConfigurationError(
                f"MultiKrum with f = {self.f} chooses m <= n - f = {n - self.f} of n = {n} clients; got m = {m}: "
                "lower m, or leave it out for n - f"
            )
        best = by_score(update_distances(updates.delta, specs), self.f, updates.clients)[:m]
        weights = torch.zeros(n, dtype=torch.float64)
        weights[best] = 1 / m
        step = average(updates.delta, weights, specs, near=best[0])
        return added(params, step, specs), state, {"chosen": [updates.clients[i] for i in best]}


def by_score(squared: Tensor, f: int, clients: Sequence[str]) -> list[int]:
    """Return all clients by rising score, equal scores by name.

    squared: (n, n) squared distances with a zero diagonal. The score sums the max(1, n - f - 2) smallest to others.
    """
    n = len(squared)
    nearest = squared.sort(1).values[:, 1 : 1 + max(1, n - f - 2)]  # column 0 is a zero: oneself, or a duplicate
    scores = nearest.sum(1).tolist()
    return sorted(range(n), key=lambda i: (scores[i], clients[i]))
