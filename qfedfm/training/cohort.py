"""Local training of a cohort: all clients of a round in one loop.

Row c of every tensor belongs to client c. A step takes one minibatch of `batch_size` rows from each client that still
has steps to take; a short batch is filled up with masked rows, repetitions of the client's own. Clients are ordered by
their number of steps, so the active ones are a prefix and nobody is padded to the largest client. Clients never mix:
each gradient is that of the client's own mean loss, so a cohort's result equals every client trained alone, up to
floating-point rounding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..backends import Executor, Usage
from ..codecs.seeds import Seeded
from ..errors import ConfigurationError
from ..heads.model import Model
from ..parallel import side_by_side
from ..params import Params, Specs
from ..privacy import DpSgd
from .optimizers import Optimizer
from .problem import Privacy, Problem
from .rules import CircuitOptimizer, Rule, rule_of
from .seeded_descent import SeededDescent, Walk

Adjust = Callable[[Params, Params, Params, Params, Specs], Params]
"""(gradients, parameters, parameters at the start, what each client knows, specs of what is trained and shared) to
gradients; tensors are (C, *shape). See `client_rules`."""
MEMORY_BUDGET = 256 * 2**20
"""Bytes that one chunk of clients may use in training; chunks are trained side by side, a thread each."""


@dataclass(frozen=True)
class Lane:
    """One client's part of a training job.

    rows: (n,) positions of its training rows in the feature table. generator: its own stream, which orders its
    minibatches and gives its optimiser random directions. optimizer: may differ from another lane's in learning rates
    only. noise: the stream of its noise, where training is private, or of its directions under `SeededDescent`.
    """

    rows: np.ndarray
    generator: np.random.Generator
    optimizer: Optimizer | CircuitOptimizer
    noise: np.random.Generator | None = None


@dataclass(frozen=True)
class Trained:
    """What local training returns.

    params, state: parameters and optimiser state (C, *). loss: mean over the rows of each lane's last minibatches, as
    many as an epoch has, each at the parameters before its step (C,). steps: minibatches taken (C,). examples: rows put
    through the model, counting each as often as it was used (C,). usage: what a machine ran for each lane (C,). walked:
    under `SeededDescent` what each client's update is made of, (C,); else empty.
    """

    params: Params
    state: Params
    loss: Tensor
    steps: list[int]
    examples: list[int]
    usage: list[Usage]
    walked: tuple[Seeded, ...] = ()


def train_cohort(
    model: Model,
    params: Params,
    table: Tensor,
    labels: Tensor,
    lanes: Sequence[Lane],
    *,
    batch_size: int = 16,
    epochs: int = 1,
    steps: int | None = None,
    state: Params | None = None,
    memory_budget: int = MEMORY_BUDGET,
    privacy: DpSgd | None = None,
    executor: Executor | None = None,
    max_grad_norm: float | None = None,
    adjust: Adjust | None = None,
    known: Params | None = None,
    class_weights: Tensor | None = None,
    round: int = 1,
) -> Trained:
    """Train every lane from its own row of `params` and return new tensors.

    params: {name: (C, *shape)}, left unchanged. table: (rows, n_features); labels: (rows,) int64 or numbers. Each lane
    takes `epochs` passes over its rows, or exactly `steps` minibatches if that is given. state: optimiser state to go
    on from; None starts afresh. The loss is that of `row_losses`, averaged over a batch's real rows, each weighted by
    its class in `class_weights` (C, classes) if they are given. Training takes place on the device that holds `table`
    and `labels`; what is returned lies where `params` do. privacy: clips the gradient of every row and adds noise, and
    may draw the minibatches (a step without a row is taken on noise alone); the loss that is returned is not private.
    executor: the machine that runs the model's circuits, those of all clients in a step as one submission; None
    simulates them exactly. max_grad_norm: longer gradients, over all trainable parameters of a client, are shortened to
    it. adjust: changes every step's gradients, after privacy and shortening, by what each client knows, `known`
    {name: (C, *shape)}. round: of the federation, for optimisers that change with it.
    """
    if not lanes or not all(len(lane.rows) for lane in lanes):
        raise ConfigurationError("train_cohort needs at least one client, and at least one row from each")
    plain = {(type(lane.optimizer), repr(replace(lane.optimizer, lr=1.0, rates={}))) for lane in lanes}  # type: ignore[type-var]
    if len(plain) > 1:
        raise ConfigurationError(
            f"clients trained together differ in learning rates only; got optimisers {sorted(map(str, plain))}"
        )
    if privacy and not all(lane.noise for lane in lanes):
        raise ConfigurationError("train_cohort: private training needs a stream of noise for each client, Lane.noise")
    descent = lanes[0].optimizer if isinstance(lanes[0].optimizer, SeededDescent) else None
    if descent and (privacy or adjust or max_grad_norm or not all(lane.noise for lane in lanes)):
        raise ConfigurationError(
            "train_cohort: SeededDescent needs Lane.noise for its directions, and has no gradients to change"
        )
    rule = rule_of(lanes[0].optimizer, model, round)
    schedules = [_schedule(lane, batch_size, epochs, steps, privacy) for lane in lanes]
    order = sorted(range(len(lanes)), key=lambda lane: -len(schedules[lane]))
    copies = 4 * model.dtype.itemsize * sum(spec.size for spec in model.specs) if privacy else 0  # of each row's own
    size = max(1, memory_budget // max(1, (model.row_bytes + copies) * batch_size))
    if executor:
        model, size = model.on(executor), len(lanes)
    usage = [Usage()] * len(lanes)
    state = rule.init(_trained(model, params)) if state is None else state
    new = {name: tensor.clone() for name, tensor in params.items()}
    new_state = {name: tensor.clone() for name, tensor in state.items()}
    loss, walked = torch.zeros(len(lanes), dtype=model.dtype), dict[int, Seeded]()
    shared = tuple(spec for spec in model.specs if spec.trainable and spec.shared)
    if descent and len(shared) < sum(spec.trainable for spec in model.specs):
        raise ConfigurationError(
            "SeededDescent trains what travels: this head has parameters that each client keeps for itself"
        )

    def train(chosen: list[int]) -> None:
        index = torch.as_tensor(chosen)
        part, part_state = (
            {name: t[index].to(table.device) for name, t in tensors.items()} for tensors in (new, new_state)
        )
        facts = {name: t[index].to(table.device) for name, t in (known or {}).items()}
        start = {name: t.clone() for name, t in part.items()} if adjust else {}

        def refine(grads: Params, params: Params) -> Params:
            grads = grads if max_grad_norm is None else _shortened(grads, max_grad_norm)
            active = len(next(iter(params.values())))
            return adjust(grads, params, _first(start, active), _first(facts, active), shared) if adjust else grads

        weight = None if class_weights is None else class_weights[index].to(table)
        mine = [lanes[i] for i in chosen], [schedules[i] for i in chosen], weight
        walk = None
        if descent:
            walk = Walk.of(descent, [(n, len(schedules[i])) for i in chosen if (n := lanes[i].noise)])
        losses, used = _train_chunk(
            model, part, part_state, table, labels, *mine, batch_size, privacy, executor, refine, walk or rule
        )
        loss[index] = losses.to(loss.device)
        for i, some in zip(chosen, used, strict=True):
            usage[i] = some
        if walk:
            walked.update((i, walk.made(lane, len(schedules[i]))) for lane, i in enumerate(chosen))
        for target, source in ((new, part), (new_state, part_state)):
            for name, tensor in source.items():
                target[name][index] = tensor.to(target[name].device)

    for _ in side_by_side(train, [order[start : start + size] for start in range(0, len(order), size)]):
        pass
    examples = [(2 if descent else 1) * sum(map(len, schedule)) for schedule in schedules]
    made = tuple(walked[i] for i in sorted(walked))
    return Trained(new, new_state, loss, [len(schedule) for schedule in schedules], examples, usage, made)


def steps_in(rows: int, batch_size: int, epochs: int, steps: int | None) -> int:
    """Return how many minibatches a client with so many rows takes: `steps` if given, or those of `epochs` passes."""
    return -(-rows // batch_size) * epochs if steps is None else steps


def _schedule(
    lane: Lane, batch_size: int, epochs: int, steps: int | None, privacy: DpSgd | None = None
) -> list[np.ndarray]:
    """Return the rows of each minibatch of a lane: every epoch a fresh permutation, its last batch maybe short.

    Or Poisson samples, maybe empty, where the privacy accounting is for those.
    """
    wanted = steps_in(len(lane.rows), batch_size, epochs, steps)
    if privacy and privacy.sampling == "poisson":
        return [privacy.batch(lane.rows, batch_size, lane.generator) for _ in range(wanted)]
    batches: list[np.ndarray] = []
    while len(batches) < wanted:
        shuffled = lane.rows[lane.generator.permutation(len(lane.rows))]
        batches += [shuffled[i : i + batch_size] for i in range(0, len(shuffled), batch_size)]
    return batches[:wanted]


def _train_chunk(
    model: Model,
    params: Params,
    state: Params,
    table: Tensor,
    labels: Tensor,
    lanes: Sequence[Lane],
    schedules: Sequence[Sequence[np.ndarray]],
    class_weights: Tensor | None,
    batch_size: int,
    privacy: DpSgd | None,
    executor: Executor | None,
    refine: Callable[[Params, Params], Params],
    rule: Rule,
) -> tuple[Tensor, list[Usage]]:
    """Train lanes, ordered by falling number of steps, in place; return each lane's mean last loss, and usage."""
    device = table.device
    taken = np.array([len(schedule) for schedule in schedules])
    rows, sizes = (torch.from_numpy(array).to(device) for array in _pack(lanes, schedules, batch_size))
    rates = {
        spec.name: torch.tensor(
            [lane.optimizer.rates.get(spec.part, lane.optimizer.lr) for lane in lanes], dtype=model.dtype, device=device
        )
        for spec in model.specs
    }
    last_epoch = torch.tensor(
        [max(0, len(s) - -(-len(lane.rows) // batch_size)) for s, lane in zip(schedules, lanes, strict=True)],
        device=device,
    )
    places = torch.arange(rows.shape[2], device=device)
    total, seen = (torch.zeros(len(lanes), dtype=model.dtype, device=device) for _ in range(2))
    noise = [lane.noise for lane in lanes if lane.noise]
    expected = torch.tensor([min(batch_size, len(lane.rows)) for lane in lanes], device=device)
    usage = [Usage()] * len(lanes)
    for step in range(len(schedules[0])):
        active = int((taken > step).sum())
        index, size = rows[:active, step], sizes[:active, step]
        mask = places < size[:, None]
        live, wanted = _first(params, active), labels[index]
        private = None
        if privacy:
            private = Privacy(privacy, expected[:active] if privacy.sampling == "poisson" else size, noise[:active])
        problem = Problem(
            model,
            live,
            table[index],
            wanted,
            mask,
            size,
            weight=None if class_weights is None else class_weights[:active].gather(1, wanted),
            generators=[lane.generator for lane in lanes[:active]],
            executor=executor,
            usage=usage,
            privacy=private,
            refine=refine,
        )
        with torch.no_grad():
            losses = rule.advance(problem, _trained(model, live), _first(state, active), _first(rates, active))
            counts = step >= last_epoch[:active]
            total[:active] += (losses * mask).sum(1) * counts
            seen[:active] += size * counts
    return total / seen.clamp(min=1), usage


def _trained(model: Model, params: Params) -> Params:
    return {spec.name: params[spec.name] for spec in model.specs if spec.trainable}


def _first(tensors: Params, active: int) -> Params:
    """Return the rows of the clients that still have steps to take."""
    return {name: tensor[:active] for name, tensor in tensors.items()}


def _shortened(grads: Params, norm: float) -> Params:
    """Return gradients (C, *shape), those of each client together no longer than `norm`."""
    lengths = torch.stack([grad.reshape(len(grad), -1).norm(dim=1) for grad in grads.values()]).norm(dim=0)
    factors = (norm / lengths).clamp(max=1.0)  # infinite where there is no gradient
    return {name: grad * factors.view(-1, *(1,) * (grad.ndim - 1)) for name, grad in grads.items()}


def _pack(
    lanes: Sequence[Lane], schedules: Sequence[Sequence[np.ndarray]], batch_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return row positions (C, steps, R), short batches filled with their first, and real sizes (C, steps).

    R is `batch_size`, or the size of the largest sample. A filling row must be the client's own: a mask hides another's
    finite values, but NaN times zero is NaN.
    """
    most = len(schedules[0])
    widest = max(batch_size, *(len(batch) for schedule in schedules for batch in schedule))
    rows = np.zeros((len(schedules), most, widest), dtype=np.int64)
    sizes = np.zeros((len(schedules), most), dtype=np.int64)
    for lane, schedule in enumerate(schedules):
        for step, batch in enumerate(schedule):
            rows[lane, step] = batch[0] if len(batch) else lanes[lane].rows[0]
            rows[lane, step, : len(batch)] = batch
            sizes[lane, step] = len(batch)
    return rows, sizes
