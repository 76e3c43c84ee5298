"""How good the models of federations are after a round: every metric, for each client, of many federations at once."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from itertools import islice
from typing import Any

import numpy as np

from .assembly import Federation
from .attacks import Backdoor
from .backends import Usage
from .evidence import by_client, by_model, tables
from .federation import Evaluation, evaluate
from .federation.personal import evaluate_own
from .params import stack


def measure(federations: Sequence[Federation]) -> list[dict[str, Any]]:
    """Evaluate the global models of federations that share model and data, all at once.

    Each gets every metric of its task on its validation and test rows and on every client's own test rows, and the
    tables of confusion and reliability on the test rows; one with a backdoor also the share of test rows of other
    classes that the trigger sends to the target. Where there are several models, each row is seen by the one that fits
    its client's training rows best, and "clusters" says which that is; or by its client's own, where the head is
    personalised. On a machine all are evaluated there (`Experiment.evaluation`), and "evaluation" holds what that took.
    """
    executor = federations[0].executor
    with executor.task(f"round-{federations[0].server.round}/evaluation") if executor else nullcontext():
        results = _measure(federations)
    used = iter(executor.take_usage() if executor else [])
    for federation, result in zip(federations, results, strict=True):
        of_models = list(islice(used, len(federation.models)))
        if of_models:
            result["evaluation"] = asdict(sum(of_models, Usage()))
    return results


def _measure(federations: Sequence[Federation]) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = [{} for _ in federations]
    trained = [np.concatenate([*federation.engine.cohort.rows.values()]) for federation in federations]
    personal = federations[0].model.kept
    several = [] if personal else [i for i, federation in enumerate(federations) if len(federation.models) > 1]
    choices: dict[int, np.ndarray] = {}
    if several:
        fits = _evaluations([federations[i] for i in several], [trained[i] for i in several])
        choices = {i: _best(federations[i], trained[i], fit) for i, fit in zip(several, fits, strict=True)}
    for i, choice in choices.items():
        results[i]["clusters"] = dict(zip(federations[i].assignment.names, choice.tolist(), strict=True))

    def scored(chosen: Sequence[int], rows: Sequence[np.ndarray]) -> list[Evaluation]:
        if personal:
            return _by_owner([federations[i] for i in chosen], rows)
        found = _evaluations([federations[i] for i in chosen], rows)
        return [
            several[0] if i not in choices else _own(several, choices[i][_owner(federations[i], some)])
            for i, some, several in zip(chosen, rows, found, strict=True)
        ]

    everyone = range(len(federations))
    for part in ("validation", "test"):
        rows = [getattr(federation.split, part) for federation in federations]
        evaluated = scored(everyone, rows)
        for result, score in zip(results, by_model(evaluated), strict=True):
            result[part] = score
    owners = [_owner(federation, some) for federation, some in zip(federations, rows, strict=True)]
    clients = by_client(evaluated, owners, [federation.assignment.names for federation in federations])
    for result, scores, drawn in zip(results, clients, tables(evaluated), strict=True):
        result |= {"per_client": scores} | drawn
    attacked: dict[int, np.ndarray] = {}
    for i, f in enumerate(federations):
        if f.experiment.adversary and isinstance(attack := f.experiment.adversary.attack, Backdoor):
            others = f.split.test[f.prepared.dataset.labels[f.split.test] != attack.target]
            attacked[i] = others + f.prepared.poisoned[attack]
    if attacked:
        for i, one in zip(attacked, scored([*attacked], [*attacked.values()]), strict=True):
            results[i]["backdoor"] = {"success": one.accuracy}
    return results


def _evaluations(federations: Sequence[Federation], rows: Sequence[np.ndarray]) -> list[list[Evaluation]]:
    """Return for each federation every one of its models on its rows, all evaluated at once."""
    first, counts = federations[0], [len(federation.models) for federation in federations]
    params = stack([model for federation in federations for model in federation.models])
    each = [some for some, count in zip(rows, counts, strict=True) for _ in range(count)]
    scores = iter(evaluate(first.evaluated, params, first.prepared.table, first.prepared.labels, each))
    return [[next(scores) for _ in range(count)] for count in counts]


def _by_owner(federations: Sequence[Federation], rows: Sequence[np.ndarray]) -> list[Evaluation]:
    """Return for each federation its rows, each as the model of the client that owns it has it."""
    first, models = federations[0], [federation.models for federation in federations]
    owners = [_owner(federation, some) for federation, some in zip(federations, rows, strict=True)]
    on_machine = first.executor if first.evaluated is not first.model else None
    return evaluate_own(first.evaluated, models, first.prepared.table, first.prepared.labels, rows, owners, on_machine)


def _owner(federation: Federation, rows: np.ndarray) -> np.ndarray:
    """Return whose rows they are, positions in the assignment's names; a poisoned copy is its original's owner's."""
    return np.asarray(federation.assignment.owner[rows % len(federation.prepared.dataset)])


def _best(federation: Federation, rows: np.ndarray, models: Sequence[Evaluation]) -> np.ndarray:
    """Return for each client the model with the lowest mean loss on its training rows."""
    owner, clients = _owner(federation, rows), len(federation.assignment.names)
    losses = np.stack([np.bincount(owner, model.losses, clients) for model in models])
    return np.asarray(np.where(np.isnan(losses), np.inf, losses).argmin(axis=0))


def _own(models: Sequence[Evaluation], choice: np.ndarray) -> Evaluation:
    """Return each row as its client's model has it; choice: (n,)."""
    at = choice, np.arange(len(choice))
    outputs, losses = (np.stack([getattr(model, name) for model in models])[at] for name in ("outputs", "losses"))
    return Evaluation(outputs, models[0].labels, losses)
