"""The clients' side of a round: open the model, train, seal the update.

A `Cohort` holds the clients of one federation that live in this process: all of them in a simulation, one behind a
network. Either way they go through `answer`, which trains them together.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..attacks import Adversary, UpdateAttack
from ..backends import Executor, Gradient
from ..declaration import declared
from ..errors import BackendError, ConfigurationError, PrivacyExhausted
from ..heads.model import Model
from ..params import Params, Specs, difference, stack, unstack
from ..privacy import WITHHELD_LOSS, DpSgd, LocalDp, check_budget
from ..seeds import stream
from ..training import Adam, Lane, Optimizer, train_cohort
from ..training.cohort import MEMORY_BUDGET, steps_in
from .messages import SERVER, Channel, Encoded, Report

Intervention = Callable[[str, int, Params], Params]


@declared
class Training:
    """How a client trains in a round.

    optimizer: its rule. batch_size: rows of a minibatch. epochs: passes over its rows; or `steps` minibatches if given.
    keep_state: whether its optimiser state lives on to the next round it takes part in (False: fresh each round, as in
    federated averaging). privacy: what it hides of its rows, and from when on it refuses to train. gradient: how the
    derivatives of circuits are found, such as `ParameterShift()` or `Spsa()`; None takes torch's where the backend is
    exact and parameter shifts elsewhere.
    """

    optimizer: Optimizer = Adam()
    batch_size: int = 16
    epochs: int = 1
    steps: int | None = None
    keep_state: bool = False
    privacy: DpSgd | LocalDp | None = None
    gradient: Gradient | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"Training.{name}: expected at least 1; got {value}")

    def steps_in(self, rows: int) -> int:
        """Return how many minibatches a client with so many rows takes in a round."""
        return steps_in(rows, self.batch_size, self.epochs, self.steps)


@dataclass
class Cohort:
    """The clients of one federation in this process.

    rows: each client's training rows in `table` (rows, n_features) and `labels` (rows,). home: initial values of the
    parameters that do not travel: frozen ones, which stay so, and those that each client keeps for itself. memory: what
    each client remembers between rounds, as tensors named "optimizer:...", "codec:...", "own:..." and "privacy:...".
    executor: the machine that runs circuits in training; None simulates them exactly.
    adversary, attackers: how some clients attack, and which. intervene: for experiments on failures, maps (client,
    round, delta) to the delta that is sent; what it raises is that client's failure. began: for each client the last
    round it began and its memory then, so that a round that failed can be repeated.
    """

    model: Model
    table: Tensor
    labels: Tensor
    rows: Mapping[str, np.ndarray]
    training: Training
    channel: Channel
    seed: int
    home: Params = field(default_factory=dict)
    memory: dict[str, Params] = field(default_factory=dict)
    adversary: Adversary | None = None
    attackers: frozenset[str] = frozenset()
    intervene: Intervention | None = None
    executor: Executor | None = None
    memory_budget: int = MEMORY_BUDGET
    began: dict[str, tuple[int, Params]] = field(default_factory=dict)

    def recall(self, client: str, round: int, what: str) -> Params:
        """Return what a client remembers under `what` as it begins `round`, however often it does; {} for nothing."""
        if client not in self.began or self.began[client][0] != round:
            self.began[client] = round, self.memory.get(client, {})
        return {
            key.removeprefix(f"{what}:"): tensor
            for key, tensor in self.began[client][1].items()
            if key.startswith(f"{what}:")
        }


@dataclass(frozen=True)
class Opened:
    """One client with the model it received in a round; base_hash: the model's, as the server says."""

    federation: int
    client: str
    round: int
    base_hash: str
    params: Params


@dataclass(frozen=True)
class Local:
    """One client after its training."""

    params: Params
    optimizer: Params
    report: Report


def answer(cohorts: Sequence[Cohort], envelopes: Sequence[Mapping[str, bytes]]) -> list[dict[str, bytes | Exception]]:
    """Answer one round of envelopes {client: bytes} for each cohort; a client that fails answers with its exception.

    Cohorts answered together share model, data and training but for the optimiser's learning rates.
    """
    answers: list[dict[str, bytes | Exception]] = [{} for _ in cohorts]
    opened = []
    for federation, (cohort, arrived) in enumerate(zip(cohorts, envelopes, strict=True)):
        for client, data in arrived.items():
            try:
                header, params, _ = cohort.channel.receive(data, "model", SERVER, client)
                opened.append(Opened(federation, client, header.round, header.base_hash, params))
            except Exception as error:  # noqa: BLE001  (whatever stops a client is that client's failure, by name)
                answers[federation][client] = error
    trained, deltas = train_together(cohorts, opened)
    for i, (one, local) in enumerate(zip(opened, trained, strict=True)):
        try:
            answer = local if isinstance(local, Exception) else _reply(cohorts[one.federation], one, local, deltas[i])
        except Exception as error:  # noqa: BLE001  (as above)
            answer = error
        answers[one.federation][one.client] = answer
    return answers


def train_together(
    cohorts: Sequence[Cohort], opened: Sequence[Opened]
) -> tuple[list[Local | Exception], dict[int, Params]]:
    """Train all clients in one cohort; return what became of each, and by position what those that trained would send.

    Where training all at once raises, each is trained alone, so that a failure is that of its own client; the machine
    that runs the circuits is no client's, and what stops it is raised. One that has spent its privacy is not trained.
    """
    if len({_common(cohort) for cohort in cohorts}) > 1:
        raise ConfigurationError(
            "cohorts answered together must share model, data, batch size, and epochs or steps, and privacy"
        )
    refused = {i: error for i, one in enumerate(opened) if (error := _exhausted(cohorts[one.federation], one))}
    done = iter(_train(cohorts, [one for i, one in enumerate(opened) if i not in refused]))
    trained = [refused[i] if i in refused else next(done) for i in range(len(opened))]
    return trained, _deltas(cohorts, opened, trained)


def travelling(specs: Specs) -> Specs:
    """Return the specs of the parameters that are sent: trainable and shared."""
    return tuple(spec for spec in specs if spec.trainable and spec.shared)


def _common(cohort: Cohort) -> tuple[Any, ...]:
    """Return what cohorts that are answered together have in common."""
    training = cohort.training
    objects = id(cohort.model), id(cohort.table), id(cohort.labels)
    return *objects, training.batch_size, training.epochs, training.steps, training.privacy


def _exhausted(cohort: Cohort, one: Opened) -> PrivacyExhausted | None:
    """Return why a client refuses to train another round, if its privacy budget is spent."""
    training, rows = cohort.training, len(cohort.rows[one.client])
    if training.privacy is None:
        return None
    try:
        check_budget(training.privacy, rows, training.batch_size, training.steps_in(rows), _rounds(cohort, one))
    except PrivacyExhausted as error:
        return error
    return None


def _rounds(cohort: Cohort, one: Opened) -> int:
    """Return how many private updates a client has made before this round."""
    return int(cohort.recall(one.client, one.round, "privacy").get("rounds", 0))


def _train(cohorts: Sequence[Cohort], opened: Sequence[Opened]) -> list[Local | Exception]:
    """Train all together; where that raises, each alone."""
    if not opened:
        return []
    try:
        return [*_all_at_once(cohorts, opened)]
    except BackendError:
        raise
    except Exception as error:  # noqa: BLE001  (as in `answer`)
        return [error] if len(opened) == 1 else [_train(cohorts, [one])[0] for one in opened]


def _all_at_once(cohorts: Sequence[Cohort], opened: Sequence[Opened]) -> list[Local]:
    first = cohorts[0]
    privacy = first.training.privacy if isinstance(first.training.privacy, DpSgd) else None
    lanes, states = [], []
    params = stack([_whole(cohorts[one.federation], one) for one in opened])
    fresh = first.training.optimizer.init({name: tensor[:1] for name, tensor in params.items()})
    for one in opened:
        cohort = cohorts[one.federation]
        generator = stream(cohort.seed, "order", one.client, one.round)
        noise = stream(cohort.seed, "noise", one.client, one.round) if privacy else None
        lanes.append(Lane(cohort.rows[one.client], generator, cohort.training.optimizer, noise))
        kept = cohort.recall(one.client, one.round, "optimizer")
        states.append(kept or {name: tensor[0] for name, tensor in fresh.items()})
    with first.executor.task(f"round-{opened[0].round}/train") if first.executor else nullcontext():
        trained = train_cohort(
            first.model,
            params,
            first.table,
            first.labels,
            lanes,
            batch_size=first.training.batch_size,
            epochs=first.training.epochs,
            steps=first.training.steps,
            state=stack(states) if fresh else {},
            memory_budget=first.memory_budget,
            privacy=privacy,
            executor=first.executor,
        )
    after = unstack(trained.state) if fresh else [{}] * len(opened)
    examples = trained.examples
    if privacy:  # how many were sampled is hidden: as many as are expected
        examples = [trained.steps[i] * min(first.training.batch_size, len(lane.rows)) for i, lane in enumerate(lanes)]
    reports = [
        {
            "rows": len(lane.rows),
            "steps": trained.steps[i],
            "executions": examples[i] * len(first.model.circuits),
            "loss": WITHHELD_LOSS if first.training.privacy else float(trained.loss[i]),
        }
        | ({**asdict(trained.usage[i])} if first.executor and first.model.circuit else {})
        for i, lane in enumerate(lanes)
    ]
    return [Local(*parts) for parts in zip(unstack(trained.params), after, reports, strict=True)]


def _deltas(
    cohorts: Sequence[Cohort], opened: Sequence[Opened], trained: Sequence[Local | Exception]
) -> dict[int, Params]:
    """Return by position what each client that trained would send, attackers' updates in place of their own."""
    deltas = {}
    for i, (one, local) in enumerate(zip(opened, trained, strict=True)):
        if not isinstance(local, Exception):
            cohort = cohorts[one.federation]
            specs, privacy = travelling(cohort.model.specs), cohort.training.privacy
            deltas[i] = difference(local.params, one.params, specs)
            if isinstance(privacy, LocalDp):
                deltas[i] = privacy.perturb(deltas[i], specs, stream(cohort.seed, "noise", one.client, one.round))
    for federation, cohort in enumerate(cohorts):
        if cohort.adversary is None or not isinstance(cohort.adversary.attack, UpdateAttack):
            continue
        mine = [i for i in deltas if opened[i].federation == federation]
        own = [i for i in mine if opened[i].client in cohort.attackers]
        honest = [i for i in mine if opened[i].client not in cohort.attackers]
        if not own or not honest or opened[own[0]].round < cohort.adversary.first:
            continue
        specs, generator = travelling(cohort.model.specs), stream(cohort.seed, "attack", opened[own[0]].round)
        crafted = cohort.adversary.attack.craft(
            stack([deltas[i] for i in own]), stack([deltas[i] for i in honest]), specs, generator
        )
        deltas |= zip(own, unstack(crafted), strict=True)
    return deltas


def _whole(cohort: Cohort, one: Opened) -> Params:
    """Return all of the model that a client trains: what it received, what it keeps for itself, what is frozen."""
    known = cohort.home | cohort.recall(one.client, one.round, "own") | one.params
    return {spec.name: known[spec.name] for spec in cohort.model.specs}


def encode_update(cohort: Cohort, one: Opened, local: Local, delta: Params) -> Encoded:
    """Return a client's update as its codec writes it; the client remembers what it has to for its next round."""
    before = cohort.recall(one.client, one.round, "codec")
    generator = stream(cohort.seed, "encode", one.client, one.round)
    body, codec = cohort.channel.encode("update", delta, before, generator)
    own = {spec.name: local.params[spec.name] for spec in cohort.model.specs if spec.trainable and not spec.shared}
    kept = {"optimizer": local.optimizer if cohort.training.keep_state else {}, "codec": codec, "own": own}
    if cohort.training.privacy:
        kept["privacy"] = {"rounds": torch.tensor(_rounds(cohort, one) + 1)}
    remembered = {f"{what}:{name}": tensor for what, some in kept.items() for name, tensor in some.items()}
    if remembered:
        cohort.memory[one.client] = remembered
    return body


def _reply(cohort: Cohort, one: Opened, local: Local, delta: Params) -> bytes:
    if cohort.intervene is not None:
        delta = cohort.intervene(one.client, one.round, delta)
    body = encode_update(cohort, one, local, delta)
    return cohort.channel.send("update", one.round, one.client, SERVER, body, one.base_hash, local.report)
