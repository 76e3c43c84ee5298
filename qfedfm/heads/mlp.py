"""A multi-layer perceptron with tanh layers; with the right widths it is the classical twin of a variational head."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Params
from .model import Model, activations_bytes, apply_dense, dense


@declared
class Mlp:
    """features -> squash * tanh(projection) -> tanh(core.1) -> ... -> linear readout.

    hidden: widths of the hidden layers, the first being the projection. squash: factor on the first tanh, which lets
    the twin of a quantum head hand its core the same angles that the circuit gets.
    """

    hidden: tuple[int, ...] = (16,)
    squash: float = 1.0

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigurationError(
                f"Mlp.hidden: expected one or more positive widths such as [16]; got {list(self.hidden)}"
            )
        if not 0 < self.squash < math.inf:
            raise ConfigurationError(f"Mlp.squash: expected a positive number; got {self.squash}")

    def bind(self, n_features: int, n_outputs: int) -> Model:
        """Return the model with layers projection, core.1, core.2, ... and readout."""
        layers = [dense("projection", n_features, self.hidden[0], "projection")]
        cores = [f"core.{i}" for i in range(1, len(self.hidden))]
        layers += [dense(name, *sizes, "core") for name, sizes in zip(cores, pairwise(self.hidden), strict=True)]
        layers.append(dense("readout", self.hidden[-1], n_outputs, "readout"))

        def apply(params: Params, features: Tensor) -> Tensor:
            rows = self.squash * torch.tanh(apply_dense(params, "projection", features))
            for name in cores:
                rows = torch.tanh(apply_dense(params, name, rows))
            return apply_dense(params, "readout", rows)

        return Model(
            tuple(spec for specs, _ in layers for spec in specs),
            apply,
            tuple(bound for _, bounds in layers for bound in bounds),
            activations_bytes((n_features, *self.hidden, n_outputs)),
        )
