"""Sums of updates as phases of GHZ states, simulated with noise: the server learns a cluster's sum and no summand.

m clients share (|0..0> + |1..1>)/sqrt2. Each turns its own qubit by phi_i; all X parities measured, the even one has
P = (1 + V cos sum_i phi_i) / 2 with visibility V = v^m, v what noise leaves for each qubit. With a quarter turn added,
P = (1 + V sin sum_i phi_i) / 2 is steepest at 0, and N states give the sum to 1/(V sqrt N) radians.
Quantum secure aggregation (Zhang et al. 2022, arXiv:2207.07444) with clusters of clients (arXiv:2602.22269), because
the cost 1/(V delta)^2 grows exponentially with m: 15 thousand states for .01 rad and 4 clients at v = .95, 266 thousand
for 32, for each parameter.

Simulated: the updates are at hand, and outcomes are drawn from the formula (a test evolves the circuit). Noise that is
not a loss of visibility is left out, a dishonest source or server too: privacy holds only for an honestly prepared
state, and a cluster of one has none. Cost: shots x clusters x d states, O(n d) arithmetic. It never beats the mean in
accuracy among honest clients; since a phase is bounded, one client that scales its update moves the sum by its share of
`limit` and no more, where it moves a mean without bound. (In the simulation the server clips; a client that turns its
qubit further is outside it.)
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Params, Specs, wrap
from .geometry import added
from .updates import Context, Info, Updates

Floats = NDArray[np.float64]


@declared
class GhzMean:
    """Weighted mean by training rows, each entry read from the phase of GHZ states.

    shots: states for each entry and cluster. visibility: v, left by noise of one qubit, in (0, 1]. clusters: how many
    random groups of clients, fewer being more private and costlier. limit: the largest |delta| that a client encodes;
    larger ones are clipped to it.
    """

    shots: int = 10_000
    visibility: float = 0.95
    clusters: int = 1
    limit: float = 0.5

    def __post_init__(self) -> None:
        wrong = [
            f"GhzMean.{name}: expected one or more; got {value}"
            for name, value in (("shots", self.shots), ("clusters", self.clusters))
            if value < 1
        ]
        if not 0 < self.visibility <= 1:
            wrong.append(f"GhzMean.visibility: expected a number in (0, 1]; got {self.visibility}")
        if not 0 < self.limit < math.inf:
            wrong.append(f"GhzMean.limit: expected a positive number; got {self.limit}")
        if wrong:
            raise ConfigurationError(wrong)

    def init(self, specs: Specs) -> Params:  # noqa: ARG002
        """Return the empty state."""
        return {}

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        """Return the mean as measured; info: `states` prepared, `smallest_cluster`, `clipped` share of entries.

        Raises `ConfigurationError` for more clusters than clients.
        """
        n, weights = len(updates.rows), updates.weights
        if self.clusters > n:
            raise ConfigurationError(f"GhzMean.clusters: {n} clients make at most {n} clusters; got {self.clusters}")
        groups = [torch.from_numpy(part) for part in np.array_split(context.generator.permutation(n), self.clusters)]
        steps, entries, clipped = {}, 0, 0
        for spec in specs:
            delta = updates.delta[spec.name].double()
            delta = delta if spec.period is None else wrap(delta, spec.period)
            bounded = delta.clamp(-self.limit, self.limit) / self.limit
            clipped += int((delta.abs() > self.limit).sum())
            total = torch.zeros(spec.shape, dtype=torch.float64)
            for group in groups:
                share = weights[group].sum()
                phases = math.pi / 2 * torch.tensordot(weights[group] / share, bounded[group], dims=1)
                total += share * self._measured(phases.numpy(), len(group), context.generator)
            steps[spec.name] = self.limit * total
            entries += spec.size
        info = {
            "states": self.shots * self.clusters * entries,
            "smallest_cluster": min(len(group) for group in groups),
            "clipped": clipped / (n * entries),
        }
        return added(params, steps, specs), state, info

    def _measured(self, phases: Floats, clients: int, generator: np.random.Generator) -> torch.Tensor:
        """Return sums of phases in [-pi/2, pi/2] as measured, in units of pi/2."""
        contrast = self.visibility**clients
        even = generator.binomial(self.shots, even_parity(phases - math.pi / 2, clients, self.visibility))
        sine = np.clip((2 * even / self.shots - 1) / contrast, -1, 1)
        return torch.from_numpy(np.asarray(2 / math.pi * np.arcsin(sine)))


def even_parity(phase_sum: Floats, clients: int, visibility: float) -> Floats:
    """Return P = (1 + v^clients cos(sum phi)) / 2, the probability that the X outcomes have even parity."""
    probability: Floats = (1 + visibility**clients * np.cos(phase_sum)) / 2
    return probability


def states_needed(precision: float, clients: int, visibility: float, clusters: int = 1) -> float:
    """Return how many GHZ states an entry needs for a standard error of `precision` radians at phase zero.

    precision: of the mean over clusters of their phase sums, each scaled to the range of one cluster: pi/2 is `limit`.
    clusters: sizes as equal as possible, all with as many states; one gives 1/(v^n precision)^2, k equal ones
    1/(v^(n/k) precision)^2 in all. With phases that are not scaled up in smaller clusters it is k^2 times as much.
    """
    if not 1 <= clusters <= clients:
        raise ConfigurationError(f"{clients} clients make 1 to {clients} clusters; got {clusters}")
    sizes = [len(part) for part in np.array_split(np.arange(clients), clusters)]
    variance = sum((size / clients) ** 2 / visibility ** (2 * size) for size in sizes)
    return clusters * variance / precision**2
