"""What a circuit is examined on: random weights, and rows of angles.

Random sets of weights are clients on the simulator's leading axis, each with one row of data of its own, so that the
sets are independent and one call takes all of them. Weights are drawn as a `Variational` head draws its first ones,
uniformly from [-pi, pi]: what is found is true of the beginning of a run.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..data import Dataset, Source
from ..errors import ConfigurationError
from ..heads.model import Head
from ..heads.module import layer
from ..heads.variational import Variational, split_inputs
from ..params import Params
from ..quantum.program import Circuit, Program
from ..quantum.statevector import state_bytes
from ..seeds import stream

Data = Dataset | Source | ArrayLike | Tensor | None
Tensors = dict[str, Tensor]
BUDGET = 2**28
"""Bytes of states that are held at once."""


def random_weights(program: Program, count: int, generator: np.random.Generator) -> Tensors:
    """Return `count` sets of weights, name to (count, *shape) float64, uniform in [-pi, pi]."""
    return {
        spec.name: torch.from_numpy(generator.uniform(-math.pi, math.pi, (count, *spec.shape)))
        for spec in program.weights
    }


def random_rows(circuit: Circuit, angles: Tensor | None, count: int, generator: np.random.Generator) -> Tensors:
    """Return one row for each of `count` clients, name to (count, 1, *shape) float64.

    angles: (rows, n_inputs) radians to draw from, with replacement; None draws from [-input_scale, input_scale].
    Raises `ConfigurationError` for another width, or values that are not finite.
    """
    program = circuit.program
    if not program.inputs:
        return {}
    if angles is None:
        bound = circuit.input_scale
        chosen = torch.from_numpy(generator.uniform(-bound, bound, (count, program.n_inputs)))
    else:
        wanted = ("rows", program.n_inputs)
        if angles.dim() != 2 or angles.shape[1] != program.n_inputs or not len(angles):
            raise ConfigurationError(f"angles of circuit '{circuit.name}' are {wanted}; got {tuple(angles.shape)}")
        if not torch.isfinite(angles).all():
            raise ConfigurationError(f"angles of circuit '{circuit.name}' should be finite; some are not")
        chosen = angles.double()[torch.from_numpy(generator.integers(len(angles), size=count))]
    return split_inputs(program, chosen.unsqueeze(1))


def at_least_two(name: str, count: int) -> None:
    """Raise `ConfigurationError` for a number of samples that has no spread."""
    if count < 2:
        raise ConfigurationError(f"{name}: expected two or more, for a sampling error needs a spread; got {count}")


def portions(program: Program, *sets: Tensors) -> Iterator[list[Tensors]]:
    """Yield clients of `sets`, as many at a time as have states within `BUDGET`."""
    count = max((len(tensor) for tensors in sets for tensor in tensors.values()), default=1)
    some = max(1, BUDGET // state_bytes(program, None, 1, 1, torch.float64, gradient=False))
    for first in range(0, count, some):
        yield [{name: tensor[first : first + some] for name, tensor in tensors.items()} for tensors in sets]


def variational(head: Head) -> Variational:
    """Return `head`; raise `ConfigurationError` if it has no trained circuit that can be examined."""
    if not isinstance(head, Variational):
        raise ConfigurationError(f"expected a Variational head, which has a trained circuit; got {head!r:.100}")
    return head


def features_of(data: Data, n_inputs: int, seed: int, rows: int = 1536) -> tuple[Tensor, int | None]:
    """Return features (rows, F), float64, and the number of classes where `data` says it.

    data: a data set of numbers or its source, or features (rows, F) such as `qf.backbones.features(...)` returns. None
    stands for `rows` rows of independent standard normal features, one for each of `n_inputs`: of mean square 1, as
    every backbone's are. Raises `ConfigurationError` for texts, other shapes and values that are not finite.
    """
    if data is None:
        return torch.from_numpy(stream(seed, "examined", "features").standard_normal((rows, n_inputs))), None
    dataset = data.load() if isinstance(data, Source) else data
    items, classes = (dataset.items, len(dataset.classes)) if isinstance(dataset, Dataset) else (dataset, None)
    if isinstance(items, tuple) and items and isinstance(items[0], str):
        raise ConfigurationError(
            "the data are texts and a head reads features: pass qf.backbones.features(backbone, dataset)"
        )
    try:
        table = torch.as_tensor(np.asarray(items, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"features are numbers (rows, features); got {type(items).__name__}: {error}"
        ) from None
    if table.dim() != 2 or 0 in table.shape or not torch.isfinite(table).all():
        raise ConfigurationError(f"features are finite numbers (rows, features); got shape {tuple(table.shape)}")
    return table, classes


def encode(head: Variational, params: Params, features: Tensor) -> Tensor:
    """Return the angles (rows, n_inputs) that `head` feeds its circuit; params: {name: (*shape)}, as in a result."""
    circuit = head.resolve()
    projection = layer(head.before, "projection", features.shape[1], circuit.program.n_inputs, "projection")
    own = {name: tensor.unsqueeze(0).to(features) for name, tensor in params.items()}
    return head.scale(circuit) * torch.tanh(projection.apply(own, features.unsqueeze(0)))[0]
