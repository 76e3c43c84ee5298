"""Run an experiment: load, embed, federate, remember every round.

`run` is the embedded engine's main loop. Its parts serve `compare` too: `prepare` (data and features, once), `federate`
(one federation, ready to start) and `measure` (evaluate many of them at once).
"""

import secrets
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .aggregation.admissible import admit
from .attacks import Attack, Backdoor, DataAttack
from .backbones import features
from .backends import Aer, Exact, Executor, Fake, Mitigated, Noisy, PennyLane, Session, Shots, Usage
from .callbacks import Callbacks, LiveChart
from .client_rules import Chooses, Setting
from .data import Assignment, Dataset, Split, assign, split
from .environment import environment
from .errors import ClientError, ConfigurationError, RunError, nearest
from .evidence import METRICS, by_client, by_model, headline, tables
from .experiment import Experiment
from .federation import Channel, Cohort, Evaluation, LocalEngine, Round, Server, evaluate, run_round
from .federation.clients import Intervention, travelling
from .federation.evaluation import utility_on
from .federation.messages import SERVER
from .federation.personal import evaluate_own, own_models
from .heads.model import Model
from .params import Params, difference, params_hash, stack
from .progress import Progress, in_notebook, say
from .qkd import KeepsAccount, NamesNodes
from .records import CHECKPOINT, EXPERIMENT, JOBS, REPORT, Checkpoint, RunDirectory, refuse_existing
from .result import Result
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
        self.server.params = {name: tensors[f"params/{name}"] for name in self.server.params}
        for key, tensor in tensors.items():
            owner, _, rest = key.partition("/")
            if owner == "aggregation":
                self.server.state[rest] = tensor
            elif owner == "client":
                client, _, name = rest.rpartition("/")  # a client's name may hold a slash, a parameter's does not
                self.engine.cohort.memory.setdefault(client, {})[name] = tensor


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


def measure(federations: Sequence[Federation]) -> list[dict[str, Any]]:
    """Evaluate the global models of federations that share model and data, all at once.

    Each gets every metric of its task on its validation and test rows and on every client's own test rows, and the
    tables of confusion and reliability on the test rows; one with a backdoor also the share of test rows of other
    classes that the trigger sends to the target. Where there are several models, each row is seen by the one that fits
    its client's training rows best, and "clusters" says which that is; or by its client's own, where the head is
    personalised. On a machine all are evaluated there (`Experiment.evaluation`), and "evaluation" holds what that took.
    """
    executor = federations[0].executor
    with executor.task(f"round-{federations[0].server.round}/evaluation") if executor else nullcontext():
        results = _measure(federations)
    used = iter(executor.take_usage() if executor else [])
    for federation, result in zip(federations, results, strict=True):
        of_models = list(islice(used, len(federation.models)))
        if of_models:
            result["evaluation"] = asdict(sum(of_models, Usage()))
    return results


def _measure(federations: Sequence[Federation]) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = [{} for _ in federations]
    trained = [np.concatenate([*federation.engine.cohort.rows.values()]) for federation in federations]
    personal = federations[0].model.kept
    several = [] if personal else [i for i, federation in enumerate(federations) if len(federation.models) > 1]
    choices: dict[int, np.ndarray] = {}
    if several:
        fits = _evaluations([federations[i] for i in several], [trained[i] for i in several])
        choices = {i: _best(federations[i], trained[i], fit) for i, fit in zip(several, fits, strict=True)}
    for i, choice in choices.items():
        results[i]["clusters"] = dict(zip(federations[i].assignment.names, choice.tolist(), strict=True))

    def scored(chosen: Sequence[int], rows: Sequence[np.ndarray]) -> list[Evaluation]:
        if personal:
            return _by_owner([federations[i] for i in chosen], rows)
        found = _evaluations([federations[i] for i in chosen], rows)
        return [
            several[0] if i not in choices else _own(several, choices[i][_owner(federations[i], some)])
            for i, some, several in zip(chosen, rows, found, strict=True)
        ]

    everyone = range(len(federations))
    for part in ("validation", "test"):
        rows = [getattr(federation.split, part) for federation in federations]
        evaluated = scored(everyone, rows)
        for result, score in zip(results, by_model(evaluated), strict=True):
            result[part] = score
    owners = [_owner(federation, some) for federation, some in zip(federations, rows, strict=True)]
    clients = by_client(evaluated, owners, [federation.assignment.names for federation in federations])
    for result, scores, drawn in zip(results, clients, tables(evaluated), strict=True):
        result |= {"per_client": scores} | drawn
    attacked: dict[int, np.ndarray] = {}
    for i, f in enumerate(federations):
        if f.experiment.adversary and isinstance(attack := f.experiment.adversary.attack, Backdoor):
            others = f.split.test[f.prepared.dataset.labels[f.split.test] != attack.target]
            attacked[i] = others + f.prepared.poisoned[attack]
    if attacked:
        for i, one in zip(attacked, scored([*attacked], [*attacked.values()]), strict=True):
            results[i]["backdoor"] = {"success": one.accuracy}
    return results


def _evaluations(federations: Sequence[Federation], rows: Sequence[np.ndarray]) -> list[list[Evaluation]]:
    """Return for each federation every one of its models on its rows, all evaluated at once."""
    first, counts = federations[0], [len(federation.models) for federation in federations]
    params = stack([model for federation in federations for model in federation.models])
    each = [some for some, count in zip(rows, counts, strict=True) for _ in range(count)]
    scores = iter(evaluate(first.evaluated, params, first.prepared.table, first.prepared.labels, each))
    return [[next(scores) for _ in range(count)] for count in counts]


def _by_owner(federations: Sequence[Federation], rows: Sequence[np.ndarray]) -> list[Evaluation]:
    """Return for each federation its rows, each as the model of the client that owns it has it."""
    first, models = federations[0], [federation.models for federation in federations]
    owners = [_owner(federation, some) for federation, some in zip(federations, rows, strict=True)]
    on_machine = first.executor if first.evaluated is not first.model else None
    return evaluate_own(first.evaluated, models, first.prepared.table, first.prepared.labels, rows, owners, on_machine)


def _owner(federation: Federation, rows: np.ndarray) -> np.ndarray:
    """Return whose rows they are, positions in the assignment's names; a poisoned copy is its original's owner's."""
    return np.asarray(federation.assignment.owner[rows % len(federation.prepared.dataset)])


def _best(federation: Federation, rows: np.ndarray, models: Sequence[Evaluation]) -> np.ndarray:
    """Return for each client the model with the lowest mean loss on its training rows."""
    owner, clients = _owner(federation, rows), len(federation.assignment.names)
    losses = np.stack([np.bincount(owner, model.losses, clients) for model in models])
    return np.asarray(np.where(np.isnan(losses), np.inf, losses).argmin(axis=0))


def _own(models: Sequence[Evaluation], choice: np.ndarray) -> Evaluation:
    """Return each row as its client's model has it; choice: (n,)."""
    at = choice, np.arange(len(choice))
    outputs, losses = (np.stack([getattr(model, name) for model in models])[at] for name in ("outputs", "losses"))
    return Evaluation(outputs, models[0].labels, losses)


def run(
    experiment: Experiment | str | Path,
    directory: str | Path | None = None,
    *,
    resume: bool = False,
    progress: bool = True,
    callbacks: Sequence[Any] = (),
    intervene: Intervention | None = None,
    max_qpu_seconds: float | None = None,
) -> Result:
    """Run an experiment, or the one in a TOML file, and return its result, remembered round by round in `directory`.

    directory: made anew and never overwritten; by default a new folder under runs/. resume: go on where the directory's
    last checkpoint stands (or start, if there is none), with the same outcome as an unbroken run; a finished run is
    loaded. callbacks: what else happens, see `callbacks.Callback`; in a notebook a `LiveChart` is among them if
    `progress` is shown. intervene: see `Cohort`. max_qpu_seconds: the time on a quantum processor that all attempts at
    this run may take together; a job that would pass it is not sent. Raises `ClientError` when a client fails and
    `BackendError` when the machine does; everything up to the round before is kept.
    """
    experiment, watching = Experiment.of(experiment), Callbacks(callbacks)
    if progress and in_notebook() and not any(isinstance(one, LiveChart) for one in callbacks):
        watching = Callbacks([*callbacks, LiveChart()])
    folder = choose(experiment, directory, resume)
    if resume and folder.exists():
        record = _opened(folder, experiment)
        with record.locked():
            checkpoint = record.checkpoint()
            record.clean(checkpoint)
            if checkpoint is None or checkpoint.round < experiment.rounds:
                _resume(experiment, record, checkpoint, progress, watching, intervene, max_qpu_seconds)
            return _finished(folder)
    refuse_existing(folder)
    experiment.check()
    prepared = prepare(experiment, progress)
    facts = _facts(experiment, prepared)
    federation = federate(
        experiment,
        prepared,
        bind(experiment, prepared),
        run_id=facts["run"],
        intervene=intervene,
        journal=folder / JOBS,
        max_qpu_seconds=max_qpu_seconds,
    )
    if experiment.training.rule is None:
        admit(experiment.aggregation, federation.server.per_round)
    plateau = experiment.plateau()
    if plateau and progress:
        say(plateau)
    # what cannot run at all fails here, before there is a directory; but a machine's jobs have to be written down there
    untrained = None if federation.executor else measure([federation])[0]
    record = RunDirectory.create(folder, experiment.save, facts, environment())
    with record.locked():
        if plateau:
            record.event("plateau", text=plateau)
        _carry_out(federation, record, untrained or measure([federation])[0], progress, watching)
        return _finished(folder)


def _resume(
    experiment: Experiment,
    record: RunDirectory,
    checkpoint: Checkpoint | None,
    progress: bool,
    callbacks: Callbacks,
    intervene: Intervention | None,
    max_qpu_seconds: float | None,
) -> None:
    """Go on from a checkpoint, under a new attempt number and so with new keys."""
    prepared, facts = prepare(experiment, progress), record.facts()
    if facts["fingerprint"] != prepared.dataset.fingerprint:
        raise RunError(
            f"the data of {record.folder} has changed since the run began: start a new run in another directory"
        )
    model = bind(experiment, prepared)
    attempt = record.attempts() + 1
    federation = federate(
        experiment,
        prepared,
        model,
        run_id=facts["run"],
        attempt=attempt,
        intervene=intervene,
        journal=record.folder / JOBS,
        max_qpu_seconds=max_qpu_seconds,
    )
    if checkpoint:
        federation.restore(checkpoint.round, checkpoint.tensors)
    _carry_out(federation, record, None if checkpoint else measure([federation])[0], progress, callbacks)


def _carry_out(
    federation: Federation,
    record: RunDirectory,
    untrained: dict[str, Any] | None,
    progress: bool,
    callbacks: Callbacks,
) -> None:
    """Run all rounds that are left and say in the events how it went; untrained: round 0, if it is not recorded yet."""
    record.keep_partition(federation.assignment.counts(federation.prepared.dataset, federation.split))
    record.event("start", round=federation.server.round, key_source=federation.experiment.seal.keys.source)
    reason: str | None = None
    try:
        if untrained is not None:
            _remember(federation, record, {"round": 0, **untrained})
        reason = _rounds(federation, record, progress, callbacks)
    except BaseException as error:
        reason = str(error) or type(error).__name__
        if isinstance(error, ClientError):
            callbacks.call("client_failed", error.round, error.client, error.reason)
        trace = "".join(traceback.format_exception(error))
        record.event("stopped", round=federation.server.round, reason=reason, trace=trace)
        raise
    else:
        record.event("finished", round=federation.server.round, **({"reason": reason} if reason else {}))
    finally:
        callbacks.call("run_ended", reason)
        for failure in callbacks.failures:
            record.event("callback failed", **failure)


def _opened(folder: Path, experiment: Experiment) -> RunDirectory:
    record = RunDirectory(folder)
    if record.facts().get("identity") != experiment.identity:
        raise RunError(
            f"{folder} belongs to another experiment: compare {folder / EXPERIMENT}, or choose another directory"
        )
    return record


def _finished(folder: Path) -> Result:
    """Return the result of a finished run, its report written if the run was killed before that."""
    result = Result.load(folder)
    if not (folder / REPORT).exists():
        result.report()
    return result


def _rounds(federation: Federation, record: RunDirectory, progress: bool, callbacks: Callbacks) -> str | None:
    """Run the rounds that are left, each appended, synced and checkpointed before the next begins.

    Returns why a callback wanted no further round, None if all were run.
    """
    experiment, server = federation.experiment, federation.server
    shown, checkpoint = headline(federation.prepared.dataset.task), record.checkpoint()
    past = record.rounds(checkpoint) if checkpoint else []
    wishes = callbacks.call("run_started", experiment, record.folder, past)
    with Progress("federating", experiment.rounds, server.round, enabled=progress) as bar:
        while server.round < experiment.rounds:
            if reasons := [wish for wish in wishes if isinstance(wish, str)]:
                return "; ".join(reasons)
            callbacks.call("round_started", server.round + 1)
            wall, cpu = perf_counter(), process_time()
            try:
                outcome = run_round(server, federation.engine)
            finally:
                _account(federation, record)
            for client, why in outcome.excluded.items():
                record.event("excluded", round=outcome.number, client=client, reason=why)
                callbacks.call("client_failed", outcome.number, client, why)
            line = describe(outcome) | measure([federation])[0]
            wishes = callbacks.call("round_ended", line)
            _remember(federation, record, line)
            callbacks.call("checkpoint", server.round, record.folder / CHECKPOINT)
            record.event("round", round=outcome.number, wall_s=perf_counter() - wall, cpu_s=process_time() - cpu)
            bar.advance(
                f"round {outcome.number}/{experiment.rounds}  train loss {outcome.train_loss:.3f}  "
                f"test {METRICS[shown].label} {line['test'][shown]:.3f}"
            )
    return None


def _account(federation: Federation, record: RunDirectory) -> None:
    """Write down how the round's keys came about, if their source can say."""
    source = federation.server.channel.source
    if isinstance(source, KeepsAccount):
        for item in source.account():
            record.event("keys", **item)


def _remember(federation: Federation, record: RunDirectory, line: dict[str, Any]) -> None:
    length = record.append_round(line | {"params": params_hash(federation.server.params)})
    record.save_checkpoint(Checkpoint(federation.server.round, federation.state(), length))


def describe(outcome: Round) -> dict[str, Any]:
    """Return a round as it is recorded."""
    return {
        "round": outcome.number,
        "clients": list(outcome.clients),
        "excluded": list(outcome.excluded),
        "train_loss": outcome.train_loss,
        "info": outcome.info,
        "ledger": [asdict(entry) for entry in outcome.entries],
    }


def choose(experiment: Experiment, directory: str | Path | None, resume: bool) -> Path:
    """Return the folder to use: the one asked for, the newest of this experiment to resume, or the next free one."""
    if directory is not None:
        return Path(directory)
    stem = f"{experiment.name}-{experiment.identity[:8]}"
    folder, number = Path("runs") / stem, 1
    while folder.exists():
        number += 1
        following = Path("runs") / f"{stem}-{number}"
        if resume and not following.exists():
            break
        folder = following
    return folder


def _facts(experiment: Experiment, prepared: Prepared) -> dict[str, Any]:
    return {
        "run": f"{experiment.identity[:16]}-{secrets.token_hex(8)}",
        "identity": experiment.identity,
        "fingerprint": prepared.dataset.fingerprint,
        "features": int(prepared.table.shape[1]),
        "classes": list(prepared.dataset.classes),
        "rows": len(prepared.dataset),
        "labels": np.bincount(prepared.dataset.labels).tolist() if prepared.dataset.classes else None,
    }
