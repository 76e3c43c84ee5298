"""Subset selection as a QUBO: the mean of the m = n - f updates that lie closest together.

    minimise  sum_{i<j} c_ij x_i x_j  subject to  sum_i x_i = m,

one-sided c_ij = d_ij^2 / d*^2: minimum-diameter averaging (Rousseeuw 1985; El Mhamdi et al. 2018, arXiv:1802.07927)
with the sum of squared distances, which a quadratic function can hold, in place of their maximum, which it cannot; it
equals m times the dispersion about the subset's mean. Two-sided c_ij = (d_ij / d* - 1)^2: pairs that are suspiciously
near cost as much as pairs that are far, for attackers who stay close to the mean or to each other. Before either,
copies are filtered: of updates nearer than `duplicates` times d* the first one stays, since identical colluders form
the tightest subset there is. d is the geodesic distance, d* the `typical` one. The problem and its optimum are the
contribution; `qubo_solvers` holds the solvers, and the gap to the optimum is always reported.

Cost: n^2 d for distances, then the solver's. Admissible: n >= 2f + 1, the breakdown point of every selection of n - f.
It beats the mean, and Multi-Krum (which scores each client by its neighbours alone), against inner-product attackers
that lie further out than one honest deviation; it does not against attackers that are nearer to the honest mean than
honest clients are (one-sided; two-sided does), and without attackers it throws f honest clients away.
"""

from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Params, Specs
from .admissible import require
from .geometry import added, average, update_distances
from .qubo_solvers import EXACT_LIMIT, ExactSolver, Floats, Solver, lower_bound, subset_cost
from .updates import Context, Info, Updates

FARTHEST = 1e3
"""Typical distances beyond which a pair is no farther: an attacker at infinity must not cost the rest its digits."""


@declared
class QuboSubset:
    """params + the mean of the subset that the QUBO chooses, all alike: rows are a client's own word.

    Angles are averaged as seen from the first of them.

    f: how many clients may be hostile. two_sided: as above. duplicates: two updates nearer than this share of the
    typical distance are copies; 0 filters identical ones only. solver: `ExactSolver` up to 16 clients,
    `SimulatedAnnealing`, `Qaoa`.
    """

    f: Annotated[int, Field(ge=0)] = 1
    two_sided: bool = False
    duplicates: float = 0.1
    solver: Solver = ExactSolver()

    def __post_init__(self) -> None:
        if not 0 <= self.duplicates < 1:
            raise ConfigurationError(f"QuboSubset.duplicates: expected a share in [0, 1); got {self.duplicates}")

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty state."""
        return {}

    def admit(self, n: int) -> None:
        """Raise `ConfigurationError` unless n >= 2f + 1."""
        require(self, n, self.f, 2 * self.f + 1, "n >= 2f + 1")

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        """Return the mean of the chosen; info as in `choose`, with the names of `chosen` clients and of `copies`.

        Raises `ConfigurationError` unless n >= 2f + 1, or where the solver cannot take n clients.
        """
        n = len(updates.rows)
        self.admit(n)
        distances = update_distances(updates.delta, specs).sqrt().numpy()
        kept = originals(distances, self.duplicates)
        chosen, info = choose(distances[np.ix_(kept, kept)], self.f, self.two_sided, self.solver, context.generator)
        members = kept[chosen]
        weights = torch.zeros(n, dtype=torch.float64)
        weights[members] = 1 / len(members)
        step = average(updates.delta, weights, specs, near=int(members[0]))
        info["chosen"] = [updates.clients[i] for i in members]
        info["copies"] = [name for i, name in enumerate(updates.clients) if i not in kept]
        return added(params, step, specs), state, info


def typical(distances: Floats) -> float:
    """Return the median over clients of the median distance to the others, finite if a majority is."""
    n = len(distances)
    return float(np.sort(np.sort(distances, axis=1)[:, n // 2])[(n - 1) // 2])


def originals(distances: Floats, share: float) -> np.ndarray:
    """Return the updates that are no copy of an earlier one, sorted; distances: (n, n), not squared."""
    near = share * typical(distances)
    kept: list[int] = []
    for i in range(len(distances)):
        if not any(distances[i, j] <= near for j in kept):
            kept.append(i)
    return np.array(kept)


def choose(
    distances: Floats, f: int, two_sided: bool, solver: Solver, generator: np.random.Generator
) -> tuple[np.ndarray, Info]:
    """Return the chosen of n different updates, sorted, and how good the choice is.

    m = max(n - f, the smallest majority of n). info: `energy` and `reference` in units of d*^2,
    `gap` between them, `exact` (whether the reference is the optimum, n <= 16, or a lower bound), `diameter`.
    """
    n = len(distances)
    if n == 1:
        return np.arange(1), {"energy": 0.0, "reference": 0.0, "gap": 0.0, "exact": True, "diameter": 0.0}
    m = max(n - f, n // 2 + 1)
    scaled = np.minimum(distances / typical(distances), FARTHEST)
    costs = (scaled - 1) ** 2 if two_sided else scaled**2
    np.fill_diagonal(costs, 0)
    chosen = solver.solve(costs, m, generator)
    energy = subset_cost(costs, chosen)
    exact = n <= EXACT_LIMIT
    reference = subset_cost(costs, ExactSolver().solve(costs, m, generator)) if exact else lower_bound(costs, m)
    return chosen, {
        "energy": energy,
        "reference": reference,
        "gap": max(0.0, energy - reference),
        "exact": exact,
        "diameter": float(distances[np.ix_(chosen, chosen)].max()),
    }
