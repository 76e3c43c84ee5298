"""Shots for the points of a gradient: the same total for each row of data, spread unevenly.

The derivative is sum_s w_s f_s; the estimate of f_s from n_s shots has the variance sigma_s^2 / n_s, sigma_s^2 being
that of one shot, summed over observables. For a given total, the sum of variances is least for n_s in proportion to
|w_s| sigma_s (Rubin et al. 2018, arXiv:1801.03524). w_s: the norm of a point's weights over all derivatives.

- by coefficient: n_s in proportion to |w_s|. Two-term rules have equal weights; four-term rules do not.
- by variance: to |w_s| sigma_s, sigma from the round's steps before, so that it knows nothing of the shots it decides
  on and the estimate stays unbiased. The first step of a round goes by coefficient.
- weighted random: n_s multinomial with p_s in proportion to |w_s|, f_s weighing w_s n_s / E n_s. Unbiased however few
  shots there are, since a point may go without (Arrasmith et al. 2020, "Rosalin", arXiv:2004.06252). There, the terms
  that are sampled are those of the observable; here they are the points of the shift rule, and words of an observable
  that are read in different settings get the same shots.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError
from .contract import Array

Allocation = Literal["uniform", "coefficient", "variance", "weighted_random"]


@dataclass(frozen=True)
class Allotted:
    """shots: (N, S) of each point, 0 where it is not run. factors: (N, S) by which its weights are multiplied."""

    shots: NDArray[np.int64]
    factors: Array


def allot(
    rule: Allocation, weights: Array, shots: int, rows: int, spread: Array | None, generator: np.random.Generator
) -> Allotted:
    """Return how `shots` times S shots are spread over the S points of each of N rows.

    weights: (N or 1, slots, S) as in `Points`. spread: sigma (N, S), None where nothing is known yet. Raises
    `BackendError` where every point needs a shot and there are not enough.
    """
    share = np.linalg.norm(weights, axis=1)
    if rule == "variance" and spread is not None:
        share = share * spread
    share = np.broadcast_to(share / share.sum(axis=1, keepdims=True), (rows, weights.shape[2]))
    total = shots * share.shape[1]
    if rule == "weighted_random":
        drawn = generator.multinomial(total, share)
        return Allotted(drawn, drawn / (total * share))
    if total < share.shape[1]:
        raise BackendError(f"{share.shape[1]} points need a shot each; got {total}")
    return Allotted(_rounded(share, total), np.ones(share.shape))


def single_shot_spread(variances: Array, shots: NDArray[np.int64]) -> Array:
    """Return sigma (N,) from variances of estimates (N, K) and the shots behind each (N,).

    One imagined shot of variance 1 for each observable is added, so that a point whose few outcomes were all the same
    is not taken for certain.
    """
    found = variances * shots[:, None] ** 2
    return np.asarray(np.sqrt(((found + 1) / (shots[:, None] + 1)).sum(axis=1)))


def _rounded(share: Array, total: int) -> NDArray[np.int64]:
    """Return whole numbers of at least 1 near `share` (N, S) of a total, that sum to it: largest remainders first."""
    wanted = 1 + share * (total - share.shape[1])
    counts = np.floor(wanted).astype(np.int64)
    missing = total - counts.sum(axis=1, keepdims=True)
    order = np.argsort(np.argsort(counts - wanted, axis=1, kind="stable"), axis=1, kind="stable")
    return np.asarray(counts + (order < missing))
