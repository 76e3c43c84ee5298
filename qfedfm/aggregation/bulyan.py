"""Bulyan (El Mhamdi et al. 2018, arXiv:1802.07927): choose clients by Krum, then coordinates by a trimmed mean.

Krum alone lets an attacker that is close in all coordinates but one do damage of the order of sqrt(d) in that one;
Bulyan looks at each coordinate of the chosen again.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ..declaration import declared
from ..params import Params, Specs
from .admissible import require
from .geometry import added, by_coordinate, update_distances
from .krum import by_score
from .median import middle
from .updates import Context, Info, Updates


@declared
class Bulyan:
    """Krum chooses theta = n - 2f clients, one by one; each coordinate is the mean of theta - 2f of their values.

    Those nearest to the median of the coordinate are averaged; of two equally near, the lower counts first. Angles as
    seen from their circular median. Cost n^2 d for the distances, n^3 log n for the choice, n log n comparisons a
    coordinate. Needs n >= 4f + 3; then in every coordinate f clients cannot move it out of the range of the others.
    """

    f: Annotated[int, Field(ge=0)] = 1

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty state: Bulyan remembers nothing."""
        return {}

    def admit(self, n: int) -> None:
        """Raise `ConfigurationError` unless n >= 4f + 3."""
        require(self, n, self.f, 4 * self.f + 3, "n >= 4f + 3")

    def __call__(
        self,
        state: Params,
        params: Params,
        updates: Updates,
        specs: Specs,
        context: Context,  # noqa: ARG002
    ) -> tuple[Params, Params, Info]:
        """Return the new parameters and, as "chosen", the clients Krum chose; `ConfigurationError` where n < 4f + 3."""
        n = len(updates.clients)
        self.admit(n)
        chosen = one_by_one(update_distances(updates.delta, specs), self.f, updates.clients, n - 2 * self.f)
        count = n - 4 * self.f
        delta = {spec.name: updates.delta[spec.name][chosen] for spec in specs}
        step = by_coordinate(delta, specs, lambda ordered: mean_near_median(ordered, count))
        return added(params, step, specs), state, {"chosen": [updates.clients[i] for i in chosen]}


def one_by_one(squared: Tensor, f: int, clients: Sequence[str], count: int) -> list[int]:
    """Return `count` clients: the best by Krum's score, then the best of those that are left, and so on.

    squared: (n, n). The last of them are chosen among fewer than f + 3, by their nearest neighbour alone.
    """
    left = list(range(len(clients)))
    chosen: list[int] = []
    while len(chosen) < count:
        best = by_score(squared[left][:, left], f, [clients[i] for i in left])[0]
        chosen.append(left.pop(best))
    return chosen


def mean_near_median(ordered: Tensor, count: int) -> Tensor:
    """Return the mean of the `count` values nearest to the median of sorted rows (k, n): (k,) float64.

    They lie side by side, so the window whose further end is nearest to the median holds them.
    """
    values, n = ordered.double(), ordered.shape[1]
    starts = n - count + 1
    centre = middle(ordered).unsqueeze(1)
    reach = torch.maximum(centre - values[:, :starts], values[:, count - 1 :] - centre)
    window = reach.argmin(1, keepdim=True) + torch.arange(count)
    return values.gather(1, window).mean(1)
