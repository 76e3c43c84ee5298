"""From an experiment to a federation: data and features, model, server, clients and the machine that runs circuits.

`prepare` (data and features, once) and `federate` (one federation, ready to start) serve whatever runs federations: one
at a time with everything remembered (`runs`), many at once (`arms`, `trust`), or none, to say what it would take.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .attacks import Attack, DataAttack
from .backbones import features
from .backends import Aer, Exact, Executor, Fake, Mitigated, Noisy, PennyLane, Session, Shots
from .client_rules import Chooses, Setting
from .data import Assignment, Dataset, Split, assign, split
from .errors import ConfigurationError, RunError, nearest
from .experiment import Experiment
from .federation import Channel, Cohort, LocalEngine, Server
from .federation.clients import Intervention, travelling
from .federation.evaluation import utility_on
from .federation.messages import SERVER
from .federation.personal import own_models
from .heads.model import Model
from .params import Params, difference, stack
from .qkd import NamesNodes
from .records import divided
from .seeds import stream
from .training import CircuitOptimizer, Lane, train_cohort

WITHOUT_BUDGET = (Exact, Shots, Noisy, Aer, Fake, PennyLane)
"""Backends whose machines bill nothing, or know nothing of what they bill."""


@dataclass(frozen=True)
class Prepared:
    """A data set with its features: table (rows, n_features) and labels (rows,), as tensors.

    poisoned: for each attack on data, at which row of the tables its copy of the data set begins; see `with_poisoned`.
    """

    dataset: Dataset
    table: Tensor
    labels: Tensor
    poisoned: dict[DataAttack, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Federation:
    """One federation, ready to run: both sides, the model, and the rows that each part of the data has.

    executor: the machine that runs circuits; None simulates them exactly.
    """

    experiment: Experiment
    prepared: Prepared
    model: Model
    split: Split
    assignment: Assignment
    server: Server
    engine: LocalEngine
    executor: Executor | None = None

    @property
    def evaluated(self) -> Model:
        """The model as it is evaluated: on the machine, unless the experiment says exactly."""
        on_machine = self.executor and self.experiment.evaluation == "backend"
        return self.model.on(self.executor) if self.executor and on_machine else self.model

    @property
    def models(self) -> list[Params]:
        """The global model, every model of a clustered federation, or each client's where the head is personalised."""
        if self.model.kept:
            return own_models(self.server.params, self.engine.cohort.memory, self.assignment.names)
        rule = self.experiment.training.rule
        if not isinstance(rule, Chooses):
            return [self.server.params]
        return [self.server.params | one for one in rule.candidates(self.server.sent(), self.server.specs)]

    def state(self) -> Params:
        """Return every tensor that the next round depends on, by a name that says whose it is."""
        tensors = {f"params/{name}": tensor for name, tensor in self.server.params.items()}
        tensors |= {f"aggregation/{name}": tensor for name, tensor in self.server.state.items()}
        for client, kept in self.engine.cohort.memory.items():
            tensors |= {f"client/{client}/{name}": tensor for name, tensor in kept.items()}
        return tensors

    def restore(self, round: int, tensors: Params) -> None:
        """Go back to the state after `round`, as `state` gave it."""
        missing = [key for key in self.state() if key not in tensors]
        if missing:
            raise RunError(f"the checkpoint lacks {', '.join(missing)}: another version of qfedfm wrote it")
        self.server.round = round
        params, state, clients = divided(tensors)
        self.server.params = {name: params[name] for name in self.server.params}
        self.server.state.update(state)
        for client, kept in clients.items():
            self.engine.cohort.memory.setdefault(client, {}).update(kept)


def prepare(experiment: Experiment, progress: bool = True) -> Prepared:
    """Load the data set and compute its features, or find them in the cache."""
    dataset = experiment.data.load()
    table = features(experiment.backbone, dataset, progress=progress)
    dtype = torch.float64 if experiment.precision == "float64" else torch.float32
    numbers = dtype if dataset.task == "numbers" else torch.int64
    labels = torch.as_tensor(dataset.labels, dtype=numbers, device=experiment.device)
    prepared = Prepared(dataset, torch.as_tensor(table, dtype=dtype, device=experiment.device), labels)
    return with_poisoned(prepared, [experiment.adversary.attack] if experiment.adversary else [])


def with_poisoned(prepared: Prepared, attacks: Iterable[Attack]) -> Prepared:
    """Return the same data with a poisoned copy behind it for each attack on data, so that all share one table."""
    tables, labels, begins = [prepared.table], [prepared.labels], dict(prepared.poisoned)
    rows, classes = len(prepared.dataset), len(prepared.dataset.classes)
    for attack in attacks:
        if isinstance(attack, DataAttack) and attack not in begins:
            prepared.dataset.class_labels(f"{attack}, which changes labels,")
            begins[attack] = sum(map(len, tables))
            table, label = attack.poison(prepared.table[:rows], prepared.labels[:rows], classes)
            tables.append(table)
            labels.append(label)
    return Prepared(prepared.dataset, torch.cat(tables), torch.cat(labels), begins) if len(tables) > 1 else prepared


def bind(experiment: Experiment, prepared: Prepared) -> Model:
    """Return the experiment's head, bound to the data's sizes."""
    model = experiment.head.bind(prepared.table.shape[1], prepared.dataset.n_outputs)
    return model.with_precision(experiment.precision)


def federate(
    experiment: Experiment,
    prepared: Prepared,
    model: Model,
    *,
    run_id: str,
    attempt: int = 1,
    intervene: Intervention | None = None,
    journal: Path | None = None,
    max_qpu_seconds: float | None = None,
) -> Federation:
    """Split and deal out the data, and set up a server and all clients in this process.

    journal, max_qpu_seconds: see `backends.Session`. Raises `ConfigurationError` for a budget on a machine that keeps
    none.
    """
    backend = experiment.backend.backend if isinstance(experiment.backend, Mitigated) else experiment.backend
    if max_qpu_seconds is not None and isinstance(backend, WITHOUT_BUDGET):
        raise ConfigurationError(
            f"max_qpu_seconds: {type(backend).__name__} keeps no budget, so nothing would stop at "
            f"{max_qpu_seconds:g} s: leave it out, or rehearse on FakeRuntime(...), which counts as IBM(...) does"
        )
    seed, clients = experiment.seed, experiment.clients
    experiment.training.weights(prepared.labels, len(prepared.dataset.classes))  # raises what would fail every client
    parts = split(prepared.dataset, seed, experiment.validation, experiment.test)
    assignment = assign(clients.partition, prepared.dataset, parts, clients.count, seed, clients.min_rows)
    rows = {name: parts.train[assignment.owner[parts.train] == i] for i, name in enumerate(assignment.names)}
    attackers = frozenset[str]()
    if experiment.adversary:
        attackers = experiment.adversary.members(sorted(rows), seed)
        rows |= {name: _poisoned(rows[name], experiment, prepared, name) for name in attackers}
    if isinstance(experiment.seal.keys, NamesNodes):
        _known(experiment.seal.keys.nodes, [SERVER, *rows])
    specs, source, rule = travelling(model.specs), experiment.seal.connect(), experiment.training.rule
    told = rule.told(specs) if rule else ()

    def channel() -> Channel:
        return Channel(run_id, attempt, specs, experiment.codec, experiment.seal, source, told)

    def rates(round: int) -> dict[str, float]:
        return experiment.training.rates_in(round, specs)

    setting = Setting(model, seed, sum(map(len, rows.values())), rates)

    executor = _executor(experiment, model, Session(seed, journal, max_qpu_seconds))
    initial, per_round = model.init(seed), clients.number_per_round(len(rows))
    home = {name: tensor for name, tensor in initial.items() if name not in {spec.name for spec in specs}}
    server = Server(
        channel(),
        specs,
        experiment.aggregation,
        {name: len(mine) for name, mine in rows.items()},
        per_round,
        seed,
        initial,
        clients.fewest(per_round),
        model,
        root=None if model.kept else _root(experiment, prepared, model, home, parts.validation, len(rows), executor),
        around=(lambda inner: rule.around(inner, setting)) if rule else None,
        clusters=rule.clusters if isinstance(rule, Chooses) else 1,
    )
    cohort = Cohort(
        model,
        prepared.table,
        prepared.labels,
        rows,
        experiment.training,
        channel(),
        seed,
        home=home,
        classes=len(prepared.dataset.classes),
        adversary=experiment.adversary,
        attackers=attackers,
        intervene=intervene,
        executor=executor,
    )
    federation = Federation(experiment, prepared, model, parts, assignment, server, LocalEngine(cohort), executor)
    if not model.kept:
        server.utility = utility_on(federation.evaluated, home, prepared.table, prepared.labels, parts.validation)
    return federation


def _executor(experiment: Experiment, model: Model, session: Session) -> Executor | None:
    """Open the experiment's machine, if there are circuits to run on it."""
    backend, gradient = experiment.backend, experiment.training.gradient
    counted = gradient is not None or isinstance(experiment.training.optimizer, CircuitOptimizer)
    if model.circuit is None or (isinstance(backend, Exact) and not (counted and model.hybrid)):
        return None
    return Executor(backend.connect(session), backend.shots, gradient, session.seed)


def _known(named: Iterable[str], nodes: Sequence[str]) -> None:
    wrong = [
        f"seal.keys speaks of '{name}', which is no node of this federation{nearest(name, nodes)}; nodes are "
        f"{', '.join(nodes[:6])}{', ...' if len(nodes) > 6 else ''}"
        for name in named
        if name not in nodes
    ]
    if wrong:
        raise ConfigurationError(wrong)


def _root(
    experiment: Experiment,
    prepared: Prepared,
    model: Model,
    home: Params,
    rows: np.ndarray,
    enrolled: int,
    executor: Executor | None,
) -> Callable[[int, Params], Params]:
    """Return what turns, in a round, a model into the update of a client that trains on `rows`, the server's own.

    The server's rows are validation rows, at most as many as a client's share of all rows, in an order that stays.
    """
    specs = travelling(model.specs)
    count = min(len(rows), max(1, len(prepared.dataset) // enrolled))
    lane = stream(experiment.seed, "root").permutation(rows)[:count]

    def train(round: int, params: Params) -> Params:
        training, whole = experiment.training, home | params
        order, noise = (stream(experiment.seed, "root", purpose) for purpose in ("order", "directions"))
        mine = Lane(lane, order, training.optimizer_in(round), noise)
        weights = training.weights(prepared.labels[lane], len(prepared.dataset.classes))
        with executor.task(f"round-{round}/root") if executor else nullcontext():
            trained = train_cohort(
                model,
                stack([{spec.name: whole[spec.name] for spec in model.specs}]),
                prepared.table,
                prepared.labels,
                [mine],
                batch_size=training.batch_size,
                epochs=training.epochs,
                steps=training.steps,
                executor=executor,
                max_grad_norm=training.max_grad_norm,
                adjust=training.rule.adjust if training.rule and not isinstance(training.rule, Chooses) else None,
                known=stack([training.rule.init(specs)]) if training.rule else None,
                class_weights=None if weights is None else weights.unsqueeze(0),
                round=round,
            )
        return difference({name: tensor[0] for name, tensor in trained.params.items()}, params, specs)

    return train


def _poisoned(rows: np.ndarray, experiment: Experiment, prepared: Prepared, client: str) -> np.ndarray:
    """Return an attacker's training rows, a share of them in the poisoned copy of the data."""
    attack = experiment.adversary.attack if experiment.adversary else None
    if not isinstance(attack, DataAttack):
        return rows
    changed = stream(experiment.seed, "poison", client).permutation(len(rows)) < round(attack.share * len(rows))
    return np.where(changed, rows + prepared.poisoned[attack], rows)
