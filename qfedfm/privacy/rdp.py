"""Renyi accounting of the Gaussian mechanism on a Poisson sample, and what it means as (eps, delta).

A mechanism is (alpha, rho)-RDP if the Renyi divergence of order alpha between its outputs on neighbouring data is at
most rho; rho adds up over mechanisms, however each was chosen after seeing the last (Mironov 2017, arXiv:1702.07476).
Here it is a sum of vectors no longer than C, of which each takes part with probability q on its own, plus Gaussian
noise of standard deviation sigma C (Mironov, Talwar and Zhang 2019, arXiv:1908.10530). Neighbours differ in that one
vector is there or is not. Samples of a fixed size, and batches cut from a permutation, are not Poisson samples: for
those only q = 1 is right, once for every time that a vector is used.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, log_ndtr, logsumexp

from ..errors import ConfigurationError

ORDERS = (*(1 + tenth / 10 for tenth in range(1, 100)), *range(12, 64), 80, 96, 128, 192, 256, 384, 512, 1024)
"""Orders alpha at which losses are added up: tenths, where most minima lie, and large ones for small eps."""
TERMS = 512  # of the series for a fractional order; what is left out is bounded and added


@dataclass(frozen=True)
class Spent:
    """A privacy loss: (eps, delta), eps in nats, and the order alpha that gave the smallest eps."""

    eps: float
    delta: float
    order: float


def subsampled_gaussian(q: float, sigma: float, orders: Sequence[float] = ORDERS) -> NDArray[np.float64]:
    """Return rho at each order, (orders,), for one use of the mechanism; infinite at sigma 0.

    q: probability with which each vector takes part, in [0, 1]. sigma: noise over C. For q = 1, rho = alpha /
    (2 sigma^2). Raises `ConfigurationError` for a q, sigma or order outside its range.
    """
    if not 0 <= q <= 1 or not 0 <= sigma < math.inf or not all(1 < order < math.inf for order in orders):
        raise ConfigurationError(
            f"Renyi accounting: expected q in [0, 1], sigma of at least 0 and orders above 1; got q {q}, sigma "
            f"{sigma}, orders {min(orders)} to {max(orders)}"
        )
    alphas = np.asarray(orders, dtype=np.float64)
    if q == 0:
        return np.zeros(len(alphas))
    if sigma == 0:
        return np.full(len(alphas), math.inf)
    if q == 1:
        return alphas / (2 * sigma**2)
    return np.maximum(0.0, np.array(_log_moments(q, sigma, tuple(orders))) / (alphas - 1))


def epsilon(rho: NDArray[np.float64], delta: float, orders: Sequence[float] = ORDERS) -> Spent:
    """Return the smallest eps over all orders for a loss rho (orders,) at `delta`, in (0, 1).

    eps = rho + ln((alpha - 1) / alpha) - (ln delta + ln alpha) / (alpha - 1) (Canonne, Kamath and Steinke 2020,
    arXiv:2004.00010, proposition 12), and never below zero.
    """
    if not 0 < delta < 1:
        raise ConfigurationError(f"delta is a probability between 0 and 1, such as 1e-5; got {delta}")
    alphas = np.asarray(orders, dtype=np.float64)
    each = rho + np.log1p(-1 / alphas) - (math.log(delta) + np.log(alphas)) / (alphas - 1)
    best = int(np.argmin(each))
    return Spent(max(0.0, float(each[best])), delta, float(alphas[best]))


@lru_cache(maxsize=1024)
def _log_moments(q: float, sigma: float, orders: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(_log_moment(q, sigma, float(alpha)) for alpha in orders)


def _log_moment(q: float, sigma: float, alpha: float) -> float:
    """Return ln A_alpha = ln E_{z ~ N(0, sigma^2)} [((1 - q) + q exp((2 z - 1) / (2 sigma^2)))^alpha].

    A whole alpha gives a binomial sum. Otherwise the power is expanded to either side of z0 = sigma^2 ln(1/q - 1) +
    1/2, where both terms are equal: two series with the binomials of alpha, whose terms alternate and fall beyond
    alpha, so that the first one left out bounds the rest; added, it makes the result an upper bound.
    """
    if alpha == int(alpha):
        k = np.arange(alpha + 1, dtype=np.float64)
        binomial = gammaln(alpha + 1) - gammaln(k + 1) - gammaln(alpha - k + 1)
        return float(logsumexp(binomial + _log_term(q, sigma, alpha, k)))
    k = np.arange(TERMS + math.ceil(alpha), dtype=np.float64)
    ratios = (alpha - k[:-1]) / (k[:-1] + 1)
    log_binomial = np.concatenate([[0.0], np.cumsum(np.log(np.abs(ratios)))])
    sign = np.concatenate([[1.0], np.cumprod(np.sign(ratios))])
    middle = sigma**2 * math.log(1 / q - 1) + 0.5
    left = log_binomial + _log_term(q, sigma, alpha, k) + log_ndtr((middle - k) / sigma)
    right = log_binomial + _log_term(q, sigma, alpha, alpha - k) + log_ndtr((alpha - k - middle) / sigma)
    sign[-1] = 1.0  # the bound on what is left out, never subtracted
    return float(logsumexp(np.concatenate([left, right]), b=np.concatenate([sign, sign])))


def _log_term(q: float, sigma: float, alpha: float, k: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln of (1 - q)^(alpha - k) q^k exp((k^2 - k) / (2 sigma^2))."""
    return (alpha - k) * math.log1p(-q) + k * math.log(q) + (k * k - k) / (2 * sigma**2)
