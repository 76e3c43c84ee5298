"""The arms of a comparison: which they are, and how one is trained on every seed at every learning rate at once.

Each (seed, learning rate) is a federation of its own, with its own keys and envelopes. The federations of an arm
advance round by round and their clients are trained as one cohort, which changes no result and saves most of the time.
The points of a sweep are trained in the same way.
"""

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from .assembly import Federation, Prepared, bind, federate, prepare
from .errors import AggregationError, ClientError, ConfigurationError, QuorumError, RunError, nearest
from .evidence import METRICS, headline
from .experiment import Experiment, content
from .federation.local import exchange_together
from .heads import Kernel, Linear, Parallel, Personalised, Rbf, Variational, matched_classical
from .heads.model import Model
from .measuring import measure
from .progress import Progress
from .runs import describe
from .training.rules import at_rate

Line = dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """One federation of an arm: seed, learning rate, rounds as recorded; `failed` says why it stopped early."""

    seed: int
    rate: float
    rounds: tuple[Line, ...]
    failed: str = ""

    def score(self, metric: str, part: str) -> float:
        """Return the last round's metric on the "validation" or "test" rows; raise `RunError` where it has none."""
        scores = self.rounds[-1][part]
        if metric not in scores:
            raise RunError(f"{metric} is no metric of this task{nearest(metric, scores)}; it has {', '.join(scores)}")
        if scores[metric] is None:
            raise RunError(
                f"{METRICS[metric].label} is not defined on the {part} rows of seed {self.seed}: compare by another "
                f"metric, or with more {part} rows"
            )
        return float(scores[metric])


@dataclass(frozen=True)
class Arm:
    """All trials of one head, its parameter counts, and the fingerprint of the data that it was trained on."""

    name: str
    parameters: dict[str, int]
    fingerprint: str
    trials: tuple[Trial, ...]

    def chosen(self, metric: str) -> dict[int, Trial]:
        """Return for each seed the trial with the best metric on its validation rows, ties going to the lower loss."""
        sign = 1 if METRICS[metric].higher_is_better else -1

        def rank(trial: Trial) -> tuple[float, float]:
            return sign * trial.score(metric, "validation"), -trial.score("loss", "validation")

        best: dict[int, Trial] = {}
        for trial in self.trials:
            if not trial.failed and (trial.seed not in best or rank(trial) > rank(best[trial.seed])):
                best[trial.seed] = trial
        return best


def load_arm(file: Path) -> Arm:
    """Return the arm that a JSON file holds; raise `RunError` if it holds none."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        trials = tuple(Trial(t["seed"], t["rate"], tuple(t["rounds"]), t["failed"]) for t in data["trials"])
        return Arm(data["name"], data["parameters"], data["fingerprint"], trials)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} cannot be read ({error}); delete it and resume") from error


def twins(experiment: Experiment) -> dict[str, Experiment]:
    """Return the default arms: the experiment's quantum head, its classical counterpart, and a linear probe.

    Beside a personalised head stand its personalised twin and the same head with nothing personal.
    """
    linear = {"linear probe": replace(experiment, head=Linear())}
    if isinstance(experiment.head, Personalised):
        own = experiment.head
        shared = list(twins(replace(experiment, head=own.head)).items())[:2]
        personal = {name: replace(arm, head=replace(own, head=arm.head)) for name, arm in shared}
        return personal | {f"{shared[0][0]}, all shared": shared[0][1]} | linear
    if isinstance(experiment.head, Variational | Parallel):
        twin = replace(experiment, head=matched_classical(experiment.head))
        return {"quantum head": experiment, "matched classical head": twin} | linear
    if isinstance(experiment.head, Kernel):
        twin = replace(experiment, head=Rbf(experiment.head))
        return {"quantum kernel": experiment, "matched Gaussian kernel": twin} | linear
    raise ConfigurationError(
        f"compare knows the twins of Variational, Parallel and Kernel heads; got "
        f"{type(experiment.head).__name__}: pass arms="
        "{name: experiment}"
    )


def unfair(experiment: Experiment, arms: Mapping[str, Experiment]) -> list[str]:
    """Return one line for each arm that has not the experiment's data, clients, rounds, splits and seed."""
    wrong = []
    for name, arm in arms.items():
        same = ("data", "clients", "rounds", "validation", "test", "seed")
        differing = [field for field in same if content(getattr(arm, field)) != content(getattr(experiment, field))]
        if differing:
            wrong.append(
                f"arm '{name}' differs from the experiment in {', '.join(differing)}: that is not a fair comparison"
            )
    return wrong


def prepared_for(arm: Experiment, known: list[tuple[Experiment, Prepared]], progress: bool) -> Prepared:
    """Return the data of an arm, loaded once for all arms that share it."""
    for other, data in known:
        if all(
            getattr(other, name) == getattr(arm, name)
            for name in ("data", "backbone", "precision", "device", "adversary")
        ):
            return data
    data = prepare(arm, progress)
    known.append((arm, data))
    return data


@dataclass
class Running:
    """A trial under way."""

    seed: int
    rate: float
    federation: Federation
    rounds: list[Line] = field(default_factory=list)
    failed: str = ""


def train_arm(
    name: str, arm: Experiment, prepared: Prepared, seeds: range, rates: Sequence[float], attempt: int, progress: bool
) -> Arm:
    """Run all federations of one arm together.

    A federation that fails (a client's values overflow at a high learning rate) is recorded and the others go on.
    Raises `RunError` when none is left for a seed.
    """
    shown = headline(prepared.dataset.task)

    def says(trials: Sequence[Running]) -> str:
        best = np.mean([_best(name, shown, [t for t in trials if t.seed == seed]) for seed in seeds])
        return f"validation {METRICS[shown].label} {best:.3f}"

    model = bind(arm, prepared)
    moved = [_at(arm, seed, rate) for seed in seeds for rate in rates]
    trials = run_together(name, moved, prepared, model, attempt, progress, says)
    return Arm(name, model.count(), prepared.dataset.fingerprint, trials)


def run_together(
    title: str,
    experiments: Sequence[Experiment],
    prepared: Prepared,
    model: Model,
    attempt: int,
    progress: bool,
    says: Callable[[Sequence[Running]], str],
) -> tuple[Trial, ...]:
    """Run the federations of experiments with one `cohort_key` as one cohort; return a trial for each, in order.

    A federation that fails is recorded and the others go on. says: what the progress line tells after a round.
    """

    def begin(experiment: Experiment) -> Running:
        run_id = f"{experiments[0].identity[:16]}-{secrets.token_hex(8)}"
        federation = federate(experiment, prepared, model, run_id=run_id, attempt=attempt)
        return Running(experiment.seed, experiment.training.optimizer.lr, federation)

    trials, rounds = [begin(experiment) for experiment in experiments], experiments[0].rounds
    _measure(trials, [{"round": 0} for _ in trials])
    with Progress(title, rounds, enabled=progress) as bar:
        for number in range(1, rounds + 1):
            _advance([trial for trial in trials if not trial.failed])
            bar.advance(f"round {number}/{rounds}  {says(trials)}  ({len(trials)} federations)")
    return tuple(Trial(t.seed, t.rate, tuple(t.rounds), t.failed) for t in trials)


def cohort_key(experiment: Experiment) -> str:
    """Return a hash that is equal for experiments whose federations may train as one cohort.

    They may differ in seed, learning rates, whether optimiser states are kept, and in all that concerns one federation
    alone: clients and partition, codec, seal, aggregation, the shares held out.
    """
    training, common = experiment.training, Experiment()
    optimizer: Any = replace(training.optimizer, lr=1.0, rates={})  # type: ignore[type-var]  # as in `_at`
    own = ("seed", "name", "clients", "codec", "seal", "aggregation", "validation", "test")
    training = replace(training, optimizer=optimizer, keep_state=False)
    return replace(experiment, training=training, **{field: getattr(common, field) for field in own}).identity


def _advance(alive: Sequence[Running]) -> None:
    """Run one round of all federations in `alive`."""
    begun: list[Running] = []
    envelopes = []
    for trial in alive:
        try:
            envelopes.append(trial.federation.server.begin())
            begun.append(trial)
        except (AggregationError, ClientError, QuorumError) as error:
            trial.failed = str(error)
    replies = exchange_together([trial.federation.engine for trial in begun], envelopes) if begun else []
    finished, outcomes = [], []
    for trial, reply in zip(begun, replies, strict=True):
        try:
            outcomes.append(describe(trial.federation.server.finish(reply)))
            finished.append(trial)
        except (AggregationError, ClientError, QuorumError) as error:
            trial.failed = str(error)
    if finished:
        _measure(finished, outcomes)


def _measure(trials: Sequence[Running], outcomes: Sequence[Line]) -> None:
    for trial, outcome, scores in zip(trials, outcomes, measure([t.federation for t in trials]), strict=True):
        if isfinite(scores["validation"]["loss"]) and isfinite(scores["test"]["loss"]):
            trial.rounds.append(outcome | scores)
        else:
            trial.failed = f"the global model's loss is not finite after round {outcome['round']}"


def _best(name: str, metric: str, of_one_seed: Sequence[Running]) -> float:
    alive = [trial.rounds[-1]["validation"][metric] for trial in of_one_seed if not trial.failed]
    if not alive:
        first = of_one_seed[0]
        raise RunError(
            f"arm '{name}', seed {first.seed}: no learning rate of {', '.join(f'{t.rate:g}' for t in of_one_seed)} "
            f"trains it ({first.failed}); compare with other rates"
        )
    return float(max(alive) if METRICS[metric].higher_is_better else min(alive))


def _at(arm: Experiment, seed: int, rate: float) -> Experiment:
    """Return an arm at one seed and learning rate, rates of single parts moved in proportion."""
    return replace(arm, seed=seed, training=replace(arm.training, optimizer=at_rate(arm.training.optimizer, rate)))
