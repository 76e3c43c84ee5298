"""GG02: continuous variables, Gaussian-modulated coherent states and homodyne detection (Grosshans and Grangier 2002,
doi:10.1103/PhysRevLett.88.057902).

Asymptotic key in reverse reconciliation against collective attacks, K = beta I_AB - chi_BE, with Bob's detector noise
out of Eve's reach; formulas and notation of Lodewyck et al. 2007, doi:10.1103/PhysRevA.76.042305. All variances are in
units of shot noise.
"""

from dataclasses import dataclass, replace
from math import nan, sqrt
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from ..declaration import declared
from .entropy import plob
from .link import Fibre, Fraction, NotNegative, Positive
from .protocol import Rate


@dataclass(frozen=True)
class GaussianInformation:
    """Bits per symbol: mutual information I_AB, Eve's Holevo information chi_BE on Bob's data, and the key from them.

    key may be negative.
    """

    i_ab: float
    chi_be: float
    key: float


@declared
class Gg02:
    """GG02 over a fibre.

    modulation: V_A. excess_noise: xi, at the channel's input. efficiency and electronic_noise: eta and v_el of Bob's
    homodyne detection. reconciliation: beta, the share of I_AB that error correction keeps. Defaults: Lodewyck et al.
    """

    channel: Fibre
    modulation: Positive = 18.5
    excess_noise: NotNegative = 0.005
    efficiency: Annotated[float, Field(gt=0, le=1)] = 0.606
    electronic_noise: NotNegative = 0.041
    reconciliation: Fraction = 0.898
    repetition_hz: Positive = 5e5

    def information(self) -> GaussianInformation:
        """Return I_AB, chi_BE and beta I_AB - chi_BE."""
        t, v = self.channel.transmittance(), self.modulation + 1
        line = 1 / t - 1 + self.excess_noise
        homodyne = (1 + self.electronic_noise) / self.efficiency - 1
        total = line + homodyne / t
        a = v**2 * (1 - 2 * t) + 2 * t + t**2 * (v + line) ** 2
        root_b = t * (v * line + 1)
        scale = t * (v + total)
        c = (v * root_b + t * (v + line) + a * homodyne) / scale
        d = root_b * (v + root_b * homodyne) / scale
        before, after = _eigenvalues(a, root_b**2), _eigenvalues(c, d)
        i_ab = float(np.log2((v + total) / (1 + total))) / 2
        chi_be = float(np.sum(thermal_entropy(before)) - np.sum(thermal_entropy(after)))
        return GaussianInformation(i_ab, chi_be, self.reconciliation * i_ab - chi_be)

    def rate(self) -> Rate:
        """Return the key per symbol; every symbol is measured, and there is no QBER (NaN).

        The difference of two large entropies has few digits where loss is extreme: what passes the PLOB bound by
        rounding is cut to it.
        """
        bound = float(plob(self.transmittance()))
        return Rate(min(bound, max(0.0, self.information().key)), self.repetition_hz, 1.0, nan)

    def at(self, km: float) -> "Gg02":
        """Return the same over `km` of the same fibre."""
        return replace(self, channel=replace(self.channel, km=km))

    def transmittance(self) -> float:
        """Return that of the fibre."""
        return self.channel.transmittance()


def thermal_entropy(eigenvalue: ArrayLike) -> np.ndarray:
    """Return G((x - 1) / 2) in bits, G(n) = (n + 1) log2(n + 1) - n log2 n, for symplectic eigenvalues x >= 1."""
    n = np.maximum(0.0, (np.asarray(eigenvalue, dtype=float) - 1) / 2)
    return np.asarray((n + 1) * np.log2(n + 1) - n * np.log2(np.where(n > 0, n, 1.0)))


def _eigenvalues(a: float, b: float) -> tuple[float, float]:
    """Return the roots of (a +- sqrt(a^2 - 4 b)) / 2, squared eigenvalues, the smaller one without cancellation."""
    large = (a + sqrt(max(0.0, a**2 - 4 * b))) / 2
    return sqrt(large), sqrt(b / large)
