"""Reverse auctions: clients bid what taking part costs them, the server hires and pays.

Two mechanisms in which nobody gains by bidding anything but the true cost, and nobody who does is paid less than it:

- `vcg` (Vickrey 1961, Clarke 1971, Groves 1973) hires the subset of greatest welfare and pays each winner its bid plus
  what it adds to the welfare of all. Truthfulness needs the exact optimum: with a heuristic in its place it is lost.
  It knows no budget.
- `budgeted` (Singer 2010, doi:10.1109/FOCS.2010.78) hires greedily by value per cost while each can be paid in
  proportion to its value, and pays critical values: the highest bid with which a winner would still win.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from ..errors import ConfigurationError
from .game import Floats
from .winner_determination import Chosen, Market, optimum


@dataclass(frozen=True)
class Award:
    """Who is hired and what is paid. winners: (n,) bool. payments: (n,), zero for losers, in the bids' currency."""

    winners: Chosen
    payments: Floats

    def utility(self, costs: Floats) -> Floats:
        """Return what each client is left with, (n,): its payment less its true cost if it is hired."""
        return np.where(self.winners, self.payments - costs, 0.0)


def vcg(market: Market, bids: Floats) -> Award:
    """Return the award with payments p_i = b_i + W(b) - W(b without i), W being the greatest welfare.

    bids: (n,), none negative. One optimum for all and one more for each winner.
    """
    _check(bids, len(market.values))
    winners, welfare = optimum(market, bids)
    payments = np.zeros(len(bids))
    for i in np.flatnonzero(winners):
        payments[i] = bids[i] + welfare - optimum(market, bids, barred=int(i))[1]
    return Award(winners, payments)


def budgeted(values: Floats, bids: Floats, budget: float) -> Award:
    """Return the award of the proportional-share greedy mechanism; payments never exceed `budget` in sum.

    values: (n,) positive, what each client is worth to the server; the worth of several is the sum. In order of rising
    bid per value, the first k are hired, k being the largest for which b_k / v_k <= budget / (v_1 + ... + v_k). A
    winner is paid v_i min(budget / V_k, b_{k+1} / v_{k+1}), which is its critical value: with a higher bid it would
    come after k + 1, who did not win, or be the first who cannot be paid. Departure from Singer: no coin is tossed
    between this and the single most valuable client, so the bound on the approximation needs clients that are small
    beside the budget; compare with `affordable`.
    """
    _check(bids, len(values))
    if not (np.isfinite(values).all() and (values > 0).all() and budget > 0):
        raise ConfigurationError(f"a budgeted auction needs positive values and a positive budget; got {budget}")
    order = np.argsort(bids / values, kind="stable")
    density = (bids / values)[order]
    share = budget / np.cumsum(values[order])
    count = int(np.logical_and.accumulate(density <= share).sum())
    winners, payments = np.zeros(len(bids), dtype=np.bool_), np.zeros(len(bids))
    if count:
        hired = order[:count]
        winners[hired] = True
        payments[hired] = values[hired] * min(share[count - 1], np.append(density, np.inf)[count])
    return Award(winners, payments)


def affordable(values: Floats, costs: Floats, budget: float) -> float:
    """Return the greatest value that the budget buys from clients whose costs are known: the exact knapsack optimum.

    What a mechanism that must not be lied to gives up is the difference to this.
    """
    _check(costs, len(values))
    found = milp(
        -values,
        integrality=np.ones(len(values), dtype=np.int64),
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(costs[None], ub=budget),
        options={"mip_rel_gap": 0},
    )
    if found.x is None or found.status != 0:
        raise ConfigurationError(f"the best subset for the budget was not found: {found.message}")
    return float(values @ np.round(found.x))


def _check(bids: Floats, count: int) -> None:
    if bids.shape != (count,) or not np.isfinite(bids).all() or (bids < 0).any():
        raise ConfigurationError(f"expected {count} finite bids, none negative; got {bids.tolist()!r:.200}")
