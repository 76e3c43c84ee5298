"""Key rates over distance, with the limit that no repeaterless protocol passes: one call, one plot."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ConfigurationError
from .entropy import Real, plob
from .protocol import QkdProtocol, Rate

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class RateCurve:
    """Key rates of some protocols over distance.

    km: (points,). rates: name to one rate a point. plob: (points,), the PLOB bound of the channel in bits per pulse;
    where the protocols' channels differ, of the one with the least loss.
    """

    km: Real
    rates: Mapping[str, tuple[Rate, ...]]
    plob: Real

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per protocol and distance, the rate per pulse and per second beside gain, QBER and bound."""
        import pandas as pd

        rows = [
            {
                "protocol": name,
                "km": km,
                "bits_per_pulse": rate.bits_per_pulse,
                "bits_per_second": rate.bits_per_second,
                "gain": rate.gain,
                "qber": rate.qber,
                "plob": bound,
            }
            for name, rates in self.rates.items()
            for km, rate, bound in zip(self.km, rates, self.plob, strict=True)
        ]
        return pd.DataFrame(rows)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw bits per pulse against km on a logarithmic axis, the PLOB bound dashed; a rate of zero ends its line."""
        if ax is None:
            import matplotlib.pyplot as plt

            ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")[1]
        for name, rates in self.rates.items():
            bits = np.array([rate.bits_per_pulse for rate in rates])
            ax.plot(self.km, np.where(bits > 0, bits, np.nan), label=name.replace("$", r"\$"))
        bound = np.where(np.isfinite(self.plob), self.plob, np.nan)
        ax.plot(self.km, bound, linestyle="--", color="#7a7a7a", label="PLOB bound")
        ax.set_yscale("log")
        ax.set_xlabel("distance, km")
        ax.set_ylabel("secret bits per pulse")
        ax.legend(frameon=False)
        return ax


def rate_curve(protocols: QkdProtocol | Mapping[str, QkdProtocol] | Sequence[QkdProtocol], km: ArrayLike) -> RateCurve:
    """Return the rates of `protocols` at each distance of `km` (points,), computed, not simulated.

    protocols: by name, or one or a sequence, named by their classes. Satellite passes have no distance and raise
    `ConfigurationError`.
    """
    if not isinstance(protocols, Mapping | Sequence):
        protocols = [protocols]
    named = protocols if isinstance(protocols, Mapping) else {type(p).__name__: p for p in protocols}
    if not named or len(named) != len(protocols):
        raise ConfigurationError(
            "a rate curve needs one or more protocols, and names for two of one class, such as "
            f"{{'mu 0.5': ..., 'mu 0.6': ...}}; got {[type(p).__name__ for p in protocols]}"
        )
    distances = np.atleast_1d(np.asarray(km, dtype=float))
    there = {name: [protocol.at(float(d)) for d in distances] for name, protocol in named.items()}
    rates = {name: tuple(protocol.rate() for protocol in row) for name, row in there.items()}
    transmittance = np.array([[protocol.transmittance() for protocol in row] for row in there.values()]).max(axis=0)
    return RateCurve(distances, rates, plob(transmittance))
