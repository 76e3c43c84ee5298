"""A finished sweep: its choice, table, plot and report.

The choice is made on validation rows, by the mean over seeds; what is reported is the mean on test rows with its t
interval, which took no part in the choice.
"""

import html
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import latex, plots, sections
from .arms import Arm, load_arm
from .errors import ConfigurationError, RunError, nearest
from .evidence import METRICS, mean_interval
from .experiment import Experiment
from .points import Label
from .records import EXPERIMENT, REPORT, RunDirectory
from .report import Report, Section, picture, write
from .svg import canvas

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

SWEEP, OUTCOME = "sweep.json", "outcome.json"


def point_folder(sweep: Path, number: int) -> Path:
    """Return the folder of a sweep's point: its experiment.toml, which can be run alone, and its outcome."""
    return sweep / f"point-{number:04d}"


@dataclass(frozen=True)
class Swept:
    """A point and what became of it on every seed."""

    values: dict[str, Label]
    arm: Arm

    @property
    def whole(self) -> bool:
        """Whether no seed failed."""
        return not any(trial.failed for trial in self.arm.trials)

    def scores(self, metric: str, part: str) -> np.ndarray:
        """Return the last round's metric on the rows of `part`, (seeds that did not fail,)."""
        return np.array([trial.score(metric, part) for trial in self.arm.trials if not trial.failed])

    def rank(self, metric: str) -> tuple[float, float]:
        """Return what the choice maximises: the mean validation metric, then the lower validation loss."""
        sign = 1 if METRICS[metric].higher_is_better else -1
        return sign * float(self.scores(metric, "validation").mean()), -float(self.scores("loss", "validation").mean())


class Sweep:
    """A finished sweep; open one with `Sweep.load(directory)`."""

    def __init__(self, experiment: Experiment, points: Sequence[Swept], metric: str, directory: Path) -> None:
        self.experiment, self.points, self.metric, self.directory = experiment, tuple(points), metric, directory
        self.fields = tuple(points[0].values)
        self.seeds = [trial.seed for trial in points[0].arm.trials]

    @cached_property
    def chosen(self) -> int | None:
        """The number of the point with the best mean validation metric; None if every point failed on some seed."""
        whole = [number for number, point in enumerate(self.points) if point.whole]
        return max(whole, key=lambda number: self.points[number].rank(self.metric), default=None)

    @property
    def best(self) -> Experiment:
        """The experiment at the chosen point; raise `RunError` where no point finished on every seed."""
        if self.chosen is None:
            raise RunError(
                f"no point finished on every seed ({self.points[0].arm.trials[0].failed}): sweep other values"
            )
        return Experiment.load(point_folder(self.directory, self.chosen) / EXPERIMENT)

    @property
    def verdict(self) -> str:
        """The sentence on the choice and its test metric."""
        n, what = len(self.seeds), self.metric
        if self.chosen is None:
            return f"Nothing is chosen: each of {plots.count(len(self.points), 'point')} failed on some seed."
        point = self.points[self.chosen]
        validation, test = (mean_interval(point.scores(what, part)) for part in ("validation", "test"))
        interval = f"95 % interval {test.low:.3f} to {test.high:.3f}, {n} seeds" if n > 1 else "one seed, no interval"
        return (
            f"Of {plots.count(len(self.points), 'point')}, {_settings(point)} has the best {'mean ' if n > 1 else ''}"
            f"validation {what}, {validation.mean:.3f}; its test {what}, which took no part in the choice, is "
            f"{test.mean:.3f} ({interval})."
        )

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a reader of the verdict should know: a close second, the grid's edge, points that failed."""
        found = []
        failed = sum(not point.whole for point in self.points)
        if failed:
            found.append(f"{plots.count(failed, 'point')} failed on some seed and cannot be chosen.")
        if self.chosen is None:
            return tuple(found)
        best = self.points[self.chosen]
        others = [p for i, p in enumerate(self.points) if p.whole and i != self.chosen]
        if others and len(self.seeds) > 1:
            second = max(others, key=lambda point: point.rank(self.metric))
            gap = mean_interval(best.scores(self.metric, "test") - second.scores(self.metric, "test"))
            if gap.low <= 0 <= gap.high:
                found.append(
                    f"The second choice, {_settings(second)}, is not told apart on test rows: chosen minus second is "
                    f"{gap.mean:+.3f} ({gap.low:+.3f} to {gap.high:+.3f})."
                )
        for field in self.fields:
            tried = [number for p in self.points if (number := _number(p.values[field])) is not None]
            its = _number(best.values[field])
            if len(set(tried)) > 2 and its in (min(tried), max(tried)):
                end = "smallest" if its == min(tried) else "largest"
                found.append(f"It has the {end} {field} tried: a wider range might change the choice.")
        return tuple(found)

    def table(self) -> "pd.DataFrame":
        """Return one row per point: its values, mean validation metric, mean test metric with its 95 % t interval.

        Means are over the seeds that did not fail; "failed" says on how many seeds it did, "chosen" which point is.
        """
        import pandas as pd

        rows = []
        for number, point in enumerate(self.points):
            validation, test = (point.scores(self.metric, part) for part in ("validation", "test"))
            interval = mean_interval(test) if len(test) > 1 else None
            rows.append(
                {
                    **{field: plots.NOTHING if value is None else value for field, value in point.values.items()},
                    "chosen": "yes" if number == self.chosen else "",
                    "parameters": sum(point.arm.parameters.values()),
                    f"validation {self.metric}": validation.mean() if len(validation) else float("nan"),
                    f"test {self.metric}": test.mean() if len(test) else float("nan"),
                    "95 % low": interval.low if interval else float("nan"),
                    "95 % high": interval.high if interval else float("nan"),
                    "failed": len(point.arm.trials) - len(test),
                }
            )
        return pd.DataFrame(rows)

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per point and seed: values, last round's metrics, what it sent and ran, why it failed."""
        import pandas as pd

        rows = []
        for number, point in enumerate(self.points):
            for trial in point.arm.trials:
                line: dict[str, Any] = trial.rounds[-1] if trial.rounds else {}
                scores = {f"{p}_{k}": v for p in ("validation", "test") for k, v in line.get(p, {}).items()}
                entries = [entry for one in trial.rounds for entry in one.get("ledger", ())]
                rows.append(
                    {"point": number, **point.values, "seed": trial.seed, "round": line.get("round")}
                    | ({name: float("nan") for name in scores} if trial.failed else scores)
                    | {"bytes": sum(e["bytes_down"] + e["bytes_up"] for e in entries)}
                    | {"executions": sum(e["executions"] for e in entries), "failed": trial.failed}
                )
        return pd.DataFrame(rows)

    def plot(self, *fields: str, ax: "Axes | None" = None) -> "Axes":
        """Plot the test metric against one field, with intervals, or against two as a heat map; return the axes.

        fields: one or two of those swept, by default all or the first two. Of several points that share a place, which
        differ in other fields, the one with the best mean validation metric is shown.
        """
        chosen = fields or self.fields[:2]
        if len(chosen) > 2 or (wrong := [field for field in chosen if field not in self.fields]):
            got = f"'{wrong[0]}'{nearest(wrong[0], self.fields)}" if len(chosen) <= 2 else f"{len(chosen)} fields"
            raise ConfigurationError(f"plot takes one or two of {', '.join(self.fields)}; got {got}")
        shown: dict[tuple[Label, ...], Swept] = {}
        for point in self.points:
            place = tuple(point.values[field] for field in chosen)
            if point.whole and (place not in shown or point.rank(self.metric) > shown[place].rank(self.metric)):
                shown[place] = point
        tests = {place: point.scores(self.metric, "test") for place, point in shown.items()}
        every = [list(dict.fromkeys(point.values[field] for point in self.points)) for field in chosen]
        rest = "" if len(chosen) == len(self.fields) else ", other fields at their best on validation"
        over = f"mean of {len(self.seeds)} seeds" if len(self.seeds) > 1 else "one seed, no interval"
        if len(chosen) == 1:
            band = ", bar: 95 % t interval" if len(self.seeds) > 1 else ""
            scores = {place[0]: values for place, values in tests.items()}
            ax = plots.against(scores, every[0], chosen[0], f"test {self.metric}", ax)
            ax.set_title(f"{over}{band}{rest}", fontsize=9)
            return ax
        means = {(place[0], place[1]): float(values.mean()) for place, values in tests.items()}
        places = [(_number(first), _number(second)) for first, second in means]
        numbers = {(x, y): m for (x, y), m in zip(places, means.values(), strict=True) if None not in (x, y)}
        if len(numbers) == len(means) and 3 * len(means) < len(every[0]) * len(every[1]):
            ax = plots.scattered(numbers, chosen, ax)
        else:
            ax = plots.heat_map(means, every[0], every[1], chosen, ax)
        ax.set_title(f"test {self.metric}, {over}{rest}; – failed or not tried", fontsize=9)
        return ax

    def report(self) -> Path:
        """Write report.html into the sweep's directory and return its path."""
        return write(_report(self), self.directory / REPORT)

    def __repr__(self) -> str:
        table = self.table().to_string(index=False, na_rep="–", float_format=lambda x: f"{x:.4g}")
        return "\n".join([self.verdict, *self.cautions, "", table])

    def _repr_html_(self) -> str:
        sentences = [f"<p><b>{html.escape(self.verdict)}</b></p>", *(f"<p>{html.escape(c)}</p>" for c in self.cautions)]
        return "".join(sentences) + self.table().to_html(index=False, na_rep="–", float_format=lambda x: f"{x:.4g}")

    def to_latex(self, caption: str | None = None, label: str | None = None) -> str:
        """Return the points as a LaTeX table (booktabs), test metric with its 95 % t interval; a star is the choice."""
        rows = []
        for number, point in enumerate(self.points):
            validation, test = (point.scores(self.metric, part) for part in ("validation", "test"))
            its = mean_interval(test) if len(test) else None
            values = [plots.NOTHING if value is None else value for value in point.values.values()]
            shown = latex.interval(its.mean, its.low, its.high) if its else "–"
            chosen = "*" if number == self.chosen else ""
            rows.append((*values, f"{validation.mean():.3f}{chosen}" if len(validation) else "–", shown))
        name = METRICS[self.metric].label
        seeds = plots.count(len(self.seeds), "seed")
        about = f"{name[0].upper()}{name[1:]}, mean over {seeds} [95 % t interval]; *: chosen."
        columns = (*self.fields, f"validation {name}", f"test {name}")
        return latex.table(columns, rows, about if caption is None else caption, label)

    @classmethod
    def load(cls, directory: str | Path) -> "Sweep":
        """Return the sweep that a directory holds; raise `RunError` if it is not a finished one."""
        folder = Path(directory)
        try:
            data = json.loads((folder / SWEEP).read_text(encoding="utf-8"))
            values, metric = data["points"], data["metric"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{folder} holds no finished sweep ({error}); finish it with resume=True") from error
        points = [Swept(v, load_arm(point_folder(folder, number) / OUTCOME)) for number, v in enumerate(values)]
        return cls(Experiment.load(folder / EXPERIMENT), points, metric, folder)


def _settings(point: Swept) -> str:
    return ", ".join(f"{k} = {v:.4g}" if isinstance(v, float) else f"{k} = {v}" for k, v in point.values.items())


def _number(value: Label) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _report(sweep: Sweep) -> Report:
    record = RunDirectory(sweep.directory)
    failed = [(p.arm.name, t) for p in sweep.points for t in p.arm.trials if t.failed]
    rows = max(len({p.values[field] for p in sweep.points}) for field in sweep.fields)
    circuits = sections.held(sweep.best) if sweep.chosen is not None else sections.held(sweep.experiment)
    found = [
        Section(
            "Points",
            f"Last round's {sweep.metric}, mean over {plots.count(len(sweep.seeds), 'seed')}. The choice is made on "
            "validation rows; the test rows took no part in it, and the intervals (95 % t over seeds) are theirs.",
            (
                picture(
                    sweep.plot(ax=canvas((4.6, 2.6 + 0.12 * rows))),
                    f"test {sweep.metric} against {' and '.join(sweep.fields)}",
                ),
            ),
            table=sweep.table(),
        )
    ]
    found += sections.circuit({sweep.experiment.name: circuits})
    costs = sweep.to_frame()
    found.append(
        Section(
            "Ledger",
            f"All {len(costs)} federations sent {costs['bytes'].sum() / 1e6:.2f} MB "
            f"and ran {costs['executions'].sum():,} circuits in training.",
        )
    )
    if sweep.cautions:
        found.insert(0, Section("Read with care", " ".join(sweep.cautions)))
    if failed:
        text = "; ".join(f"{name}, seed {t.seed}: {t.failed}" for name, t in failed)
        found.append(Section("Federations that failed", text))
    return Report(
        f"{sweep.experiment.name}: a sweep over {', '.join(sweep.fields)}",
        (sweep.verdict,),
        tuple(found),
        sections.environment(record.environment(), sweep.experiment, circuits),
        _command(sweep, record.facts()),
        (
            *sections.limits(sweep.experiment, circuits),
            "Only the fields above were varied; the others had one value, which may suit some points better.",
            "Intervals are of one point each; nothing is corrected for the number of points.",
        ),
    )


def _command(sweep: Sweep, facts: dict[str, Any]) -> str:
    """Return the command line that makes the same sweep, or the choice alone where a command line cannot."""
    if axes := facts["command"]:
        words = ["qfedfm", "sweep", EXPERIMENT, *(word for axis in axes for word in ("--grid", axis))]
        return shlex.join([*words, "--seeds", str(len(sweep.seeds)), "--metric", sweep.metric])
    return shlex.join(["qfedfm", "run", f"{point_folder(Path(), sweep.chosen or 0)}/{EXPERIMENT}"])
