"""Sweep: an experiment at many values of its fields, each on the same seeds; chosen on validation, reported on test.

Points whose models and data agree train as one cohort (see `arms`). Their outcomes are written when the cohort is done,
and a resumed sweep keeps every cohort that was.
"""

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arms import Arm, Running, Trial, cohort_key, load_arm, prepared_for, run_together
from .assembly import Prepared, bind
from .backends import Exact
from .cache import write_atomically
from .data import Arrays, assign, split
from .environment import environment
from .errors import ConfigurationError, DataError, RunError, nearest
from .evidence import METRICS
from .evidence.metrics import unfit_metric
from .experiment import ARRAYS, Experiment
from .points import Label, Point, axis_text, check, check_distinct, grid_points, listed, named
from .records import RunDirectory, refuse_existing
from .runs import choose
from .search import Batches, corners, is_distribution, propose
from .swept import OUTCOME, SWEEP, Sweep, Swept, point_folder

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

MANY = 1000
"""So many federations are worth a warning."""
TOGETHER = 8

Known = list[tuple[Experiment, Prepared]]


def sweep(
    experiment: Experiment | str | Path,
    grid: Mapping[str, Sequence[Any]] | None = None,
    *,
    space: Mapping[str, Any] | None = None,
    trials: int = 20,
    sampler: "BaseSampler | None" = None,
    seeds: int = 3,
    metric: str = "accuracy",
    together: int | None = None,
    directory: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Sweep:
    """Run an experiment, or that of a TOML file, at many values of its fields; return table, plot, the best; report.

    grid: dotted path to values, such as {"training.optimizer.lr": [0.01, 0.1], "aggregation": [Mean(), Median()]};
    every combination is a point. space, instead: path to a list or a distribution of Optuna's (extra `optuna`), of
    which `sampler` (by default TPE with the experiment's seed) proposes `trials` points. seeds: how many each point
    runs, from the experiment's own on. metric: what the choice is made by, on validation rows. together: the most
    points that train as one cohort, which is what is kept or lost together; by default 8 of a grid, and 1 of a space,
    so that each proposal knows all scores before it. resume: keep what a stopped sweep in `directory` had finished.

    A field is replaced by the value as it is: rates of single parts stay, which `compare` moves with the learning rate.
    A federation that fails is recorded, and its point never chosen. Raises `ConfigurationError`, before anything is
    trained, for paths and values that cannot be, and for points of a grid that could not run.
    """
    experiment = Experiment.of(experiment)
    _check(grid, space, trials, seeds, metric, together)
    together = together or (TOGETHER if space is None else 1)
    points = corners(experiment, space) if space is not None else grid_points(experiment, grid or {})
    if space is None and len(points) * seeds > MANY:
        warnings.warn(
            f"this grid is {len(points)} points on {seeds} seeds, {len(points) * seeds} federations of "
            f"{experiment.rounds} rounds: take fewer values, or a space with a number of trials",
            stacklevel=2,
        )
    known = _check_all(points, seeds, progress)
    if wrong := [reason for _, data in known for reason in unfit_metric(metric, data.dataset.task)]:
        raise ConfigurationError(dict.fromkeys(wrong))
    if space is None:
        check_distinct(points)
        facts: dict[str, Any] = {"points": [point.experiment.identity for point in points]}
        axes = [axis_text(path, listed(path, values)) for path, values in (grid or {}).items()]
        facts["command"] = None if None in axes else axes
        batches = _whole(points)
    else:
        facts = {"space": {path: _space_text(values) for path, values in space.items()}, "command": None}
        facts["sampler"] = type(sampler).__name__ if sampler else "TPESampler"
        batches = propose(experiment, space, trials, together, sampler, METRICS[metric].higher_is_better)
    facts |= {"experiment": experiment.identity, "seeds": seeds, "metric": metric, "together": together}
    facts["data"] = sorted({data.dataset.fingerprint for _, data in known})
    folder = choose(replace(experiment, name=f"{experiment.name}-sweep"), directory, resume)
    if resume and folder.exists():
        record = _opened(folder, facts)
    else:
        refuse_existing(folder)
        record = RunDirectory.create(folder, experiment.save, facts, environment())
    with record.locked():
        record.event("start")
        done = _points(record, experiment, batches, seeds, metric, together, known, progress)
        summary = {"metric": metric, "points": [point.values for point in done]}
        write_atomically(folder / SWEEP, json.dumps(summary).encode())
        result = Sweep(experiment, done, metric, folder)
        result.report()
        return result


def _whole(points: list[Point]) -> Batches:
    """Give all points of a grid as one batch."""
    yield points


def _points(
    record: RunDirectory,
    experiment: Experiment,
    batches: Batches,
    seeds: int,
    metric: str,
    together: int,
    known: Known,
    progress: bool,
) -> list[Swept]:
    """Train the points of every batch that have no outcome yet, and return all."""
    done: list[Swept] = []
    scores: list[float | None] = []
    try:
        batch = next(batches)
        while True:
            for cohort in _cohorts(batch, together):
                folders = [point_folder(record.folder, len(done) + i) for i in cohort]
                if all((folder / OUTCOME).exists() for folder in folders):
                    continue
                title = f"point{'s'[: len(cohort) - 1]} {', '.join(str(len(done) + i + 1) for i in cohort)}"
                for i, folder in zip(cohort, folders, strict=True):
                    _save(batch[i].experiment, folder, experiment)
                arms = _train(title, [batch[i] for i in cohort], seeds, record.attempts(), known, progress)
                for arm, folder in zip(arms, folders, strict=True):
                    write_atomically(folder / OUTCOME, json.dumps(asdict(arm)).encode())
                record.event("points", numbers=[len(done) + i for i in cohort])
            swept = [_swept(record, len(done) + i, point) for i, point in enumerate(batch)]
            done += swept
            scores = [float(s.scores(metric, "validation").mean()) if s.whole else None for s in swept]
            batch = batches.send(scores)
    except StopIteration:
        return done


def _cohorts(batch: Sequence[Point], together: int) -> list[list[int]]:
    """Return the positions of points that train together, in order, at most `together` in each.

    What a machine samples depends on all that is sent to it at once, so a point on one has a cohort of its own.
    """
    groups: dict[str, list[int]] = {}
    for i, point in enumerate(batch):
        groups.setdefault(cohort_key(point.experiment), []).append(i)
    cohorts = []
    for members in groups.values():
        one = batch[members[0]].experiment
        size = together if isinstance(one.backend, Exact) and one.training.gradient is None else 1
        cohorts += [members[start : start + size] for start in range(0, len(members), size)]
    return sorted(cohorts)


def _train(title: str, points: Sequence[Point], seeds: int, attempt: int, known: Known, progress: bool) -> list[Arm]:
    """Train all points on all seeds as one cohort; one that cannot run, which a space may hold, has failed on each."""
    refused = [_refusal(point, seeds, known, progress) for point in points]
    federations = [
        replace(point.experiment, seed=seed)
        for point, reason in zip(points, refused, strict=True)
        if not reason
        for seed in _seeds(point.experiment, seeds)
    ]
    count: dict[str, int] = {}
    fingerprint, trials = "", tuple[Trial, ...]()
    if federations:
        data = prepared_for(federations[0], known, progress)
        model = bind(federations[0], data)
        count, fingerprint = model.count(), data.dataset.fingerprint
        trials = run_together(title, federations, data, model, attempt, progress, _says)
    arms, left = [], iter(trials)
    for point, reason in zip(points, refused, strict=True):
        rate = point.experiment.training.optimizer.lr
        each = [Trial(n, rate, (), reason) if reason else next(left) for n in _seeds(point.experiment, seeds)]
        arms.append(Arm(point.name, {} if reason else count, fingerprint, tuple(each)))
    return arms


def _says(trials: Sequence[Running]) -> str:
    losses = [trial.rounds[-1]["validation"]["loss"] for trial in trials if not trial.failed]
    return f"lowest validation loss {min(losses):.3f}" if losses else "all failed"


def _seeds(experiment: Experiment, seeds: int) -> range:
    return range(experiment.seed, experiment.seed + seeds)


def _check_all(points: Sequence[Point], seeds: int, progress: bool) -> Known:
    """Return the data of all points; raise one `ConfigurationError` that names all points which cannot run."""
    check(points)
    known: Known = []
    if wrong := [f"{p.name}: {reason}" for p in points if (reason := _refusal(p, seeds, known, progress))]:
        raise ConfigurationError(wrong)
    return known


def _refusal(point: Point, seeds: int, known: Known, progress: bool) -> str:
    """Return why a point cannot run on its data, or an empty string."""
    experiment, clients = point.experiment, point.experiment.clients
    try:
        check([point])
        dataset = prepared_for(experiment, known, progress).dataset
        for seed in _seeds(experiment, seeds):
            parts = split(dataset, seed, experiment.validation, experiment.test)
            owners = assign(clients.partition, dataset, parts, clients.count, seed, clients.min_rows)
            clients.fewest(clients.number_per_round(len(owners.names)))
    except (ConfigurationError, DataError) as error:
        return str(error)
    return ""


def _save(point: Experiment, folder: Path, experiment: Experiment) -> None:
    """Write a point's experiment into its folder, anew where a killed attempt had begun; arrays stay the sweep's."""
    shutil.rmtree(folder, ignore_errors=True)
    shared = isinstance(experiment.data, Arrays) and point.data == experiment.data
    try:
        folder.mkdir()
        point.save(folder, arrays=Path("..") / ARRAYS if shared else None)
    except OSError as error:
        raise RunError(f"cannot write {folder}: {error.strerror}; make room and resume") from error


def _swept(record: RunDirectory, number: int, point: Point) -> Swept:
    arm = load_arm(point_folder(record.folder, number) / OUTCOME)
    if arm.name != point.name:
        raise RunError(
            f"{record.folder} holds {arm.name} where the sampler now proposes {point.name}: only a sampler with a seed "
            "repeats its draws; start a new sweep with one"
        )
    return Swept(point.values, arm)


def _opened(folder: Path, facts: dict[str, Any]) -> RunDirectory:
    record = RunDirectory(folder)
    found = record.facts()
    if {**found, "data": None} != {**facts, "data": None}:
        raise RunError(f"{folder} belongs to another sweep: choose another directory")
    if found["data"] != facts["data"]:
        raise RunError(f"the data has changed since {folder} began: start a new sweep elsewhere")
    return record


def _space_text(values: Any) -> str | list[Label]:
    return repr(values) if is_distribution(values) else named([*values])


def _check(
    grid: Mapping[str, Sequence[Any]] | None,
    space: Mapping[str, Any] | None,
    trials: int,
    seeds: int,
    metric: str,
    together: int | None,
) -> None:
    wrong = []
    if (grid is None) == (space is None):
        wrong.append("sweep needs a grid or a space, and not both")
    elif any(map(is_distribution, (grid or {}).values())):
        wrong.append(
            "a grid holds lists; a distribution is of a space: write sweep(experiment, space={...}, trials=20)"
        )
    counts = {"seeds": seeds, "trials": trials} | ({} if together is None else {"together": together})
    for name, number in counts.items():
        if type(number) is not int or number < 1:
            wrong.append(f"{name}: expected a whole number of at least 1; got {number!r}")
    if metric not in METRICS:
        wrong.append(f"metric: expected one of {', '.join(METRICS)}; got '{metric}'{nearest(metric, METRICS)}")
    if wrong:
        raise ConfigurationError(wrong)
