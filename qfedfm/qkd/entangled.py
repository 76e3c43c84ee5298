"""Entanglement between Alice and Bob: BBM92 and E91, and the CHSH value that certifies it.

A source halfway sends each of them one half of parametric down-conversion. Gains and errors are those of Ma, Fung and
Lo 2007 (doi:10.1103/PhysRevA.76.012307), who show that the source need not be trusted: both errors are what the parties
see, so r = 1 - h(E) - f h(E) for each sifted coincidence (Koashi and Preskill 2003, doi:10.1103/PhysRevLett.90.057902).
BBM92 (Bennett, Brassard and Mermin 1992) measures BB84's bases; E91 (Ekert 1991, doi:10.1103/PhysRevLett.67.661)
measures three directions each, spends most of them on CHSH, and has the same r. The rates trust the detectors: they
discard lost pairs, so the CHSH value is a check and no device-independent claim.
"""

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import ndtri

from ..declaration import declared
from ..errors import ConfigurationError
from .link import Link, Positive
from .protocol import Inefficiency, LinkProtocol, Rate, make_rate, secret_fraction, sifted

TSIRELSON = 2 * sqrt(2)


@declared
class Bbm92(LinkProtocol):
    """BBM92 with pairs from the middle of the channel; each party has the link's detectors.

    pairs: mean number of pairs a pulse, or a coherence time (Ma, Fung and Lo's 2 lambda). Of the link's source only the
    rate is used.
    """

    pairs: Positive = 0.1
    f_ec: Inefficiency = 1.16

    def steady(self, link: Link) -> Rate:
        """Return sifting x Q [1 - h(E) - f h(E)]."""
        return _pair_rate(link, self.pairs, sifted(link), self.f_ec)

    def optimised(self) -> "Bbm92":
        """Return this protocol with the number of pairs of the highest rate."""
        found = minimize_scalar(
            lambda x: -replace(self, pairs=10**x).rate().bits_per_pulse, bounds=(-4, 0.5), method="bounded"
        )
        better = replace(self, pairs=float(10**found.x))
        return better if better.rate().bits_per_pulse > self.rate().bits_per_pulse else self


@declared
class E91(LinkProtocol):
    """E91 with the same source: three directions for each party, chosen evenly, agree in 2 of 9 cases and make key.

    Four others make CHSH, whose value `chsh` predicts.
    """

    pairs: Positive = 0.1
    f_ec: Inefficiency = 1.16

    def steady(self, link: Link) -> Rate:
        """Return 2/9 x Q [1 - h(E) - f h(E)]."""
        return _pair_rate(link, self.pairs, 2 / 9, self.f_ec)

    def chsh(self) -> float:
        """Return the CHSH value S that goes with the QBER."""
        return chsh_of_qber(self.rate().qber)


@dataclass(frozen=True)
class Chsh:
    """A CHSH value from counts, with its interval [low, high]: violated if |S| > 2, at most 2 sqrt 2 in nature."""

    value: float
    low: float
    high: float


def chsh_of_qber(qber: float) -> float:
    """Return S = 2 sqrt 2 V with visibility V = 1 - 2 QBER, for noise alike in all directions; 2 at QBER .1464."""
    return TSIRELSON * (1 - 2 * qber)


def chsh_of_counts(same: ArrayLike, different: ArrayLike, confidence: float = 0.95) -> Chsh:
    """Return S = E(a1,b1) - E(a1,b3) + E(a3,b1) + E(a3,b3) and its normal interval.

    same, different: (4,) coincidences with equal and with unequal results in that order of directions, so that
    E = (same - different) / (same + different), with variance (1 - E^2) / N. For small or perfect counts the normal
    interval is too short. A direction without coincidences raises `ConfigurationError`.
    """
    alike, unlike = np.asarray(same, dtype=float), np.asarray(different, dtype=float)
    total = alike + unlike
    if alike.shape != (4,) or unlike.shape != (4,) or not np.all((alike >= 0) & (unlike >= 0) & (total > 0)):
        raise ConfigurationError(
            f"CHSH needs coincidences for each of four pairs of directions; got {alike} alike and {unlike} unlike"
        )
    if not 0 < confidence < 1:
        raise ConfigurationError(f"confidence is a probability between 0 and 1, such as 0.95; got {confidence}")
    correlation = (alike - unlike) / total
    value = float(correlation @ [1, -1, 1, 1])
    half = float(ndtri((1 + confidence) / 2)) * float(np.sqrt(np.sum((1 - correlation**2) / total)))
    return Chsh(value, value - half, value + half)


def pair_clicks(link: Link, pairs: float) -> tuple[float, float, float]:
    """Return per pulse the coincidences Q, those in error E Q (bases agreeing), and one party's clicks.

    Ma, Fung and Lo 2007, equations 9 and 10, with lambda = pairs / 2 and half the channel on either side. An
    after-pulse on either side makes one more coincidence in p_ap, wrong half the time. Darkness beside a photon is
    neglected as in the paper, which makes the QBER of the model too small by about p_dc.
    """
    lam, d = pairs / 2, link.detectors
    eta = sqrt(link.channel.transmittance()) * d.efficiency
    quiet = 1 - 2 * d.dark_count
    one, both = 1 + eta * lam, 1 + 2 * eta * lam - eta**2 * lam
    gain = 1 - 2 * quiet / one**2 + quiet**2 / both**2
    wrong = gain / 2 - (1 - 2 * d.misalignment) * eta**2 * lam * (1 + lam) / (one**2 * both)
    clicks = 1 - quiet / one**2
    return gain * (1 + 2 * d.after_pulsing), wrong + gain * d.after_pulsing, clicks * (1 + d.after_pulsing)


def _pair_rate(link: Link, pairs: float, sifting: float, f_ec: float) -> Rate:
    gain, wrong, clicks = pair_clicks(link, pairs)
    # both are differences of numbers near 1: below 1e-12 nothing of them is left, and then there is no key
    qber = min(0.5, max(0.0, wrong / gain)) if gain > 1e-12 else 0.5
    both_live = link.live(clicks)  # make_rate counts the other party's
    bits = both_live * gain * secret_fraction(qber, qber, f_ec)
    rate = make_rate(link, clicks, sifting, gain, qber, bits, (0.0, 0.0))
    return replace(rate, gain=both_live * rate.gain, single_yield=None, single_error=None)
