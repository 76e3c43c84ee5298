"""Federations whose clients keep a part of the model for themselves: whose model is what, and each row by its owner's.

The figures of such a run are those of all rows together, every row seen by the model of the client that owns it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..aggregation import FidelityWeighted, FisherWeighted, FLTrust, RootDistance, ValidationLoss
from ..backends import Executor
from ..client_rules import Chooses
from ..heads.model import Model
from ..incentives import Contribution
from ..params import Params, stack
from ..training import SeededDescent
from .clients import Training
from .evaluation import Evaluation, evaluate

OWN = "own:"
ON_SERVER_ROWS = FLTrust, RootDistance, ValidationLoss, Contribution


def unfit(model: Model, training: Training, aggregation: Iterable[Any]) -> list[str]:
    """Return one line for each thing that cannot go with a personalised head; aggregation: the rule and all in it."""
    if not model.kept:
        return []
    parts = ", ".join(dict.fromkeys(spec.part for spec in model.kept))
    keeps = f"each client keeps its own {parts}"
    wrong = []
    for piece in aggregation:
        name = type(piece).__name__
        if isinstance(piece, ON_SERVER_ROWS):
            wrong.append(
                f"aggregation: {name} tries models out on the server's rows, and {keeps}, so the server has none"
            )
        if isinstance(piece, FidelityWeighted | FisherWeighted) and any(spec.part == "core" for spec in model.kept):
            wrong.append(
                f"aggregation: {name} compares the clients' circuits, and {keeps}, which the server never sees"
            )
    if isinstance(training.rule, Chooses):
        wrong.append(
            f"training.rule: {type(training.rule).__name__} lets each client choose one of several whole models, and "
            f"{keeps}: take one of the two"
        )
    if isinstance(training.optimizer, SeededDescent):
        wrong.append(f"training.optimizer: SeededDescent trains what travels, and {keeps}: train by Adam or Sgd")
    return wrong


def own_models(params: Params, memory: Mapping[str, Mapping[str, Tensor]], clients: Sequence[str]) -> list[Params]:
    """Return each client's model: the server's, with what the client keeps in the place of initial values.

    memory: what each client remembers, as in `Cohort`; one that has not trained yet has nothing in it.
    """
    return [
        params | {name.removeprefix(OWN): t for name, t in memory.get(client, {}).items() if name.startswith(OWN)}
        for client in clients
    ]


def evaluate_own(
    model: Model,
    models: Sequence[Sequence[Params]],
    table: Tensor,
    labels: Tensor,
    rows: Sequence[np.ndarray],
    owners: Sequence[np.ndarray],
    executor: Executor | None = None,
) -> list[Evaluation]:
    """Return an evaluation for each federation, each of its rows by the model of the client that owns it, all at once.

    models: for each federation those of its clients. rows, owners: (n,) and whose they are, positions in `models`.
    """
    places = [np.flatnonzero(who == i) for own, who in zip(models, owners, strict=True) for i in range(len(own))]
    whose = [some for own, some in zip(models, rows, strict=True) for _ in own]
    each = [some[place] for some, place in zip(whose, places, strict=True)]
    scores = evaluate(model, stack([one for own in models for one in own]), table, labels, each, executor)
    found, first = [], 0
    for own in models:
        mine = slice(first, first + len(own))
        order = np.argsort(np.concatenate(places[mine]))
        parts = (np.concatenate([getattr(s, name) for s in scores[mine]])[order] for name in Evaluation.__match_args__)
        found.append(Evaluation(*parts))
        first += len(own)
    return found
