"""Before paying for shots: what a head's circuit can be expected to learn with, in one call.

`trainability` joins what the modules beside it measure. All of it describes the beginning of training, at the head's
own distribution of first parameters, and none of it says that a head will do well: that takes its twins (`qf.compare`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..errors import ConfigurationError
from ..heads.twin import matched_classical
from ..heads.variational import Variational
from ..notebook import table
from ..quantum.lightcone import dead_weights, reachable
from ..quantum.program import Circuit
from .capacity import EffectiveDimension, effective_dimension
from .ensemble import Expressibility, entangling_capability, expressibility, haar_entanglement
from .examined import Data, encode, features_of, variational
from .plateau import SHOTS, GradientVariance, gradient_variance
from .showing import number, with_ends
from .statistics import Interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SIX = 6
"""Qubits beyond which equal bins of fidelity no longer show expressibility."""
FISHER_ROWS = 64


@dataclass(frozen=True)
class LightCone:
    """What one observable can see: gates, wires and weights that reach it."""

    observable: int
    gates: int
    wires: int
    weights: int


@dataclass(frozen=True, eq=False)
class Trainability:
    """What `trainability` found of a head; see there and in the classes of its fields."""

    gradients: GradientVariance
    expressibility: Expressibility
    entanglement: Interval
    dimension: EffectiveDimension
    twin: EffectiveDimension
    cones: tuple[LightCone, ...]
    shots: int

    @property
    def warning(self) -> str | None:
        """A plain warning if training with `shots` would begin on a plateau."""
        return self.gradients.warning(self.shots)

    @property
    def verdict(self) -> str:
        """One sentence: the warning, or what makes it unnecessary."""
        return self.warning or self.gradients.verdict

    @property
    def live(self) -> int:
        """The number of weights that can change what is measured."""
        return int(self.gradients.live.sum())

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per quantity: quantity, value, low, high, samples; counts have no interval."""
        import pandas as pd

        counts = {
            "qubits": self.gradients.qubits,
            "depth": self.gradients.depth,
            "weights": len(self.gradients.live),
            "live weights": self.live,
            "largest light cone, wires": max(cone.wires for cone in self.cones),
        }
        estimates = {
            "gradient variance": self.gradients.variance,
            "divergence from Haar": self.expressibility.divergence,
            "Meyer-Wallach entanglement": self.entanglement,
            "effective dimension": self.dimension.dimension,
            "effective dimension of the twin": self.twin.dimension,
        }
        rows = [{"quantity": name, "value": float(value)} for name, value in counts.items()]
        rows += [
            {"quantity": name, "value": i.mean, "low": i.low, "high": i.high, "samples": i.n}
            for name, i in estimates.items()
        ]
        return pd.DataFrame(rows)

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the variance of each weight's gradient with the level of shot noise; return the axes."""
        return self.gradients.plot(ax, self.shots)

    def _repr_html_(self) -> str:
        cones = max(self.cones, key=lambda cone: cone.wires)
        spread = self.expressibility
        rows = {
            "live weights": f"{self.live} of {len(self.gradients.live)}",
            "largest light cone": f"{cones.wires} qubits, {cones.gates} gates, {cones.weights} weights",
            "gradient variance": with_ends(self.gradients.variance),
            "shots a circuit to match it": number(self.gradients.shots),
            "divergence from Haar, nats": f"{with_ends(spread.divergence)}; plug-in {number(spread.value)}",
            "Meyer-Wallach entanglement": f"{with_ends(self.entanglement)}; Haar "
            + number(haar_entanglement(self.gradients.qubits)),
            "effective dimension": f"{with_ends(self.dimension.dimension)} of {self.dimension.parameters}",
            "the same, classical twin": f"{with_ends(self.twin.dimension)} of {self.twin.parameters}",
            "verdict": self.verdict,
        }
        return table(f"Trainability of {self.gradients.circuit} at the start (exact simulation)", rows)


def trainability(
    head: Variational,
    data: Data = None,
    outputs: int = 2,
    shots: int = SHOTS,
    samples: int = 200,
    pairs: int = 5000,
    seed: int = 0,
) -> Trainability:
    """Return gradients, expressibility, entanglement, effective dimension and light cones of a head before training.

    data: features (rows, F), such as `qf.backbones.features(...)`, or a data set of numbers, whose classes then are the
    outputs. None stands for 1,536 rows of standard normal features, one for each input of the circuit. Rows reach the
    circuit through the projection that the head begins with under `seed`. shots: a circuit, on the machine that the
    warning is about. samples, pairs: random sets of weights for gradients and entanglement, pairs for expressibility
    (beyond six qubits with bins of equal Haar probability). The effective dimension, at n = the number of rows, of head
    and `matched_classical` twin averages its Fisher information over the first 64 rows and 50 sets of parameters.
    Raises `ConfigurationError` for other heads and data, `CircuitError` for a circuit without weights.
    """
    circuit = variational(head).resolve()
    if not shots > 0:
        raise ConfigurationError(f"shots: expected one or more; got {shots}")
    features, classes = features_of(data, circuit.program.n_inputs, seed)
    outputs = classes or outputs
    model = head.bind(features.shape[1], outputs)
    angles = encode(head, model.init(seed), features)
    gradients = gradient_variance(circuit, angles, samples, seed)
    some, many = features[:FISHER_ROWS], len(features)
    twin = matched_classical(head).bind(features.shape[1], outputs)
    return Trainability(
        gradients,
        expressibility(circuit, angles, pairs, haar_bins=circuit.program.n_wires > SIX, seed=seed),
        entangling_capability(circuit, angles, samples, seed),
        effective_dimension(model, some, many, seed=seed),
        effective_dimension(twin, some, many, seed=seed),
        light_cones(circuit),
        shots,
    )


def light_cones(circuit: Circuit) -> tuple[LightCone, ...]:
    """Return for each observable how many gates, wires and weights can change its value."""
    cones = []
    for k, observable in enumerate(circuit.observables):
        gates = reachable(circuit.program, (observable,)).gates
        wires = {wire for gate in gates for wire in gate.wires} | {wire for _, word in observable for wire, _ in word}
        dead = dead_weights(circuit.program, (observable,))
        weights = sum(int(torch.count_nonzero(~mask)) for mask in dead.values())
        cones.append(LightCone(k, len(gates), len(wires), weights))
    return tuple(cones)
