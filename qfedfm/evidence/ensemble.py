"""The states that a circuit reaches over random weights: how evenly they fill the space, how entangled they are.

Both descriptors are those of Sim, Johnson and Aspuru-Guzik (2019, doi:10.1002/qute.201900070). Each parameter set here
also has its own random row of data, so that a head's encoding counts as part of its circuit. Departures from the paper:
both carry their sampling errors, and expressibility also the value that a perfectly even ensemble would show.
"""

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from torch import Tensor

from ..errors import ConfigurationError
from ..notebook import table
from ..quantum.measure import meyer_wallach
from ..quantum.overlaps import fidelity
from ..quantum.program import Circuit
from ..seeds import stream
from .examined import at_least_two, portions, random_rows, random_weights
from .showing import number
from .statistics import Interval, mean_interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Expressibility:
    """The divergence of a circuit's fidelities from those of Haar-random states, in nats; smaller is more even.

    value: as published, the plug-in estimate from a histogram. floor: its bias, which is what an ensemble without any
    divergence shows, (occupied bins - 1) / (2 pairs) (Miller 1955). divergence: value - floor with its interval, all
    cut at 0. observed, haar: the share of pairs in each bin, and that of Haar-random states. edges: of the bins.
    """

    circuit: str
    qubits: int
    value: float
    floor: float
    divergence: Interval
    observed: FloatArray
    haar: FloatArray
    edges: FloatArray

    @property
    def verdict(self) -> str:
        """One sentence: what was found, and what it can be told from."""
        d = self.divergence
        text = f"{number(d.mean)} nats (95 % interval {number(d.low)} to {number(d.high)}, {d.n:,} pairs of states)"
        if d.low == 0:
            return f"{self.circuit}: not told from Haar-random states: divergence {text}."
        return f"{self.circuit}: divergence from Haar-random states {text}."

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per bin: low, high (fidelity), observed, haar (shares)."""
        import pandas as pd

        low, high = self.edges[:-1], self.edges[1:]
        return pd.DataFrame({"low": low, "high": high, "observed": self.observed, "haar": self.haar})

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the histogram of fidelities with that of Haar-random states; return the axes."""
        from .pictures import plot_fidelities

        return plot_fidelities(self, ax)

    def _repr_html_(self) -> str:
        rows = {
            "divergence from Haar": self.verdict.partition("divergence ")[2],
            "plug-in value, as in Sim et al.": number(self.value),
            "the same of Haar-random states": number(self.floor),
            "bins": str(len(self.observed)),
        }
        return table(f"Expressibility of {self.circuit}, {self.qubits} qubits", rows)


def expressibility(
    circuit: Circuit,
    angles: Tensor | None = None,
    pairs: int = 5000,
    bins: int = 75,
    haar_bins: bool = False,
    seed: int = 0,
) -> Expressibility:
    """Return KL(P || P_Haar) of F = |<psi(x, w)|psi(x, v)>|^2 over random weights w, v and random rows x.

    angles: (rows, n_inputs) radians, None for uniform ones within the circuit's input scale. pairs: independent pairs
    (w, v), each with one x. bins: how many, equal in F as in the paper, or, with `haar_bins`, of equal probability for
    Haar-random states: P_Haar(F <= f) = 1 - (1 - f)^(2^n - 1). The value depends on bins and pairs: 75 and 5,000 are
    the paper's. (Its idle circuit has 4.30 = log 74: its 75 were edges, not bins.) With n qubits F is about 2^-n, so
    beyond some six qubits nearly all of it falls into the first of 75 equal bins, where no difference is seen; take
    `haar_bins` there, whose values lie between 0 and log(bins). The interval joins the delta method with the spread of
    an even ensemble's histogram, 2 pairs KL ~ chi^2(bins - 1).
    """
    at_least_two("pairs", pairs)
    if bins < 2:
        raise ConfigurationError(f"bins: expected two or more; got {bins}")
    generator, program = stream(seed, "expressibility"), circuit.program
    first, second = (random_weights(program, pairs, generator) for _ in range(2))
    rows = random_rows(circuit, angles, pairs, generator)
    parts = [fidelity(program, x, w, v)[:, 0] for w, v, x in portions(program, first, second, rows)]
    found = torch.cat(parts).expand(pairs).numpy().clip(0, 1)  # one state for all where there are no weights or data
    power = 2**program.n_wires - 1
    edges = np.linspace(0, 1, bins + 1)
    if haar_bins:
        edges = -np.expm1(np.log1p(-edges[:-1]) / power)
        edges = np.append(edges, 1.0)
    counts, _ = np.histogram(found, edges)
    observed, log_haar = counts / pairs, _log_haar(edges, power)
    seen = counts > 0
    surprise = np.log(observed[seen]) - log_haar[seen]
    value = float(observed[seen] @ surprise)
    floor = (int(seen.sum()) - 1) / (2 * pairs)
    spread = max(float(observed[seen] @ surprise**2) - value**2, 0.0)
    half = float(ndtri(0.975)) * sqrt(spread / pairs + floor / pairs)
    mean = value - floor
    interval = Interval(max(mean, 0.0), max(mean - half, 0.0), max(mean + half, 0.0), pairs)
    return Expressibility(circuit.name, program.n_wires, value, floor, interval, observed, np.exp(log_haar), edges)


def _log_haar(edges: FloatArray, power: int) -> FloatArray:
    """Return the log of the share of Haar-random pairs in each bin, without underflow near F = 1."""
    with np.errstate(divide="ignore"):
        left, right = (power * np.log1p(-ends) for ends in (edges[:-1], edges[1:]))
    return np.asarray(left + np.log1p(-np.exp(right - left)))


def entangling_capability(
    circuit: Circuit, angles: Tensor | None = None, samples: int = 500, seed: int = 0
) -> Interval:
    """Return the mean Meyer-Wallach entanglement Q over random weights, each with a random row, and its t interval.

    angles: as in `expressibility`. Q is 0 for products and 1 for Bell and GHZ states (see `quantum.meyer_wallach`);
    Haar-random states have (2^n - 2) / (2^n + 1).
    """
    at_least_two("samples", samples)
    generator, program = stream(seed, "entangling"), circuit.program
    weights = random_weights(program, samples, generator)
    rows = random_rows(circuit, angles, samples, generator)
    parts = [meyer_wallach(program, x, w)[:, 0] for w, x in portions(program, weights, rows)]
    return mean_interval(torch.cat(parts).expand(samples).numpy().clip(0, 1))


def haar_entanglement(qubits: int) -> float:
    """Return the mean Meyer-Wallach entanglement of Haar-random states, (2^n - 2) / (2^n + 1).

    From the mean purity (a + b) / (a b + 1) of a part of dimension a beside one of dimension b (Lubkin 1978,
    doi:10.1063/1.523763).
    """
    return float((2**qubits - 2) / (2**qubits + 1))
