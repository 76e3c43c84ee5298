"""Which clients to hire: the subset of greatest welfare, exactly, and as a QUBO for other solvers.

    welfare(S) = sum_{i in S} (value_i - bid_i) - sum_{i < j in S} overlap_ij,    |S| <= most

A client's value is what its rows are worth alone, overlap what two clients' rows have in common and is paid for once.
The optimum is found by enumeration up to `ENUMERATED` clients and beyond by branch and cut (HiGHS through SciPy, each
pair's product linearised). `qubo` gives the same problem without constraint, for annealers and QAOA; `solve_qubo` puts
what they find beside the optimum, which is the contribution and not the solver.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from ..errors import ConfigurationError
from .game import Floats, all_coalitions

ENUMERATED = 16
Chosen = NDArray[np.bool_]


@dataclass(frozen=True)
class Market:
    """What hiring is worth to the server.

    values: (n,), each client alone. most: how many may be hired. overlap: (n, n), symmetric, no entry negative, zero on
    the diagonal; None for no overlap. Values and bids are in one currency.
    """

    values: Floats
    most: int
    overlap: Floats | None = None

    def __post_init__(self) -> None:
        count = len(self.values)
        if self.most < 1 or not np.isfinite(self.values).all():
            raise ConfigurationError(f"a market has finite values and hires at least one client; got most={self.most}")
        if self.overlap is not None and (
            self.overlap.shape != (count, count)
            or not np.array_equal(self.overlap, self.overlap.T)
            or not (self.overlap >= 0).all()
            or self.overlap.diagonal().any()
        ):
            raise ConfigurationError(
                f"Market.overlap: expected a symmetric ({count}, {count}) matrix without negative entries, zero on its "
                f"diagonal; got shape {self.overlap.shape}"
            )

    def welfare(self, chosen: Chosen, bids: Floats) -> Floats:
        """Return the welfare of subsets (G, n) at these bids, (G,)."""
        parts = chosen.astype(np.float64)
        together = 0.0 if self.overlap is None else ((parts @ self.overlap) * parts).sum(1) / 2
        return np.asarray(parts @ (self.values - bids) - together)


def optimum(market: Market, bids: Floats, barred: int | None = None) -> tuple[Chosen, float]:
    """Return the clients (n,) whom it is best to hire at these bids, and the welfare; barred: one not to be hired."""
    if len(market.values) > ENUMERATED:
        chosen = _branch_and_cut(market, bids, barred)
        return chosen, float(market.welfare(chosen[None], bids)[0])
    every = all_coalitions(len(market.values))
    allowed = every.sum(1) <= market.most
    if barred is not None:
        allowed &= ~every[:, barred]
    welfare = np.where(allowed, market.welfare(every, bids), -np.inf)
    best = int(welfare.argmax())
    return every[best], float(welfare[best])


def _branch_and_cut(market: Market, bids: Floats, barred: int | None) -> Chosen:
    """Return the best subset by mixed-integer programming; y_ij >= x_i + x_j - 1 stands for the product x_i x_j."""
    count = len(market.values)
    first, second = np.nonzero(np.triu(np.zeros((count, count)) if market.overlap is None else market.overlap))
    pairs = np.arange(len(first))
    cost = np.concatenate([bids - market.values, [] if market.overlap is None else market.overlap[first, second]])
    limits = np.zeros((1 + len(pairs), len(cost)))
    limits[0, :count] = 1
    limits[1 + pairs, first] = limits[1 + pairs, second] = 1
    limits[1 + pairs, count + pairs] = -1
    top = np.ones(len(cost))
    if barred is not None:
        top[barred] = 0
    found = milp(
        cost,
        integrality=(np.arange(len(cost)) < count).astype(np.int64),
        bounds=Bounds(np.zeros(len(cost)), top),
        constraints=LinearConstraint(limits, ub=np.concatenate([[market.most], np.ones(len(pairs))])),
        options={"mip_rel_gap": 0},
    )
    if found.x is None or found.status != 0:
        raise ConfigurationError(f"the best subset of {count} clients was not found: {found.message}")
    return np.asarray(found.x[:count] > 0.5)


@dataclass(frozen=True)
class Qubo:
    """Minimise x Q x + offset over bits x (m,): the first `clients` say who is hired, the rest count to the limit.

    matrix: (m, m), upper triangular. At every x that keeps the limit with fitting slack, the energy is minus welfare.
    """

    matrix: Floats
    offset: float
    clients: int

    def energy(self, bits: NDArray[np.bool_]) -> Floats:
        """Return the energy of assignments (G, m), (G,)."""
        x = bits.astype(np.float64)
        return np.asarray(((x @ self.matrix) * x).sum(1) + self.offset)


def qubo(market: Market, bids: Floats) -> Qubo:
    """Return the QUBO whose minimum is minus the greatest welfare.

    The limit becomes penalty (sum x + sum_k c_k s_k - most)^2 with slack bits s whose c_k reach every sum from 0 to
    `most`; the penalty exceeds all that can be gained, so breaking the limit never pays.
    """
    count = len(market.values)
    most = min(market.most, count)
    gains = market.values - bids
    powers = [2**k for k in range(most.bit_length() - 1)]
    weights = np.concatenate([np.ones(count), powers, [most - sum(powers)]])
    penalty = 1 + gains[gains > 0].sum()
    matrix = penalty * np.triu(2 * np.outer(weights, weights), 1)
    matrix += np.diag(penalty * (weights**2 - 2 * most * weights))
    matrix[:count, :count] -= np.diag(gains)
    if market.overlap is not None:
        matrix[:count, :count] += np.triu(market.overlap)
    return Qubo(matrix, float(penalty * most**2), count)


@dataclass(frozen=True)
class Hiring:
    """What a QUBO solver found, beside the best there is.

    chosen: (n,). feasible: whether it keeps the limit. gap: greatest welfare minus that of `chosen`, never negative for
    a feasible choice.
    """

    chosen: Chosen
    welfare: float
    best: Chosen
    greatest: float
    feasible: bool

    @property
    def gap(self) -> float:
        """What choosing so costs."""
        return self.greatest - self.welfare


def solve_qubo(market: Market, bids: Floats, solver: Callable[[Floats], NDArray[np.bool_]]) -> Hiring:
    """Return what `solver` makes of the QUBO's matrix (m, m), beside the exact optimum."""
    problem = qubo(market, bids)
    bits = np.asarray(solver(problem.matrix), dtype=np.bool_)
    if bits.shape != (len(problem.matrix),):
        raise ConfigurationError(f"the solver should return {len(problem.matrix)} bits; got shape {bits.shape}")
    chosen = bits[: problem.clients]
    best, greatest = optimum(market, bids)
    feasible = int(chosen.sum()) <= market.most
    return Hiring(chosen, float(market.welfare(chosen[None], bids)[0]), best, greatest, feasible)
