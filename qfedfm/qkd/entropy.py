"""Entropies that key rates are made of, and the limit that none of them passes."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigurationError

Real = NDArray[np.float64]


def binary_entropy(p: ArrayLike) -> Real:
    """Return h(p) = -p log2 p - (1 - p) log2(1 - p) in bits, elementwise, with h(0) = h(1) = 0.

    p: probabilities, any shape; anything outside [0, 1], NaN too, raises `ConfigurationError`.
    """
    p = np.asarray(p, dtype=float)
    if not np.all((p >= 0) & (p <= 1)):
        raise ConfigurationError(f"binary entropy is of probabilities between 0 and 1; got {p}")
    return shannon_entropy(np.stack([p, 1 - p]))


def shannon_entropy(weights: ArrayLike) -> Real:
    """Return -sum w log2 w over the first axis in bits, with 0 log 0 = 0; weights: not negative, summing to 1 there."""
    w = np.asarray(weights, dtype=float)
    return np.asarray(-np.sum(w * np.log2(np.where(w > 0, w, 1.0)), axis=0))


def plob(transmittance: ArrayLike) -> Real:
    """Return -log2(1 - eta), the secret bits that a lossy channel carries at most each use, whatever the protocol.

    The repeaterless bound of Pirandola, Laurenza, Ottaviani and Banchi 2017 (doi:10.1038/ncomms15043); infinite at 1.
    """
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log1p(-np.asarray(transmittance, dtype=float)) / np.log(2))
