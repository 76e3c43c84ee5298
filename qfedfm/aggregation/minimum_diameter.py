"""Minimum-diameter averaging (El Mhamdi et al. 2018, arXiv:1802.07927, "Brute"; after Rousseeuw 1985).

Of all sets of n - f clients, take one whose two most distant members are nearest to each other, and average it. The
optimum is found exactly. Clients further apart than t cannot both stay, so "is there a set of diameter t?" asks for a
vertex cover of at most f clients in the graph of distances above t; a bisection over the distances finds the smallest
t.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ..declaration import declared
from ..params import Params, Specs
from .admissible import require
from .geometry import added, average, update_distances
from .updates import Context, Info, Updates


@declared
class MinimumDiameter:
    """params + the mean of the n - f clients of smallest diameter max |x_i - x_j|, distances geodesic.

    Of several such sets, one is taken whose other members are near to each other, in an order of clients by name. Cost
    n^2 d for the distances and, for the search, at worst 1.62^f n^2 log n; seldom near it. Needs n >= 2f + 1;
    then f clients cannot move it further than the honest are apart. Angles are averaged as seen from the set's
    first client by name. All clients count the same.
    """

    f: Annotated[int, Field(ge=0)] = 1

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty state: the rule remembers nothing."""
        return {}

    def admit(self, n: int) -> None:
        """Raise `ConfigurationError` unless n >= 2f + 1."""
        require(self, n, self.f, 2 * self.f + 1, "n >= 2f + 1")

    def __call__(
        self,
        state: Params,
        params: Params,
        updates: Updates,
        specs: Specs,
        context: Context,  # noqa: ARG002
    ) -> tuple[Params, Params, Info]:
        """Return the new parameters, the clients "chosen" and the set's "diameter"; refuses n < 2f + 1."""
        n = len(updates.clients)
        self.admit(n)
        by_name = sorted(range(n), key=lambda i: updates.clients[i])
        distances = update_distances(updates.delta, specs).sqrt()[by_name][:, by_name]
        places = smallest_set(distances, n - self.f)
        chosen = [by_name[i] for i in places]
        weights = torch.zeros(n, dtype=torch.float64)
        weights[chosen] = 1 / len(chosen)
        step = average(updates.delta, weights, specs, near=chosen[0])
        info = {
            "chosen": [updates.clients[i] for i in chosen],
            "diameter": float(distances[places][:, places].nan_to_num(posinf=0).max()),
        }
        return added(params, step, specs), state, info


def smallest_set(distances: Tensor, count: int) -> list[int]:
    """Return `count` points of the smallest diameter, in ascending order; distances: (n, n), zero diagonal."""
    n = len(distances)
    lengths = sorted(set(distances.flatten().tolist()))
    low, high = 0, len(lengths) - 1
    while low < high:
        middle = (low + high) // 2
        if _cover(_neighbours(distances, lengths[middle]), n - count) is None:
            low = middle + 1
        else:
            high = middle
    left = set(range(n)) - (_cover(_neighbours(distances, lengths[low]), n - count) or set())
    while len(left) > count:
        rest = sorted(left)
        left.remove(rest[int(distances[rest][:, rest].sum(1).argmax())])
    return sorted(left)


def _neighbours(distances: Tensor, length: float) -> dict[int, set[int]]:
    """Return the points that each point is further than `length` from."""
    return {i: set(row.nonzero().flatten().tolist()) for i, row in enumerate(distances > length)}


def _cover(edges: dict[int, set[int]], most: int) -> set[int] | None:
    """Return at most `most` points that touch every edge, or None if there are no such points.

    Either the point of most edges is among them, or all its neighbours are.
    """
    busiest = max(edges, key=lambda i: len(edges[i]))
    degree = len(edges[busiest])
    if degree == 0:
        return set()
    if sum(len(others) for others in edges.values()) > 2 * most * degree:
        return None
    for removed in ({busiest}, edges[busiest]):
        if len(removed) <= most:
            rest = {i: others - removed for i, others in edges.items() if i not in removed}
            found = _cover(rest, most - len(removed)) if rest else set()
            if found is not None:
                return removed | found
    return None
