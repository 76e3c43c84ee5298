"""The clients' side of a round: open the model, train, seal the update.

A `Cohort` holds the clients of one federation that live in this process: all of them in a simulation, one behind a
network. Either way they go through `answer`, which trains them together.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ..attacks import Adversary, UpdateAttack
from ..backends import Executor, Gradient, Usage
from ..client_rules import Chooses, ClientRule
from ..codecs.seeds import Seeded, reconstruct
from ..declaration import declared
from ..errors import BackendError, ConfigurationError, PrivacyExhausted
from ..heads.losses import balanced_weights
from ..heads.model import Model
from ..params import Params, Specs, difference, stack, unstack
from ..privacy import WITHHELD_LOSS, DpSgd, LocalDp, check_budget
from ..seeds import stream
from ..training import (
    Adam,
    CircuitOptimizer,
    Lane,
    LayerWise,
    Optimizer,
    QuantumNaturalGradient,
    Schedule,
    SeededDescent,
    train_cohort,
)
from ..training.cohort import MEMORY_BUDGET, steps_in
from ..training.rules import at_rate, rule_of
from .evaluation import evaluate
from .messages import SERVER, Channel, Encoded, Report

Intervention = Callable[[str, int, Params], Params]


@declared
class Training:
    """How a client trains in a round.

    optimizer: its rule. batch_size: rows of a minibatch. epochs: passes over its rows; or `steps` minibatches if given.
    keep_state: whether its optimiser state lives on to the next round it takes part in (False: fresh each round, as in
    federated averaging). privacy: what it hides of its rows, and from when on it refuses to train. gradient: how the
    derivatives of circuits are found, such as `ParameterShift()` or `Spsa()`; None takes torch's where the backend is
    exact and parameter shifts elsewhere. rule: a federated algorithm that changes its steps, such as `Scaffold()`.
    max_grad_norm: a minibatch's gradient, over all trainable parameters, is shortened to it. schedule: how learning
    rates change from round to round (None: they stay). report_loss: "training", the mean over the last epoch while it
    went on; or "before", that of the received model on all of the client's rows, one more pass over them, as `QFedAvg`
    is meant to be told.

    class_weights: of the rows' losses by their class. "none" weights all rows alike; "balanced" has each client weight
    its own rows by n / (k n_c), of which nobody hears (counts of all clients together would have to be shared, so there
    are none); a list gives one weight for each class, for everybody.
    """

    optimizer: Optimizer | CircuitOptimizer = Adam()
    batch_size: int = 16
    epochs: int = 1
    steps: int | None = None
    keep_state: bool = False
    privacy: DpSgd | LocalDp | None = None
    gradient: Gradient | None = None
    rule: ClientRule | None = None
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None
    schedule: Schedule | None = None
    report_loss: Literal["training", "before"] = "training"
    class_weights: Literal["none", "balanced"] | tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = "none"

    def __post_init__(self) -> None:
        if isinstance(self.class_weights, tuple) and not any(self.class_weights):
            raise ConfigurationError(
                f"Training.class_weights: expected one weight for each class, not all zero; got {self.class_weights}"
            )
        if self.class_weights == "balanced" and self.privacy is not None:
            raise ConfigurationError(
                "Training.class_weights: a client's counts of its classes are private, and no privacy accounting here "
                "covers them: with privacy, give the weights as a list"
            )
        for name in ("batch_size", "epochs", "steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"Training.{name}: expected at least 1; got {value}")
        self._check_optimizer()

    def _check_optimizer(self) -> None:
        """Refuse options that the optimiser has no use for."""
        if isinstance(self.privacy, DpSgd) and not isinstance(self.optimizer, Optimizer | LayerWise):
            raise ConfigurationError(
                f"Training.privacy: DpSgd hides rows in their gradients, and {type(self.optimizer).__name__} looks at "
                "them in other ways too: train by Adam, Sgd or LayerWise, or use LocalDp"
            )
        changing = {
            "rule": self.rule is not None and not isinstance(self.rule, Chooses),
            "max_grad_norm": self.max_grad_norm is not None,
            "privacy": isinstance(self.privacy, DpSgd),
            "gradient": self.gradient is not None,
        }
        changes = [name for name, changed in changing.items() if changed]
        along = isinstance(self.optimizer, Optimizer | LayerWise | QuantumNaturalGradient)
        if not along and (some := [name for name in changes if name in ("rule", "max_grad_norm")]):
            raise ConfigurationError(
                f"Training.{some[0]}: {type(self.optimizer).__name__} does not go along gradients, which {some[0]} "
                "changes: leave it out, or train by Sgd or Adam"
            )
        if isinstance(self.optimizer, SeededDescent) and changes:
            raise ConfigurationError(
                f"Training.{changes[0]}: SeededDescent goes along random directions and takes no gradient, which "
                f"{changes[0]} is about: leave it out, or train by Sgd or Adam"
            )

    def steps_in(self, rows: int) -> int:
        """Return how many minibatches a client with so many rows takes in a round."""
        return steps_in(rows, self.batch_size, self.epochs, self.steps)

    def optimizer_in(self, round: int) -> Optimizer | CircuitOptimizer:
        """Return the optimiser with its learning rates of a round."""
        if self.schedule is None:
            return self.optimizer
        return at_rate(self.optimizer, self.schedule.factor(round) * self.optimizer.lr)

    def rates_in(self, round: int, specs: Specs) -> dict[str, float]:
        """Return the learning rate of each parameter in a round."""
        optimizer = self.optimizer_in(round)
        return {spec.name: optimizer.rates.get(spec.part, optimizer.lr) for spec in specs}

    def weights(self, labels: Tensor, classes: int) -> Tensor | None:
        """Return the weight of each class (classes,) for a client with these labels (rows,), None for no weighting.

        Raises ConfigurationError for labels that are numbers, or weights that are not one for each class.
        """
        if self.class_weights == "none":
            return None
        if labels.is_floating_point():
            raise ConfigurationError(
                f"Training.class_weights={self.class_weights!r} needs classes, and the labels of this data set are "
                'numbers: leave class_weights at "none"'
            )
        if isinstance(self.class_weights, str):
            return balanced_weights(labels, classes)
        if len(self.class_weights) != classes:
            raise ConfigurationError(
                f"Training.class_weights: expected one weight for each of the {classes} classes; got "
                f"{len(self.class_weights)}"
            )
        return torch.tensor(self.class_weights, dtype=torch.float64)


@dataclass
class Cohort:
    """The clients of one federation in this process.

    rows: each client's training rows in `table` (rows, n_features) and `labels` (rows,), classes or numbers. home:
    initial values of the parameters that do not travel: frozen ones, which stay so, and those that each client keeps
    for itself. classes: how many, 0 where labels are numbers. memory: what each client remembers between rounds, as
    tensors named "optimizer:...", "codec:...", "own:...", "privacy:..." and "rule:...". executor: the machine that runs
    circuits in training; None simulates them exactly.
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
    classes: int = 0
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

    def remember(self, client: str, tensors: Params) -> None:
        """Replace what a client remembers, if there is anything to remember."""
        if tensors:
            self.memory[client] = tensors


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
    """One client after its training; start: the model that it trained, of those it received. walked: see `Trained`."""

    start: Params
    params: Params
    optimizer: Params
    report: Report
    walked: Seeded | None = None


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
            "cohorts answered together must share model, data, batch size, and epochs or steps, privacy, class weights"
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
    plan = training.batch_size, training.epochs, training.steps, training.max_grad_norm, training.class_weights
    return *objects, *plan, training.privacy, training.rule, training.report_loss


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
    rule, seeded = first.training.rule, isinstance(first.training.optimizer, SeededDescent)
    lanes, states, weights = [], [], []
    looks = _looks(cohorts, opened)
    starts = looks.starts
    params = stack([_whole(cohorts[one.federation], one, start) for one, start in zip(opened, starts, strict=True)])
    optimised = rule_of(first.training.optimizer, first.model, opened[0].round)
    fresh = optimised.init({spec.name: params[spec.name][:1] for spec in first.model.specs if spec.trainable})
    for one in opened:
        cohort = cohorts[one.federation]
        generator = stream(cohort.seed, "order", one.client, one.round)
        purpose = "noise" if privacy else "directions"
        noise = stream(cohort.seed, purpose, one.client, one.round) if privacy or seeded else None
        lanes.append(Lane(cohort.rows[one.client], generator, cohort.training.optimizer_in(one.round), noise))
        weights.append(cohort.training.weights(cohort.labels[cohort.rows[one.client]], cohort.classes))
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
            max_grad_norm=first.training.max_grad_norm,
            adjust=rule.adjust if rule and not seeded else None,
            known=stack([_known(cohorts[one.federation], one, rule) for one in opened]) if rule else None,
            class_weights=None if weights[0] is None else torch.stack([w for w in weights if w is not None]),
            round=opened[0].round,
        )
    after = unstack(trained.state) if fresh else [{}] * len(opened)
    examples = trained.examples
    if privacy:  # how many were sampled is hidden: as many as are expected
        examples = [trained.steps[i] * min(first.training.batch_size, len(lane.rows)) for i, lane in enumerate(lanes)]
    before = first.training.report_loss == "before"
    losses = looks.losses[range(len(opened)), looks.chosen] if before else trained.loss
    usage = [a + b for a, b in zip(trained.usage, looks.usage, strict=True)] if looks.usage else trained.usage
    reports = [
        {
            "rows": len(lane.rows),
            "steps": trained.steps[i],
            "executions": (examples[i] + looks.losses.shape[1] * len(lane.rows)) * len(first.model.circuits),
            "loss": WITHHELD_LOSS if first.training.privacy else float(losses[i]),
            **({"cluster": looks.chosen[i]} if isinstance(rule, Chooses) else {}),
        }
        | ({**asdict(usage[i])} if first.executor and first.model.circuit else {})
        for i, lane in enumerate(lanes)
    ]
    walked = trained.walked or [None] * len(opened)
    return [Local(*parts) for parts in zip(starts, unstack(trained.params), after, reports, walked, strict=True)]


@dataclass(frozen=True)
class Looks:
    """The model that each client trains, which of several it is, what losses it saw for that, what a machine ran.

    losses: (n, models looked at, maybe none). usage: by client, empty without a machine.
    """

    starts: list[Params]
    chosen: list[int]
    losses: np.ndarray
    usage: list[Usage]


def _looks(cohorts: Sequence[Cohort], opened: Sequence[Opened]) -> Looks:
    """Let each client look at the models on its own rows, where it has a choice or is to report the loss before."""
    first, training = cohorts[0], cohorts[0].training
    rule, specs, executor = training.rule, travelling(first.model.specs), first.executor
    models = [rule.candidates(one.params, specs) if isinstance(rule, Chooses) else [one.params] for one in opened]
    if len(models[0]) == 1 and training.report_loss == "training":
        return Looks([one.params for one in opened], [0] * len(opened), np.zeros((len(opened), 0)), [])
    owners = [(cohorts[one.federation], one) for one, several in zip(opened, models, strict=True) for _ in several]
    each = zip(owners, (model for several in models for model in several), strict=True)
    params = stack([_whole(cohort, one, model) for (cohort, one), model in each])
    rows = [cohort.rows[one.client] for cohort, one in owners]
    with executor.task(f"round-{opened[0].round}/look") if executor else nullcontext():
        model = first.model.on(executor) if executor else first.model
        scores = evaluate(model, params, first.table, first.labels, rows)
    used, many = executor.take_usage() if executor else [], len(models[0])
    usage = [sum(used[i : i + many], Usage()) for i in range(0, len(used), many)]
    losses = np.array([score.loss for score in scores]).reshape(len(opened), -1)
    chosen = np.where(np.isnan(losses), np.inf, losses).argmin(axis=1).tolist()
    return Looks([several[j] for several, j in zip(models, chosen, strict=True)], chosen, losses, usage)


def _deltas(
    cohorts: Sequence[Cohort], opened: Sequence[Opened], trained: Sequence[Local | Exception]
) -> dict[int, Params]:
    """Return by position what each client that trained would send, attackers' updates in place of their own."""
    deltas = {}
    for i, (one, local) in enumerate(zip(opened, trained, strict=True)):
        if not isinstance(local, Exception):
            cohort = cohorts[one.federation]
            specs, privacy = travelling(cohort.model.specs), cohort.training.privacy
            deltas[i] = (
                reconstruct(local.walked, specs) if local.walked else difference(local.params, local.start, specs)
            )
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


def _whole(cohort: Cohort, one: Opened, received: Params) -> Params:
    """Return all of the model that a client trains: what it received, what it keeps for itself, what is frozen."""
    known = cohort.home | cohort.recall(one.client, one.round, "own") | received
    return {spec.name: known[spec.name] for spec in cohort.model.specs}


def _known(cohort: Cohort, one: Opened, rule: ClientRule) -> Params:
    """Return what a client's rule works with: what it remembers, and what it was told beside the model."""
    remembered = cohort.recall(one.client, one.round, "rule") or rule.init(travelling(cohort.model.specs))
    return remembered | {spec.name: one.params[spec.name] for spec in cohort.channel.told}


def encode_update(cohort: Cohort, one: Opened, local: Local, delta: Params) -> tuple[Encoded, Params]:
    """Return a client's update as its codec writes it, and what the client is to remember once it has been sent."""
    before = cohort.recall(one.client, one.round, "codec")
    generator = stream(cohort.seed, "encode", one.client, one.round)
    walked = local.walked if local.walked and same(delta, reconstruct(local.walked, cohort.channel.specs)) else None
    body, codec = cohort.channel.encode("update", delta, before, generator, walked)
    own = {spec.name: local.params[spec.name] for spec in cohort.model.specs if spec.trainable and not spec.shared}
    kept = {"optimizer": local.optimizer if cohort.training.keep_state else {}, "codec": codec, "own": own}
    rule, specs = cohort.training.rule, travelling(cohort.model.specs)
    if rule is not None:
        sent, rates = cohort.channel.decode("update", body), cohort.training.rates_in(one.round, specs)
        kept["rule"] = rule.keep(_known(cohort, one, rule), sent, local.report["steps"], rates, specs)
    if cohort.training.privacy:
        kept["privacy"] = {"rounds": torch.tensor(_rounds(cohort, one) + 1)}
    return body, {f"{what}:{name}": tensor for what, some in kept.items() for name, tensor in some.items()}


def same(first: Params, second: Params) -> bool:
    """Return whether two sets of tensors are equal, bit for bit."""
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def _reply(cohort: Cohort, one: Opened, local: Local, delta: Params) -> bytes:
    if cohort.intervene is not None:
        delta = cohort.intervene(one.client, one.round, delta)
    body, remembered = encode_update(cohort, one, local, delta)
    sealed = cohort.channel.send("update", one.round, one.client, SERVER, body, one.base_hash, local.report)
    cohort.remember(one.client, remembered)
    return sealed
