"""COBYLA: linear models of the loss in a shrinking trust region, without gradients (Powell 1994,
doi:10.1007/978-94-015-8330-5_4), as scipy has it.

Each client's scipy runs in a thread of its own and waits for values; one round of waiting is one submission for all
clients. How often a client asks does not depend on the others, so it finds what scipy finds for it alone.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ..declaration import declared
from ..heads.model import Model
from ..params import Params
from .optimizers import check_rates
from .problem import Problem
from .rules import Divided

Array = NDArray[np.float64]


@declared
class Cobyla:
    """evaluations: values of the loss that a step may take, of the circuit's weights alone. radius: of the first trust
    region, in radians, anew in each step. lr, rates: of all other parts, which follow Adam, one step before the search.

    Fewer than two evaluations more than there are weights do not complete the first linear model.
    """

    evaluations: Annotated[int, Field(ge=1)] = 50
    radius: Annotated[float, Field(gt=0)] = 1.0
    lr: float = 0.01
    rates: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_rates("Cobyla", self.lr, self.rates)

    def bind(self, model: Model, round: int) -> "CobylaRule":  # noqa: ARG002
        """Return the rule for a model."""
        return CobylaRule(self, Divided.of(model))


@dataclass(frozen=True)
class CobylaRule:
    """See `Cobyla`."""

    declared: Cobyla
    parts: Divided

    def init(self, params: Params) -> Params:
        """Return Adam's state."""
        return self.parts.init(params)

    def advance(self, problem: Problem, params: Params, state: Params, rates: Params) -> Tensor:
        """Take Adam's step, then search from the circuit's weights as they are."""
        losses, grads = problem.gradients(params, self.parts.rest)
        self.parts.step_rest(params, grads, state, rates)
        names = self.parts.circuit
        if not names:
            return losses
        sizes = [params[name][0].numel() for name in names]

        def apart(points: Array) -> Params:
            parts = torch.split(torch.from_numpy(points).to(params[names[0]]), sizes, 1)
            return {name: part.view_as(params[name]) for name, part in zip(names, parts, strict=True)}

        def values(points: Array, asking: NDArray[np.bool_]) -> Array:
            among = torch.from_numpy(asking).to(problem.mask.device)
            return problem.value(params | apart(points), among).double().cpu().numpy()

        start = torch.cat([params[name].flatten(1) for name in names], 1).double().cpu().numpy()
        best = minimise_together(values, start, self.declared.evaluations, self.declared.radius)
        for name, part in apart(best).items():
            params[name].copy_(part)
        return losses


def minimise_together(
    values: Callable[[Array, NDArray[np.bool_]], Array], start: Array, evaluations: int, radius: float
) -> Array:
    """Return for each of C functions the best point that COBYLA met, (C, P).

    values: (points (C, P), asking (C,)) to values (C,), of use where `asking` is True. start: (C, P). An exception of
    `values` ends all searches and is raised.
    """
    import scipy.optimize

    asked: SimpleQueue[tuple[int, Any]] = SimpleQueue()
    answers: Sequence[SimpleQueue[float | None]] = [SimpleQueue() for _ in start]

    def search(client: int) -> None:
        met: list[tuple[float, Array]] = []

        def ask(point: Array) -> float:
            asked.put((client, point.copy()))
            value = answers[client].get()
            if value is None:
                raise _Stopped
            met.append((value, point.copy()))
            if len(met) == evaluations:
                raise _Spent
            return value

        try:
            # scipy takes no fewer values than a first linear model needs: `ask` ends the search before
            options: Any = {"maxiter": max(evaluations, start.shape[1] + 2), "rhobeg": radius}
            with suppress(_Spent):
                scipy.optimize.minimize(ask, start[client], method="COBYLA", options=options)
            asked.put((client, min(met, key=lambda pair: pair[0])))
        except BaseException as error:  # noqa: BLE001  (raised where the searches were begun)
            asked.put((client, error))

    threads = [threading.Thread(target=search, args=(client,), daemon=True) for client in range(len(start))]
    for thread in threads:
        thread.start()
    best, points, searching = start.copy(), start.copy(), set(range(len(start)))
    failure: BaseException | None = None
    while searching:
        asking = np.zeros(len(start), dtype=bool)
        for client, news in [asked.get() for _ in searching]:  # each either asks or has ended
            if isinstance(news, np.ndarray):
                points[client], asking[client] = news, True
                continue
            searching.remove(client)
            if isinstance(news, tuple):
                best[client] = news[1]
            elif not isinstance(news, _Stopped):
                failure = failure or news
        found = None
        if asking.any() and failure is None:
            try:
                found = values(points, asking)
            except BaseException as error:  # noqa: BLE001  (raised below, once every thread has ended)
                failure = error
        for client in np.flatnonzero(asking).tolist():
            answers[client].put(None if found is None else float(found[client]))
    for thread in threads:
        thread.join()
    if failure is not None:
        raise failure
    return best


class _Spent(Exception):  # noqa: N818  (ends a search from inside)
    """A search that has taken all its values."""


class _Stopped(Exception):  # noqa: N818  (ends a search from outside)
    """A search that is no longer wanted."""
