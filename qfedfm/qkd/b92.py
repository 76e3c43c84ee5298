"""B92: two non-orthogonal states and nothing else (Bennett 1992, doi:10.1103/PhysRevLett.68.3121).

Security as proved by Tamaki, Koashi and Imoto 2003 (doi:10.1103/PhysRevLett.90.167904) and, with loss, by Tamaki and
Lutkenhaus 2004 (doi:10.1103/PhysRevA.69.032316): r = p_fil [1 - h(e_ph) - f h(e_bit)] for an ideal single-photon
source, Bob's filter on a qubit or nothing, against coherent attacks and in the limit of an endless session. The phase
error is the largest of all states that Alice and Bob could share given what they see, found here by that maximisation
itself rather than by the papers' closed formulas. B92 dies once loss exceeds the overlap of the two states, even
without noise: Eve then tells them apart for certain often enough (unambiguous discrimination).
"""

from collections.abc import Callable
from math import sqrt
from typing import Annotated

from pydantic import Field
from scipy.optimize import brentq, minimize_scalar

from ..declaration import declared
from .link import Link
from .protocol import Inefficiency, LinkProtocol, Rate, make_rate, secret_fraction
from .single_photon import single_photon_clicks

ROUNDING = 1e-13
"""Added to the errors, so that data without any still leave a state that fits them: on the safe side."""


@declared
class B92(LinkProtocol):
    """B92 from an ideal single-photon source; of the link's source only the rate is used, and its bases not at all.

    overlap: <phi_0|phi_1> of the two states; None takes the best for the link, which is searched for some tenths of
    a second.
    """

    overlap: Annotated[float, Field(gt=0, lt=1)] | None = None
    f_ec: Inefficiency = 1.16

    def steady(self, link: Link) -> Rate:
        """Return the rate; the gain and QBER are of conclusive clicks."""
        if self.overlap is not None:
            return b92_rate(link, self.overlap, self.f_ec)

        def loss(logit: float) -> float:
            return -b92_rate(link, 1 / (1 + 10**-logit), self.f_ec).bits_per_pulse

        best = min((0.5 + 0.75 * i for i in range(7)), key=loss)
        found = minimize_scalar(loss, bounds=(best - 0.75, best + 0.75), method="bounded", options={"xatol": 0.03})
        return b92_rate(link, 1 / (1 + 10 ** -float(found.x)), self.f_ec)


def b92_rate(link: Link, overlap: float, f_ec: float) -> Rate:
    """Return the rate over `link` of states with `overlap`.

    What reaches Bob is taken as depolarised: with Y1 and e1 of the link, a share 2 e1 of the clicks is random. A random
    click is conclusive with probability 1/2 and then wrong with 1/2; any other is conclusive with (1 - overlap^2) / 2.
    """
    clicks, e1 = single_photon_clicks(link)
    conclusive = clicks * ((1 - 2 * e1) * (1 - overlap**2) / 2 + e1)
    wrong = clicks * e1 / 2
    if conclusive == 0 or 1 - clicks >= overlap:
        return make_rate(link, clicks, 1.0, conclusive, 0.5, 0.0, (clicks, e1))
    qber = wrong / conclusive
    phase = phase_errors(overlap, max(0.0, 1 - clicks), conclusive, wrong) / conclusive
    bits = conclusive * secret_fraction(qber, phase, f_ec)
    return make_rate(link, clicks, 1.0, conclusive, qber, bits, (clicks, e1))


def phase_errors(overlap: float, loss: float, conclusive: float, wrong: float) -> float:
    """Return the largest probability of a phase error among conclusive clicks, given those per pulse.

    Alice's |Psi> = b |0x 0x> + a |1x 1x> has b^2 - a^2 = overlap and Bob filters with a |0x><0x| + b |1x><1x|. Let A,
    D, B, E be the probabilities that both the filter passes and Alice and Bob would find 0x0x, 1x1x, 0x1x, 1x0x; the
    phase errors are B + E. Alice finds 0x with b^2, whatever Eve does; l be the part of that in which Bob gets nothing:
    A / a^2 + B / b^2 + l = b^2,  D / b^2 + E / a^2 + loss - l = a^2,  A + B + D + E = conclusive,  and bit errors are
    at least conclusive / 2 - sqrt(A D) - sqrt(B E). The set is convex and B + E grows with B, so for each l the largest
    B lies where the last condition ends, and the maximum over l is that of a concave function.
    """
    a2, b2 = (1 - overlap) / 2, (1 + overlap) / 2
    ratio = a2 / b2
    least = conclusive / 2 - wrong - ROUNDING

    def most(lost: float) -> float:
        """Return the largest B + E if so much of the loss is in 0x; below zero where no state fits the data."""
        excess = (a2 * (b2 - lost) + b2 * (a2 - loss + lost) - conclusive) / (1 - ratio)

        def parts(B: float) -> tuple[float, float, float, float]:
            E = ratio * (B + excess)
            return a2 * (b2 - lost) - ratio * B, b2 * (a2 - loss + lost) - E / ratio, B, E

        def margin(B: float) -> float:
            A, D, B, E = (max(0.0, part) for part in parts(B))
            return sqrt(A * D) + sqrt(B * E) - least

        low, high = max(0.0, -excess), min(b2 * (b2 - lost), b2 * (a2 - loss + lost) - excess)
        if high < low:
            return -1 - abs(lost - honest)
        best = maximum(margin, low, high)
        if margin(best) < 0:
            return -1 - abs(lost - honest)
        end = high if margin(high) >= 0 else float(brentq(margin, best, high, xtol=1e-15))
        return parts(end)[2] + parts(end)[3]

    honest = loss * b2
    sides = [most(maximum(most, *side)) for side in ((max(0.0, loss - a2), honest), (honest, min(loss, b2)))]
    found = max(*sides, most(honest))
    return min(conclusive, found) if found >= 0 else conclusive


def maximum(f: Callable[[float], float], low: float, high: float) -> float:
    """Return where the concave `f` is largest on [low, high], to 1e-9 of its length."""
    if high <= low:
        return low
    tolerance = 1e-9 * (high - low)
    found = minimize_scalar(lambda x: -f(x), bounds=(low, high), method="bounded", options={"xatol": tolerance})
    return max((low, float(found.x), high), key=f)
