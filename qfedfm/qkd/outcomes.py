"""Everything that can become of one pulse, with its probability: what the event-driven simulation draws from.

Pulses are independent until dead time and after-pulses, so one table of a few hundred rows says all: intensity, both
bases, Alice's bit, which detectors click, and, for the teacher's eye only, how many photons there were and what Eve
learned. Of r photons that leave for Bob in a state that a photon shows as the right bit with probability c, a set of
detectors stays silent with probability (1 - p_dc)^(detectors) (1 - eta c')^r, c' being the share of light that falls on
them; inclusion and exclusion give the rest. Misalignment sends a pulse as a whole to the other detector, which is the
e_det of Ma et al. 2005; in a basis that does not match, each photon goes its own way and both detectors may click.
Against `Link.gain` this differs by p_dc^2 and against `Link.error_gain` by p_dc times the signal.
"""

from dataclasses import dataclass, fields
from itertools import product
from math import cos

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError
from .eavesdroppers import ANGLES, Branch, Eavesdropper, nobody
from .link import Link, Real
from .photons import most_photons, photon_numbers, pulse_probabilities

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Outcomes:
    """The table, one row an outcome of probability above zero; arrays (rows,).

    intensity: index into the source's. alice_basis, alice_bit, bob_basis: 0 or 1. mask: detectors that click, 1 for bit
    0, 2 for bit 1, 3 both, 0 none. photons: 0, 1, or 2 for several. guess: Eve's, once the bases are announced;
    certainty: the probability that it is right, .5 where she knows nothing.
    """

    probability: Real
    intensity: Bytes
    alice_basis: Bytes
    alice_bit: Bytes
    bob_basis: Bytes
    mask: Bytes
    photons: Bytes
    guess: Bytes
    certainty: NDArray[np.float32]

    def where(self, rows: NDArray[np.bool_]) -> "Outcomes":
        """Return the chosen rows; probabilities are not scaled."""
        return Outcomes(*(getattr(self, field.name)[rows] for field in fields(self)))


def outcomes(link: Link, eve: Eavesdropper | None = None) -> Outcomes:
    """Return all outcomes of a pulse on `link`, whose loss is constant; their probabilities sum to 1."""
    most = most_photons(link.source)
    if pulse_probabilities(link.source).size > 255:
        raise ConfigurationError("a simulated source has at most 255 intensities, which its records keep as bytes")
    chances = pulse_probabilities(link.source)[:, None] * photon_numbers(link.source, most)
    several = np.minimum(np.arange(most + 1), 2)
    by_photons = np.stack([chances * (several == number) for number in range(3)], axis=1)  # (K, 3, N+1)
    intensity, photons, mask = np.indices((len(chances), 3, 4)).reshape(3, -1).astype(np.uint8)
    parts = []
    branches = nobody(link, most) if eve is None else eve.branches(link, most)
    for branch, a, b, x, right in product(branches, (0, 1), (0, 1), (0, 1), (True, False)):
        hers = _cosine(branch.angle, ANGLES[a])  # probability that what Eve reads is Alice's bit
        chance = (hers if right else 1 - hers) if branch.angle is not None else float(right)
        chance *= _basis(link, a) * _basis(link, b) / 2
        if chance == 0:
            continue
        sent = x if right else 1 - x
        bob = _cosine(ANGLES[a] if branch.angle is None else branch.angle, ANGLES[b])
        masks = _masks(link, branch, bob if sent == 0 else 1 - bob)
        knows = (photons > 0) & (branch.keeps or branch.angle is not None)
        parts.append(
            Outcomes(
                probability=(chance * (by_photons @ masks)).ravel(),
                intensity=intensity,
                alice_basis=np.full_like(mask, a),
                alice_bit=np.full_like(mask, x),
                bob_basis=np.full_like(mask, b),
                mask=mask,
                photons=photons,
                guess=np.where(knows, np.uint8(sent), np.uint8(0)),
                certainty=np.where(knows, 1.0 if branch.keeps else hers, 0.5).astype(np.float32),
            )
        )
    table = Outcomes(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Outcomes)))
    return table.where(table.probability > 0)


def _basis(link: Link, basis: int) -> float:
    return link.basis_probability if basis == 0 else 1 - link.basis_probability


def _cosine(angle: float | None, basis: float) -> float:
    """Return the probability that a photon of `angle` shows its bit in `basis`; exact where bases agree or oppose."""
    return 0.5 if angle is None else round((1 + cos(angle - basis)) / 2, 15)


def _masks(link: Link, branch: Branch, zero: float) -> Real:
    """Return P(branch and mask | n photons), (N+1, 4), for light of which a share `zero` falls on the detector of 0."""
    flip, dark = link.detectors.misalignment, link.detectors.dark_count
    r = np.arange(branch.passing.shape[1])

    def silent(share: float, detectors: int) -> Real:
        return np.asarray((1 - dark) ** detectors * (branch.passing @ (1 - branch.transmittance * share) ** r))

    def straight(zero: float) -> Real:
        none, no_zero, no_one = silent(1.0, 2), silent(zero, 1), silent(1 - zero, 1)
        return np.stack([none, no_one - none, no_zero - none, branch.passing.sum(1) - no_zero - no_one + none], axis=1)

    return np.maximum((1 - flip) * straight(zero) + flip * straight(1 - zero), 0.0)
