"""Where a space is too large for a grid: Optuna proposes the points of a sweep, from the scores of those before.

Akiba et al. 2019, doi:10.1145/3292500.3330701. The score is the mean validation metric; test rows are never shown to
the search. A study is never stored: a resumed sweep asks the same sampler again for what it had asked before, and so
needs one with a seed. Optuna is imported here alone.
"""

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

from .errors import ConfigurationError, MissingExtraError
from .experiment import Experiment
from .points import Label, Point, at, listed, named, refusal

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

Batches = Generator[list[Point], list[float | None], None]
"""Gives lists of points that may be trained together, and is sent their scores, None for one that has none."""


def is_distribution(value: Any) -> bool:
    """Return whether `value` is one of Optuna's distributions; imports nothing."""
    return type(value).__module__ == "optuna.distributions"


def corners(experiment: Experiment, space: Mapping[str, Any]) -> list[Point]:
    """Return the experiment at every choice of every list of a space, and at both ends of every range, one at a time.

    Raises one `ConfigurationError` for all that is wrong with the space.
    """
    if not space:
        raise ConfigurationError("the space is empty: give it paths, each with a list or a distribution of Optuna's")
    points: list[Point] = []
    wrong: list[str] = []
    for path, values in space.items():
        try:
            ends = [values.low, values.high] if is_distribution(values) and hasattr(values, "low") else None
            if isinstance(values, tuple):
                wrong.append(
                    f"'{path}': a tuple {values} may mean a range or a choice: write FloatDistribution(low, high) of "
                    "Optuna's, or a list"
                )
                continue
            options = ends or listed(path, getattr(values, "choices", values))
            for value, text in zip(options, named(options), strict=True):
                if reasons := refusal(experiment, path, value):
                    wrong += reasons
                else:
                    points.append(at(experiment, {path: (value, text)}))
        except ConfigurationError as error:
            wrong += error.problems
    if wrong:
        raise ConfigurationError(dict.fromkeys(wrong))
    return points


def propose(
    experiment: Experiment,
    space: Mapping[str, Any],
    trials: int,
    together: int,
    sampler: "BaseSampler | None",
    higher_is_better: bool,
) -> Batches:
    """Propose `trials` points, `together` at a time, and learn from their scores.

    sampler: Optuna's; None takes TPE (Bergstra et al. 2011) with the experiment's seed.
    """
    optuna = _optuna()
    lists = {path: listed(path, values) for path, values in space.items() if not is_distribution(values)}
    labels = {path: named(values) for path, values in lists.items()}
    distributions: dict[str, BaseDistribution] = {
        path: optuna.distributions.CategoricalDistribution(range(len(lists[path]))) if path in lists else values
        for path, values in space.items()
    }
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(
            sampler=sampler or optuna.samplers.TPESampler(seed=experiment.seed),
            direction="maximize" if higher_is_better else "minimize",
        )
    finally:
        optuna.logging.set_verbosity(level)

    def chosen(path: str, value: Any) -> tuple[Any, Label]:
        return (lists[path][value], labels[path][value]) if path in lists else (value, value)

    def batches() -> Batches:
        left = trials
        while left:
            asked = [study.ask(distributions) for _ in range(min(together, left))]
            scores = yield [at(experiment, {path: chosen(path, one.params[path]) for path in space}) for one in asked]
            for one, score in zip(asked, scores, strict=True):
                study.tell(one, score, state=optuna.trial.TrialState.FAIL if score is None else None)
            left -= len(asked)

    return batches()


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("optuna", "optuna", "a sweep over a space") from None
    return optuna
