"""The result of a run: what its directory holds, as tables, plots, and a model that predicts."""

import shutil
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from . import key_account, latex, plots, sections
from .backbones import Backbone
from .backends import IBM, Exact
from .client_rules import Chooses
from .data import as_items
from .data.dataset import Task
from .errors import ConfigurationError, RunError, nearest
from .evidence import METRICS, headline, probabilities
from .experiment import Experiment
from .federation.clients import travelling
from .federation.evaluation import apply_in_pieces
from .federation.personal import own_models
from .heads.model import Model
from .ledger import Entry, Ledger
from .notebook import table
from .params import Params
from .privacy import spent_by_client
from .records import EXPERIMENT, REPORT, RunDirectory, divided
from .report import Report, Section, write

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class FittedModel:
    """Backbone and trained head: from raw items to classes, or to numbers where there are no classes.

    n_features: what the head reads of each row.
    """

    backbone: Backbone
    model: Model
    params: Params
    classes: tuple[str, ...]
    n_features: int

    def predict_proba(self, items: ArrayLike | Sequence[str]) -> np.ndarray:
        """Return each class's probability, (rows, classes) float64.

        items: texts, or numbers (rows, features), as arrays, lists or columns of a pandas table. Raises `DataError` for
        anything else and `ConfigurationError` for rows that are not as wide as those trained on, or a model that
        predicts numbers.
        """
        if not self.classes:
            raise ConfigurationError("this model predicts numbers, which have no probabilities: use predict")
        return probabilities(self.outputs(items))

    def outputs(self, items: ArrayLike | Sequence[str]) -> np.ndarray:
        """Return what the head puts out, (rows, classes) logits or (rows, 1) numbers, float64; raises likewise."""
        if isinstance(items, Sized) and len(items) == 0:
            return np.zeros((0, len(self.classes) or 1))
        table = self.features(items)
        every = torch.arange(len(table)).unsqueeze(0)
        outputs = apply_in_pieces(self.model, {name: p.unsqueeze(0) for name, p in self.params.items()}, table, every)
        return np.asarray(outputs[0].double().numpy())

    def features(self, items: ArrayLike | Sequence[str]) -> Tensor:
        """Return what the head reads of the items, (rows, n_features); raises as `predict_proba` does."""
        embedded = self.backbone.embed(as_items(items), progress=False)
        if embedded.shape[1] != self.n_features:
            raise ConfigurationError(
                f"the model was trained on {self.n_features} features a row; got {embedded.shape[1]}"
            )
        return torch.as_tensor(embedded, dtype=self.model.dtype)

    def predict(self, items: ArrayLike | Sequence[str]) -> list[str] | list[float]:
        """Return the most probable class of each item, or the number predicted for it."""
        outputs = self.outputs(items)
        if not self.classes:
            return [float(number) for number in outputs[:, 0]]
        return [self.classes[i] for i in outputs.argmax(axis=1)]


class Result:
    """A finished or unfinished run; open one with `Result.load(directory)`."""

    def __init__(self, experiment: Experiment, record: RunDirectory) -> None:
        self.experiment, self.directory, self._record = experiment, record.folder, record
        checkpoint = record.checkpoint()
        if checkpoint is None:
            raise RunError(f"{record.folder} has no checkpoint yet: resume the run first")
        self.rounds: list[dict[str, Any]] = record.rounds(checkpoint)
        self.params, self._server, self._memory = divided(checkpoint.tensors)

    @classmethod
    def load(cls, directory: str | Path) -> "Result":
        """Return the result that a run directory holds; raise `RunError` if it holds none."""
        record = RunDirectory(Path(directory))
        return cls(Experiment.load(record.folder / EXPERIMENT), record)

    def save(self, directory: str | Path) -> Path:
        """Copy the whole run to a new directory and return it."""
        target = Path(directory)
        if target.exists():
            raise RunError(f"{target} exists and is never overwritten: choose another directory")
        return Path(shutil.copytree(self.directory, target))

    def state(self) -> Params:
        """Return all that the run's checkpoint holds: of the server, and what clients remember."""
        checkpoint = self._record.checkpoint()
        assert checkpoint  # there was one when this result was opened
        return checkpoint.tensors

    @property
    def finished(self) -> bool:
        """Whether all rounds were run."""
        return bool(self.rounds[-1]["round"] == self.experiment.rounds)

    @cached_property
    def ledger(self) -> Ledger:
        """What the run cost, by client and round."""
        return Ledger(Entry(**entry) for line in self.rounds for entry in line.get("ledger", ()))

    @cached_property
    def bound(self) -> Model:
        """The head bound to the sizes of the data: a model without trained values."""
        facts = self._record.facts()
        model = self.experiment.head.bind(facts["features"], len(facts["classes"]) or 1)
        return model.with_precision(self.experiment.precision)

    def _fitted(self, params: Params) -> FittedModel:
        facts = self._record.facts()
        return FittedModel(self.experiment.backbone, self.bound, params, tuple(facts["classes"]), facts["features"])

    @cached_property
    def models(self) -> tuple[FittedModel, ...]:
        """The trained global model with its backbone; of a clustered federation every model, in order.

        Raises `ConfigurationError` for a personalised head, of which the server has no whole model.
        """
        model = self.bound
        if model.kept:
            raise ConfigurationError(
                f"each client of this run keeps {', '.join(spec.name for spec in model.kept)} for itself, so there is "
                "no global model: result.client_models has each client's; what they share is in result.params, beside "
                "initial values of the rest"
            )
        whole, rule = {spec.name: self.params[spec.name] for spec in model.specs}, self.experiment.training.rule
        several = [whole]
        if isinstance(rule, Chooses):
            several = [whole | one for one in rule.candidates(self._server | whole, travelling(model.specs))]
        return tuple(map(self._fitted, several))

    @cached_property
    def client_models(self) -> dict[str, FittedModel]:
        """Each client's own model, where the head is personalised; a client that never trained has initial values.

        Raises `ConfigurationError` where all of the model is shared.
        """
        if not self.bound.kept:
            raise ConfigurationError(
                "all clients of this run share one model, result.model: qf.inference.client_models(result) trains it "
                "on each client's rows for another round; Personalised heads have a model for each client"
            )
        took_part = {name for line in self.rounds for name in line.get("clients", ())}
        clients = sorted(took_part | set(self._memory) | set(self.rounds[-1]["per_client"]))
        whole = {spec.name: self.params[spec.name] for spec in self.bound.specs}
        return dict(zip(clients, map(self._fitted, own_models(whole, self._memory, clients)), strict=True))

    @property
    def model(self) -> FittedModel:
        """The trained global model with its backbone; raises `ConfigurationError` where there are several."""
        if len(self.models) > 1:
            raise ConfigurationError(
                f"this run trained {len(self.models)} models, one for each cluster of clients: take one of "
                'result.models; result.rounds[-1]["clusters"] says whose is which'
            )
        return self.models[0]

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per round, round 0 being the untrained model.

        Columns: train_loss; validation_ and test_ with each metric of the task (`qfedfm.evidence.METRICS`), NaN where
        it is not defined; clients, bytes.
        """
        import pandas as pd

        rows = []
        for line in self.rounds:
            entries = line.get("ledger", ())
            rows.append(
                {
                    "round": line["round"],
                    "train_loss": line.get("train_loss", float("nan")),
                    **{
                        f"{part}_{name}": float("nan") if line[part][name] is None else line[part][name]
                        for part in ("validation", "test")
                        for name in METRICS
                        if name in line[part]
                    },
                    "clients": len(line.get("clients", ())),
                    "bytes": sum(entry["bytes_down"] + entry["bytes_up"] for entry in entries),
                }
            )
        return pd.DataFrame(rows)

    def per_client(self) -> "pd.DataFrame":
        """Return test rows and every metric of the final global model on each client's own test rows.

        NaN stands where a client's rows do not define a metric, such as the AUROC of rows of one class.
        """
        import pandas as pd

        frame = pd.DataFrame.from_dict(self.rounds[-1]["per_client"], orient="index", dtype=float)
        columns = ["rows", *(name for name in METRICS if name in frame)]
        return frame[columns].astype({"rows": int}).rename_axis("client").reset_index()

    @property
    def task(self) -> Task:
        """What was learnt: to tell "classes" apart, or to predict "numbers"."""
        return "classes" if self._record.facts()["classes"] else "numbers"

    def confusion(self, round: int = -1) -> "pd.DataFrame":
        """Return how many test rows of each true class (index) got each class (columns), after a round, the last by
        default. Raises ConfigurationError for a task without classes.
        """
        return sections.confusion_table(self._table("confusion", round), self._record.facts()["classes"])

    def reliability(self, round: int = -1) -> "pd.DataFrame":
        """Return one row per bin of confidence: low, high, test rows, their mean confidence and accuracy (NaN of none).

        Bins as in the expected calibration error, see `qfedfm.evidence.metrics`. Raises as `confusion` does.
        """
        return sections.reliability_table(self._table("reliability", round))

    def _table(self, name: str, round: int) -> Any:
        if self.task == "numbers":
            raise ConfigurationError(f"{name} is of classes, and this run predicts numbers")
        if not -len(self.rounds) <= round < len(self.rounds):
            raise ConfigurationError(f"{name}: rounds are 0 to {len(self.rounds) - 1}, or -1 for the last; got {round}")
        if name not in self.rounds[round]:
            raise RunError(f"{self.directory} was recorded by a version that kept no {name}: run it again")
        return self.rounds[round][name]

    def plot_confusion(self, round: int = -1, ax: "Axes | None" = None) -> "Axes":
        """Draw the confusion of the test rows after a round; return the axes."""
        return plots.confusion(self.confusion(round), ax=ax)

    def plot_reliability(self, round: int = -1, ax: "Axes | None" = None) -> "Axes":
        """Draw how often the model is right at each confidence, on the test rows after a round; return the axes."""
        return plots.reliability(self.reliability(round), ax=ax)

    @cached_property
    def privacy(self) -> dict[str, float]:
        """Each client's privacy loss, eps at the delta of `Training.privacy`; empty without that mechanism."""
        training = self.experiment.training
        if training.privacy is None:
            return {}
        return spent_by_client(training.privacy, training.batch_size, self.ledger.entries)

    def key_sessions(self) -> "pd.DataFrame":
        """Return one row per session of the run's quantum links, with QBER and ledger; empty without such links."""
        return key_account.sessions(self._record.events())

    def key_balances(self) -> "pd.DataFrame":
        """Return the key delivered, drawn and left on each link after each round; empty without such links."""
        return key_account.balances(self._record.events())

    def plot_keys(self, ax: "Axes | None" = None) -> "Axes":
        """Plot the key left on each link after each round; return the axes."""
        return key_account.plot_balances(self.key_balances(), ax)

    def plot(self, metric: str | None = None, ax: "Axes | None" = None) -> "Axes":
        """Plot a column of `to_frame` ("accuracy", "rmse": on the test rows) against rounds; return the axes."""
        metric, frame = metric or headline(self.task), self.to_frame()
        known = [column for column in frame.columns.astype(str) if column not in ("round", "clients", "bytes")]
        name = f"test_{metric}" if f"test_{metric}" in known else metric
        if name not in known:
            known = [*(column.removeprefix("test_") for column in known if column.startswith("test_")), *known]
            raise ConfigurationError(f"no metric '{metric}'{nearest(metric, known)}; known are {', '.join(known)}")
        frame = frame.assign(arm=self.experiment.name, seed=self.experiment.seed)
        return plots.learning_curves(frame, name, ax=ax)

    def summary(self) -> dict[str, str]:
        """Return what a reader wants to know first, as label and text."""
        last, totals = self.rounds[-1], self.ledger.totals()
        shown = headline(self.task)
        label, clients = METRICS[shown].label, self.per_client().sort_values(shown)
        worst = clients.iloc[0 if METRICS[shown].higher_is_better else -1]
        keys = self.experiment.seal.keys.source
        count = self.bound.count()
        of_each = sum(spec.size for spec in self.bound.kept)
        several = 1 if of_each else len(self.models)
        return {
            "rounds": f"{last['round']} of {self.experiment.rounds}",
            f"test {label}": f"{last['test'][shown]:.3f} (one seed; no interval)",
            "worst client": f"{worst[shown]:.3f} ({worst['client']}, {worst['rows']} test rows)",
            "parameters": f"{count['classical']} classical, {count['quantum']} quantum"
            + (f" in each of {several} models" if several > 1 else "")
            + (f"; {of_each} of them each client's own" if of_each else ""),
            "sent": f"{totals['bytes_down'] / 1e6:.2f} MB down, {totals['bytes_up'] / 1e6:.2f} MB up, all sealed",
            "keys": f"{totals['key_bits']} bits, {keys}{key_account.NOTES.get(keys, '')}",
            **({"privacy loss": self._privacy_text()} if self.privacy else {}),
            "circuit executions": self._executions_text(totals),
            "directory": str(self.directory),
        }

    def _executions_text(self, totals: Mapping[str, float]) -> str:
        backend, text = self.experiment.backend, f"{totals['executions']} in training"
        if self.bound.circuit is None:
            return text
        if isinstance(backend, Exact):
            return f"{text} (exact simulation)"
        shots = f", {totals['shots']} shots" if totals["shots"] else ""
        billed = "billed" if isinstance(backend, IBM) else "estimated, none billed"
        seconds = f", {totals['qpu_seconds']:.1f} QPU seconds ({billed})" if totals["qpu_seconds"] else ""
        where = "evaluated there too" if self.experiment.evaluation == "backend" else "evaluated by exact simulation"
        return f"{text}{shots}{seconds} on {backend!r} ({where})"

    def _privacy_text(self) -> str:
        mechanism = self.experiment.training.privacy
        assert mechanism is not None
        return f"eps up to {max(self.privacy.values()):.3g} at delta {mechanism.delta:g} ({type(mechanism).__name__})"

    def report(self) -> Path:
        """Write report.html into the run's directory and return its path."""
        return write(_report(self, self._record), self.directory / REPORT)

    def __repr__(self) -> str:
        lines = [f"{label:>20}  {text}" for label, text in self.summary().items()]
        return "\n".join([f"Result of '{self.experiment.name}', seed {self.experiment.seed}", *lines])

    def _repr_html_(self) -> str:
        return table(f"{self.experiment.name}, seed {self.experiment.seed}", self.summary())

    def to_latex(self, caption: str | None = None, label: str | None = None) -> str:
        """Return the last round's metrics as a LaTeX table (booktabs): validation and test rows, and the clients.

        One seed has no interval, and the caption says so; `Comparison.to_latex` has them.
        """
        last, clients = self.rounds[-1], self.per_client()
        rows = []
        for name in (name for name in METRICS if name in last["test"]):
            each, kind = clients[name].dropna(), METRICS[name]
            worst = (each.min() if kind.higher_is_better else each.max()) if len(each) else None
            rows.append((kind.label, last["validation"][name], last["test"][name], worst))
        about = f"{self.experiment.name}, seed {self.experiment.seed}, after {last['round']} rounds; no interval."
        columns = ("metric", "validation", "test", "worst client")
        return latex.table(columns, rows, about if caption is None else caption, label)

    def partition(self, by: sections.By = "classes") -> "pd.DataFrame":
        """Return the rows of each client (index) by (part, class) or, by="domains", by (part, domain).

        Numbers to be predicted have the one class "rows". Raises `RunError` for a run of an early version that kept
        none.
        """
        if by not in sections.KINDS:
            raise ConfigurationError(f'partition: by is "classes" or "domains"; got {by!r}')
        counts = self._record.partition()
        if counts is None:
            raise RunError(f"{self.directory} was recorded by a version that kept no partition: run it again")
        return sections.dealt(counts, by)

    def plot_partition(
        self,
        by: sections.By = "classes",
        part: Literal["train", "validation", "test"] = "train",
        ax: "Axes | None" = None,
    ) -> "Axes":
        """Draw each client's rows as a bar stacked by class or domain; return the axes."""
        import pandas as pd

        found = self.partition(by)
        if part not in found:
            raise ConfigurationError(f"plot_partition: parts are {', '.join(found.columns.unique(0))}; got {part!r}")
        return plots.partition(pd.DataFrame(found[part]), ax)

    def plot_clients(self, metric: str | None = None, ax: "Axes | None" = None) -> "Axes":
        """Plot the clients' metric on their own test rows, from the lowest to the highest; return the axes."""
        name, frame = metric or headline(self.task), self.per_client()
        if name not in frame or name == "client":
            known = [column for column in frame.columns if column in METRICS]
            raise ConfigurationError(f"no metric '{name}'{nearest(name, known)}; known are {', '.join(known)}")
        frame = frame.dropna(subset=[name]).assign(rule=self.experiment.name, seed=self.experiment.seed)
        return plots.client_spread(frame, name, ax)


def _privacy_section(result: Result) -> tuple[Section, ...]:
    import pandas as pd

    if not result.privacy:
        return ()
    each = pd.DataFrame(result.privacy.items(), columns=["client", "eps"])
    text = (
        f"{result._privacy_text()}. Noise is drawn from the experiment's seed: this simulates the mechanism and "
        "protects nothing from whoever knows the seed. Validation and test figures are outside the guarantee."
    )
    return (Section("Privacy", text, table=each),)


def _whose(result: Result) -> str:
    if result.bound.kept:
        return "each client's own model"
    return "the global model" if len(result.models) == 1 else "the model that fits a client best"


def _report(result: Result, record: RunDirectory) -> Report:
    import pandas as pd

    experiment, events = result.experiment, record.events()
    circuits = sections.held(experiment)
    shown, after = headline(result.task), f"After {result.rounds[-1]['round']} rounds {_whose(result)}"
    score = result.rounds[-1]["test"][shown]
    did = (
        f"classifies {100 * score:.1f} % of the test rows rightly"
        if result.task == "classes"
        else f"predicts the test rows with a root mean squared error of {score:.4g}"
    )
    stopped = "" if result.finished else f" It stands at round {result.rounds[-1]['round']} of {experiment.rounds}."
    totals = result.ledger.totals() | sections.seconds(events)
    costs = [
        {"quantity": name.replace("_", " "), "total": f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"}
        for name, value in totals.items()
    ]
    per_client = result.per_client()
    each = per_client.assign(rule=experiment.name, seed=experiment.seed)
    recorded = "confusion" in result.rounds[-1]  # neither for numbers nor by early versions
    judged = {experiment.name: (result.confusion(), result.reliability())} if recorded else {}
    keys = experiment.seal.keys.source
    return Report(
        f"{experiment.name}, seed {experiment.seed}",
        (
            f"{after} {did}.{stopped} One seed has no interval and no twin stands beside it: use qfedfm compare before "
            "claiming anything.",
        ),
        (
            Section("Summary", table=pd.DataFrame(result.summary().items(), columns=["", "value"])),
            *sections.failures(events),
            Section(
                "Learning curves",
                "On the test rows; round 0 is the untrained model.",
                sections.curves(result.plot, (shown, "loss" if result.task == "classes" else "r2")),
            ),
            sections.clients(each, shown, per_client, f"of {_whose(result)} on each client's own test rows"),
            *sections.judged(judged, f"By {_whose(result)}, on the test rows."),
            *sections.partition(record.partition(), f"{experiment.clients.partition!r:.200}."),
            *sections.circuit({experiment.name: circuits}),
            Section(
                "Ledger",
                "Totals over all clients and rounds, counted from the envelopes really sent; seconds are of all "
                "rounds, also of those that were run again.",
                table=pd.DataFrame(costs),
            ),
            *_privacy_section(result),
            *key_account.sections(events, keys),
        ),
        sections.environment(record.environment(), experiment, circuits),
        f"qfedfm run {EXPERIMENT}",
        sections.limits(experiment, circuits),
    )
