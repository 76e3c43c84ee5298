"""Barren plateaus: how large the gradient of a circuit is where training begins, and how it falls with size.

McClean et al. (2018, doi:10.1038/s41467-018-07090-4): over random weights the gradient of an expectation value has mean
zero and a variance that deep circuits lose exponentially in the number of qubits; Cerezo et al. (2021,
doi:10.1038/s41467-021-21728-w): with observables on many qubits also shallow ones do. What a small variance costs is
shots. The parameter shift (f+ - f-) / 2 read with S shots a circuit has a variance of at most c^2 / (2 S), c bounding
the observable, so a gradient of variance V stands out of its own noise from S = c^2 / (2 V) on. That is the criterion
of every warning here: a typical gradient below its shot noise. It says nothing against exact simulation, where Adam
divides small gradients by their own size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp, inf, sqrt
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor

from ..errors import CircuitError, ConfigurationError
from ..heads.model import Model
from ..notebook import table
from ..quantum.lightcone import dead_weights
from ..quantum.program import Circuit, Observable, Program
from ..quantum.statevector import simulate
from ..seeds import stream
from .examined import Tensors, at_least_two, portions, random_rows, random_weights
from .showing import number, with_ends
from .statistics import Interval, mean_interval

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from ..heads.variational import Variational

SHOTS = 1024
"""Shots a circuit that a warning assumes unless told otherwise."""
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GradientVariance:
    """The variance of d<O_k>/dw_i over random weights and rows, at the start of training.

    variance: mean over all observables, those included that w_i cannot reach, and over the live weights: the weights
    that reach some observable. So it is, up to a factor, the variance of the gradient of a random linear read-out.
    each: (observables, weights), the weights flattened in the circuit's order; exactly 0 where light cones do not meet.
    live: (weights,) bool. bound: the mean of c_k^2, with |<O_k>| <= c_k.
    """

    circuit: str
    qubits: int
    depth: int
    variance: Interval
    each: FloatArray
    names: tuple[str, ...]
    live: NDArray[np.bool_]
    bound: float

    @property
    def shots(self) -> float:
        """Shots a circuit from which a typical gradient is no smaller than its shot noise."""
        return self.bound / (2 * self.variance.mean) if self.variance.mean > 0 else inf

    def warning(self, shots: int = SHOTS) -> str | None:
        """Return a warning if at `shots` a circuit a typical gradient is below its shot noise; None otherwise."""
        if not shots > 0:
            raise ConfigurationError(f"shots: expected one or more; got {shots}")
        if not self.live.any():
            return f"No weight of {self.circuit} can change what is measured: there is nothing to train."
        noise, typical = sqrt(self.bound / (2 * shots)), sqrt(self.variance.mean)
        if typical >= noise:
            return None
        needed = f"about {number(self.shots)} shots" if self.shots < inf else "no number of shots is enough"
        return (
            f"Plateau: at random weights a gradient of {self.circuit} ({self.qubits} qubits, depth {self.depth}) is "
            f"typically {number(typical)}, below the shot noise of {number(noise)} at {shots:,} shots; {needed} a "
            "circuit would match it. Exact simulation can still train; a machine would see noise. Fewer qubits or "
            "layers, observables on fewer qubits, or weights that begin near zero make gradients larger."
        )

    @property
    def verdict(self) -> str:
        """One sentence: the warning at `SHOTS`, or what makes it unnecessary."""
        return self.warning() or (
            f"{self.circuit}: gradients at random weights have the variance {with_ends(self.variance)} and stand out "
            f"of shot noise from about {number(max(1.0, self.shots))} shots a circuit on."
        )

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per weight: weight, live, variance (mean over observables)."""
        import pandas as pd

        return pd.DataFrame({"weight": self.names, "live": self.live, "variance": self.each.mean(0)})

    def plot(self, ax: "Axes | None" = None, shots: int = SHOTS) -> "Axes":
        """Draw the variance of each weight with the level of shot noise; return the axes."""
        from .pictures import plot_variances

        return plot_variances(self, shots, ax)

    def _repr_html_(self) -> str:
        rows = {
            "variance of a gradient": f"{with_ends(self.variance)}, {self.variance.n:,} random sets of weights",
            "live weights": f"{int(self.live.sum())} of {len(self.live)}",
            "shots to match it": number(self.shots),
            "verdict": self.verdict,
        }
        return table(f"Gradients of {self.circuit}, {self.qubits} qubits, depth {self.depth}", rows)


def gradient_variance(
    circuit: Circuit, angles: Tensor | None = None, samples: int = 200, seed: int = 0
) -> GradientVariance:
    """Return the variance of the circuit's gradients over `samples` random sets of weights, with its t interval.

    angles: (rows, n_inputs) radians to draw each set's row from; None for uniform ones within the input scale.
    Gradients are exact. The interval is that of the mean over sets of the squared deviation; far out on a plateau it is
    wide, because few sets have any gradient. Raises `CircuitError` for a circuit without weights.
    """
    at_least_two("samples", samples)
    if not circuit.program.weights:
        raise CircuitError(f"circuit '{circuit.name}' has no weights: there is no gradient to look at")
    generator = stream(seed, "gradients")
    weights = random_weights(circuit.program, samples, generator)
    rows = random_rows(circuit, angles, samples, generator)
    every = torch.eye(len(circuit.observables), dtype=torch.float64).expand(samples, -1, -1)
    reach = torch.stack([_live(circuit.program, (observable,)) for observable in circuit.observables])
    found = _gradients(circuit, rows, weights, every) * reach  # what is left outside is rounding
    return _summary(circuit, (found - found.mean(0)).square() * (samples / (samples - 1)))


def plateau_warning(model: Model, shots: int = SHOTS, seed: int = 0) -> str | None:
    """Return a warning if training `model` on a machine would begin on a plateau, None for others; quick.

    A small `gradient_variance`: 32 random sets of weights (from 15 qubits on fewer) with uniform angles, and a random
    sign for each observable in place of all of them one by one, which has the same mean square. shots: a circuit, on
    the machine to be used. None also for a model that trains no circuit; of several circuits the first to warn of.
    """
    if not isinstance(model, Model):
        raise ConfigurationError(
            "plateau_warning: expected a bound head, such as head.bind(n_features, n_classes); got "
            f"{type(model).__name__}"
        )
    if not model.count()["quantum"]:
        return None
    generator = stream(seed, "plateau")
    warnings = (_warning(circuit, shots, generator) for circuit in model.circuits if circuit.program.weights)
    return next((warning for warning in warnings if warning), None)


def _warning(circuit: Circuit, shots: int, generator: np.random.Generator) -> str | None:
    samples = min(32, max(4, 2**19 >> circuit.program.n_wires))
    weights = random_weights(circuit.program, samples, generator)
    rows = random_rows(circuit, None, samples, generator)
    signs = generator.choice([-1.0, 1.0], (samples, 1, len(circuit.observables)))
    found = _gradients(circuit, rows, weights, torch.from_numpy(signs))
    return _summary(circuit, found.square() / len(circuit.observables)).warning(shots)


def _summary(circuit: Circuit, squares: Tensor) -> GradientVariance:
    """Return what squared gradients (samples, observables, weights) come to."""
    program = circuit.program
    live = _live(program, circuit.observables)
    by_set = squares[..., live].mean((1, 2)) if live.any() else torch.zeros(len(squares))
    names = tuple(f"{spec.name}{list(at) if at else ''}" for spec in program.weights for at in np.ndindex(*spec.shape))
    bounds = [sum(abs(factor) for factor, _ in observable) ** 2 for observable in circuit.observables]
    return GradientVariance(
        circuit.name,
        program.n_wires,
        program.depth,
        mean_interval(by_set.numpy()),
        squares.mean(0).numpy(),
        names,
        live.numpy(),
        float(np.mean(bounds)),
    )


def _live(program: Program, observables: tuple[Observable, ...]) -> Tensor:
    """Return which weights can change an expectation value, bool (weights,)."""
    return ~torch.cat([mask.flatten() for mask in dead_weights(program, observables).values()])


def _gradients(circuit: Circuit, rows: Tensors, weights: Tensors, readouts: Tensor) -> Tensor:
    """Return d(sum_k r_k <O_k>)/dw, (samples, read-outs, weights), for read-outs r (samples, read-outs, observables).

    Each set of weights is copied once for each read-out: one backward pass gives all.
    """
    program, (samples, per_set, _) = circuit.program, readouts.shape
    copies, data = (
        {name: tensor.repeat_interleave(per_set, 0) for name, tensor in tensors.items()} for tensors in (weights, rows)
    )
    parts = []
    if not _live(program, circuit.observables).any():
        return torch.zeros(samples, per_set, program.n_parameters, dtype=torch.float64)
    for w, x, r in portions(program, copies, data, {"readout": readouts.flatten(0, 1)}):
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in w.items()}
        values = simulate(program, x, leaves, circuit.observables)[:, 0]
        found = torch.autograd.grad((values * r["readout"]).sum(), list(leaves.values()), allow_unused=True)
        flat = [
            (torch.zeros_like(leaf) if part is None else part).flatten(1)
            for part, leaf in zip(found, leaves.values(), strict=True)
        ]
        parts.append(torch.cat(flat, 1))
    return torch.cat(parts).reshape(samples, per_set, -1)


@dataclass(frozen=True, eq=False)
class GradientScaling:
    """Gradient variances over a grid of qubits and depths, with what each qubit more costs at each depth.

    cells: (qubits, layers) to its variance. factors: layers to the factor by which one qubit more divides the variance,
    from a straight line through log(variance); n is the number of sizes. 1: no loss; 2: what circuits lose that are
    deep enough to look random (a 2-design).
    """

    cells: dict[tuple[int, int], GradientVariance]
    factors: dict[int, Interval]

    @property
    def verdict(self) -> str:
        """One sentence on the greatest depth."""
        layers = max(self.factors)
        factor, sizes = self.factors[layers], sorted({qubits for qubits, _ in self.cells})
        where = f"{layers} layers and {sizes[0]} to {sizes[-1]} qubits"
        if factor.low > 1:
            return (
                f"At {where} each qubit more divides the variance of a gradient by {with_ends(factor)}: it falls "
                "exponentially as far as these sizes show, as on a barren plateau."
            )
        return f"At {where} no exponential loss is shown: each qubit more divides the variance by {with_ends(factor)}."

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per cell: qubits, layers, depth, live, variance, low, high, shots."""
        import pandas as pd

        return pd.DataFrame(
            {
                "qubits": qubits,
                "layers": layers,
                "depth": cell.depth,
                "live": int(cell.live.sum()),
                "variance": cell.variance.mean,
                "low": cell.variance.low,
                "high": cell.variance.high,
                "shots": cell.shots,
            }
            for (qubits, layers), cell in self.cells.items()
        )

    def plot(self, ax: "Axes | None" = None, shots: int = SHOTS) -> "Axes":
        """Draw variance against qubits, a line for each depth, with the level of shot noise; return the axes."""
        from .pictures import plot_scaling

        return plot_scaling(self, shots, ax)

    def _repr_html_(self) -> str:
        rows = {f"{layers} layers, loss per qubit": with_ends(factor) for layers, factor in self.factors.items()}
        return table("Gradient variance against qubits and depth", rows | {"verdict": self.verdict})


def gradient_scaling(
    make: "Callable[[int, int], Variational]",
    qubits: Sequence[int] = (2, 4, 6, 8),
    layers: Sequence[int] = (1, 2, 4, 8),
    samples: int = 100,
    seed: int = 0,
) -> GradientScaling:
    """Return gradient variances of the heads `make(qubits, layers)`, uniform angles within each one's input scale.

    The straight line weighs each size by its sampling error; where the points miss it by more than those explain, its
    interval is widened accordingly. It needs three sizes or more. That few small sizes lie on a line does not prove
    what larger ones do. Raises `ConfigurationError` for fewer sizes.
    """
    if len(set(qubits)) < 3 or len(set(qubits)) < len(qubits) or not layers:
        raise ConfigurationError(
            f"a line needs three different numbers of qubits or more, and one of layers; got {qubits} and {layers}"
        )
    cells = {
        (n, depth): gradient_variance(make(n, depth).resolve(), None, samples, seed) for depth in layers for n in qubits
    }
    factors = {depth: _factor(qubits, [cells[n, depth].variance for n in qubits]) for depth in layers}
    return GradientScaling(cells, factors)


def _factor(qubits: Sequence[int], variances: Sequence[Interval]) -> Interval:
    """Return exp(-slope) of the weighted line through log(variance), with its 95 % t interval."""
    if min(v.mean for v in variances) <= 0:
        raise ConfigurationError("no scaling: a circuit of the grid has no gradient at all")
    x, y = np.array(qubits, dtype=float), np.log([v.mean for v in variances])
    errors = np.array([max((v.high - v.low) / (2 * v.mean), 1e-9) for v in variances]) / 1.96
    weight = errors**-2 / (errors**-2).sum()
    x = x - weight @ x
    slope = (weight * x) @ y / (weight @ x**2)
    residual = y - weight @ y - slope * x
    misfit = float((residual**2 / errors**2).sum()) / (len(x) - 2)
    error = sqrt(max(1.0, misfit) / float((x**2 / errors**2).sum()))
    half = float(stdtrit(len(x) - 2, 0.975)) * error
    return Interval(exp(-slope), exp(-slope - half), exp(-slope + half), len(x))
