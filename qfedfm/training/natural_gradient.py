"""Quantum natural gradient: steps of the circuit's weights measured by how far they turn its state.

    w <- w - lr (g + regularisation)^-1 grad    (Stokes et al. 2020, doi:10.22331/q-2020-05-25-269)

with g the Fubini-Study metric of the weights, averaged over the rows of the minibatch, which is a departure from the
paper: its circuits take no data. Metrics: `BlockDiagonal` and `Diagonal`, measured on truncated circuits, exactly or by
shots; `FullMetric`, known to a simulator only; `QnSpsa`, from four fidelities (`qn_spsa`). The gradient is whatever
`Training.gradient` says, all other parameters follow Adam.
"""

import math
from collections.abc import Sequence
from dataclasses import field
from typing import Annotated, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor

from ..backends.contract import Differentiable
from ..declaration import declared
from ..errors import ConfigurationError
from ..heads.model import Model
from ..params import Params
from ..quantum import generator_layers, quantum_fisher
from ..quantum.angles import evaluate
from ..quantum.lightcone import reachable
from .optimizers import check_rates, spread
from .problem import Call, Problem
from .rules import Divided, own_weights


@runtime_checkable
class Metric(Protocol):
    """A declared metric of the circuit's weights; P is the number of all their entries, in the model's order."""

    def init(self, weights: Params) -> Params:
        """Return what it remembers of weights (C, *shape), each entry with a client axis."""
        ...

    def measure(self, problem: Problem, calls: Sequence[Call], weights: Params, state: Params) -> Tensor:
        """Return g (C, P, P), symmetric; weights: {name: (C, *shape)}; state is changed in place."""
        ...


@declared
class BlockDiagonal:
    """Blocks of gates that act side by side, one truncated circuit for each layer of them; see `generator_layers`."""

    def init(self, weights: Params) -> Params:  # noqa: ARG002
        """Return nothing."""
        return {}

    def measure(self, problem: Problem, calls: Sequence[Call], weights: Params, state: Params) -> Tensor:  # noqa: ARG002
        """Return the metric, unbiased where it comes from shots."""
        return _by_layers(problem, calls, weights, diagonal=False)


@declared
class Diagonal:
    """Variances of the gates' generators alone: the same circuits as `BlockDiagonal`, a cheaper inverse."""

    def init(self, weights: Params) -> Params:  # noqa: ARG002
        """Return nothing."""
        return {}

    def measure(self, problem: Problem, calls: Sequence[Call], weights: Params, state: Params) -> Tensor:  # noqa: ARG002
        """Return the metric, unbiased where it comes from shots."""
        return _by_layers(problem, calls, weights, diagonal=True)


@declared
class FullMetric:
    """All entries, from the states themselves: on a simulator only, and not counted as executions."""

    def init(self, weights: Params) -> Params:  # noqa: ARG002
        """Return nothing."""
        return {}

    def measure(self, problem: Problem, calls: Sequence[Call], weights: Params, state: Params) -> Tensor:  # noqa: ARG002
        """Return the metric; raise `ConfigurationError` on a machine that is not an exact simulator."""
        if problem.executor and not isinstance(problem.executor.machine, Differentiable):
            raise ConfigurationError(
                f"FullMetric needs the states of an exact simulator; '{problem.executor.machine.name}' gives none: "
                "use BlockDiagonal(), Diagonal() or QnSpsa()"
            )
        clients, rows = problem.labels.shape
        total = _nothing(weights)
        for call in calls:
            own = [spec.name for spec in call.program.weights if call.names[spec.name] in weights]
            one_a_row = {name: t.flatten(0, 1).unsqueeze(1) for name, t in call.inputs.items()}
            spread_out = {name: t.repeat_interleave(rows, 0) for name, t in call.weights.items()}
            fisher = quantum_fisher(call.program, one_a_row, spread_out, own)
            places = _places(weights, [call.names[name] for name in own])
            mean = problem.average(fisher.view(clients, rows, *fisher.shape[1:]) / 4)
            total[:, places[:, None], places] += mean
        return total


@declared
class QuantumNaturalGradient:
    """lr: of all parts, rates: by part, "core" being the circuit's weights. metric: what measures a step.

    regularisation: added to the metric's diagonal, so that directions in which the state hardly turns are not
    followed far; 0 takes the pseudo-inverse. Estimates of a metric may have negative eigenvalues: their absolute values
    are taken (Gacon et al. 2021).
    """

    lr: float = 0.01
    metric: Metric = BlockDiagonal()
    regularisation: Annotated[float, Field(ge=0)] = 0.01
    rates: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_rates("QuantumNaturalGradient", self.lr, self.rates)

    def bind(self, model: Model, round: int) -> "NaturalRule":  # noqa: ARG002
        """Return the rule for a model."""
        return NaturalRule(self, Divided.of(model))


class NaturalRule:
    """See `QuantumNaturalGradient`."""

    def __init__(self, declared: QuantumNaturalGradient, parts: Divided) -> None:
        self.declared, self.parts = declared, parts

    def init(self, params: Params) -> Params:
        """Return the state of Adam, and what the metric remembers."""
        own = {name: params[name] for name in self.parts.circuit}
        return self.parts.init(params) | (self.declared.metric.init(own) if own else {})

    def advance(self, problem: Problem, params: Params, state: Params, rates: Params) -> Tensor:
        """Take one step."""
        calls: list[Call] = []
        names = self.parts.circuit
        losses, grads = problem.gradients(params, calls=calls if names else None)
        if names:
            for call in calls:
                own_weights(call, "QuantumNaturalGradient")
            weights = {name: params[name] for name in names}
            metric = self.declared.metric.measure(problem, calls, weights, state)
            flat = torch.cat([grads[name].flatten(1) for name in names], 1)
            sizes = [weight[0].numel() for weight in weights.values()]
            steps = torch.split(_solve(metric, flat, self.declared.regularisation), sizes, 1)
            for (name, weight), step in zip(weights.items(), steps, strict=True):
                weight.sub_(spread(rates[name], weight) * step.view_as(weight))
        self.parts.step_rest(params, grads, state, rates)
        return losses


def _solve(metric: Tensor, grads: Tensor, regularisation: float) -> Tensor:
    """Return (|g| + regularisation)^-1 grads, (C, P), in double precision; see `QuantumNaturalGradient`."""
    values, vectors = torch.linalg.eigh(metric.double())
    values = values.abs() + regularisation
    small = values <= 1e-12 * values.amax(1, keepdim=True)
    inverse = torch.where(small, 0, 1 / torch.where(small, 1, values))
    along = torch.einsum("cpk,cp->ck", vectors, grads.double())
    return torch.einsum("cpk,ck->cp", vectors, inverse * along).to(grads.dtype)


def _by_layers(problem: Problem, calls: Sequence[Call], weights: Params, *, diagonal: bool) -> Tensor:
    """Return J^T g J averaged over rows, summed over layers; J: derivatives of angles by weights."""
    total = _nothing(weights)
    for call in calls:
        own = tuple(spec.name for spec in call.program.weights if call.names[spec.name] in weights)
        places = _places(weights, [call.names[name] for name in own])
        layers = generator_layers(reachable(call.program, call.observables), own)
        jacobian = _jacobian(call, own)
        for layer in layers:
            values = problem.run(layer.program, call.inputs, call.weights, layer.observables)
            found = layer.covariances(values)
            if problem.shots is not None and problem.shots > 1:
                found = found * (problem.shots / (problem.shots - 1))  # of a sample, as it is known
            if diagonal:
                found = torch.diag_embed(found.diagonal(dim1=-2, dim2=-1))
            along = jacobian[:, :, list(layer.slots)]
            block = torch.einsum("crsp,crst,crtq->crpq", along, found.expand(*along.shape[:2], -1, -1), along)
            total[:, places[:, None], places] += problem.average(block)
    return total


def _jacobian(call: Call, names: Sequence[str]) -> Tensor:
    """Return the derivatives of all slots by the weights `names`, (C, R, slots, entries)."""
    clients = len(next(iter(call.weights.values())))
    rows = next((tensor.shape[1] for tensor in call.inputs.values()), 1)
    inputs = {name: tensor.flatten(0, 1).unsqueeze(1) for name, tensor in call.inputs.items()}
    spread_out = {name: tensor.repeat_interleave(rows, 0).requires_grad_() for name, tensor in call.weights.items()}
    with torch.enable_grad():
        angles = evaluate(call.program.slots, inputs, spread_out)[..., 0]
        columns = [
            torch.autograd.grad(
                angles[:, slot].sum(), [spread_out[n] for n in names], retain_graph=True, allow_unused=True
            )
            for slot in range(angles.shape[1])
        ]
    sizes = [math.prod(call.weights[name].shape[1:]) for name in names]
    flat = [
        torch.cat(
            [
                angles.new_zeros(len(angles), size) if part is None else part.reshape(len(angles), size)
                for part, size in zip(column, sizes, strict=True)
            ],
            1,
        )
        for column in columns
    ]
    return torch.stack(flat, 1).view(clients, rows, len(flat), -1)


def _nothing(weights: Params) -> Tensor:
    count = sum(tensor[0].numel() for tensor in weights.values())
    like = next(iter(weights.values()))
    return like.new_zeros(len(like), count, count)


def _places(weights: Params, names: Sequence[str]) -> Tensor:
    """Return where the entries of parameters `names` lie among those of all `weights`."""
    starts, total = {}, 0
    for name, tensor in weights.items():
        starts[name] = total
        total += tensor[0].numel()
    return torch.cat([starts[name] + torch.arange(weights[name][0].numel()) for name in names])
