"""Contract menus: offers from which clients of hidden type choose what is meant for them.

Clients differ in what a row costs them, which only they know; the server knows how common each type is. It offers pairs
(rows, reward) that maximise its expected profit sum_k p_k (g(q_k) - R_k), g(q) = worth ln(1 + q / scale), such that
nobody loses by taking part (IR: R_k >= c_k q_k) and nobody gains by another's offer (IC: R_k - c_k q_k >= R_j - c_k q_j
for all j).
At the optimum (Mussa and Rosen 1978, doi:10.1016/0022-0531(78)90085-6; for federated learning Kang et al. 2019,
doi:10.1109/JIOT.2019.2940820) the dearest type gets its cost and each cheaper type just enough not to pose as the next
dearer one. Where a row's cost with the rents that this leaves (see `menu`) does not fall from type to type, neighbours
are pooled (ironing, Myerson 1981, doi:10.1287/moor.6.1.58).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from ..errors import ConfigurationError
from .game import Floats


@dataclass(frozen=True)
class Menu:
    """Offers, from the dearest type to the cheapest: rows (k,) and reward (k,). profit: the server's, expected."""

    rows: Floats
    rewards: Floats
    profit: float

    def gains(self, cost: float) -> Floats:
        """Return what a client whose rows cost `cost` each gains by each offer, (k,)."""
        return np.asarray(self.rewards - cost * self.rows)

    def choose(self, cost: float) -> int | None:
        """Return the offer that is best for a client, the largest of equals, or None where every one is a loss.

        Gains within rounding (1e-9 of the largest reward) count as equal, and as no loss.
        """
        gains, slack = self.gains(cost), 1e-9 * max(1.0, float(self.rewards.max()))
        best = np.flatnonzero(gains >= gains.max() - slack)[-1]
        return int(best) if gains[best] >= -slack else None


def menu(costs: Floats, shares: Floats, worth: float, scale: float, most: float) -> Menu:
    """Return the menu of greatest expected profit.

    costs: (k,) of one row for each type, falling. shares: (k,) of the clients that are of each type, summing to one.
    worth, scale: of g(q) = worth ln(1 + q / scale), what q rows of one client are worth. most: rows an offer may ask.

    With rewards R_1 = c_1 q_1 and R_k = R_{k-1} + c_k (q_k - q_{k-1}), a row of type k costs, with the rents it leaves
    to all cheaper types, c_k + (c_k - c_{k+1}) (p_{k+1} + ... + p_K) / p_k; q_k is where g' meets that.
    """
    falling = (np.diff(costs) < 0).all() and (costs > 0).all()
    if costs.shape != shares.shape or not falling or not (shares > 0).all() or not np.isclose(shares.sum(), 1):
        raise ConfigurationError(
            "a menu needs positive costs from the dearest type to the cheapest and as many positive shares that sum to "
            f"one; got costs {costs.tolist()} and shares {shares.tolist()}"
        )
    if not min(worth, scale, most) > 0:
        raise ConfigurationError(f"worth, scale and most should be positive; got {worth}, {scale}, {most}")
    cheaper = np.append(np.cumsum(shares[::-1])[::-1][1:], 0.0)
    virtual = costs + (costs - np.append(costs[1:], 0.0)) * cheaper / shares
    ironed = isotonic_regression(virtual, weights=shares, increasing=False).x
    rows = np.clip(worth / ironed - scale, 0.0, most)
    rewards = np.cumsum(costs * np.diff(rows, prepend=0.0))
    profit = float(shares @ (worth * np.log1p(rows / scale) - rewards))
    return Menu(rows, rewards, profit)
