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
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from . import key_account, latex, plots, sections
from .arms import Arm, load_arm, prepared_for, train_arm, twins, unfair
from .assembly import Prepared
from .cache import write_atomically
from .data import assign, split
from .data.dataset import Outlined
from .environment import environment
from .equal_cost import UNITS, Hold, cut, spent, unequal
from .errors import ConfigurationError, RunError, nearest
from .evidence import METRICS, Paired, fairness, mean_interval, paired, verdict
from .evidence.metrics import unfit_metric
from .experiment import Experiment
from .federation import Clients
from .records import EXPERIMENT, REPORT, RunDirectory
from .report import Report, Section, picture, write
from .runs import choose
from .svg import canvas

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

    def statistics(self) -> "pd.DataFrame":
        """Return one row per twin: the paired difference, its 95 % interval, the tests' p values and the seeds."""
        import pandas as pd

        rows = [
            {
                "twin": twin,
                "difference": result.difference,
                "95 % low": result.low,
                "95 % high": result.high,
                "paired t, p": _or_nan(result.p_difference),
                f"TOST p (margin {result.margin:g})": _or_nan(result.p_equivalence),
                "Wilcoxon p": _or_nan(result.p_wilcoxon),
                "seeds": result.n,
            }
            for twin, result in self.results.items()
        ]
        return pd.DataFrame(rows)

    def excluded(self) -> "pd.DataFrame":
        """Return arm, client and how many rounds of all seeds went on without it; empty where all took part."""
        import pandas as pd

        rows = [
            (arm.name, client)
            for arm in self.arms
            for trial in self.chosen[arm.name].values()
            for line in trial.rounds
            for client in line.get("excluded", ())
        ]
        frame = pd.DataFrame(rows, columns=["arm", "client"])
        return frame.groupby(["arm", "client"], sort=False).size().rename("rounds").reset_index()

    def _of_clients(self) -> list[tuple[str, int, str, float | None]]:
        return [
            (arm.name, seed, client, scores[self.metric])
            for arm in self.arms
            for seed, trial in self.chosen[arm.name].items()
            for client, scores in trial.rounds[-1]["per_client"].items()
        ]

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
        table = self.table().to_string(index=False, float_format=_shown)
        return "\n".join([*self.verdicts, *self.cautions, "", table])

    def _repr_html_(self) -> str:
        sentences = [f"<p><b>{html.escape(sentence)}</b></p>" for sentence in self.verdicts]
        sentences += [f"<p>{html.escape(sentence)}</p>" for sentence in self.cautions]
        tables = (
            frame.to_html(index=False, na_rep="–", float_format=_shown) for frame in (self.table(), self.statistics())
        )
        return "".join([*sentences, *tables])

    def to_latex(self, caption: str | None = None, label: str | None = None) -> str:
        """Return parameters, test metric and paired difference of each arm as a LaTeX table (booktabs).

        Intervals, 95 % t over seeds, stand in brackets; with one seed there are none.
        """
        rows = []
        for arm in self.arms:
            mean, its = mean_interval(self.scores(arm.name)), self.results.get(arm.name)
            rows.append(
                (
                    arm.name,
                    sum(arm.parameters.values()),
                    latex.interval(mean.mean, mean.low, mean.high),
                    latex.interval(its.difference, its.low, its.high) if its else "",
                )
            )
        name = METRICS[self.metric].label
        about = f"Test {name}, mean over {plots.count(len(self.seeds), 'seed')} [95 % t interval]; paired by seed."
        columns = ("arm", "parameters", f"test {name}", f"{self.arms[0].name} minus it")
        return latex.table(columns, rows, about if caption is None else caption, label)

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
            if wrong := unfit_metric(metric, data.dataset.task):
                raise ConfigurationError(wrong)
            parts = split(data.dataset, arm.seed, arm.validation, arm.test)
            dealt = assign(
                arm.clients.partition, data.dataset, parts, arm.clients.count, arm.seed, arm.clients.min_rows
            )
            record.keep_partition(dealt.counts(data.dataset, parts))
            if done and done[0].fingerprint != data.dataset.fingerprint:
                raise RunError(f"the data has changed since {record.folder} began: start a new comparison elsewhere")
            began = perf_counter()
            outcome = train_arm(name, arm, data, seeds, grids[name], record.attempts(), progress)
            write_atomically(file, json.dumps(asdict(outcome)).encode())
            record.event("arm", name=name, wall_s=perf_counter() - began)
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
        wrong += unfit_metric(metric, "classes" if known.classes else "numbers")
    if not isinstance(margin, int | float) or not 0 < margin < inf:
        wrong.append(f"margin: expected a positive difference that would not matter; got {margin}")
    wrong += unfair(experiment, arms) + unequal(arms, hold)
    if wrong:
        raise ConfigurationError(wrong)


def _or_nan(number: float | None) -> float:
    return np.nan if number is None else number


def _shown(number: float) -> str:
    return f"{number:.4f}"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _report(comparison: Comparison) -> Report:
    import pandas as pd

    experiment, clients, metric = comparison.experiment, comparison.experiment.clients, comparison.metric
    record = RunDirectory(comparison.directory)
    failed = [(arm.name, t) for arm in comparison.arms for t in arm.trials if t.failed]
    keys, label, seeds = experiment.seal.keys.source, METRICS[metric].label, len(comparison.seeds)
    held = {name: sections.held(arm) for name, arm in _experiments(comparison).items()}
    circuits = [one for several in held.values() for one in several]
    counts = record.partition()
    found = [
        Section(
            f"{_sentence(comparison.arms[0].name)} against its twins",
            f"Last round's {label} on held-out test rows, mean over {seeds} seeds with "
            "95 % t intervals. "
            f"{_tried(comparison)}; each seed's was chosen on its own validation rows."
            + (f" The last round is that {comparison._held}." if comparison.budget is not None else ""),
            (
                picture(
                    comparison.plot_differences(canvas((4.6, plots.rows_size(len(comparison.results))[1]))),
                    "paired differences, subject minus each twin",
                    f"{_sentence(comparison.arms[0].name)} minus each twin",
                ),
            ),
            comparison.table(),
        ),
        *([Section("Read with care", " ".join(comparison.cautions))] if comparison.cautions else []),
        Section(
            "Statistics",
            "Paired by seed. TOST tests whether the difference is smaller than the margin.",
            table=comparison.statistics(),
        ),
        Section(
            "Learning curves",
            "On the test rows, at the chosen learning rates; round 0 is the untrained model.",
            sections.curves(comparison.plot, list(dict.fromkeys((metric, "loss")))),
        ),
        sections.clients(
            pd.DataFrame(comparison._of_clients(), columns=["rule", "seed", "client", metric]),
            metric,
            comparison.clients(),
            "on each client's own test rows, where they define it, mean over seeds",
        ),
        *sections.judged(
            _judged(comparison, counts), f"Test rows of all {seeds} seeds together, after the last round."
        ),
        *sections.partition(counts, f"{_clients_text(clients)}; seed {comparison.seeds[0]} is shown."),
        *sections.circuit({name: several for name, several in held.items() if several}),
        Section(
            "Ledger",
            "Per seed, at the chosen learning rate, counted from the envelopes that were really sealed and opened. "
            f"Keys: {keys}{key_account.NOTES.get(keys, '')}. {_seconds(record)}",
            table=comparison.costs(),
        ),
    ]
    excluded = comparison.excluded()
    if len(excluded):
        text = "These clients failed in a round and it went on without them; a single run of a seed says why."
        found.insert(1, Section("Excluded", text, table=excluded))
    if failed:
        texts = "; ".join(f"{name}, seed {t.seed}, rate {t.rate:g}: {t.failed}" for name, t in failed)
        found.append(Section("Federations that failed", texts))
    return Report(
        f"{experiment.name}: {type(experiment.data).__name__}, {_clients_text(clients)}, {experiment.rounds} rounds",
        comparison.verdicts,
        tuple(found),
        sections.environment(record.environment(), experiment, circuits),
        _command(comparison),
        (
            *sections.limits(experiment, circuits),
            "Each twin is compared on its own; nothing is corrected for the number of comparisons.",
            "Learning rates were tuned on a small grid; other hyper-parameters were equal for all arms and not tuned.",
        ),
    )


def _experiments(comparison: Comparison) -> dict[str, Experiment]:
    """Return the experiment of each arm, the user's own or the default ones."""
    folders = [comparison.directory / f"arm-{number}" for number in range(len(comparison.arms))]
    if not (folders[0] / EXPERIMENT).exists():
        return dict(twins(comparison.experiment))
    return {a.name: Experiment.load(f / EXPERIMENT) for a, f in zip(comparison.arms, folders, strict=True)}


def _judged(comparison: Comparison, counts: "pd.DataFrame | None") -> dict[str, tuple["pd.DataFrame", "pd.DataFrame"]]:
    """Return each arm's confusion and reliability, summed over seeds; nothing where they are not recorded."""
    found = {}
    for arm in comparison.arms:
        last = [trial.rounds[-1] for trial in comparison.chosen[arm.name].values()]
        if not all("confusion" in line for line in last):
            return {}
        confused = np.sum([line["confusion"] for line in last], axis=0)
        bins = {name: np.sum([line["reliability"][name] for line in last], 0) for name in last[0]["reliability"]}
        named = [] if counts is None else counts["class"].unique().tolist()
        classes = named if len(named) == len(confused) else [f"class {i}" for i in range(len(confused))]
        found[arm.name] = sections.confusion_table(confused, classes), sections.reliability_table(bins)
    return found


def _seconds(record: RunDirectory) -> str:
    spent = {e["name"]: e["wall_s"] for e in record.events() if e["event"] == "arm" and "wall_s" in e}
    if not spent:
        return ""
    return "Wall seconds for all seeds and rates: " + ", ".join(f"{name} {s:.1f}" for name, s in spent.items()) + "."


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
