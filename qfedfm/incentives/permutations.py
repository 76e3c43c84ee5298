"""Marginal contributions along orders of arrival: what sampled Shapley values are averages of.

A player's Shapley value is its mean gain v(S + i) - v(S), S being those who came before it, over all n! orders. Many
orders are walked at once, one position at a time, and the coalitions they reach are evaluated in one call. An order
whose coalition is already within `truncation` of what all are worth is given up; those who would still come gain
nothing (Ghorbani and Zou 2019, arXiv:1904.02868).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from .game import Floats, Game

Orders = NDArray[np.int64]


def gains(game: Game, orders: Orders, truncation: float) -> Floats:
    """Return what each player gains in each order of arrival, (orders, n); orders: (orders, n) players.

    truncation: in the unit of the worth; 0 walks every order to its end, and every row then sums to v(N) - v(empty).
    """
    gained = np.zeros(orders.shape)
    present = np.zeros(orders.shape, dtype=np.bool_)
    worth = np.full(len(orders), game.empty)
    walking = np.arange(len(orders))
    for position in range(game.players):
        walking = walking[np.abs(game.whole - worth[walking]) >= truncation]
        if not len(walking):
            break
        player = orders[walking, position]
        present[walking, player] = True
        after = game(present[walking])
        gained[walking, player] = after - worth[walking]
        worth[walking] = after
    return gained


def interval(samples: Floats, confidence: float) -> tuple[Floats, Floats]:
    """Return low and high (n,) of Student's t interval for the mean of independent samples (m, n), for each player."""
    count = len(samples)
    mean, error = samples.mean(0), samples.std(0, ddof=1) / np.sqrt(count)
    reach = stdtrit(count - 1, (1 + confidence) / 2) * error
    return mean - reach, mean + reach
