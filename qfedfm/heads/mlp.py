"""A multi-layer perceptron with tanh layers; with the right widths it is the classical twin of a variational head."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Params
from .model import Model, activations_bytes
from .module import Module, layer, starts


@declared
class Mlp:
    """features -> squash * tanh(projection) -> tanh(core.1) -> ... -> linear readout.

    hidden: widths of the hidden layers, the first being the projection. squash: factor on the first tanh, which lets
    the twin of a quantum head hand its core the same angles that the circuit gets. before, after: modules in place of
    the projection and the read-out.
    """

    hidden: tuple[int, ...] = (16,)
    squash: float = 1.0
    before: Module | None = None
    after: Module | None = None

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ConfigurationError(
                f"Mlp.hidden: expected one or more positive widths such as [16]; got {list(self.hidden)}"
            )
        if not 0 < self.squash < math.inf:
            raise ConfigurationError(f"Mlp.squash: expected a positive number; got {self.squash}")

    def bind(self, n_features: int, n_outputs: int) -> Model:
        """Return the model with layers projection, core.1, core.2, ... and readout."""
        projection = layer(self.before, "projection", n_features, self.hidden[0], "projection")
        cores = [layer(None, f"core.{i}", *sizes, "core") for i, sizes in enumerate(pairwise(self.hidden), start=1)]
        readout = layer(self.after, "readout", self.hidden[-1], n_outputs, "readout")
        layers = (projection, *cores, readout)

        def apply(params: Params, features: Tensor) -> Tensor:
            rows = self.squash * torch.tanh(projection.apply(params, features))
            for core in cores:
                rows = torch.tanh(core.apply(params, rows))
            return readout.apply(params, rows)

        return Model(
            tuple(spec for each in layers for spec in each.specs),
            apply,
            tuple(bound for each in layers for bound in each.bounds),
            activations_bytes((n_features,)) + sum(each.row_bytes for each in layers),
            start=starts(*layers),
        )
