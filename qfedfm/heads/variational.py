"""The variational head: features -> projection -> scaled tanh -> circuit -> linear read-out.

The angle-encoding and data re-uploading classifiers of the literature (Schuld et al. 2020,
doi:10.1103/PhysRevA.101.032308; Perez-Salinas et al. 2020, doi:10.22331/q-2020-02-06-226) with a trainable linear layer
before and after, as in "dressed" circuits (Mari et al. 2020, doi:10.22331/q-2020-10-09-340).
"""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..declaration import declared
from ..errors import CircuitError, ConfigurationError
from ..params import Params, ParamSpec
from ..quantum.library import load
from ..quantum.program import Circuit, Program, z_on_every_wire
from ..quantum.statevector import simulate
from .model import Execute, Model, activations_bytes, apply_dense, dense

CORE = "circuit."


@declared
class Variational:
    """A circuit between a trainable projection and a linear read-out.

    circuit: the name of a library circuit, a path to a .qasm file (or to the circuit.json of a run), a PennyLane
    function or QNode, a `Program` or a `Circuit`. sizes: overrides of the file's constants (`{"n": 4, "layers": 2}`),
    or for a PennyLane function the shape of each argument (`{"x": 4, "weights": [2, 4, 3]}`). input_scale: angles fed
    to the circuit lie in [-input_scale, input_scale] radians; None takes the circuit's own.
    """

    circuit: str | Path | Program | Circuit | Callable[..., Any] = "strongly_entangling"
    sizes: dict[str, int | tuple[int, ...]] | None = None
    input_scale: float | None = None

    def __post_init__(self) -> None:
        if self.input_scale is not None and not 0 < self.input_scale < math.inf:
            raise ConfigurationError(
                f"Variational.input_scale: expected a positive number of radians; got {self.input_scale}"
            )
        if self.sizes and isinstance(self.circuit, Program | Circuit):
            raise ConfigurationError("Variational.sizes: a Program or Circuit has its sizes already; leave them out")

    def resolve(self) -> Circuit:
        """Return the circuit, read from file or lowered from the function; raise `CircuitError` if it cannot be."""
        sizes = self.sizes or {}
        if isinstance(self.circuit, Circuit):
            return self.circuit
        if isinstance(self.circuit, Program):
            return Circuit(self.circuit, z_on_every_wire(self.circuit.n_wires))
        if isinstance(self.circuit, Path) and self.circuit.suffix == ".json":
            return _saved(self.circuit, sizes)
        if isinstance(self.circuit, str | Path):
            shaped = [name for name, size in sizes.items() if not isinstance(size, int)]
            if shaped:
                raise ConfigurationError(
                    f"Variational.sizes: sizes of a circuit file are whole numbers; {shaped} are not"
                )
            return load(self.circuit, {name: size for name, size in sizes.items() if isinstance(size, int)})
        from ..quantum.pennylane import lower

        return lower(self.circuit, {name: (size,) if isinstance(size, int) else size for name, size in sizes.items()})

    def bind(self, n_features: int, n_outputs: int) -> Model:
        """Return the model: projection (n_inputs, n_features), circuit.* angles, readout (n_outputs, n_observables)."""
        circuit = self.resolve()
        program = circuit.program
        scale = circuit.input_scale if self.input_scale is None else self.input_scale
        if program.n_inputs == 0:
            raise ConfigurationError(
                f"circuit '{circuit.name}' takes no data: a head's circuit needs at least one input"
            )
        before, before_bounds = dense("projection", n_features, program.n_inputs, "projection")
        after, after_bounds = dense("readout", len(circuit.observables), n_outputs, "readout")
        angles = tuple(replace(spec, name=CORE + spec.name) for spec in program.weights)

        def hybrid(params: Params, features: Tensor, execute: Execute) -> Tensor:
            inputs = split_inputs(program, scale * torch.tanh(apply_dense(params, "projection", features)))
            weights = {spec.name: params[CORE + spec.name] for spec in program.weights}
            return apply_dense(params, "readout", execute(program, inputs, weights, circuit.observables))

        specs: tuple[ParamSpec, ...] = (*before, *angles, *after)
        return Model(
            specs,
            lambda params, features: hybrid(params, features, simulate),
            (*before_bounds, *(math.pi for _ in angles), *after_bounds),
            activations_bytes((n_features, program.n_inputs, n_outputs))
            + 16 * 2**program.n_wires * (program.depth + 4),
            circuit,
            hybrid,
        )


def split_inputs(program: Program, angles: Tensor) -> dict[str, Tensor]:
    """Return angles (C, R, n_inputs) as the program's inputs {name: (C, R, *shape)}."""
    parts = torch.split(angles, [math.prod(shape) for _, shape in program.inputs], dim=-1)
    return {
        name: part.reshape(*angles.shape[:2], *shape) for (name, shape), part in zip(program.inputs, parts, strict=True)
    }


def _saved(path: Path, sizes: dict[str, Any]) -> Circuit:
    if sizes:
        raise ConfigurationError(f"Variational.sizes: the saved circuit {path} has its sizes already; leave them out")
    try:
        return Circuit.from_json(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise CircuitError(f"circuit file {path} cannot be read: {error}") from None
