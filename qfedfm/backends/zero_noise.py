"""Zero-noise extrapolation: the same circuit with its noise scaled up, and the value at no noise read off a fit.

    linear       v(s) = v0 + a s, least squares
    richardson   the polynomial through all points
    exponential  v(s) = c + A exp(-b s), c being the value of the fully mixed state

(Temme, Bravyi and Gambetta 2017, arXiv:1612.02058; Li and Benjamin 2017, arXiv:1611.09301; Giurgica-Tiron et al. 2020,
arXiv:2005.10921.) Every fit is v0 = F(v(s_1), v(s_2) ...), so that its variance is sum_j (dF/dv_j)^2 Var v_j: always
larger than without, which is why extrapolation pays with many shots only.
"""

from typing import Annotated, Protocol, runtime_checkable

import numpy as np
from pydantic import Field

from ..declaration import declared
from ..errors import ConfigurationError
from .contract import Array

CLEAR = 2.0
"""Standard deviations that a value must lie above the mixed state's for an exponential through it."""
LARGEST_FALL = 0.1
"""What must be left of that distance at the largest scale."""


@runtime_checkable
class Fit(Protocol):
    """How values at several noise scales become one at none."""

    def extrapolate(self, scales: Array, values: Array, variances: Array, mixed: Array) -> tuple[Array, Array]:
        """Return values at scale 0 (N, K), and their derivatives by each value, (S, N, K).

        scales: (S,). values, variances: (S, N, K). mixed: (K,) values of the fully mixed state.
        """
        ...


@declared
class LinearFit:
    """A straight line."""

    def extrapolate(self, scales: Array, values: Array, variances: Array, mixed: Array) -> tuple[Array, Array]:  # noqa: ARG002
        """See `Fit`."""
        return _weighted(_line(scales), values)


@declared
class RichardsonFit:
    """The polynomial through all points, of the smallest bias and the largest variance."""

    def extrapolate(self, scales: Array, values: Array, variances: Array, mixed: Array) -> tuple[Array, Array]:  # noqa: ARG002
        """See `Fit`."""
        weights = [np.prod([other / (other - one) for other in scales if other != one]) for one in scales]
        return _weighted(np.array(weights), values)


@declared
class ExponentialFit:
    """An exponential decay towards the fully mixed state, fitted to logarithms.

    Where a value changes its sign with the scale, comes within two standard deviations of the mixed state's, or falls
    to less than a tenth of its largest distance from it, the fit means nothing and the linear one is taken.
    """

    def extrapolate(self, scales: Array, values: Array, variances: Array, mixed: Array) -> tuple[Array, Array]:
        """See `Fit`."""
        above = values - mixed
        clear = (np.abs(above) > CLEAR * np.sqrt(variances)) & (above != 0)
        distance = np.abs(above)
        fits = clear.all(axis=0) & (np.abs(np.sign(above).sum(axis=0)) == len(scales))
        fits &= distance.min(axis=0) >= LARGEST_FALL * distance.max(axis=0)
        safe = np.where(fits, above, 1.0)
        weights = _line(scales)[:, None, None]
        decayed = np.sign(safe[0]) * np.exp((weights * np.log(np.abs(safe))).sum(axis=0))
        straight, straight_weights = _weighted(_line(scales), values)
        return np.where(fits, mixed + decayed, straight), np.where(fits, weights * decayed / safe, straight_weights)


@declared
class ZeroNoise:
    """Zero-noise extrapolation by folded gates, for evaluation; each scale is a submission of its own.

    scales: by which the noise is made larger, 1 being the circuit as it is.
    """

    scales: tuple[Annotated[float, Field(ge=1)], ...] = (1.0, 3.0)
    fit: Fit = LinearFit()

    def __post_init__(self) -> None:
        if len(self.scales) < 2 or len(set(self.scales)) < len(self.scales):
            raise ConfigurationError(f"ZeroNoise.scales: expected two different scales or more; got {self.scales}")


def _line(scales: Array) -> Array:
    """Return the weights of a straight line's value at 0, (S,)."""
    centred = scales - scales.mean()
    return np.asarray(1 / len(scales) - scales.mean() * centred / (centred @ centred))


def _weighted(weights: Array, values: Array) -> tuple[Array, Array]:
    spread = np.broadcast_to(weights[:, None, None], values.shape)
    return np.asarray((spread * values).sum(axis=0)), spread
