"""Layer-wise learning: a circuit's layers are trained a few at a time, against flat landscapes and for fewer circuits
(Skolik et al. 2021, doi:10.1007/s42484-020-00036-4).

The layers are the leading axis of the circuit's weights. First the circuit grows: `start` layers in the first round,
`grow` more after every `rounds` rounds, only the newest `window` of them trained, layers still to come at angle zero.
Then, when all layers are there, contiguous parts of them are trained in turn, each a share of the circuit, for as many
rounds. What is not trained is frozen, and a machine runs no points for it. Departures from the paper: growth goes by
rounds of the federation, at one pace for all clients; gates without an angle in layers still to come do act.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ..declaration import declared
from ..errors import ConfigurationError
from ..heads.model import Model
from ..params import Params
from .optimizers import Adam, check_rates
from .problem import Problem
from .rules import Divided, FirstOrder


@declared
class LayerWise:
    """lr, rates: as in `Adam`, which trains what is not frozen. start, grow, rounds, window: layers at first, layers
    more each time, rounds between, newest layers that are trained. share: of all layers that one part holds once the
    circuit has grown.
    """

    lr: float = 0.01
    start: Annotated[int, Field(ge=1)] = 1
    grow: Annotated[int, Field(ge=1)] = 1
    rounds: Annotated[int, Field(ge=1)] = 1
    window: Annotated[int, Field(ge=1)] = 1
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    rates: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_rates("LayerWise", self.lr, self.rates)

    def bind(self, model: Model, round: int) -> "LayerWiseRule":
        """Return the rule of a round; raise `ConfigurationError` for circuit weights without layers."""
        names = Divided.of(model).circuit
        shapes = {spec.name: spec.shape for spec in model.specs if spec.name in names}
        flat = [name for name, shape in shapes.items() if len(shape) < 2]
        if flat or len({shape[0] for shape in shapes.values()}) > 1:
            raise ConfigurationError(
                "LayerWise needs circuit weights of two or more axes, the first, of equal length in all, being layers; "
                f"got {shapes}"
            )
        layers = next((shape[0] for shape in shapes.values()), 0)
        there, trained = self.plan(layers, round) if layers else (0, range(0))
        moving, present = {}, {}
        for name, shape in shapes.items():
            moving[name], present[name] = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
            moving[name][trained.start : trained.stop] = True
            present[name][:there] = True
        return LayerWiseRule(FirstOrder(Adam(self.lr, rates=self.rates), moving), present)

    def plan(self, layers: int, round: int) -> tuple[int, range]:
        """Return how many of all layers are there in a round, and which are trained."""
        stage = (round - 1) // self.rounds
        growing = max(0, math.ceil((layers - self.start) / self.grow))
        if stage <= growing:
            there = min(layers, self.start + stage * self.grow)
            return there, range(max(0, there - max(self.window, self.start if stage == 0 else 0)), there)
        part = max(1, round_up(self.share * layers))
        begin = (stage - growing - 1) % math.ceil(layers / part) * part
        return layers, range(begin, min(layers, begin + part))


@dataclass(frozen=True)
class LayerWiseRule:
    """See `LayerWise`; present: which entries are there, the others being zero."""

    inner: FirstOrder
    present: Params

    def init(self, params: Params) -> Params:
        """Return Adam's state."""
        return self.inner.init(params)

    def advance(self, problem: Problem, params: Params, state: Params, rates: Params) -> Tensor:
        """Take Adam's step with what is trained; layers still to come are set to zero before it."""
        for name, mask in self.present.items():
            params[name].masked_fill_(~mask.to(params[name].device), 0)
        return self.inner.advance(problem, params, state, rates)


def round_up(value: float) -> int:
    """Return the smallest whole number that is not below `value` by more than rounding."""
    return math.ceil(value - 1e-9)
