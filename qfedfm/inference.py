"""Inference on a machine: no more shots than a decision needs.

A row's class is known long before its expectation values are: shots are taken in looks of growing size, and a row is
done as soon as its class leads every other by more than the shots' error allows. With leading class a, rival c and
output margin m = out_a - out_c, a row is decided when for every rival

    m > z sd(m),    sd(m) <= sum_k |dm / dv_k| sd(v_k),

the bound being the worst correlation between values v_k of one circuit, derivatives taken through whatever layers
follow. z is the normal quantile at (1 - confidence) / (looks x rivals), so that the chance of a decision for another
class than unlimited shots would give is at most 1 - confidence over all looks and rivals, up to the normal
approximation; the variance of an observable that has shown one outcome only is taken as if the next shot showed the
other. Rows that are never decided get the class that leads when all shots are spent, and say so.

Two more ways to spend less: rows of which a classical twin is sure never reach the machine, and an ensemble shares one
budget among its members.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from torch import Tensor

from .assembly import bind, federate, prepare
from .backends import Backend, Executor, Session
from .errors import ConfigurationError, DataError
from .federation.clients import Opened, train_together
from .params import stack
from .quantum.program import Observable, Program
from .result import FittedModel, Result

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Predictions:
    """What was decided for each of n rows, and what it took.

    classes: the names. probabilities: (n, classes), from the values as far as they are known. shots: (n,) over all
    circuits of a row. decided: (n,) whether the asked confidence was reached. by_twin: (n,) whether the twin decided.
    full: shots that a row would have taken without stopping.
    """

    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]
    shots: NDArray[np.int64]
    decided: NDArray[np.bool_]
    by_twin: NDArray[np.bool_]
    full: int

    @property
    def labels(self) -> list[str]:
        """The leading class of each row."""
        return [self.classes[i] for i in self.probabilities.argmax(axis=1)]

    @property
    def saved(self) -> float:
        """The share of shots that were not needed."""
        return 1 - float(self.shots.sum()) / max(1, self.full * len(self.shots))

    def accuracy(self, truth: Sequence[str]) -> float:
        """Return the share of rows whose class is the true one."""
        if len(truth) != len(self.labels):
            raise ConfigurationError(f"accuracy: expected {len(self.labels)} true classes; got {len(truth)}")
        return float(np.mean([a == b for a, b in zip(self.labels, truth, strict=True)]))

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per item: class, its probability, shots, decided, by_twin."""
        import pandas as pd

        return pd.DataFrame(
            {
                "class": self.labels,
                "probability": self.probabilities.max(axis=1),
                "shots": self.shots,
                "decided": self.decided,
                "by_twin": self.by_twin,
            }
        )

    def __repr__(self) -> str:
        twin = f", {int(self.by_twin.sum())} of them by the classical twin" if self.by_twin.any() else ""
        return (
            f"{len(self.shots)} rows, {int(self.decided.sum())} decided{twin}; {int(self.shots.sum())} shots, "
            f"{100 * self.saved:.0f} % fewer than {self.full} a row"
        )

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>" + self.to_frame().head(10).to_html()


def predict(
    model: FittedModel | Sequence[FittedModel],
    items: ArrayLike | Sequence[str],
    backend: Backend,
    *,
    shots: int | None = None,
    confidence: float | None = 0.95,
    first: int | None = None,
    twin: FittedModel | None = None,
    sure: float = 0.9,
    session: Session | None = None,
) -> Predictions:
    """Classify `items` on a machine.

    model: a trained model, or an ensemble of models of one head whose outputs are averaged (see `client_models`), each
    with an equal part of the shots. shots: of a row in each measurement setting, all members together; by default the
    backend's. confidence: at which a row is decided and takes no more shots; None spends them all. first: shots of the
    first look (a 32nd of all by default, at least 16 a member), each further look doubling the total. twin: a classical
    model that decides the rows whose class it gives a probability of `sure` or more. session: as the machine is opened;
    its seed draws simulated shots.
    """
    members = [model] if isinstance(model, FittedModel) else _members(model)
    shots = backend.shots if shots is None else shots
    _check(members, shots, confidence, first, twin, sure)
    assert shots is not None
    one = members[0]
    features = one.features(items)
    if not torch.isfinite(features).all():
        raise DataError("predict: features must be finite numbers; some of these rows hold others")
    probabilities = np.zeros((len(features), len(one.classes)))
    by_twin = np.zeros(len(features), dtype=bool)
    if twin is not None:
        known = twin.predict_proba(items)
        by_twin = known.max(axis=1) >= sure
        probabilities[by_twin] = known[by_twin]
    spent, decided = np.zeros(len(features), dtype=np.int64), by_twin.copy()
    totals = _looks(shots // len(members), len(members), first, confidence)
    run = _Run(Executor(backend.connect(session or Session()), 1), [m.params for m in members], one, features)
    for look, total in enumerate(totals):
        rows = np.flatnonzero(~decided)
        if not len(rows):
            break
        found, margins, errors, taken = run.look(rows, total - (totals[look - 1] if look else 0), look)
        probabilities[rows] = found
        spent[rows] += taken
        if confidence is not None:
            z = -float(ndtri((1 - confidence) / (len(totals) * max(1, margins.shape[1]))))
            decided[rows] = (margins > z * errors).all(axis=1)
    settings = run.circuits_of_row
    return Predictions(one.classes, probabilities, spent, decided, by_twin, totals[-1] * settings)


def client_models(result: Result) -> dict[str, FittedModel]:
    """Return the model of each client: the final global one after one more round of training on the client's own rows.

    An ensemble of these, or each on its own client's rows. A client goes on as in a run: with what it remembers, on the
    experiment's backend, in a clustered federation from the model that fits its rows best. Of a personalised head each
    client's own is returned as it stands (`Result.client_models`). Raises as `run` does.
    """
    experiment = result.experiment
    if result.bound.kept:
        return result.client_models
    prepared = prepare(experiment, progress=False)
    model = bind(experiment, prepared)
    federation = federate(experiment, prepared, model, run_id="client-models")
    federation.restore(int(result.rounds[-1]["round"]), result.state())
    sent, number = federation.server.sent(), federation.server.round + 1
    opened = [Opened(0, client, number, "", sent) for client in federation.server.enrolled]
    trained, _ = train_together([federation.engine.cohort], opened)
    models = {}
    for one, local in zip(opened, trained, strict=True):
        if isinstance(local, Exception):
            raise local
        params = {spec.name: local.params[spec.name] for spec in model.specs}
        models[one.client] = FittedModel(
            experiment.backbone, model, params, prepared.dataset.classes, prepared.table.shape[1]
        )
    return models


class _Run:
    """The values of all rows' circuits as far as they are known, one look after another."""

    def __init__(
        self, executor: Executor, params: Sequence[Mapping[str, Tensor]], one: FittedModel, features: Tensor
    ) -> None:
        self.executor, self.params, self.model, self.features = executor, stack(params), one.model, features
        self.circuits_of_row = 0
        self._known: list[tuple[Tensor, Tensor, Tensor]] = []  # of each circuit: sums of values and variances, shots

    def look(
        self, rows: NDArray[np.int64], shots: int, number: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], int]:
        """Take more shots of some rows; return their probabilities, margins and errors (n, rivals), shots of a row."""
        members = len(next(iter(self.params.values())))
        self.executor.shots = shots
        chosen = torch.from_numpy(rows)
        leaves: list[Tensor] = []
        spreads: list[Tensor] = []

        def execute(
            program: Program,
            inputs: Mapping[str, Tensor],
            weights: Mapping[str, Tensor],
            observables: Sequence[Observable],
        ) -> Tensor:
            values, variances = self.executor.with_variances(program, inputs, weights, observables)
            place = len(leaves)
            if place == len(self._known):
                empty = torch.zeros(members, len(self.features), values.shape[2], dtype=values.dtype)
                self._known.append((empty, empty.clone(), torch.zeros(len(self.features), dtype=values.dtype)))
            sums, squares, taken = self._known[place]
            sums[:, chosen] += shots * values
            squares[:, chosen] += shots**2 * variances
            taken[chosen] += shots
            n = taken[chosen, None]
            largest = torch.tensor([sum(abs(c) for c, word in o if word) for o in observables]).to(values)
            least = largest**2 * 4 * (n + 1) / (n + 2) ** 2 / n  # a frequency of 1 / (n + 2) of the other outcome
            spreads.append(torch.maximum(squares[:, chosen] / n**2, least).sqrt())
            leaves.append((sums[:, chosen] / n).requires_grad_())
            return leaves[-1]

        model = self.model.on(execute)
        with self.executor.task(f"predict/{number}"):
            outputs = model.apply(self.params, self.features[chosen].expand(members, -1, -1)).mean(0)
        circuits = sum(usage.executions for usage in self.executor.take_usage()) // len(rows)
        self.circuits_of_row = circuits
        leading = outputs.detach().argmax(1, keepdim=True)
        margins, errors = [], []
        for rival in range(1, outputs.shape[1]):
            other = (leading + rival) % outputs.shape[1]
            margin = (outputs.gather(1, leading) - outputs.gather(1, other))[:, 0]
            slopes = torch.autograd.grad(margin.sum(), leaves, retain_graph=True)
            # circuits and members are independent of one another, the values of one circuit perhaps not
            parts = [((slope.abs() * sd).sum(2) ** 2).sum(0) for slope, sd in zip(slopes, spreads, strict=True)]
            margins.append(margin.detach())
            errors.append(torch.stack(parts).sum(0).sqrt())
        probabilities = torch.softmax(outputs.detach().double(), dim=1).numpy()
        return probabilities, torch.stack(margins, 1).numpy(), torch.stack(errors, 1).numpy(), circuits * shots


def _looks(shots: int, members: int, first: int | None, confidence: float | None) -> list[int]:
    """Return the shots of one member and setting after each look."""
    if confidence is None:
        return [shots]
    total = max(16, shots // 32) if first is None else max(1, first // members)
    looks = []
    while total < shots:
        looks.append(total)
        total *= 2
    return [*looks, shots]


def _members(models: Any) -> list[FittedModel]:
    """Return an ensemble as a list; raise `ConfigurationError` for anything else."""
    if isinstance(models, Sequence) and all(isinstance(one, FittedModel) for one in models):
        return list(models)
    raise ConfigurationError(
        "predict: expected a model such as result.model, or a list of them such as [*client_models(result).values()]; "
        f"got {type(models).__name__}"
    )


def _check(
    members: Sequence[FittedModel],
    shots: int | None,
    confidence: float | None,
    first_look: int | None,
    twin: FittedModel | None,
    sure: float,
) -> None:
    wrong: list[str] = []
    if not members:
        raise ConfigurationError("predict: expected a model, or an ensemble of one or more; got none")
    first: Any = members[0]
    if first.model.circuit is None:
        wrong.append("predict on a machine needs a head with a circuit; model.predict(items) classifies with this one")
    if not first.classes:
        wrong.append("predict on a machine decides between classes, and this model predicts numbers")
    if any(m.model.specs != first.model.specs or m.classes != first.classes for m in members):
        wrong.append("the models of an ensemble must have the same head and classes")
    if shots is None:
        wrong.append("predict(shots=) is needed where the backend has none: exact values are model.predict(items)")
    elif not isinstance(shots, int) or shots < len(members):
        wrong.append(f"shots: expected at least one for each of {len(members)} models; got {shots}")
    if first_look is not None and (not isinstance(first_look, int) or first_look < 1):
        wrong.append(f"first: expected one shot or more; got {first_look}")
    if confidence is not None and not 0.5 <= confidence < 1:
        wrong.append(f"confidence: expected a probability from 0.5 to below 1, or None; got {confidence}")
    if not 0 < sure <= 1:
        wrong.append(f"sure: expected a probability above 0; got {sure}")
    if twin is not None and (twin.model.circuit is not None or twin.classes != first.classes):
        wrong.append("twin: expected a classical model with the same classes")
    if wrong:
        raise ConfigurationError(wrong)
