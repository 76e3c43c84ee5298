"""The quantum kernel head: features -> fixed projection -> kernel with landmarks -> trainable linear read-out.

Two kernels of the states that a circuit encodes rows into: the fidelity |<psi(x)|psi(y)>|^2 (Havlicek et al. 2019,
doi:10.1038/s41586-019-0980-2), and the projected kernel exp(-gamma sum_q ||rho_q(x) - rho_q(y)||^2) over the reduced
states of single qubits (Huang et al. 2021, doi:10.1038/s41467-021-22539-9), with the Frobenius norm. Training is
convex: the circuit is a fixed feature map, and only the read-out of the Nystroem features (see `nystroem`) is trained.
Its classical twin is `Rbf`.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..declaration import declared
from ..errors import ConfigurationError
from ..quantum.overlaps import squared_overlaps
from ..quantum.program import Circuit, Observable, Program
from ..quantum.statevector import simulate, states
from ..seeds import stream
from .model import Model
from .nystroem import Encoding, Similarity, kernel_model, projection, random_landmarks
from .variational import Variational, split_inputs


@declared
class Kernel:
    """A quantum kernel with Nystroem landmarks.

    circuit, sizes, input_scale: as in `Variational`. Its weights are constants, drawn from `seed`: angles over their
    period, other weights from [-1, 1]. A circuit that takes the data once, before its weights, has a fidelity kernel
    that does not depend on what comes after (a product of cosines for an angle encoding); "iqp" and re-uploading
    circuits do better. landmarks: how many to draw from `seed`, or the points themselves, (m, n_inputs) in radians.
    projected: the projected kernel with `gamma` instead of the fidelity. scaling: factor on the projected features
    before tanh, which with features of mean square 1 (MiniLM's) is the typical angle in units of input_scale. It is the
    inverse of the kernel's bandwidth (Shaydulin and Wild 2022, doi:10.1103/PhysRevA.106.042407): tune it, for a large
    one makes all rows dissimilar.
    """

    circuit: str | Path | Program | Circuit | Callable[..., Any] = "iqp"
    sizes: dict[str, int | tuple[int, ...]] | None = None
    input_scale: float | None = None
    landmarks: int | tuple[tuple[float, ...], ...] = 32
    projected: bool = False
    gamma: float = 1.0
    scaling: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = [
            f"Kernel.{name}: expected a positive number; got {value}"
            for name, value in (("gamma", self.gamma), ("scaling", self.scaling))
            if not 0 < value < math.inf
        ]
        if self.landmarks == () or (isinstance(self.landmarks, int) and self.landmarks < 1):
            wrong.append(f"Kernel.landmarks: expected at least one, as a number or as points; got {self.landmarks}")
        if wrong:
            raise ConfigurationError(wrong)
        self._source()

    def resolve(self) -> Circuit:
        """Return the circuit; raise `CircuitError` if it cannot be had, `ConfigurationError` if it takes no data."""
        circuit = self._source().resolve()
        if circuit.program.n_inputs == 0:
            raise ConfigurationError(f"circuit '{circuit.name}' takes no data: a kernel's circuit needs an input")
        return circuit

    def _source(self) -> Variational:
        """Return the variational head of the same circuit, which knows how to read and check it."""
        return Variational(self.circuit, self.sizes, self.input_scale)

    def bind(self, n_features: int, n_outputs: int) -> Model:
        """Return the model with parameters readout.weight (n_outputs, m) and readout.bias (n_outputs,)."""
        circuit = self.resolve()
        return kernel_model(self.similarity(circuit), self.encoding(circuit, n_features), n_outputs, circuit)

    def encoding(self, circuit: Circuit, n_features: int) -> Encoding:
        """Return the way from features to the circuit's inputs, with the landmarks; raise `ConfigurationError`."""
        n = circuit.program.n_inputs
        scale = circuit.input_scale if self.input_scale is None else self.input_scale
        if isinstance(self.landmarks, int):
            points = random_landmarks(self.landmarks, n, scale, self.scaling, self.seed)
        elif all(len(point) == n for point in self.landmarks):
            points = torch.tensor(self.landmarks, dtype=torch.float64)
        else:
            widths = sorted({len(point) for point in self.landmarks})
            raise ConfigurationError(
                f"Kernel.landmarks: circuit '{circuit.name}' takes {n} values; got points of {widths} values"
            )
        return Encoding(projection(n, n_features, self.seed), points, scale, self.scaling)

    def similarity(self, circuit: Circuit) -> Similarity:
        """Return the kernel of angles."""
        program = circuit.program
        weights = {spec.name: self._constant(spec.name, spec.shape, spec.period) for spec in program.weights}

        def state(angles: Tensor) -> Tensor:
            return states(program, split_inputs(program, angles[None]), _like(weights, angles))[0]

        def bloch(angles: Tensor) -> Tensor:
            return simulate(
                program, split_inputs(program, angles[None]), _like(weights, angles), _every_pauli(program.n_wires)
            )[0]

        embedding = 4 * 8 * 2**program.n_wires  # four states in complex64, without gradient
        if not self.projected:
            return Similarity(state, lambda rows, points: squared_overlaps(rows, points), embedding)
        # ||rho - rho'||^2 = |r - r'|^2 / 2 for the Bloch vectors r of a qubit
        count = self.landmarks if isinstance(self.landmarks, int) else len(self.landmarks)
        return Similarity(bloch, gaussian(self.gamma / 2), embedding + 8 * count * 3 * program.n_wires)

    def _constant(self, name: str, shape: tuple[int, ...], period: float | None) -> Tensor:
        bound = 1.0 if period is None else period / 2
        return torch.from_numpy(stream(self.seed, "kernel", "circuit", name).uniform(-bound, bound, (1, *shape)))


def gaussian(gamma: float) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the kernel exp(-gamma |x - y|^2) of rows (R, d) and points (m, d), as (R, m)."""

    def compare(rows: Tensor, points: Tensor) -> Tensor:
        return torch.exp(-gamma * (rows.unsqueeze(1) - points).square().sum(-1))

    return compare


def _like(weights: dict[str, Tensor], angles: Tensor) -> dict[str, Tensor]:
    return {name: tensor.to(angles) for name, tensor in weights.items()}


def _every_pauli(n_wires: int) -> tuple[Observable, ...]:
    return tuple(((1.0, ((wire, axis),)),) for wire in range(n_wires) for axis in "XYZ")
