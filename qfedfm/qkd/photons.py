"""How many photons a source puts into a pulse."""

import numpy as np
from scipy.stats import poisson

from .link import PulsedSource, Real, SinglePhotons

NEGLIGIBLE = 1e-18


def most_photons(source: PulsedSource | SinglePhotons) -> int:
    """Return N such that more than N photons in a pulse have a probability below 1e-18; at least 2."""
    if isinstance(source, SinglePhotons):
        return 2
    signal = source.intensities[0]
    tried = np.arange(2, int(signal + 12 * signal**0.5) + 40)
    return int(tried[np.argmax(poisson.sf(tried, signal) < NEGLIGIBLE)])


def photon_numbers(source: PulsedSource | SinglePhotons, most: int) -> Real:
    """Return P(n photons | intensity): (K, most+1), rows of sum 1; Poisson, or one photon (K = 1)."""
    n = np.arange(most + 1)
    if isinstance(source, SinglePhotons):
        return np.asarray(n == 1, dtype=float)[None, :]
    chances = np.asarray(poisson.pmf(n, np.asarray(source.intensities)[:, None]))
    return np.asarray(chances / chances.sum(1, keepdims=True))


def pulse_probabilities(source: PulsedSource | SinglePhotons) -> Real:
    """Return the probability of each intensity: (K,), sum 1."""
    chances = np.ones(1) if isinstance(source, SinglePhotons) else np.asarray(source.probabilities)
    return np.asarray(chances / chances.sum())
