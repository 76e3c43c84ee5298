"""How evenly a model serves its clients: the spread of a metric over them, and those that it serves worst.

The measures of Li et al. 2020, arXiv:1905.10497: a solution is fairer than another if its metric is more uniform over
clients. Each client counts as one, however many rows it has.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ConfigurationError


@dataclass(frozen=True)
class Fairness:
    """Of a metric over clients, in its unit.

    mean: over clients. spread: standard deviation over clients (that of all of them, not of a sample). worst_decile,
    best_decile: mean of the tenth of the clients, rounded up, that are served worst and best. worst: the worst client.
    """

    mean: float
    spread: float
    worst_decile: float
    best_decile: float
    worst: float


def fairness(values: ArrayLike, higher_is_better: bool = True) -> Fairness:
    """Return how evenly clients are served; values: (clients,), one metric of each."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise ConfigurationError(f"fairness needs one finite value for each of one or more clients; got {array!r:.200}")
    ranked = np.sort(array) if higher_is_better else np.sort(array)[::-1]
    tenth = math.ceil(len(ranked) / 10)
    worst, best = float(ranked[:tenth].mean()), float(ranked[-tenth:].mean())
    return Fairness(float(array.mean()), float(array.std()), worst, best, float(ranked[0]))
