"""Optimisers at work: what a declaration becomes for one model and one round.

Adam and Sgd see gradients only and serve any model. A `CircuitOptimizer` treats the weights of a circuit in a way of
its own: it is bound to a model, as a head is bound to sizes, and may ask a step's `Problem` for more than a gradient.
All other parameters, and all of a model without a circuit that a machine can run (a classical twin), follow Adam.
"""

from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import ConfigurationError
from ..heads.model import Model
from ..params import Params
from .optimizers import Adam, Optimizer
from .problem import Call, Problem


class Rule(Protocol):
    """An optimiser bound to a model."""

    def init(self, params: Params) -> Params:
        """Return the state of a fresh optimiser for parameters (C, *shape), each entry with a client axis."""
        ...

    def advance(self, problem: Problem, params: Params, state: Params, rates: Params) -> Tensor:
        """Take one step: update trained `params` and `state` in place; rates {name: (C,)}.

        Returns the loss of each row before it, (C, R).
        """
        ...


@runtime_checkable
class CircuitOptimizer(Protocol):
    """A declared optimiser of circuits: a frozen dataclass with these two fields, which a grid may replace."""

    @property
    def lr(self) -> float:
        """The learning rate of all parts but those in `rates`."""
        ...

    @property
    def rates(self) -> dict[str, float]:
        """Learning rates by part."""
        ...

    def bind(self, model: Model, round: int) -> Rule:
        """Return the rule for a model in a round, counted from 1; raise `ConfigurationError` if it cannot train it."""
        ...


@dataclass(frozen=True)
class FirstOrder:
    """A rule that sees gradients only; moving: which entries of some parameters it may change (*shape)."""

    optimizer: Optimizer
    moving: Params = field(default_factory=dict)

    def init(self, params: Params) -> Params:
        """Return the optimiser's own state."""
        return self.optimizer.init(params)

    def advance(self, problem: Problem, params: Params, state: Params, rates: Params) -> Tensor:
        """Take one step along the gradients."""
        moving = {name: mask.to(params[name].device) for name, mask in self.moving.items()}
        losses, grads = problem.gradients(params, moving=moving)
        before = {name: params[name].clone() for name in moving}
        self.optimizer.step(params, grads, state, rates)
        for name, mask in moving.items():  # what has momentum would go on
            params[name].copy_(torch.where(mask, params[name], before[name]))
        return losses


@dataclass(frozen=True)
class Divided:
    """Trained parameters of a model: the weights of its circuit, and the rest, which Adam trains."""

    circuit: tuple[str, ...]
    rest: tuple[str, ...]

    @classmethod
    def of(cls, model: Model) -> "Divided":
        """Return the parts of a model; one whose circuit no machine can run has no circuit weights to train."""
        trained = [spec for spec in model.specs if spec.trainable]
        circuit = tuple(spec.name for spec in trained if model.hybrid is not None and spec.part == "core")
        return cls(circuit, tuple(spec.name for spec in trained if spec.name not in circuit))

    def init(self, params: Params) -> Params:
        """Return Adam's state for the rest."""
        return Adam().init({name: params[name] for name in self.rest}) if self.rest else {}

    def step_rest(self, params: Params, grads: Params, state: Params, rates: Params) -> None:
        """Take a step of the rest in place."""
        if self.rest:
            Adam().step({name: params[name] for name in self.rest}, grads, state, rates)


def rule_of(optimizer: Optimizer | CircuitOptimizer, model: Model, round: int) -> Rule:
    """Return an optimiser's rule for a model in a round."""
    return optimizer.bind(model, round) if isinstance(optimizer, CircuitOptimizer) else FirstOrder(optimizer)


def at_rate(optimizer: Optimizer | CircuitOptimizer, lr: float) -> Optimizer | CircuitOptimizer:
    """Return an optimiser at another learning rate, rates of single parts moved in proportion."""
    rates = {part: value * lr / optimizer.lr for part, value in optimizer.rates.items()}
    moved: Optimizer | CircuitOptimizer = replace(optimizer, lr=lr, rates=rates)  # type: ignore[type-var]  # a protocol of dataclasses
    return moved


def own_weights(call: Call, owner: str) -> None:
    """Raise `ConfigurationError` unless each weight of a circuit is a parameter of the model, as it is."""
    if missing := [spec.name for spec in call.program.weights if spec.name not in call.names]:
        raise ConfigurationError(
            f"{owner} needs heads that hand their parameters to the circuit as they are; this one computes "
            f"{', '.join(missing)}: use Adam or Sgd"
        )
