"""Callbacks: what else happens while a run goes on.

    qf.run(experiment, callbacks=[qf.EarlyStopping(patience=5), qf.LiveChart()])

A callback is any object with some of the methods of `Callback`; they are always called in the same order. One that
raises is named in a warning and in the run's events, is not called again, and does not spoil the run: what a run
remembers never depends on who watched it, but for a wish to stop.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .errors import ConfigurationError, nearest
from .evidence import METRICS
from .experiment import Experiment
from .figures import showing
from .progress import in_notebook

Line = dict[str, Any]
"""A round as rounds.jsonl remembers it; see `Result.rounds`."""


class Callback:
    """The methods that are called; all may be left out, and none has to call the one here."""

    def run_started(self, experiment: Experiment, directory: Path, rounds: Sequence[Line]) -> str | None:
        """Called once, with the rounds that are recorded, round 0 at least. A text says why none should follow."""

    def round_started(self, round: int) -> None:
        """Called before a round's clients are chosen."""

    def client_failed(self, round: int, client: str, reason: str) -> None:
        """Called for each client that was left out of a round, after it."""

    def round_ended(self, line: Line) -> str | None:
        """Called with a round's record before it is written. A text says why no further round is wanted."""

    def checkpoint(self, round: int, path: Path) -> None:
        """Called when a round is safely on disk."""

    def run_ended(self, reason: str | None) -> None:
        """Called once at the end; reason: why it ended early or failed, None after the last round."""


class Callbacks:
    """Calls all callbacks of a run; `failures` lists those that raised, with what they said."""

    def __init__(self, callbacks: Iterable[Any]) -> None:
        if not isinstance(callbacks, Iterable):
            raise ConfigurationError(f"callbacks: expected a list of them; write callbacks=[{callbacks!r:.100}]")
        self._alive = list(callbacks)
        for one in self._alive:
            if isinstance(one, type) or not any(callable(getattr(one, name, None)) for name in EVENTS):
                raise ConfigurationError(
                    f"callbacks: expected objects with methods such as round_ended(line); got {one!r:.100}"
                    + ("; write it with brackets, as an object" if isinstance(one, type) else "")
                )
        self.failures: list[dict[str, Any]] = []

    def call(self, event: str, *arguments: Any) -> list[Any]:
        """Call a method on every callback that has it and has not failed; return what they answered.

        Each gets a copy of a round's record, since it may write into it.
        """
        answers = []
        for one in list(self._alive):
            method = getattr(one, event, None)
            if method is None:
                continue
            try:
                answers.append(method(*(deepcopy(some) if isinstance(some, dict) else some for some in arguments)))
            except Exception as error:  # noqa: BLE001  (whatever a callback does, the run goes on)
                self._alive.remove(one)
                name = type(one).__name__
                self.failures.append({"callback": name, "during": event, "reason": f"{type(error).__name__}: {error}"})
                warnings.warn(
                    f"callback {name} failed in {event} and is not called again; the run goes on "
                    f"({type(error).__name__}: {error})",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return answers


EVENTS = tuple(name for name in vars(Callback) if not name.startswith("_"))


@dataclass
class EarlyStopping:
    """Stops a run whose metric has not improved for `patience` rounds by more than `min_delta`.

    metric: of `evidence.METRICS`; which way is better is known. part: rows it is measured on. Rounds of an earlier
    attempt count, so a resumed run stops where an unbroken one would have. The model that is kept is the last one.
    """

    metric: str = "loss"
    part: Literal["validation", "test"] = "validation"
    patience: int = 5
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        wrong = []
        if self.metric not in METRICS:
            wrong.append(f"EarlyStopping.metric: no metric '{self.metric}'{nearest(self.metric, METRICS)}")
        if self.part not in ("validation", "test"):
            wrong.append(f'EarlyStopping.part: expected "validation" or "test"; got \'{self.part}\'')
        if not isinstance(self.patience, int) or self.patience < 1:
            wrong.append(f"EarlyStopping.patience: expected at least one round; got {self.patience!r}")
        if not isinstance(self.min_delta, int | float) or not 0 <= self.min_delta < math.inf:
            wrong.append(f"EarlyStopping.min_delta: expected 0 or more; got {self.min_delta!r}")
        if wrong:
            raise ConfigurationError(wrong)
        self._best, self._since = math.inf, 0

    def run_started(self, experiment: Experiment, directory: Path, rounds: Sequence[Line]) -> str | None:  # noqa: ARG002
        """Begin anew with the rounds that are there."""
        self._best, self._since = math.inf, 0
        return [None, *map(self.round_ended, rounds)][-1]

    def round_ended(self, line: Line) -> str | None:
        """Return why the run should stop, if it should."""
        value = _score(line, self.part, self.metric)
        better = -value if METRICS[self.metric].higher_is_better else value
        if better < self._best - self.min_delta:  # never where it is not a number
            self._best, self._since = better, 0
        else:
            self._since += 1
        if self._since < self.patience:
            return None
        return f"no better {self.part} {self.metric} for {self._since} rounds"


class LiveChart:
    """A learning curve that grows in the notebook, one update a round, and stays there as a picture.

    metric: of `evidence.METRICS`, on test and validation rows; None for accuracy, or RMSE of numbers. every: seconds
    between two updates at least. Without a notebook it does nothing; `run` adds one by itself in a notebook.
    """

    def __init__(self, metric: str | None = None, every: float = 0.5) -> None:
        if metric is not None and metric not in METRICS:
            raise ConfigurationError(
                f"LiveChart: no metric '{metric}'{nearest(metric, METRICS)}; known are {', '.join(METRICS)}"
            )
        self.metric, self.every = metric, every
        self._lines: list[Line] = []
        self._handle: Any = None
        self._figure: Any = None
        self._shown = -math.inf

    def run_started(self, experiment: Experiment, directory: Path, rounds: Sequence[Line]) -> None:  # noqa: ARG002
        """Show the axes."""
        self._lines, self._rounds, self._handle = list(rounds), experiment.rounds, None
        if in_notebook():
            from IPython.display import display

            self._draw()
            self._handle = display(self._figure, display_id=True)  # type: ignore[no-untyped-call]

    def round_ended(self, line: Line) -> None:
        """Add a point."""
        from time import monotonic

        self._lines.append(line)
        if self._handle is not None and monotonic() - self._shown >= self.every:
            self._draw()
            self._handle.update(self._figure)
            self._shown = monotonic()

    def run_ended(self, reason: str | None) -> None:  # noqa: ARG002
        """Show the last state, and close the figure so that the notebook does not print it twice."""
        if self._handle is not None:
            self._draw()
            self._handle.update(self._figure)

    def _draw(self) -> None:
        from matplotlib.figure import Figure
        from matplotlib.ticker import MaxNLocator

        from .plots import COLOURS

        self._figure = showing(Figure(figsize=(6.4, 3.2), layout="constrained"))
        ax = self._figure.subplots()
        numbers = [line["round"] for line in self._lines]
        metric = self.metric or ("accuracy" if "accuracy" in self._lines[0]["test"] else "rmse")
        for part, colour, style in (("test", COLOURS[0], "-"), ("validation", COLOURS[5], "--")):
            values = [_score(line, part, metric) for line in self._lines]
            ax.plot(numbers, values, style, color=colour, label=f"{part} {values[-1]:.3f}", marker="o", markersize=3)
        ax.set_xlim(-0.3, self._rounds + 0.3)
        ax.set_xlabel(f"round ({numbers[-1]} of {self._rounds})")
        ax.set_ylabel(METRICS[metric].label)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.legend(frameon=False)


def _score(line: Line, part: str, metric: str) -> float:
    """Return a metric of a round, NaN where its rows do not define it; refuse one of another task."""
    scores = line[part]
    if metric not in scores:
        raise ConfigurationError(f"{metric} is no metric of this task; it has {', '.join(scores)}")
    return math.nan if scores[metric] is None else float(scores[metric])
