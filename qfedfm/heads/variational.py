"""The variational head: features -> projection -> scaled tanh -> circuit -> linear read-out.

The angle-encoding and data re-uploading classifiers of the literature (Schuld et al. 2020,
doi:10.1103/PhysRevA.101.032308; Perez-Salinas et al. 2020, doi:10.22331/q-2020-02-06-226) with a trainable linear layer
before and after, as in "dressed" circuits (Mari et al. 2020, doi:10.22331/q-2020-10-09-340). Either layer may be any
module, and `Parallel` puts several circuits side by side.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..declaration import declared
from ..errors import CircuitError, ConfigurationError
from ..params import Params
from ..quantum.library import load
from ..quantum.program import Circuit, Program, z_on_every_wire
from ..quantum.statevector import simulate
from .model import Execute, Model, activations_bytes
from .module import Module, layer, starts

CORE = "circuit."


@declared
class Variational:
    """A circuit between a trainable projection and a linear read-out.

    circuit: the name of a library circuit, a path to a .qasm file (or to the circuit.json of a run), a PennyLane
    function or QNode, a `Program` or a `Circuit`. sizes: overrides of the file's constants (`{"n": 4, "layers": 2}`),
    or for a PennyLane function the shape of each argument (`{"x": 4, "weights": [2, 4, 3]}`). input_scale: angles fed
    to the circuit lie in [-input_scale, input_scale] radians; None takes the circuit's own. before, after: modules in
    place of the projection (features -> inputs, then the scaled tanh) and the read-out (expectation values -> outputs).
    """

    circuit: str | Path | Program | Circuit | Callable[..., Any] = "strongly_entangling"
    sizes: dict[str, int | tuple[int, ...]] | None = None
    input_scale: float | None = None
    before: Module | None = None
    after: Module | None = None

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

    def scale(self, circuit: Circuit) -> float:
        """Return the largest angle fed to `circuit`, the resolved one, in radians."""
        return circuit.input_scale if self.input_scale is None else self.input_scale

    def bind(self, n_features: int, n_outputs: int) -> Model:
        """Return the model: projection (n_inputs, n_features), circuit.* angles, readout (n_outputs, n_observables)."""
        return _model({CORE: self}, self.before, self.after, n_features, n_outputs)


@declared
class Parallel:
    """Several circuits side by side between one projection and one read-out.

    circuits: each with its own slice of the projection, its own weights ("circuit.0.*", "circuit.1.*", ...) and scale;
    their expectation values stand one behind another before the read-out. before, after: as in `Variational`, for the
    whole head.
    """

    circuits: tuple[Variational, ...]
    before: Module | None = None
    after: Module | None = None

    def __post_init__(self) -> None:
        if not self.circuits:
            raise ConfigurationError("Parallel.circuits: expected one or more Variational heads; got none")
        if any(head.before or head.after for head in self.circuits):
            raise ConfigurationError(
                "Parallel.circuits: projection and read-out belong to the whole head: give before and after to Parallel"
            )

    def bind(self, n_features: int, n_outputs: int) -> Model:
        """Return the model: projection (all inputs, n_features), circuit.i.*, readout (n_outputs, all observables)."""
        heads = {f"{CORE}{i}.": head for i, head in enumerate(self.circuits)}
        return _model(heads, self.before, self.after, n_features, n_outputs)


def _model(
    heads: Mapping[str, Variational], before: Module | None, after: Module | None, n_features: int, n_outputs: int
) -> Model:
    """Return the model of circuits side by side; heads: by the prefix of their weights."""
    circuits = {prefix: head.resolve() for prefix, head in heads.items()}
    scales = {prefix: head.scale(circuits[prefix]) for prefix, head in heads.items()}
    for circuit in circuits.values():
        if circuit.program.n_inputs == 0:
            raise ConfigurationError(
                f"circuit '{circuit.name}' takes no data: a head's circuit needs at least one input"
            )
    widths = [circuit.program.n_inputs for circuit in circuits.values()]
    n_values = sum(len(circuit.observables) for circuit in circuits.values())
    projection = layer(before, "projection", n_features, sum(widths), "projection")
    readout = layer(after, "readout", n_values, n_outputs, "readout")
    angles = [
        replace(spec, name=prefix + spec.name)
        for prefix, circuit in circuits.items()
        for spec in circuit.program.weights
    ]

    def hybrid(params: Params, features: Tensor, execute: Execute) -> Tensor:
        slices = torch.split(torch.tanh(projection.apply(params, features)), widths, dim=-1)
        values = []
        for (prefix, circuit), turned in zip(circuits.items(), slices, strict=True):
            inputs = split_inputs(circuit.program, scales[prefix] * turned)
            weights = {spec.name: params[prefix + spec.name] for spec in circuit.program.weights}
            values.append(execute(circuit.program, inputs, weights, circuit.observables))
        return readout.apply(params, torch.cat(values, dim=-1))

    row_bytes = activations_bytes((n_features,)) + projection.row_bytes + readout.row_bytes
    row_bytes += sum(16 * 2**c.program.n_wires * (c.program.depth + 4) for c in circuits.values())
    first, *others = circuits.values()
    return Model(
        (*projection.specs, *angles, *readout.specs),
        lambda params, features: hybrid(params, features, simulate),
        (*projection.bounds, *(math.pi for _ in angles), *readout.bounds),
        row_bytes,
        first,
        hybrid,
        tuple(others),
        starts(projection, readout),
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
