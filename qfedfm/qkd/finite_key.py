"""The length of a finite key from the counts of a session: Lim et al. 2014, doi:10.1103/PhysRevA.89.022307.

l = floor(s0 + s1 [1 - h(phi)] - leak - 6 log2(21 / eps_sec) - log2(2 / eps_cor)), against general attacks, with s0 and
s1 the vacuum and single-photon clicks in the key basis and phi the single photons' phase error, bounded from what three
intensities gave in the two bases. Theory and real sessions call the same function, `finite_length`, which never raises:
counts come from a link that Eve owns, so whatever is senseless about them costs the key and is told as the reason.

Departures from the paper, each towards a shorter key. s0 and s1 are held within the clicks that were counted. Lim's
deviation `sampling_deviation` is a second-order expansion in which no errors in the test prove no phase errors, however
small the test; so the `exact_sampling` of the hypergeometric distribution is a floor under it, which shows below some
hundred errors and leaves the paper's own examples as they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, log, log2, sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from .entropy import Real, binary_entropy


@dataclass(frozen=True)
class FiniteKey:
    """A secret length in bits, and what it was computed from.

    length: 0 where nothing is secret; then `reason` says why. s0, s1: clicks in the key basis of none and of one
    photon, at least. phase_error: of the latter, at most. leaked: bits told in reconciliation. sifted: clicks in the
    key basis. surplus: the length before rounding, which may be negative, -inf of senseless counts; for optimisers.
    """

    length: int
    reason: str = ""
    s0: float = 0.0
    s1: float = 0.0
    phase_error: float = 0.5
    leaked: float = 0.0
    sifted: float = 0.0
    surplus: float = -inf


def finite_length(
    n_key: ArrayLike,
    m_key: ArrayLike,
    n_test: ArrayLike,
    m_test: ArrayLike,
    intensities: ArrayLike,
    probabilities: ArrayLike,
    leaked_bits: float,
    eps_sec: float,
    eps_cor: float,
) -> FiniteKey:
    """Return the length that is secret up to eps_sec and correct up to eps_cor; any input whatever yields some answer.

    n_key, n_test: (3,) sifted clicks of each intensity in the key and in the test basis. m_key, m_test: (3,) those that
    were errors; m_key may be left zero by a session that learns its errors from reconciliation alone, since only
    `leaked_bits` counts them. intensities: (3,) mean photon numbers, the largest first, with mu1 > mu2 + mu3 and
    mu2 > mu3. probabilities: (3,) with which they were chosen. leaked_bits: all that reconciliation told, verification
    tags of eps_cor not included: they are the log2(2 / eps_cor) here.
    """
    try:
        counts = np.array([n_key, m_key, n_test, m_test], dtype=float)
        mu, p = np.array(intensities, dtype=float), np.array(probabilities, dtype=float)
        leaked, eps_sec, eps_cor = float(leaked_bits), float(eps_sec), float(eps_cor)
    except (TypeError, ValueError, OverflowError):
        return FiniteKey(0, "counts, intensities and probabilities should be three numbers each")
    reason = _senseless(counts, mu, p, leaked, eps_sec, eps_cor)
    if reason:
        return FiniteKey(0, reason)
    n, _, n_z, m_z = counts
    share = eps_sec / 21
    s0, s1 = single_photon_counts(n, mu, p, share)
    _, s1_z = single_photon_counts(n_z, mu, p, share)
    phase = phase_error(single_photon_errors(m_z, mu, p, share), s1_z, s1, share)
    surplus = s0 + s1 * (1 - float(binary_entropy(phase))) - leaked - 6 * log2(21 / eps_sec) - log2(2 / eps_cor)
    length = max(0, floor(surplus))
    return FiniteKey(length, "" if length else _why(s1, s1_z, phase), s0, s1, phase, leaked, float(n.sum()), surplus)


def single_photon_counts(n: Real, mu: Real, p: Real, share: float) -> tuple[float, float]:
    """Return lower bounds (s0, s1) on the clicks of no and of one photon among n (3,), Lim's equations 2 and 3.

    share: the probability with which each deviation may be exceeded, eps_sec / 21.
    """
    low, high = _bounds(n, mu, p, share)
    tau0, tau1 = _tau(0, mu, p), _tau(1, mu, p)
    total = float(n.sum())
    s0 = tau0 * (mu[1] * low[2] - mu[2] * high[1]) / (mu[1] - mu[2])
    s0 = min(max(s0, 0.0), total)
    several = (mu[1] ** 2 - mu[2] ** 2) / mu[0] ** 2 * (high[0] - s0 / tau0)
    s1 = tau1 * mu[0] * (low[1] - high[2] - several) / (mu[0] * (mu[1] - mu[2]) - mu[1] ** 2 + mu[2] ** 2)
    return float(s0), float(min(max(s1, 0.0), total - s0))


def single_photon_errors(m: Real, mu: Real, p: Real, share: float) -> float:
    """Return an upper bound v1 on the single-photon errors among m (3,), Lim's equation 4."""
    low, high = _bounds(m, mu, p, share)
    return float(max(0.0, _tau(1, mu, p) * (high[1] - low[2]) / (mu[1] - mu[2])))


def phase_error(v1: float, s1_test: float, s1_key: float, share: float) -> float:
    """Return an upper bound on the phase error of s1_key clicks, v1 of s1_test like them being errors; at most 1/2.

    Lim's equation 5, b + gamma, but no less than exact sampling allows.
    """
    if s1_test < 1 or s1_key < 1 or v1 >= s1_test / 2:
        return 0.5
    lim = v1 / s1_test + sampling_deviation(v1 / s1_test, s1_test, s1_key, share)
    exact = exact_sampling(ceil(v1), floor(s1_test), floor(s1_key), share)
    return min(0.5, max(lim, exact))


def sampling_deviation(b: float, c: float, d: float, share: float) -> float:
    """Return gamma = sqrt((c + d) (1 - b) b / (c d ln 2) log2((c + d) / (c d (1 - b) b) / share^2)); 0 at b = 0.

    b: error rate seen among c, the like of which is asked for among d (Fung, Ma and Chau 2010,
    doi:10.1103/PhysRevA.81.012318).
    """
    if b <= 0:
        return 0.0
    spread = (c + d) / (c * d)
    return sqrt(max(0.0, spread * (1 - b) * b / log(2) * (log2(spread / ((1 - b) * b)) - 2 * log2(share))))


def exact_sampling(seen: int, test: int, key: int, share: float) -> float:
    """Return the smallest error rate of `key` that shows `seen` errors or fewer in `test` with probability <= share.

    The test is a random draw without replacement from test + key, so with k errors in the key the probability of
    exactly `seen` is hypergeometric. Below the mode it grows with the number seen, so that seen + 1 times it bounds the
    tail. Returns 1/2 where no rate below that is so improbable.
    """

    def improbable(k: int) -> bool:
        errors, total = seen + k, test + key
        if (test + 1) * (errors + 1) < (seen + 1) * (total + 2):
            return False  # the mode is below what was seen
        chance = _log_choose(errors, seen) + _log_choose(total - errors, test - seen) - _log_choose(total, test)
        return chance + log(seen + 1) <= log(share)

    low, high = 0, key // 2
    if seen >= test or not improbable(high):
        return 0.5
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if improbable(middle) else (middle, high)
    return high / key


def _bounds(n: Real, mu: Real, p: Real, share: float) -> tuple[Real, Real]:
    """Return Lim's n-_k and n+_k: the counts that an endless session would have given, by Hoeffding's inequality."""
    deviation = sqrt(float(n.sum()) / 2 * -log(share))
    return np.exp(mu) / p * (n - deviation), np.exp(mu) / p * (n + deviation)


def _tau(photons: int, mu: Real, p: Real) -> float:
    """Return the probability of a pulse of 0 or 1 photons, over all intensities."""
    return float(np.sum(p * np.exp(-mu) * mu**photons))


def _log_choose(n: int, k: int) -> float:
    return float(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))


def lim_intensities(mu: Sequence[float] | Real) -> bool:
    """Whether the bounds hold for these intensities: three, with mu1 > mu2 + mu3 and mu2 > mu3 >= 0."""
    return len(mu) == 3 and mu[0] > mu[1] + mu[2] and mu[1] > mu[2] >= 0


def _senseless(counts: Real, mu: Real, p: Real, leaked: float, eps_sec: float, eps_cor: float) -> str:
    """Return what is wrong with the input, or nothing."""
    if counts.shape != (4, 3) or mu.shape != (3,) or p.shape != (3,):
        return "counts, intensities and probabilities should be three numbers each"
    if not np.all((counts >= 0) & (counts <= 1e12)):
        return "counts should be between 0 and 1e12"
    if np.any(counts[1::2] > counts[::2]):
        return "there are more errors than clicks"
    if not (lim_intensities(mu) and mu[0] <= 10):
        return "intensities should be mu1 > mu2 + mu3 and mu2 > mu3 >= 0, and weak"
    if not (np.all((p > 1e-9) & (p < 1)) and abs(p.sum() - 1) < 1e-6):
        return "probabilities should be above zero, with sum 1"
    if not 0 <= leaked <= 1e18:
        return "leaked bits should be between 0 and 1e18"
    if not (1e-100 <= eps_sec < 1 and 1e-100 <= eps_cor < 1):
        return "eps_sec and eps_cor should be probabilities between 1e-100 and 1"
    return ""


def _why(s1: float, s1_test: float, phase: float) -> str:
    if s1 < 1 or s1_test < 1:
        return "too few clicks to prove that any were single photons"
    if phase >= 0.5:
        return "the test basis proves no phase error below 1/2"
    return "what was leaked and what security costs is more than the single photons hold"
