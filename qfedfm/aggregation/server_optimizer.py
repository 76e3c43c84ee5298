"""Server optimisers (Reddi et al. 2021, arXiv:2003.00295; FedAvgM after Hsu et al. 2019, arXiv:1909.06335).

A rule's step D is taken for a gradient and handed to an optimiser on the server: m remembers its direction, v the size
of each coordinate. One idea in four settings, which differ in v alone. Any rule can make D, a robust one too.

FedAvgM: m <- beta1 m + D, params + lr m. The others: m <- beta1 m + (1 - beta1) D, params + lr m / (sqrt(v) + tau), v
at first tau^2; as in the paper there is no bias correction. Cost d and the rule's own; the breakdown point is that of
the rule. Moments of angles are taken of wrapped steps, and the result is wrapped.
"""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ..declaration import declared
from ..params import Params, Specs, difference
from .angular import AngularMean
from .geometry import added
from .updates import Aggregator, Context, Info, Updates

Positive = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]


@declared
class FedAvgM:
    """m <- beta1 m + D; params + lr m. State: m and the rule's own, in float64."""

    rule: Aggregator = AngularMean()
    lr: Positive = 1.0
    beta1: Decay = 0.9

    def init(self, specs: Specs) -> Params:
        """Return m, zero, and the rule's state."""
        return _moments("m", specs, 0.0) | _kept(self.rule.init(specs))

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        """Return the parameters after a step with momentum, the new state, and the rule's info."""
        delta, kept, info = _step(self.rule, state, params, updates, specs, context)
        m = {name: self.beta1 * state[f"m/{name}"] + step for name, step in delta.items()}
        new = added(params, {name: self.lr * move for name, move in m.items()}, specs)
        return new, {f"m/{name}": move for name, move in m.items()} | kept, info


@declared
class FedAdagrad:
    """v <- v + D^2: rates fall for good, fastest where steps were large. State: m, v and the rule's own, in float64."""

    rule: Aggregator = AngularMean()
    lr: Positive = 0.1
    beta1: Decay = 0.0
    tau: Positive = 1e-3

    def init(self, specs: Specs) -> Params:
        """Return m, zero, v, tau^2, and the rule's state."""
        return _start(self.rule, self.tau, specs)

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        """Return the parameters after an adaptive step, the new state, and the rule's info."""
        return _adaptive(self, lambda v, square: v + square, state, params, updates, specs, context)


@declared
class FedAdam:
    """v <- beta2 v + (1 - beta2) D^2. State: m, v and the rule's own, in float64."""

    rule: Aggregator = AngularMean()
    lr: Positive = 0.1
    beta1: Decay = 0.9
    beta2: Decay = 0.99
    tau: Positive = 1e-3

    def init(self, specs: Specs) -> Params:
        """Return m, zero, v, tau^2, and the rule's state."""
        return _start(self.rule, self.tau, specs)

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        """Return the parameters after an adaptive step, the new state, and the rule's info."""

        def average(v: Tensor, square: Tensor) -> Tensor:
            return self.beta2 * v + (1 - self.beta2) * square

        return _adaptive(self, average, state, params, updates, specs, context)


@declared
class FedYogi:
    """v <- v - (1 - beta2) D^2 sign(v - D^2): like Adam, but v changes by as much as D^2 whatever v is.

    State: m, v and the rule's own, in float64.
    """

    rule: Aggregator = AngularMean()
    lr: Positive = 0.1
    beta1: Decay = 0.9
    beta2: Decay = 0.99
    tau: Positive = 1e-3

    def init(self, specs: Specs) -> Params:
        """Return m, zero, v, tau^2, and the rule's state."""
        return _start(self.rule, self.tau, specs)

    def __call__(
        self, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
    ) -> tuple[Params, Params, Info]:
        """Return the parameters after an adaptive step, the new state, and the rule's info."""

        def approach(v: Tensor, square: Tensor) -> Tensor:
            return v - (1 - self.beta2) * square * torch.sign(v - square)

        return _adaptive(self, approach, state, params, updates, specs, context)


def _start(rule: Aggregator, tau: float, specs: Specs) -> Params:
    return _moments("m", specs, 0.0) | _moments("v", specs, tau * tau) | _kept(rule.init(specs))


def _moments(letter: str, specs: Specs, value: float) -> Params:
    return {f"{letter}/{spec.name}": torch.full(spec.shape, value, dtype=torch.float64) for spec in specs}


def _kept(state: Params) -> Params:
    return {f"rule/{key}": tensor for key, tensor in state.items()}


def _step(
    rule: Aggregator, state: Params, params: Params, updates: Updates, specs: Specs, context: Context
) -> tuple[Params, Params, Info]:
    """Return the step D {name: (*shape)} float64 that the rule takes, its state under "rule/", and its info."""
    own = {key.removeprefix("rule/"): tensor for key, tensor in state.items() if key.startswith("rule/")}
    new, own, info = rule(own, params, updates, specs, context)
    delta = difference({name: t.double() for name, t in new.items()}, params, specs)
    return delta, _kept(own), info


def _adaptive(
    setting: FedAdagrad | FedAdam | FedYogi,
    accumulate: Callable[[Tensor, Tensor], Tensor],
    state: Params,
    params: Params,
    updates: Updates,
    specs: Specs,
    context: Context,
) -> tuple[Params, Params, Info]:
    """Take one step; accumulate: (v, D^2) to the new v."""
    delta, kept, info = _step(setting.rule, state, params, updates, specs, context)
    moments: Params = {}
    steps: Params = {}
    for name, step in delta.items():
        m = setting.beta1 * state[f"m/{name}"] + (1 - setting.beta1) * step
        v = accumulate(state[f"v/{name}"], step.square())
        moments |= {f"m/{name}": m, f"v/{name}": v}
        steps[name] = setting.lr * m / (v.sqrt() + setting.tau)
    return added(params, steps, specs), moments | kept, info
