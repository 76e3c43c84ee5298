"""Rotosolve for heads: each angle in turn to its best value, found from a few points (Ostaszewski et al. 2021,
doi:10.22331/q-2021-01-28-391; several frequencies as in Vidal and Theis 2018, arXiv:1812.06323, and Wierichs et al.
2022, doi:10.22331/q-2022-03-30-677).

As a function of one angle t every expectation value is a trigonometric polynomial

    f(t) = a_0 + sum_{k=1..R} a_k cos(k w t) + b_k sin(k w t),

so 2 R + 1 points at equal distances over the period 2 pi / w give it for all t: three for a Pauli rotation, five for a
controlled one. The paper minimises f itself, in closed form. Here f are the values of all observables and rows, and the
loss is what the read-out makes of them: it is minimised along t by arithmetic alone, without another circuit. As the
values at the new angle are known too, an angle takes 2 R circuits for each row. With shots their variance does not
grow on the way: for equal distances the squared weights of the 2 R + 1 points sum to 1 at any t.

The loss of the minibatch never rises, nor does it say much about other rows where the minibatch is small: batches that
hold all rows of a client are what this is for. Clients share the order of the angles and nothing else.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..declaration import declared
from ..errors import ConfigurationError
from ..heads.model import Model
from ..params import Params
from ..quantum.expr import Expr, affine_in
from ..quantum.gates import GATES
from ..quantum.lightcone import reachable
from .optimizers import check_rates
from .problem import Call, Problem
from .rules import Divided, own_weights

CANDIDATES, LEVELS = 16, 7
"""Values of an angle tried at once; each level looks at a window an eighth as wide around the best so far."""


@declared
class Rotosolve:
    """lr, rates: of all parts but the circuit's weights, which have none; they follow Adam, one step before a sweep."""

    lr: float = 0.01
    rates: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_rates("Rotosolve", self.lr, self.rates)

    def bind(self, model: Model, round: int) -> "RotosolveRule":  # noqa: ARG002
        """Return the rule for a model; raise `ConfigurationError` for weights that do not turn gates at fixed rates."""
        parts = Divided.of(model)
        if loose := [spec.name for spec in model.specs if spec.name in parts.circuit and spec.period is None]:
            raise ConfigurationError(
                f"Rotosolve needs weights that turn gates at fixed rates; {', '.join(loose)} is multiplied by inputs "
                "or put through a function: use another optimiser or circuit"
            )
        return RotosolveRule(parts, {spec.name: spec.period or 0.0 for spec in model.specs})


@dataclass(frozen=True)
class RotosolveRule:
    """See `Rotosolve`."""

    parts: Divided
    periods: dict[str, float]

    def init(self, params: Params) -> Params:
        """Return Adam's state."""
        return self.parts.init(params)

    def advance(self, problem: Problem, params: Params, state: Params, rates: Params) -> Tensor:
        """Take Adam's step, then one sweep over all angles that can change an observable."""
        losses, grads = problem.gradients(params, self.parts.rest)
        self.parts.step_rest(params, grads, state, rates)
        if not self.parts.circuit:
            return losses
        calls, values = problem.circuits(params)
        for call in calls:
            own_weights(call, "Rotosolve")
        _alone(problem, params, calls, values)
        for name in self.parts.circuit:
            for place in range(params[name][0].numel()):
                order = _frequencies(calls, name, place, self.periods[name])
                if order:
                    values = self._turn(problem, params, name, place, order, calls, values)
        return losses

    def _turn(
        self,
        problem: Problem,
        params: Params,
        name: str,
        place: int,
        order: int,
        calls: Sequence[Call],
        values: Sequence[Tensor],
    ) -> list[Tensor]:
        """Move one entry of `params` to its best value, in place; return what the circuits give there."""
        clients, period = len(problem.labels), self.periods[name]
        spacing = period / (2 * order + 1)

        def turned(by: Tensor) -> Params:
            """Return parameters with the entry moved by (C, k), for k sets a client."""
            several = {key: tensor.repeat_interleave(by.shape[1], 0) for key, tensor in params.items()}
            several[name].view(len(several[name]), -1)[:, place] += by.flatten()
            return several

        shifts = spacing * torch.arange(1, 2 * order + 1).to(values[0]).expand(clients, -1)
        moved, points = turned(shifts), dict[int, Tensor]()
        for number, (call, own) in enumerate(zip(calls, values, strict=True)):
            if name in call.names.values():
                weights = {weight: moved[parameter] for weight, parameter in call.names.items()}
                found = problem.run(call.program, call.inputs, weights, call.observables)
                points[number] = torch.cat([own[:, None], found.view(clients, 2 * order, *own.shape[1:])], 1)

        def at(by: Tensor) -> list[Tensor]:
            """Return all circuits' values (C k, R, K) at angles moved by (C, k), interpolated where they change."""
            weights = _interpolation(by, order, period)
            return [
                torch.einsum("cks,csro->ckro", weights, points[number]).flatten(0, 1)
                if number in points
                else own.repeat_interleave(by.shape[1], 0)
                for number, own in enumerate(values)
            ]

        best, width = torch.zeros_like(shifts[:, :1]), period
        for _ in range(LEVELS):
            window = width * (torch.arange(CANDIDATES).to(best) / CANDIDATES - 0.5)  # the middle one is 0: stay
            tried = best + window
            losses = problem.replay(turned(tried), at(tried)).view(clients, -1)
            losses[:, CANDIDATES // 2] = losses[:, CANDIDATES // 2].nextafter(losses.new_tensor(-math.inf))
            best = tried.gather(1, losses.argmin(1, keepdim=True))  # a tie stays
            width /= 8
        params[name].view(clients, -1)[:, place] += best[:, 0]
        return at(best)


def _interpolation(by: Tensor, order: int, period: float) -> Tensor:
    """Return what values at s period / (2 R + 1), s = 0 ... 2 R, weigh in the value at each of `by`, (C, k, 2 R + 1).

    The Dirichlet kernel D(u) = (1 + 2 sum_{k=1..R} cos(k u)) / (2 R + 1), u the distance in units of period / 2 pi.
    """
    count = 2 * order + 1
    apart = 2 * math.pi * (by[..., None] / period - torch.arange(count).to(by) / count)
    multiples = torch.arange(1, order + 1).to(by)
    return (1 + 2 * (multiples * apart[..., None]).cos().sum(-1)) / count


def _frequencies(calls: Sequence[Call], name: str, place: int, period: float) -> int:
    """Return R: the highest frequency of expectation values in one entry of a weight, in units of 2 pi / period."""
    highest = 0.0
    for call in calls:
        leaves = [Expr("weight", (own, place)) for own, parameter in call.names.items() if parameter == name]
        total = 0.0
        for gate in reachable(call.program, call.observables).gates:
            levels = GATES[gate.name].spectrum
            for angle in gate.angles:
                slot = call.program.slots[angle] if isinstance(angle, int) else None
                rates = [affine_in(slot, leaf) or 0.0 for leaf in leaves] if slot is not None else []
                total += abs(sum(rates)) * (max(levels) - min(levels)) if rates else 0.0
        highest = max(highest, total)
    return round(highest * period / (2 * math.pi))


def _alone(problem: Problem, params: Params, calls: Sequence[Call], values: Sequence[Tensor]) -> None:
    """Raise `ConfigurationError` where a circuit's inputs depend on the values of another one."""
    there: list[Call] = []
    problem.replay(params, [value + 1 for value in values], there)
    for call, new in zip(calls, there, strict=True):
        if not all(torch.equal(tensor, new.inputs[name]) for name, tensor in call.inputs.items()):
            raise ConfigurationError("Rotosolve cannot train circuits that feed other circuits: use another optimiser")
