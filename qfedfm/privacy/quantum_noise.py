"""What quantum noise is worth as differential privacy: little, or nothing.

Depolarising noise of strength p keeps any two states of dimension d within a ratio of outcome probabilities, so that
every shot has a worst-case eps (Zhou and Ying 2017, doi:10.1109/CSF.2017.23). It is an honest bound and a poor
mechanism: the eps of a single shot at p = .05 is 3.66, shots compose, and a thousand of them lose 3664. Shot noise has
no worst-case eps at all: an outcome that cannot happen for one input and can for another tells them apart for certain,
however rarely it is seen. Neither is offered as privacy here, and no hardware promises its noise. These functions are
there to say so in numbers.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ConfigurationError


def depolarising_epsilon(p: float, dimension: int = 2, distance: float = 1.0, shots: int = 1) -> float:
    """Return the worst-case eps = shots ln(1 + (1 - p) d D / p), in nats; infinite at p = 0.

    p: the state is replaced by the fully mixed one with this probability, in [0, 1]. dimension: d, 2^n for n qubits.
    distance: D, the trace distance between states of neighbouring inputs, in [0, 1]; 1 is the worst case. shots: copies
    of the state that are measured; pure (eps, 0) losses add up.
    """
    if not 0 <= p <= 1 or dimension < 2 or not 0 <= distance <= 1 or shots < 0:
        raise ConfigurationError(
            "depolarising noise: expected p and distance in [0, 1], a dimension of at least 2 and shots of at least 0; "
            f"got p {p}, distance {distance}, dimension {dimension}, shots {shots}"
        )
    if p == 0:
        return math.inf if distance and shots else 0.0
    return shots * math.log1p((1 - p) * dimension * distance / p)


def shot_noise_epsilon(first: ArrayLike, second: ArrayLike, shots: int = 1) -> float:
    """Return shots max_k |ln(first_k / second_k)|, the eps of seeing outcomes of one distribution or the other.

    first, second: probabilities of the outcomes for two inputs, (outcomes,). Infinite as soon as an outcome is possible
    for one of them alone. That is one pair of inputs; the worst case over all inputs of an angle encoding is infinite,
    since its outcome probabilities reach zero.
    """
    p, q = (np.asarray(values, dtype=np.float64) for values in (first, second))
    for values in (p, q):
        if values.shape != p.shape or values.ndim != 1 or (values < 0).any() or abs(values.sum() - 1) > 1e-9:
            raise ConfigurationError(
                "shot noise: expected two lists of probabilities of the same outcomes, summing to one"
            )
    possible = (p > 0) | (q > 0)
    if ((p > 0) != (q > 0)).any():
        return math.inf if shots else 0.0
    return shots * float(np.abs(np.log(p[possible] / q[possible])).max())
