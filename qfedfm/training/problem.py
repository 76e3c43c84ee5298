"""The minibatches of all clients in one step, as a function of the parameters.

What an optimiser may ask of a step: the loss, its gradients, what the circuits were given, and values of any other
circuit at the same rows. Every question is one submission for all clients, on the machine if there is one, and counted.
An optimiser may ask about k sets of parameters for each client at once: tensors (k C, *shape), those of a client next
to one another.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..backends import Executor, Usage
from ..errors import ConfigurationError
from ..heads.losses import row_losses
from ..heads.model import Execute, Model
from ..params import Params, Specs
from ..privacy import DpSgd, per_example_gradients
from ..quantum import Observable, Program, simulate


@dataclass(frozen=True)
class Call:
    """One circuit as a head ran it; names: for each of its weights the model's parameter that it is."""

    program: Program
    inputs: dict[str, Tensor]
    weights: dict[str, Tensor]
    observables: tuple[Observable, ...]
    names: dict[str, str]


@dataclass(frozen=True)
class Privacy:
    """How gradients are made private: the rule, the rows that each batch is expected to have (C,), streams of noise."""

    rule: DpSgd
    expected: Tensor
    noise: Sequence[np.random.Generator]


class Problem:
    """One step of a cohort.

    model: on the machine where there is one. params: all parameters {name: (C, *shape)}, those that are not trained
    included. features: (C, R, F). labels, mask: (C, R), False for rows that only fill up. size: real rows (C,). weight:
    (C, R) of each row's loss, None for 1. generators: each client's own. usage: what a machine ran for each client,
    added to in place. refine: changes gradients of all that is trained, given them and the parameters they belong to.
    """

    def __init__(
        self,
        model: Model,
        params: Params,
        features: Tensor,
        labels: Tensor,
        mask: Tensor,
        size: Tensor,
        *,
        weight: Tensor | None = None,
        generators: Sequence[np.random.Generator] = (),
        executor: Executor | None = None,
        usage: list[Usage] | None = None,
        privacy: Privacy | None = None,
        refine: Callable[[Params, Params], Params] | None = None,
    ) -> None:
        self.model, self.params, self.executor, self.privacy = model, params, executor, privacy
        self.features, self.labels, self.mask, self.size = features, labels, mask, size
        self.weight, self.refine = weight, refine
        self.generators, self.usage = generators, [Usage()] * len(labels) if usage is None else usage

    @property
    def specs(self) -> Specs:
        """What the parameters are."""
        return self.model.specs

    @property
    def shots(self) -> int | None:
        """Shots of a row in each measurement setting; None where values are exact."""
        return self.executor.shots if self.executor else None

    def gradients(
        self,
        params: Params,
        names: Sequence[str] | None = None,
        moving: Mapping[str, Tensor] | None = None,
        calls: list[Call] | None = None,
    ) -> tuple[Tensor, Params]:
        """Return the loss of each row (C, R) and gradients of each client's mean, {name: (C, *shape)}.

        names: the parameters asked for, of `params` (C, *shape); None asks for all. moving: for some of them which
        entries can move at all (*shape): a machine is spared the others' points, and their gradients are zero. calls:
        a list that the circuits are added to, as they were run.
        """
        names = list(params) if names is None else list(names)
        still = {name: ~mask for name, mask in (moving or {}).items() if name in names}
        with torch.enable_grad():
            if self.privacy:
                losses, grads = self._private(params, names)
            else:
                losses, grads = self._open(params, names, still, calls)
        if self.refine and len(grads) == sum(spec.trainable for spec in self.model.specs):
            with torch.no_grad():
                grads = self.refine(grads, params)
        for name, mask in still.items():
            grads[name] = grads[name].masked_fill(mask, 0)
        return losses.detach(), grads

    def value(self, params: Params, among: Tensor | None = None) -> Tensor:
        """Return the mean loss of each set of parameters (k C,); among: (C,), 0 for clients where it is False."""
        return self._mean(lambda whole, features: self.model.apply(whole, features), params, among)

    def circuits(self, params: Params) -> tuple[list[Call], list[Tensor]]:
        """Return the circuits that the head runs, and the values of each (k C, R, K)."""
        calls: list[Call] = []
        values: list[Tensor] = []
        self._mean(self._through(lambda *call: _kept(values, self._execute(*call)), calls, params), params)
        return calls, values

    def replay(self, params: Params, values: Sequence[Tensor], calls: list[Call] | None = None) -> Tensor:
        """Return the mean loss (k C,) as it would be if the circuits had given these values (k C, R, K); runs none.

        calls: a list that the circuits are added to, as they would be run.
        """
        given = iter(values)
        apply = self._through(lambda *_: next(given), [] if calls is None else calls, params)
        return self._mean(apply, params, run=False)

    def run(self, program: Program, inputs: Params, weights: Params, observables: Sequence[Observable]) -> Tensor:
        """Return expectation values (k C, R, K) of another circuit at the same rows."""
        copies = len(next(iter(weights.values()))) // len(self.labels)
        repeated = {name: tensor.repeat_interleave(copies, 0) for name, tensor in inputs.items()}
        with torch.no_grad(), self._counted(self.mask.repeat_interleave(copies, 0)):
            return self._execute(program, repeated, weights, observables)

    def average(self, rows: Tensor) -> Tensor:
        """Return the mean over each client's real rows of (C, R, ...)."""
        extra = (1,) * (rows.ndim - 2)
        mask, size = self.mask.view(*self.mask.shape, *extra), self.size.view(-1, *extra)
        return (rows * mask).sum(1) / size

    def _execute(
        self,
        program: Program,
        inputs: Mapping[str, Tensor],
        weights: Mapping[str, Tensor],
        measured: Sequence[Observable],
    ) -> Tensor:
        return (self.executor or simulate)(program, inputs, weights, measured)

    def _open(
        self, params: Params, names: Sequence[str], still: Params, calls: list[Call] | None
    ) -> tuple[Tensor, Params]:
        leaves = {name: params[name].detach().requires_grad_() for name in names}
        whole = self.params | params | leaves
        apply = self.model.apply if calls is None else self._through(self._execute, calls, whole)
        held = self.executor.holding([(leaves[name], mask) for name, mask in still.items()]) if self.executor else None
        with held or nullcontext(), self._counted(self.mask):
            outputs = apply(whole, self.features)
        losses = self._weighted(row_losses(outputs, self.labels))
        mean = (losses * self.mask).sum(1) / self.size
        inputs = list(leaves.values())
        grads = torch.autograd.grad(mean.sum(), inputs, materialize_grads=True) if inputs else ()
        return losses, dict(zip(names, grads, strict=True))

    def _private(self, params: Params, names: list[str]) -> tuple[Tensor, Params]:
        assert self.privacy
        with self._counted(self.mask.reshape(-1, 1)):
            losses, each = per_example_gradients(
                self.model, self.params | params, self.features, self.labels, names, self.weight
            )
        grads = self.privacy.rule.gradient(each, self.mask, self.privacy.expected, self.privacy.noise)
        return losses, dict(zip(names, grads, strict=True))

    def _through(self, execute: Execute, calls: list[Call], params: Params) -> Callable[[Params, Tensor], Tensor]:
        """Return the head with its circuits run by `execute` and added to `calls`."""
        hybrid = self.model.hybrid
        if hybrid is None:
            raise ConfigurationError("this head's circuits run nowhere but inside it: use Adam or Sgd")

        def recording(
            program: Program,
            inputs: Mapping[str, Tensor],
            weights: Mapping[str, Tensor],
            measured: Sequence[Observable],
        ) -> Tensor:
            data = {name: tensor.detach() for name, tensor in inputs.items()}
            own = {name: tensor.detach() for name, tensor in weights.items()}
            calls.append(Call(program, data, own, tuple(measured), _named(weights, params)))
            return execute(program, inputs, weights, measured)

        return lambda whole, features: hybrid(whole, features, recording)

    def _mean(
        self,
        apply: Callable[[Params, Tensor], Tensor],
        params: Params,
        among: Tensor | None = None,
        run: bool = True,
    ) -> Tensor:
        copies = len(next(iter(params.values()))) // len(self.labels)
        fixed = {name: t for name, t in self.params.items() if name not in params}
        features, labels, mask, size, *rest = (
            tensor.repeat_interleave(copies, 0) if copies > 1 else tensor
            for tensor in (self.features, self.labels, self.mask, self.size, *fixed.values())
        )
        if among is not None:
            mask = mask & among.repeat_interleave(copies)[:, None]
        with torch.no_grad(), self._counted(mask) if run else nullcontext():
            outputs = apply(dict(zip(fixed, rest, strict=True)) | params, features)
        return (self._weighted(row_losses(outputs, labels)) * mask).sum(1) / size

    def _weighted(self, losses: Tensor) -> Tensor:
        """Return losses (k C, R), each times its row's weight."""
        if self.weight is None:
            return losses
        return losses * self.weight.repeat_interleave(len(losses) // len(self.weight), 0)

    @contextmanager
    def _counted(self, mask: Tensor) -> Iterator[None]:
        """Run the circuits of rows in the mask only, and add what they took to the usage of each client.

        mask: (k C, R), or (C R, 1) where every row stands for a client of its own.
        """
        if self.executor is None:
            yield
            return
        with self.executor.only(mask):
            yield
        found = self.executor.take_usage()
        of_client = len(found) // len(self.labels)
        for client in range(len(self.labels) if found else 0):
            self.usage[client] = sum(found[client * of_client : (client + 1) * of_client], self.usage[client])


def _kept(values: list[Tensor], new: Tensor) -> Tensor:
    values.append(new)
    return new


def _named(weights: Mapping[str, Tensor], params: Params) -> dict[str, str]:
    return {name: parameter for name, tensor in weights.items() for parameter, own in params.items() if tensor is own}
