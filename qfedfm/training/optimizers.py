"""Optimisers whose parameters, state and learning rates carry a client axis.

`torch.optim` steps one model; here row c of every tensor belongs to client c, which may have its own learning rate.
"""

import math
from dataclasses import field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Params

COUNT = "steps"


@runtime_checkable
class Optimizer(Protocol):
    """A first-order rule on cohort tensors: a frozen dataclass with these two fields, which a grid may replace."""

    @property
    def lr(self) -> float:
        """The learning rate of all parts but those in `rates`."""
        ...

    @property
    def rates(self) -> dict[str, float]:
        """Learning rates by part."""
        ...

    def init(self, params: Params) -> Params:
        """Return the state of a fresh optimiser for parameters (C, *shape), each entry with a client axis."""
        ...

    def step(self, params: Params, grads: Params, state: Params, rates: Params) -> None:
        """Update `params` and `state` in place; rates {name: (C,)}."""
        ...


def check_rates(owner: str, lr: float, rates: dict[str, float]) -> None:
    """Refuse rates that are not positive and finite, and parts that do not exist."""
    parts = ("projection", "core", "readout")
    bad = [f"{owner}.rates: no part '{part}'; parts are {', '.join(parts)}" for part in rates if part not in parts]
    bad += [
        f"{owner}: learning rates are positive numbers; got {rate}"
        for rate in (lr, *rates.values())
        if not 0 < rate < math.inf
    ]
    if bad:
        raise ConfigurationError(bad)


@declared
class Sgd:
    """Stochastic gradient descent with heavy-ball momentum: v <- momentum v + g; p <- p - lr v."""

    lr: float = 0.1
    momentum: float = 0.0
    rates: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_rates("Sgd", self.lr, self.rates)
        if not 0 <= self.momentum < 1:
            raise ConfigurationError(f"Sgd.momentum: expected 0 <= momentum < 1; got {self.momentum}")

    def init(self, params: Params) -> Params:
        """Return one velocity per parameter, all zero; nothing without momentum."""
        return {f"v.{name}": torch.zeros_like(p) for name, p in params.items()} if self.momentum else {}

    def step(self, params: Params, grads: Params, state: Params, rates: Params) -> None:
        """Take one step in place."""
        for name, param in params.items():
            move = grads[name]
            if self.momentum:
                move = state[f"v.{name}"].mul_(self.momentum).add_(move)
            param.sub_(spread(rates[name], param) * move)


@declared
class Adam:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980) with bias correction by each client's own number of steps."""

    lr: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    rates: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_rates("Adam", self.lr, self.rates)
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1 and self.eps > 0):
            raise ConfigurationError(
                f"Adam: expected 0 <= beta1, beta2 < 1 and eps > 0; got {self.beta1}, {self.beta2}, {self.eps}"
            )

    def init(self, params: Params) -> Params:
        """Return both moments of each parameter, zero, and the number of steps taken (C,)."""
        first = next(iter(params.values()))
        state = {f"m.{name}": torch.zeros_like(p) for name, p in params.items()}
        state |= {f"v.{name}": torch.zeros_like(p) for name, p in params.items()}
        return state | {COUNT: first.new_zeros(len(first))}

    def step(self, params: Params, grads: Params, state: Params, rates: Params) -> None:
        """Take one step in place."""
        count = state[COUNT].add_(1)
        exact = count.double()  # in float32, 1 - .999 keeps four digits
        correct1, correct2 = ((1 - beta**exact).to(count.dtype) for beta in (self.beta1, self.beta2))
        for name, param in params.items():
            m = state[f"m.{name}"].lerp_(grads[name], 1 - self.beta1)
            v = state[f"v.{name}"].mul_(self.beta2).addcmul_(grads[name], grads[name], value=1 - self.beta2)
            scale = spread(rates[name] / correct1, param)
            param.sub_(scale * m / ((v / spread(correct2, v)).sqrt_() + self.eps))


def spread(per_client: Tensor, like: Tensor) -> Tensor:
    """Return (C,) shaped to multiply (C, *shape)."""
    return per_client.view(-1, *(1,) * (like.ndim - 1))
