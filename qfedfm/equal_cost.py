"""Arms at equal cost: each learning curve cut where it has cost as much as the cheapest arm did in all.

Optimisers differ in what a round takes: a parameter shift runs a circuit dozens of times where SPSA runs it three. At
equal rounds the dearer one has the advantage; at equal circuit executions, shots or QPU seconds neither has. Counted is
what the arms' federations took in training, of all clients, at one learning rate; evaluation and tuning are not. Arms
that run no circuit have no such cost and keep all their rounds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Literal, get_args

from .arms import Arm, Trial
from .backends import Exact
from .errors import ConfigurationError
from .experiment import Experiment, pieces
from .heads import HoldsCircuit, Kernel

Hold = Literal["rounds", "executions", "shots", "qpu_seconds"]
UNITS = {"executions": "circuit executions", "shots": "shots", "qpu_seconds": "QPU seconds"}


def spent(trial: Trial, hold: str) -> list[float]:
    """Return what a trial had cost in training by the end of each of its rounds."""
    return list(accumulate(sum(entry.get(hold, 0) for entry in line.get("ledger", ())) for line in trial.rounds))


def cut(arms: Sequence[Arm], hold: Hold) -> tuple[list[Arm], float | None]:
    """Return the arms cut at the cost of the cheapest, and that cost; all as they are and None for hold="rounds".

    Each trial keeps its rounds up to the last within the budget. The budget is the smallest total of any trial that ran
    circuits and did not fail. Raises `ConfigurationError` if no arm cost anything.
    """
    if hold == "rounds":
        return list(arms), None
    totals = [spent(t, hold)[-1] for arm in arms for t in arm.trials if t.rounds and not t.failed]
    budget = min((total for total in totals if total > 0), default=None)
    if budget is None:
        raise ConfigurationError(
            f"no arm took any {UNITS[hold]} in training, so nothing can be held equal: resume with hold='rounds' or "
            "'executions'"
        )

    def shortened(trial: Trial) -> Trial:
        return replace(trial, rounds=trial.rounds[: max(1, sum(cost <= budget for cost in spent(trial, hold)))])

    return [replace(arm, trials=tuple(map(shortened, arm.trials))) for arm in arms], budget


def unequal(arms: Mapping[str, Experiment], hold: str) -> list[str]:
    """Return one line for each reason why the arms' costs cannot be compared."""
    if hold not in get_args(Hold):
        return [f"hold: expected one of {', '.join(get_args(Hold))}; got '{hold}'"]
    wrong = []
    for name, arm in arms.items():
        circuits = any(isinstance(piece, HoldsCircuit) for piece in (arm.head, *pieces(arm.head)))
        if hold == "rounds" or not circuits or not isinstance(arm.backend, Exact):
            continue
        if isinstance(arm.head, Kernel):
            wrong.append(
                f"arm '{name}' runs its circuit on the simulator only, which takes fewer executions than a machine "
                "would, and other units not at all: hold 'rounds'"
            )
        elif hold != "executions":
            wrong.append(f"arm '{name}' runs on Exact(), which takes no {UNITS[hold]}: hold 'executions', say")
        elif arm.training.gradient is None:
            wrong.append(
                f"arm '{name}' takes its gradients from torch, at one execution a row, which no machine can: give its "
                "training gradient=ParameterShift() or Spsa()"
            )
    return wrong
