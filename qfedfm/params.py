"""Parameters and what they are.

A set of parameters is a plain `dict` of tensors in the order of its specs: `(clients, *shape)` while a cohort trains,
`(*shape)` on the server. A `ParamSpec` tells aggregation, codecs and privacy what a tensor means: an angle lives on a
circle of circumference `period`, a linear weight does not.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

Params = dict[str, Tensor]
Kind = Literal["linear", "angular", "factor", "generator"]
Part = Literal["backbone", "projection", "core", "readout"]
TORCH_DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class ParamSpec:
    """What one named parameter tensor is.

    shape: without the client axis. kind: "linear"; "angular" with its `period` in radians (the parameter and the
    parameter plus one period mean the same); "factor" of a low-rank product with its `pair`; "generator" of an
    orthogonal matrix. part: where in the model it sits, "core" being the circuit or the classical layer in its
    place; learning rates are set by part. shared: whether it travels to the server.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Literal["float32", "float64"] = "float32"
    kind: Kind = "linear"
    period: float | None = None
    part: Part = "readout"
    trainable: bool = True
    shared: bool = True
    pair: str | None = None

    def __post_init__(self) -> None:
        if "/" in self.name or not self.name:
            raise ValueError(f"parameter '{self.name}': a name has at least one character and no slash")
        if (self.kind == "angular") != (self.period is not None):
            raise ValueError(f"parameter '{self.name}': angular parameters have a period and no others do")

    @property
    def size(self) -> int:
        """Return the number of entries."""
        return prod(self.shape)

    @property
    def torch_dtype(self) -> torch.dtype:
        """Return the dtype as torch names it."""
        return TORCH_DTYPES[self.dtype]


Specs = tuple[ParamSpec, ...]


def specs_hash(specs: Sequence[ParamSpec]) -> str:
    """Return the sha256 of the canonical JSON of `specs`, in hex: parties with equal hashes mean the same tensors."""
    text = json.dumps([asdict(spec) for spec in specs], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def params_hash(params: Mapping[str, Tensor]) -> str:
    """Return the sha256 of names, shapes and little-endian values, in hex: which model an update started from."""
    digest = hashlib.sha256()
    for name, tensor in params.items():
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(json.dumps([name, array.dtype.str, list(array.shape)]).encode())
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.hexdigest()


def stack(many: Sequence[Mapping[str, Tensor]]) -> Params:
    """Return `(len(many), *shape)` tensors from that many sets of parameters of equal shapes."""
    return {name: torch.stack([params[name] for params in many]) for name in many[0]}


def unstack(params: Mapping[str, Tensor]) -> list[Params]:
    """Return one set of parameters for each entry of the leading axis; the opposite of `stack`."""
    columns = {name: tensor.unbind(0) for name, tensor in params.items()}
    count = len(next(iter(columns.values())))
    return [{name: column[i] for name, column in columns.items()} for i in range(count)]


def misfit(tensors: Mapping[str, Tensor], specs: Sequence[ParamSpec]) -> str:
    """Return why `tensors` cannot be what `specs` describe (missing, misshapen, not finite), or an empty string."""
    for spec in specs:
        tensor = tensors.get(spec.name)
        if not isinstance(tensor, Tensor):
            return f"parameter '{spec.name}' is missing"
        if tuple(tensor.shape) != spec.shape or tensor.dtype != spec.torch_dtype:
            got = f"{tensor.dtype} {tuple(tensor.shape)}"
            return f"parameter '{spec.name}' is {got}; expected {spec.torch_dtype} {spec.shape}"
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            return f"parameter '{spec.name}' has {bad} of {spec.size} values that are NaN or infinite"
    if len(tensors) != len(specs):
        return f"unexpected parameters {sorted(set(tensors) - {spec.name for spec in specs})}"
    return ""


def wrap(angle: Tensor, period: float) -> Tensor:
    """Return `angle` moved by whole periods into [-period/2, period/2)."""
    return torch.remainder(angle + period / 2, period) - period / 2


def difference(new: Mapping[str, Tensor], old: Mapping[str, Tensor], specs: Sequence[ParamSpec]) -> Params:
    """Return `new - old` for every spec, with angular entries wrapped to the shortest way round the circle."""
    delta: Params = {}
    for spec in specs:
        delta[spec.name] = new[spec.name] - old[spec.name]
        if spec.period is not None:
            delta[spec.name] = wrap(delta[spec.name], spec.period)
    return delta
