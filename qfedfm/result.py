"""The result of a run: what its directory holds, as tables, plots, and a model that predicts."""

import html
import shutil
from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from . import key_account, plots
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
from .heads.model import Model
from .ledger import Entry, Ledger
from .params import Params
from .privacy import spent_by_client
from .records import EXPERIMENT, REPORT, RunDirectory
from .report import LIMITS, Report, Section, canvas, environment_rows, svg, write

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
        embedded = self.backbone.embed(as_items(items), progress=False)
        if embedded.shape[1] != self.n_features:
            raise ConfigurationError(
                f"the model was trained on {self.n_features} features a row; got {embedded.shape[1]}"
            )
        table = torch.as_tensor(embedded, dtype=self.model.dtype)
        every = torch.arange(len(table)).unsqueeze(0)
        outputs = apply_in_pieces(self.model, {name: p.unsqueeze(0) for name, p in self.params.items()}, table, every)
        return np.asarray(outputs[0].double().numpy())

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
        self.params, self._server = (
            {name.removeprefix(part): t for name, t in checkpoint.tensors.items() if name.startswith(part)}
            for part in ("params/", "aggregation/")
        )

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

    @property
    def finished(self) -> bool:
        """Whether all rounds were run."""
        return bool(self.rounds[-1]["round"] == self.experiment.rounds)

    @cached_property
    def ledger(self) -> Ledger:
        """What the run cost, by client and round."""
        return Ledger(Entry(**entry) for line in self.rounds for entry in line.get("ledger", ()))

    @cached_property
    def models(self) -> tuple[FittedModel, ...]:
        """The trained global model with its backbone; of a clustered federation every model, in order."""
        facts = self._record.facts()
        classes = tuple(facts["classes"])
        model = self.experiment.head.bind(facts["features"], len(classes) or 1).with_precision(
            self.experiment.precision
        )
        whole, rule = {spec.name: self.params[spec.name] for spec in model.specs}, self.experiment.training.rule
        several = [whole]
        if isinstance(rule, Chooses):
            several = [whole | one for one in rule.candidates(self._server | whole, travelling(model.specs))]
        return tuple(
            FittedModel(self.experiment.backbone, model, params, classes, facts["features"]) for params in several
        )

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
        import pandas as pd

        classes = self._record.facts()["classes"]
        counts = self._table("confusion", round)
        return pd.DataFrame(counts, index=pd.Index(classes, name="true"), columns=pd.Index(classes, name="predicted"))

    def reliability(self, round: int = -1) -> "pd.DataFrame":
        """Return one row per bin of confidence: low, high, test rows, their mean confidence and accuracy (NaN of none).

        Bins as in the expected calibration error, see `qfedfm.evidence.metrics`. Raises as `confusion` does.
        """
        import pandas as pd

        bins = pd.DataFrame(self._table("reliability", round))
        edges = np.arange(len(bins) + 1) / len(bins)
        means = {"confidence": bins["confidence"] / bins["rows"], "accuracy": bins["right"] / bins["rows"]}
        return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "rows": bins["rows"], **means})

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
        model = self.models[0].model
        count = model.count()
        return {
            "rounds": f"{last['round']} of {self.experiment.rounds}",
            f"test {label}": f"{last['test'][shown]:.3f} (one seed; no interval)",
            "worst client": f"{worst[shown]:.3f} ({worst['client']}, {worst['rows']} test rows)",
            "parameters": f"{count['classical']} classical, {count['quantum']} quantum"
            + (f" in each of {len(self.models)} models" if len(self.models) > 1 else ""),
            "sent": f"{totals['bytes_down'] / 1e6:.2f} MB down, {totals['bytes_up'] / 1e6:.2f} MB up, all sealed",
            "keys": f"{totals['key_bits']} bits, {keys}{key_account.NOTES.get(keys, '')}",
            **({"privacy loss": self._privacy_text()} if self.privacy else {}),
            "circuit executions": self._executions_text(totals),
            "directory": str(self.directory),
        }

    def _executions_text(self, totals: Mapping[str, float]) -> str:
        backend, text = self.experiment.backend, f"{totals['executions']} in training"
        if self.models[0].model.circuit is None:
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
        rows = "".join(
            f"<tr><th align='left'>{html.escape(label)}</th><td align='left'>{html.escape(text)}</td></tr>"
            for label, text in self.summary().items()
        )
        title = f"{html.escape(self.experiment.name)}, seed {self.experiment.seed}"
        return f"<table><caption>{title}</caption>{rows}</table>"


def _privacy_section(result: Result) -> tuple[Section, ...]:
    import pandas as pd

    if not result.privacy:
        return ()
    table = pd.DataFrame(result.privacy.items(), columns=["client", "eps"])
    text = (
        f"{result._privacy_text()}. Noise is drawn from the experiment's seed: this simulates the mechanism and "
        "protects nothing from whoever knows the seed. Validation and test figures are outside the guarantee."
    )
    return (Section("Privacy", text, table=table),)


def _report(result: Result, record: RunDirectory) -> Report:
    import pandas as pd

    summary = pd.DataFrame(result.summary().items(), columns=["", "value"])
    events = pd.DataFrame(
        [{"quantity": name.replace("_", " "), "total": value} for name, value in result.ledger.totals().items()]
    )
    shown, after = headline(result.task), f"After {result.rounds[-1]['round']} rounds the global model"
    score, label = result.rounds[-1]["test"][shown], METRICS[shown].label
    did = (
        f"classifies {100 * score:.1f} % of the test rows rightly"
        if result.task == "classes"
        else f"predicts the test rows with a root mean squared error of {score:.4g}"
    )
    return Report(
        f"{result.experiment.name}, seed {result.experiment.seed}",
        (
            f"{after} {did}. One seed has no interval and no twin stands beside it: use qfedfm compare before claiming "
            "anything.",
        ),
        (
            Section("Summary", table=summary),
            Section(
                label[0].upper() + label[1:], figure=svg(result.plot(None, canvas()), f"test {label} against rounds")
            ),
            Section("Loss", figure=svg(result.plot("loss", canvas()), "test loss against rounds")),
            Section("Each client", "The final global model on each client's own test rows.", table=result.per_client()),
            Section(
                "Ledger", "Totals over all clients and rounds, counted from the envelopes really sent.", table=events
            ),
            *_privacy_section(result),
            *key_account.sections(record.events(), result.experiment.seal.keys.source),
        ),
        environment_rows(record.environment()),
        f"qfedfm run {EXPERIMENT}",
        LIMITS,
    )
