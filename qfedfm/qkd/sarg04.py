"""SARG04: BB84's states, but Alice announces a pair of non-orthogonal ones (Scarani et al. 2004,
doi:10.1103/PhysRevLett.92.057901), so that even pulses of two photons give key.

The rate is that of Fung, Tamaki and Lo 2006 (doi:10.1103/PhysRevA.73.012337, equation 39), with infinitely many decoys,
which reveal the yields and errors of one and two photons exactly:
R = -Q f h(E) + Q1 [1 - H(Z1|X1)] + Q2 [1 - h(e_p2)]. Against coherent attacks. A conclusive click has probability 1/4
for perfect light, so sifting is in the gains; pulses of three photons and more are given to Eve.
"""

from math import exp, sqrt

from ..declaration import declared
from .entropy import binary_entropy, shannon_entropy
from .link import Link
from .protocol import Inefficiency, LinkProtocol, Rate, make_rate, pulsed


@declared
class Sarg04(LinkProtocol):
    """SARG04 with weak coherent pulses and infinitely many decoys; bases are even, whatever the link says.

    Of the source only the signal is used.
    """

    f_ec: Inefficiency = 1.16

    def __post_init__(self) -> None:
        pulsed(self.link, "Sarg04")

    def steady(self, link: Link) -> Rate:
        """Return the rate of equation 39; gain and QBER are of conclusive clicks, Y1 and e1 too."""
        mu = pulsed(link, "Sarg04").intensities[0]
        eta, clicks = link.transmittance(), float(link.gain(mu))
        gain, wrong = conclusive(link, exp(-eta * mu))
        (y1, wrong1), (y2, wrong2) = (conclusive(link, (1 - eta) ** n) for n in (1, 2))
        e1, e2 = (w / y if y else 0.5 for w, y in ((wrong1, y1), (wrong2, y2)))
        qber = wrong / gain if gain else 0.5
        single = y1 * mu * exp(-mu) * (1 - single_photon_cost(e1))
        double = y2 * mu**2 / 2 * exp(-mu) * (1 - float(binary_entropy(two_photon_phase_error(e2))))
        bits = single + double - gain * self.f_ec * float(binary_entropy(qber))
        return make_rate(link, clicks, 1.0, gain, qber, bits, (y1, e1))


def conclusive(link: Link, lost: float) -> tuple[float, float]:
    """Return the probabilities of a conclusive click and of a wrong one, per gate; lost: that no photon is detected.

    Equations 40 to 43: (1 - lost) (e_det / 2 + 1/4) + lost Y0 / 2 and (1 - lost) e_det / 2 + lost Y0 / 4; an
    after-pulse is as conclusive, and as wrong, as darkness.
    """
    d = link.detectors
    random = lost * 2 * d.dark_count + d.after_pulsing * (1 - (1 - 2 * d.dark_count) * lost)
    return (1 - lost) * (d.misalignment / 2 + 0.25) + random / 2, (1 - lost) * d.misalignment / 2 + random / 4


def single_photon_cost(e: float) -> float:
    """Return H(Z1|X1), what Eve knows of a bit from one photon at bit error e; the phase error is 3 e / 2.

    The worst channel leaves the Bell states with weights (1 - 2e, e, e/2, e/2), the last two in bit error, and the cost
    is their entropy less h(e): 1 from e = 1/3 on. With f = 1 it is worth its reconciliation up to e = .0968 (Tamaki and
    Lo 2006, doi:10.1103/PhysRevA.73.010302).
    """
    if e >= 1 / 3:
        return 1.0
    return float(shannon_entropy([1 - 2 * e, e, e / 2, e / 2]) - binary_entropy(e))


def two_photon_phase_error(e: float) -> float:
    """Return the phase error at most of two-photon pulses with bit error e: min over x of x e + g(x), with
    g(x) = [3 - 2x + sqrt(6 - 6 sqrt(2) x + 4 x^2)] / 6 (Tamaki and Lo 2006); sin^2(pi/8) at e = 0, 1/2 from 1/6 on.
    """
    if e >= 1 / 6:
        return 0.5
    s = 1 - 3 * e  # the minimum in closed form: the derivative of g is -e
    return 0.5 - sqrt(2) / 4 * s + sqrt(1.5 * (1 - s**2)) / 6
