"""The clients' side of a round: open the model, train, seal the update.

A `Cohort` holds the clients of one federation that live in this process: all of them in a simulation, one behind a
network. Either way they go through `answer`, which trains them together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from ..declaration import declared
from ..errors import ConfigurationError
from ..heads.model import Model
from ..params import Params, Specs, difference, stack, unstack
from ..seal import Header
from ..seeds import stream
from ..training import Adam, Lane, Optimizer, train_cohort
from ..training.cohort import MEMORY_BUDGET
from .messages import SERVER, Channel, Report

Intervention = Callable[[str, int, Params], Params]


@declared
class Training:
    """How a client trains in a round.

    optimizer: its rule. batch_size: rows of a minibatch. epochs: passes over its rows; or `steps` minibatches if given.
    keep_state: whether its optimiser state lives on to the next round it takes part in (False: fresh each round, as in
    federated averaging).
    """

    optimizer: Optimizer = Adam()
    batch_size: int = 16
    epochs: int = 1
    steps: int | None = None
    keep_state: bool = False

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"Training.{name}: expected at least 1; got {value}")


@dataclass
class Cohort:
    """The clients of one federation in this process.

    rows: each client's training rows in `table` (rows, n_features) and `labels` (rows,). home: initial values of the
    parameters that do not travel: frozen ones, which stay so, and those that each client keeps for itself. memory: what
    each client remembers between rounds, as tensors named "optimizer:...", "codec:..." and "own:...". intervene: for
    experiments on failures and attacks, maps (client, round, delta) to the delta that is sent; what it raises is that
    client's failure. began: for each client the last round it began and its memory then, so that a round that failed
    can be repeated.
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
    intervene: Intervention | None = None
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
class _Opened:
    """One client with the model it received."""

    federation: int
    client: str
    header: Header
    params: Params


@dataclass(frozen=True)
class _Local:
    """One client after its training."""

    params: Params
    optimizer: Params
    report: Report


def answer(cohorts: Sequence[Cohort], envelopes: Sequence[Mapping[str, bytes]]) -> list[dict[str, bytes | Exception]]:
    """Answer one round of envelopes {client: bytes} for each cohort; a client that fails answers with its exception.

    Cohorts answered together share model, data and training but for the optimiser's learning rates.
    """
    if len({_common(cohort) for cohort in cohorts}) > 1:
        raise ConfigurationError("cohorts answered together must share model, data, batch size, and epochs or steps")
    answers: list[dict[str, bytes | Exception]] = [{} for _ in cohorts]
    opened = []
    for federation, (cohort, arrived) in enumerate(zip(cohorts, envelopes, strict=True)):
        for client, data in arrived.items():
            try:
                header, params, _ = cohort.channel.receive(data, "model", SERVER, client)
                opened.append(_Opened(federation, client, header, params))
            except Exception as error:  # noqa: BLE001  (whatever stops a client is that client's failure, by name)
                answers[federation][client] = error
    for one, local in zip(opened, _train(cohorts, opened), strict=True):
        cohort = cohorts[one.federation]
        try:
            answers[one.federation][one.client] = local if isinstance(local, Exception) else _reply(cohort, one, local)
        except Exception as error:  # noqa: BLE001  (as above)
            answers[one.federation][one.client] = error
    return answers


def travelling(specs: Specs) -> Specs:
    """Return the specs of the parameters that are sent: trainable and shared."""
    return tuple(spec for spec in specs if spec.trainable and spec.shared)


def _common(cohort: Cohort) -> tuple[int | None, ...]:
    """Return what cohorts that are answered together have in common."""
    training = cohort.training
    objects = id(cohort.model), id(cohort.table), id(cohort.labels)
    return *objects, training.batch_size, training.epochs, training.steps


def _train(cohorts: Sequence[Cohort], opened: Sequence[_Opened]) -> list[_Local | Exception]:
    """Train all together; where that raises, each alone, so that a failure is that of its own client."""
    if not opened:
        return []
    try:
        return [*_train_together(cohorts, opened)]
    except Exception as error:  # noqa: BLE001  (as in `answer`)
        return [error] if len(opened) == 1 else [_train(cohorts, [one])[0] for one in opened]


def _train_together(cohorts: Sequence[Cohort], opened: Sequence[_Opened]) -> list[_Local]:
    first = cohorts[0]
    lanes, states = [], []
    params = stack([_whole(cohorts[one.federation], one) for one in opened])
    fresh = first.training.optimizer.init({name: tensor[:1] for name, tensor in params.items()})
    for one in opened:
        cohort = cohorts[one.federation]
        generator = stream(cohort.seed, "order", one.client, one.header.round)
        lanes.append(Lane(cohort.rows[one.client], generator, cohort.training.optimizer))
        kept = cohort.recall(one.client, one.header.round, "optimizer")
        states.append(kept or {name: tensor[0] for name, tensor in fresh.items()})
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
    )
    after = unstack(trained.state) if fresh else [{}] * len(opened)
    reports = [
        {
            "rows": len(lane.rows),
            "steps": trained.steps[i],
            "executions": trained.examples[i] if first.model.circuit else 0,
            "loss": float(trained.loss[i]),
        }
        for i, lane in enumerate(lanes)
    ]
    return [_Local(*parts) for parts in zip(unstack(trained.params), after, reports, strict=True)]


def _whole(cohort: Cohort, one: _Opened) -> Params:
    """Return all of the model that a client trains: what it received, what it keeps for itself, what is frozen."""
    known = cohort.home | cohort.recall(one.client, one.header.round, "own") | one.params
    return {spec.name: known[spec.name] for spec in cohort.model.specs}


def _reply(cohort: Cohort, one: _Opened, local: _Local) -> bytes:
    number = one.header.round
    delta = difference(local.params, one.params, travelling(cohort.model.specs))
    if cohort.intervene is not None:
        delta = cohort.intervene(one.client, number, delta)
    before = cohort.recall(one.client, number, "codec")
    body, codec = cohort.channel.encode("update", delta, before, stream(cohort.seed, "encode", one.client, number))
    reply = cohort.channel.send("update", number, one.client, SERVER, body, one.header.base_hash, local.report)
    own = {spec.name: local.params[spec.name] for spec in cohort.model.specs if spec.trainable and not spec.shared}
    kept = {"optimizer": local.optimizer if cohort.training.keep_state else {}, "codec": codec, "own": own}
    remembered = {f"{what}:{name}": tensor for what, some in kept.items() for name, tensor in some.items()}
    if remembered:
        cohort.memory[one.client] = remembered
    return reply
