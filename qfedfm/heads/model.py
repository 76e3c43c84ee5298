"""What a head is: a declaration that binds to sizes and becomes a model.

A `Head` is declared before the data is known; `bind(n_features, n_outputs)` gives a `Model`: parameter specs, an
initial value and one pure function over a whole cohort. Training, aggregation and evaluation see nothing but the model,
so a circuit and a linear layer are trained by the same code.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import ConfigurationError
from ..params import TORCH_DTYPES, Params, ParamSpec, Part, Specs
from ..quantum.program import Circuit, Observable, Program
from ..seeds import stream

Precision = Literal["float32", "float64"]
Execute = Callable[[Program, Mapping[str, Tensor], Mapping[str, Tensor], Sequence[Observable]], Tensor]
"""What runs a circuit: program, inputs {name: (C, R, *)}, weights {name: (C, *)} and observables to (C, R, K)."""


@dataclass(frozen=True)
class Model:
    """A head bound to its sizes.

    apply: (params {name: (C, *shape)}, features (C, R, n_features)) -> outputs (C, R, n_outputs), pure and
    differentiable. hybrid: the same with what runs the circuits as a third argument, `apply` being that on the exact
    simulator; None in a classical head, and in one whose circuits run nowhere else. bounds: per parameter the
    half-width of its uniform initial distribution. start: seed -> initial values of the parameters that have another
    one. circuit: what a row runs through, None in a classical head. beside: further circuits that it runs through.
    row_bytes: memory that training needs for one row of one client, an estimate.
    """

    specs: Specs
    apply: Callable[[Params, Tensor], Tensor]
    bounds: tuple[float, ...]
    row_bytes: int
    circuit: Circuit | None = None
    hybrid: Callable[[Params, Tensor, Execute], Tensor] | None = None
    beside: tuple[Circuit, ...] = ()
    start: Callable[[int], Params] | None = None

    def on(self, execute: Execute) -> "Model":
        """Return the same model with its circuits run by `execute`; raise `ConfigurationError` if that cannot be."""
        if self.circuit is None:
            return self
        hybrid = self.hybrid
        if hybrid is None:
            raise ConfigurationError(
                f"circuit '{self.circuit.name}' of this head can only be simulated exactly: use backend=Exact(), or a "
                "Variational head"
            )
        return replace(self, apply=lambda params, features: hybrid(params, features, execute))

    def init(self, seed: int) -> Params:
        """Return server parameters `{name: (*shape)}`, every entry uniform in [-bound, bound], or as `start` has it.

        Each parameter is drawn from a stream of its own, so that twins begin at the same projection and read-out.
        """
        params: Params = {}
        started = self.start(seed) if self.start else {}
        for spec, bound in zip(self.specs, self.bounds, strict=True):
            values: Any = started.get(spec.name)
            if values is None:
                values = stream(seed, "init", spec.name).uniform(-bound, bound, spec.shape)
            params[spec.name] = torch.as_tensor(values, dtype=spec.torch_dtype)
        return params

    def with_precision(self, precision: Precision) -> "Model":
        """Return the same model with parameters of another floating-point type."""
        specs = tuple(replace(spec, dtype=precision) for spec in self.specs)
        grown = TORCH_DTYPES[precision].itemsize / self.dtype.itemsize
        return replace(self, specs=specs, row_bytes=round(self.row_bytes * grown))

    @property
    def circuits(self) -> tuple[Circuit, ...]:
        """Every circuit that a row runs through."""
        return () if self.circuit is None else (self.circuit, *self.beside)

    @property
    def kept(self) -> Specs:
        """The specs of what each client trains and keeps for itself; empty unless the head is personalised."""
        return tuple(spec for spec in self.specs if spec.trainable and not spec.shared)

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of all parameters."""
        return TORCH_DTYPES[self.specs[0].dtype]

    def count(self) -> dict[str, int]:
        """Return the number of trainable "classical" and "quantum" parameters."""
        quantum = sum(spec.size for spec in self.specs if self.circuit and spec.part == "core" and spec.trainable)
        return {"classical": sum(spec.size for spec in self.specs if spec.trainable) - quantum, "quantum": quantum}


@runtime_checkable
class Head(Protocol):
    """A declared head: binds to the number of features and outputs."""

    def bind(self, n_features: int, n_outputs: int) -> Model:
        """Return the model, in float32."""
        ...


@runtime_checkable
class HoldsCircuit(Protocol):
    """A declaration around a circuit of the library, of a file or of the user's own; `resolve` reads or lowers it.

    Saved runs and identities hold the circuit itself, so that neither changes with the file or function it came from.
    """

    circuit: Any
    sizes: Any

    def resolve(self) -> Circuit:
        """Return the circuit; raise `CircuitError` if it cannot be had."""
        ...


def dense(name: str, n_in: int, n_out: int, part: Part) -> tuple[tuple[ParamSpec, ParamSpec], tuple[float, float]]:
    """Return specs and initial bounds of a linear layer: weight (n_out, n_in), bias (n_out,), both 1/sqrt(n_in)."""
    bound = 1 / math.sqrt(n_in)
    specs = ParamSpec(f"{name}.weight", (n_out, n_in), part=part), ParamSpec(f"{name}.bias", (n_out,), part=part)
    return specs, (bound, bound)


def apply_dense(params: Params, name: str, rows: Tensor) -> Tensor:
    """Return rows (C, R, n_in) times the weight of each client, plus bias: (C, R, n_out)."""
    return torch.baddbmm(params[f"{name}.bias"].unsqueeze(1), rows, params[f"{name}.weight"].mT)


def activations_bytes(widths: Sequence[int]) -> int:
    """Return the float32 bytes a row keeps for layers of these widths, forward and backward."""
    return 4 * 4 * sum(widths)
