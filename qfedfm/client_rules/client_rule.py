"""What a client rule is: a federated algorithm with a half on every client and a half on the server.

On a client it changes gradients and remembers something, checkpointed by client name. On the server it is wrapped round
the aggregation rule, whose state then holds what the server remembers; what of that clients have to know travels with
the model, sealed in the same envelope. Nothing travels up but the update: what a client remembers follows from it, from
its steps and from its learning rate, so that server and client compute the same. They take the update as the server
decodes it, after the codec, local noise or an attack.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..aggregation import Aggregator, AngularMean, Mean, Updates
from ..heads.model import Model
from ..incentives import Contribution
from ..params import Params, Specs, wrap

INNER = "rule/"


@dataclass(frozen=True)
class Setting:
    """What the server half may need: the model, the experiment's seed, training rows of all enrolled clients together.

    rates: the number of a round to the learning rate of each parameter in it.
    """

    model: Model
    seed: int
    rows: int
    rates: Callable[[int], Mapping[str, float]]


@runtime_checkable
class ClientRule(Protocol):
    """Both halves; `specs` are those of the parameters that travel."""

    def unfit(self, optimizer: Any, privacy: Any, rule: Aggregator) -> str:
        """Return why the rule cannot go together with what else is declared, or an empty string."""
        ...

    def told(self, specs: Specs) -> Specs:
        """Return the specs of what the server sends beside the model: tensors of its state, by these names."""
        ...

    def init(self, specs: Specs) -> Params:
        """Return what a client remembers before its first round."""
        ...

    def adjust(self, grads: Params, params: Params, start: Params, state: Params, specs: Specs) -> Params:
        """Return the gradients of one step as they should be; all tensors are (clients, *shape).

        start: parameters as the round began. state: what each client remembers, and what it was told.
        """
        ...

    def keep(self, state: Params, sent: Params, steps: int, rates: Mapping[str, float], specs: Specs) -> Params:
        """Return what one client remembers after a round; sent: its update as the server decodes it."""
        ...

    def around(self, rule: Aggregator, setting: Setting) -> Aggregator:
        """Return the server half, which aggregates by `rule`."""
        ...


@runtime_checkable
class Chooses(ClientRule, Protocol):
    """A rule by which several models are trained, and each client trains the one that fits its own rows best."""

    @property
    def clusters(self) -> int:
        """How many models there are."""
        ...

    def candidates(self, known: Params, specs: Specs) -> list[Params]:
        """Return every model's parameters that travel, of all that the server sent."""
        ...


def needs_mean(name: str, rule: Aggregator, reason: str) -> str:
    """Return why a rule other than the mean by rows cannot stand under the client rule `name`, or an empty string."""
    inner = rule.rule if isinstance(rule, Contribution) else rule
    if isinstance(inner, Mean | AngularMean):
        return ""
    return (
        f"{name} needs aggregation=AngularMean() or Mean(): {reason}, and a rule that weighs, selects or bounds "
        f"updates leaves it somewhere else; got {inner!r:.100}"
    )


def inner_state(state: Params) -> Params:
    """Return the wrapped rule's part of a server half's state."""
    return {key.removeprefix(INNER): tensor for key, tensor in state.items() if key.startswith(INNER)}


def outer_state(state: Params) -> Params:
    """Return the state of a wrapped rule as part of a server half's."""
    return {INNER + key: tensor for key, tensor in state.items()}


def shares(updates: Updates, rows: int) -> Tensor:
    """Return each client's share of the training rows of all enrolled clients, (n,) float64."""
    return torch.tensor(updates.rows, dtype=torch.float64) / rows


def turned(delta: Params, specs: Specs) -> Params:
    """Return differences with angular entries taken the shorter way round."""
    return {s.name: delta[s.name] if s.period is None else wrap(delta[s.name], s.period) for s in specs}
