"""Compare: a head beside its twins, on the same seeds, splits, clients and rounds, each at its own best learning rate.

For each seed the learning rate is chosen on that seed's validation rows; what is compared is the last round's metric on
its test rows. The seed is the unit: statistics are paired by seed. How an arm is trained is in `arms`.
"""

import html
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import key_account, plots
from .arms import Arm, load_arm, prepared_for, train_arm, twins, unfair
from .cache import write_atomically
from .data.dataset import Outlined, Task
from .environment import environment
from .equal_cost import UNITS, Hold, cut, spent, unequal
from .errors import ConfigurationError, RunError, nearest
from .evidence import METRICS, Paired, fairness, mean_interval, paired, verdict
from .experiment import Experiment
from .federation import Clients
from .records import EXPERIMENT, REPORT, RunDirectory
from .report import LIMITS, Report, Section, canvas, environment_rows, svg, write
from .runs import Prepared, choose

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

COMPARISON = "comparison.json"


class Comparison:
    """A finished comparison: verdicts, tables, plots, a report. The first arm is the subject, the others its twins.

    hold: what is equal for all arms (`equal_cost`); budget: how much of it, None for rounds. Arms are cut at it.
    """

    def __init__(
        self,
        experiment: Experiment,
        arms: Sequence[Arm],
        margin: float,
        metric: str,
        directory: Path,
        hold: Hold = "rounds",
    ) -> None:
        self.experiment, self.margin, self.metric, self.directory = experiment, margin, metric, directory
        self.hold = hold
        self.arms, self.budget = cut(arms, hold)
        self.chosen = {arm.name: arm.chosen(metric) for arm in self.arms}
        self.seeds = sorted(self.chosen[self.arms[0].name])

    def scores(self, arm: str) -> np.ndarray:
        """Return the test metric of the last round at the chosen learning rate, (seeds,)."""
        return np.array([self.chosen[arm][seed].score(self.metric, "test") for seed in self.seeds])

    @cached_property
    def results(self) -> dict[str, Paired]:
        """The paired comparison of the subject with each twin."""
        subject = self.scores(self.arms[0].name)
        return {arm.name: paired(subject, self.scores(arm.name), self.margin) for arm in self.arms[1:]}

    @property
    def verdicts(self) -> tuple[str, ...]:
        """One sentence for each twin."""
        name = self.arms[0].name
        at = f" ({self._held})" if self.budget is not None else ""
        return tuple(_sentence(verdict(name, twin, self.metric, result)) + at for twin, result in self.results.items())

    @property
    def _held(self) -> str:
        return f"with each arm cut at {self.budget:,.6g} {UNITS[self.hold]} in training, the cheapest arm's total"

    @property
    def verdict(self) -> str:
        """The sentence on the subject and its first twin, never more than the interval allows."""
        return self.verdicts[0]

    @property
    def cautions(self) -> tuple[str, ...]:
        """What a reader of the verdicts should know: rates at the grid's edge, tests that do not agree."""
        found = []
        for arm in self.arms:
            grid = sorted({trial.rate for trial in arm.trials})
            rates = [trial.rate for trial in self.chosen[arm.name].values()]
            for edge, word in ((grid[0], "smallest"), (grid[-1], "largest")):
                if len(grid) > 1 and 2 * rates.count(edge) >= len(rates):
                    found.append(
                        f"{_sentence(arm.name)} did best at the {word} learning rate tried, {edge:g}, on "
                        f"{rates.count(edge)} of {len(rates)} seeds: a wider grid might change its result."
                    )
        for arm in self.arms if self.budget is not None else ():
            cut_at = [len(trial.rounds) - 1 for trial in self.chosen[arm.name].values()]
            if not min(cut_at):
                found.append(f"{_sentence(arm.name)} is over the budget in its first round and is shown untrained.")
        for twin, result in self.results.items():
            if result.differs and result.p_wilcoxon is not None and result.p_wilcoxon > 1 - result.confidence:
                found.append(
                    f"Against {twin} the t interval excludes zero but the Wilcoxon test does not reject "
                    f"(p = {result.p_wilcoxon:.2g}): treat the difference with care."
                )
        return tuple(found)

    def table(self) -> "pd.DataFrame":
        """Return one row per arm: parameters, mean test metric with interval, the learning rates chosen."""
        import pandas as pd

        rows = []
        for arm in self.arms:
            interval = mean_interval(self.scores(arm.name))
            rates = [trial.rate for trial in self.chosen[arm.name].values()]
            rounds = [len(trial.rounds) for trial in self.chosen[arm.name].values()]
            rows.append(
                {
                    "arm": arm.name,
                    "classical parameters": arm.parameters["classical"],
                    "quantum parameters": arm.parameters["quantum"],
                    f"test {METRICS[self.metric].label}": interval.mean,
                    "95 % low": interval.low,
                    "95 % high": interval.high,
                    **({} if self.budget is None else {"rounds": f"{np.mean(rounds) - 1:.3g}"}),
                    "learning rates chosen (times)": ", ".join(f"{r:g} ({rates.count(r)})" for r in sorted(set(rates))),
                }
            )
        return pd.DataFrame(rows)

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per arm, seed and round, at the chosen learning rates, with what training had cost by then."""
        import pandas as pd

        rows = []
        for arm in self.arms:
            for seed, trial in self.chosen[arm.name].items():
                costs = zip(*(spent(trial, unit) for unit in UNITS), strict=True)
                for line, cost in zip(trial.rounds, costs, strict=True):
                    scores = {
                        f"{part}_{name}": value for part in ("validation", "test") for name, value in line[part].items()
                    }
                    row = {"arm": arm.name, "seed": seed, "rate": trial.rate, "round": line["round"], **scores}
                    rows.append(row | dict(zip(UNITS, cost, strict=True)))
        return pd.DataFrame(rows)

    def costs(self) -> "pd.DataFrame":
        """Return what each arm's chosen federations sent and used, per seed, counted from their envelopes."""
        import pandas as pd

        rows = []
        for arm in self.arms:
            entries = [
                entry for t in self.chosen[arm.name].values() for line in t.rounds for entry in line.get("ledger", ())
            ]
            n = len(self.seeds)
            rows.append(
                {
                    "arm": arm.name,
                    "MB to clients": sum(e["bytes_down"] for e in entries) / n / 1e6,
                    "MB to server": sum(e["bytes_up"] for e in entries) / n / 1e6,
                    "envelopes": 2 * len(entries) // n,
                    "key bits": sum(sum(e["key_bits"].values()) for e in entries) // n,
                    "local steps": sum(e["steps"] for e in entries) // n,
                    "circuit executions in training": sum(e["executions"] for e in entries) // n,
                    "shots": sum(e["shots"] for e in entries) // n,
                    "QPU seconds": sum(e.get("qpu_seconds", 0.0) for e in entries) / n,
                }
            )
        return pd.DataFrame(rows)

    def clients(self) -> "pd.DataFrame":
        """Return the mean test metric of each client's own rows, one column per arm, averaged over seeds.

        Seeds on which a client's rows do not define the metric are left out of its mean; NaN where there is no other.
        """
        import pandas as pd

        columns = {}
        for arm in self.arms:
            per_seed = [trial.rounds[-1]["per_client"] for trial in self.chosen[arm.name].values()]
            scores = pd.DataFrame([{c: v[self.metric] for c, v in one.items()} for one in per_seed], dtype=float)
            columns[arm.name] = scores.mean()
        return pd.DataFrame(columns).rename_axis("client").reset_index().sort_values("client")

    def fairness(self) -> "pd.DataFrame":
        """Return how evenly each arm serves the clients (`evidence.Fairness` of the metric), means over seeds."""
        import pandas as pd

        rows = []
        for arm in self.arms:
            tables = [trial.rounds[-1]["per_client"] for trial in self.chosen[arm.name].values()]
            each = [[scores[self.metric] for scores in table.values()] for table in tables]
            seeds = pd.DataFrame([asdict(fairness(v, METRICS[self.metric].higher_is_better)) for v in each])
            rows.append({"arm": arm.name, **seeds.mean()})
        return pd.DataFrame(rows)

    def plot(self, metric: str | None = None, ax: "Axes | None" = None) -> "Axes":
        """Plot the arms' test metric against rounds with intervals; return the axes."""
        return plots.learning_curves(self.to_frame(), f"test_{metric or self.metric}", ax=ax)

    def plot_differences(self, ax: "Axes | None" = None) -> "Axes":
        """Plot each seed's difference, subject minus twin, with mean, interval and margin; return the axes."""
        label = METRICS[self.metric].label
        scale, unit = (100, ", points") if METRICS[self.metric].percent else (1, "")
        subject = self.scores(self.arms[0].name)
        values = {twin: scale * (subject - self.scores(twin)) for twin in self.results}
        results = {
            twin: paired(scale * subject, scale * self.scores(twin), scale * self.margin) for twin in self.results
        }
        return plots.paired_differences(values, results, scale * self.margin, f"test {label}{unit}", ax)

    def report(self) -> Path:
        """Write report.html into the comparison's directory and return its path."""
        return write(_report(self), self.directory / REPORT)

    def __repr__(self) -> str:
        table = self.table().to_string(index=False, float_format=lambda x: f"{x:.4f}")
        return "\n".join([*self.verdicts, *self.cautions, "", table])

    def _repr_html_(self) -> str:
        verdicts = "".join(f"<p><b>{html.escape(sentence)}</b></p>" for sentence in self.verdicts)
        return verdicts + self.table().to_html(index=False, float_format=lambda x: f"{x:.4f}")

    @classmethod
    def load(cls, directory: str | Path) -> "Comparison":
        """Return the comparison that a directory holds; raise `RunError` if it is not a finished one."""
        folder = Path(directory)
        try:
            data = json.loads((folder / COMPARISON).read_text(encoding="utf-8"))
            files, margin, metric, hold = data["arms"], data["margin"], data["metric"], data.get("hold", "rounds")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{folder} holds no finished comparison ({error}); finish it with resume=True") from error
        arms = [load_arm(folder / file) for file in files]
        return cls(Experiment.load(folder / EXPERIMENT), arms, margin, metric, folder, hold)


def compare(
    experiment: Experiment | str | Path,
    arms: Mapping[str, Experiment | str | Path] | None = None,
    *,
    seeds: int = 10,
    rates: Sequence[float] | None = None,
    margin: float = 0.02,
    metric: str = "accuracy",
    hold: Hold = "rounds",
    directory: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> Comparison:
    """Compare the first arm with all others and return verdicts, tables and plots; write a report.

    Any experiment may be the path of its TOML file. arms: name to experiment, the subject first; None takes
    `twins(experiment)`. seeds: how many, from the experiment's own on. rates: the learning rates that every arm tries,
    by default its own optimiser's and 0.3 and 3 times it; rates set for single parts move in proportion. margin: the
    largest difference that would not matter, in units of the metric. metric: a key of `qfedfm.evidence.METRICS`, such
    as "accuracy", "auroc" or, for numbers that are predicted, "rmse". hold: what is made equal, "rounds", or the cost
    of training in circuit "executions", "shots" or "qpu_seconds", by cutting each arm where it has cost as much as the
    cheapest arm in all; for arms that differ in optimiser or gradient. resume: keep the arms that a stopped comparison
    in `directory` had finished; a finished one can so be read with another `hold`. Raises `ConfigurationError` for arms
    that cannot be compared fairly, `RunError` where no learning rate trains an arm.
    """
    experiment = Experiment.of(experiment)
    own = {name: Experiment.of(arm) for name, arm in (arms or {}).items()}
    chosen = dict(twins(experiment)) if arms is None else own
    grids = {name: _grid(arm) if rates is None else tuple(rates) for name, arm in chosen.items()}
    _check(experiment, chosen, seeds, rates, margin, metric, hold)
    for arm in chosen.values():
        arm.check()
    folder = choose(replace(experiment, name=f"{experiment.name}-compare"), directory, resume)
    facts = {
        "arms": [[name, arm.identity] for name, arm in chosen.items()],
        "seeds": [experiment.seed, seeds],
        "rates": [list(grid) for grid in grids.values()],
        "margin": margin,
        "metric": metric,
    }
    if resume and folder.exists():
        record = _opened(folder, facts)
    else:
        record = RunDirectory.create(folder, lambda new: _save(new, experiment, own), facts, environment())
    with record.locked():
        record.event("start")
        done = _arms(record, chosen, range(experiment.seed, experiment.seed + seeds), grids, metric, progress)
        result = Comparison(experiment, done, margin, metric, folder, hold)
        files = [f"arm-{number}.json" for number in range(len(done))]
        summary = {"verdicts": result.verdicts, "margin": margin, "metric": metric, "hold": hold, "arms": files}
        write_atomically(folder / COMPARISON, json.dumps(summary).encode())
        result.report()
        return result


def _arms(
    record: RunDirectory,
    chosen: Mapping[str, Experiment],
    seeds: range,
    grids: Mapping[str, Sequence[float]],
    metric: str,
    progress: bool,
) -> list[Arm]:
    """Train every arm that has no file yet and return all."""
    known: list[tuple[Experiment, Prepared]] = []
    done: list[Arm] = []
    for number, (name, arm) in enumerate(chosen.items()):
        file = record.folder / f"arm-{number}.json"
        if not file.exists():
            data = prepared_for(arm, known, progress)
            if wrong := _no_metric(metric, data.dataset.task):
                raise ConfigurationError(wrong)
            if done and done[0].fingerprint != data.dataset.fingerprint:
                raise RunError(f"the data has changed since {record.folder} began: start a new comparison elsewhere")
            outcome = train_arm(name, arm, data, seeds, grids[name], record.attempts(), progress)
            write_atomically(file, json.dumps(asdict(outcome)).encode())
            record.event("arm", name=name)
        done.append(load_arm(file))
    return done


def _grid(arm: Experiment) -> tuple[float, ...]:
    return tuple(float(f"{arm.training.optimizer.lr * factor:.2g}") for factor in (0.3, 1, 3))


def _save(folder: Path, experiment: Experiment, arms: Mapping[str, Experiment]) -> None:
    """Write the experiment, and the user's own arms each into a folder of its own."""
    experiment.save(folder)
    for number, arm in enumerate(arms.values()):
        (folder / f"arm-{number}").mkdir()
        arm.save(folder / f"arm-{number}")


def _opened(folder: Path, facts: object) -> RunDirectory:
    record = RunDirectory(folder)
    if record.facts() != facts:
        raise RunError(f"{folder} belongs to another comparison: choose another directory")
    return record


def _check(
    experiment: Experiment,
    arms: Mapping[str, Experiment],
    seeds: int,
    rates: Sequence[float] | None,
    margin: float,
    metric: str,
    hold: str,
) -> None:
    wrong = []
    if len(arms) < 2:
        wrong.append(f"compare needs a subject and at least one twin; got {len(arms)} arms")
    if type(seeds) is not int or seeds < 1:
        wrong.append(f"seeds: expected a whole number of at least 1; got {seeds!r}")
    if rates is not None and not (rates and all(isinstance(rate, int | float) and 0 < rate < inf for rate in rates)):
        wrong.append(f"rates: expected one or more positive learning rates; got {list(rates)}")
    if metric not in METRICS:
        wrong.append(f"metric: expected one of {', '.join(METRICS)}; got '{metric}'{nearest(metric, METRICS)}")
    elif isinstance(experiment.data, Outlined) and (known := experiment.data.outline()) and known.classes is not None:
        wrong += _no_metric(metric, "classes" if known.classes else "numbers")
    if not isinstance(margin, int | float) or not 0 < margin < inf:
        wrong.append(f"margin: expected a positive difference that would not matter; got {margin}")
    wrong += unfair(experiment, arms) + unequal(arms, hold)
    if wrong:
        raise ConfigurationError(wrong)


def _no_metric(metric: str, task: Task) -> list[str]:
    """Return why a metric cannot judge a task, if it cannot."""
    fitting = [name for name, kind in METRICS.items() if task in kind.tasks]
    if metric in fitting:
        return []
    learnt = "told apart" if task == "classes" else "predicted"
    return [
        f"metric: the data are {task} to be {learnt}, and '{metric}' does not judge those; use {', '.join(fitting)}"
    ]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _report(comparison: Comparison) -> Report:
    experiment, clients = comparison.experiment, comparison.experiment.clients
    record = RunDirectory(comparison.directory)
    failed = [(arm.name, t) for arm in comparison.arms for t in arm.trials if t.failed]
    keys, label = experiment.seal.keys.source, METRICS[comparison.metric].label
    sheet = canvas(plots.rows_size(len(comparison.results)))
    sections = [
        Section(
            f"{_sentence(comparison.arms[0].name)} against its twins",
            f"Last round's {label} on held-out test rows, mean over {len(comparison.seeds)} seeds with "
            "95 % t intervals. "
            f"{_tried(comparison)}; each seed's was chosen on its own validation rows."
            + (f" The last round is that {comparison._held}." if comparison.budget is not None else ""),
            svg(comparison.plot_differences(sheet), "paired differences, subject minus each twin"),
            f"{_sentence(comparison.arms[0].name)} minus each twin, one tick a seed; mean and 95 % interval.",
            comparison.table(),
        ),
        Section("Learning curves", "", svg(comparison.plot(ax=canvas()), "test metric against rounds for each arm")),
        Section(
            "Statistics",
            "Paired by seed. TOST tests whether the difference is smaller than the margin.",
            table=_statistics(comparison),
        ),
        Section(
            "Each client",
            f"Mean {label} over seeds on each client's own test rows, where they define it.",
            table=comparison.clients(),
        ),
        Section(
            "Ledger",
            "Per seed, at the chosen learning rate, counted from the envelopes that were really sealed and opened. "
            f"Keys: {keys}{key_account.NOTES.get(keys, '')}.",
            table=comparison.costs(),
        ),
    ]
    if comparison.cautions:
        sections.insert(1, Section("Read with care", " ".join(comparison.cautions)))
    if failed:
        texts = "; ".join(f"{name}, seed {t.seed}, rate {t.rate:g}: {t.failed}" for name, t in failed)
        sections.append(Section("Federations that failed", texts))
    return Report(
        f"{experiment.name}: {type(experiment.data).__name__}, {_clients_text(clients)}, {experiment.rounds} rounds",
        comparison.verdicts,
        tuple(sections),
        environment_rows(record.environment()),
        _command(comparison),
        (
            *LIMITS,
            "Each twin is compared on its own; nothing is corrected for the number of comparisons.",
            "Learning rates were tuned on a small grid; other hyper-parameters were equal for all arms and not tuned.",
        ),
    )


def _tried(comparison: Comparison) -> str:
    """Say which learning rates the arms tried."""
    grids = {arm.name: ", ".join(f"{r:g}" for r in sorted({t.rate for t in arm.trials})) for arm in comparison.arms}
    if len(set(grids.values())) == 1:
        return f"Every arm tried the learning rates {grids[comparison.arms[0].name]}"
    return "Learning rates tried: " + "; ".join(f"{name} {grid}" for name, grid in grids.items())


def _command(comparison: Comparison) -> str:
    """Return the command line that makes the same comparison in the comparison's directory."""
    grids = [sorted({trial.rate for trial in arm.trials}) for arm in comparison.arms]
    words = ["qfedfm", "compare", EXPERIMENT, "--seeds", str(len(comparison.seeds)), "--margin", str(comparison.margin)]
    words += ["--metric", comparison.metric]
    if comparison.hold != "rounds":
        words += ["--hold", comparison.hold]
    if all(grid == grids[0] for grid in grids):  # else each arm has its own by default
        words += ["--rates", *map(str, grids[0])]
    for number, arm in enumerate(comparison.arms):
        own = f"arm-{number}/{EXPERIMENT}"
        if (comparison.directory / own).exists():
            words += ["--arm", f"{arm.name}={own}"]
    return shlex.join(words)


def _clients_text(clients: Clients) -> str:
    count = "natural clients" if clients.count is None else f"{clients.count} clients"
    return f"{count} ({type(clients.partition).__name__})"


def _statistics(comparison: Comparison) -> "pd.DataFrame":
    import pandas as pd

    rows = [
        {
            "twin": twin,
            "difference": result.difference,
            "95 % low": result.low,
            "95 % high": result.high,
            "paired t, p": result.p_difference,
            f"TOST p (margin {result.margin:g})": result.p_equivalence,
            "Wilcoxon p": result.p_wilcoxon,
            "seeds": result.n,
        }
        for twin, result in comparison.results.items()
    ]
    return pd.DataFrame(rows)
