"""`train_cohort` against a plain torch loop that knows one client only."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy

from qfedfm.errors import ConfigurationError
from qfedfm.heads import Linear, Mlp, Variational
from qfedfm.heads.model import Model
from qfedfm.params import Params, stack
from qfedfm.seeds import stream
from qfedfm.training import Adam, Lane, Optimizer, Sgd, Trained, train_cohort

F, OUT = 3, 2
LINEAR = Linear().bind(F, OUT).with_precision("float64")
MLP = Mlp((4, 3)).bind(F, OUT).with_precision("float64")
QUANTUM = Variational("strongly_entangling", {"n": 2, "layers": 1}).bind(F, OUT).with_precision("float64")
TABLE = torch.from_numpy(stream(0, "table").normal(size=(400, F)))
LABELS = torch.from_numpy(stream(0, "labels").integers(OUT, size=400))


def rows_of(sizes: Sequence[int]) -> list[np.ndarray]:
    """Return for each client that many rows of the table, no row twice."""
    return np.split(stream(0, "deal").permutation(400)[: sum(sizes)], np.cumsum(sizes)[:-1])


def lane(client: int, rows: np.ndarray, optimizer: Optimizer) -> Lane:
    return Lane(rows, stream(1, "order", client), optimizer)


def initial(model: Model, clients: Sequence[int]) -> Params:
    return stack([model.init(client) for client in clients])


def alone(
    model: Model, params: Params, one: Lane, batch_size: int, epochs: int, steps: int | None
) -> tuple[Params, float]:
    """Train one client with torch.optim, its batches never padded; return its parameters and last epoch's loss."""
    mine = {name: tensor.clone().requires_grad_() for name, tensor in params.items()}
    rule, rates = one.optimizer, one.optimizer.rates
    groups = [{"params": [mine[spec.name]], "lr": rates.get(spec.part, rule.lr)} for spec in model.specs]
    optimizer: torch.optim.Optimizer
    if isinstance(rule, Sgd):
        optimizer = torch.optim.SGD(groups, momentum=rule.momentum)
    else:
        optimizer = torch.optim.Adam(groups)
    losses: list[Tensor] = []
    per_epoch = len(range(0, len(one.rows), batch_size))
    wanted = epochs * per_epoch if steps is None else steps
    while len(losses) < wanted:
        order = one.rows[one.generator.permutation(len(one.rows))]
        for start in range(0, len(order), batch_size)[: wanted - len(losses)]:
            batch = order[start : start + batch_size]
            outputs = model.apply({name: t[None] for name, t in mine.items()}, TABLE[None, batch])[0]
            each = cross_entropy(outputs, LABELS[batch], reduction="none")
            optimizer.zero_grad()
            each.mean().backward()
            optimizer.step()
            losses.append(each.detach())
    return {name: tensor.detach() for name, tensor in mine.items()}, float(torch.cat(losses[-per_epoch:]).mean())


def check(model: Model, sizes: Sequence[int], rules: Sequence[Optimizer], order: Sequence[int], **options: int) -> None:
    """Train clients together in the given order and compare each with itself alone."""
    rows = rows_of(sizes)
    together = train_cohort(
        model, initial(model, order), TABLE, LABELS, [lane(c, rows[c], rules[c]) for c in order], **options
    )
    for place, c in enumerate(order):
        params, loss = alone(
            model, model.init(c), lane(c, rows[c], rules[c]), options["batch_size"], options.get("epochs", 1),
            options.get("steps"),
        )  # fmt: skip
        for name, tensor in params.items():
            torch.testing.assert_close(together.params[name][place], tensor, rtol=0, atol=1e-10)
        assert float(together.loss[place]) == pytest.approx(loss, abs=1e-10)


rates = st.floats(0.01, 0.5)
parts = st.dictionaries(st.sampled_from(["projection", "core", "readout"]), rates)
families = st.sampled_from([Sgd(), Sgd(momentum=0.9), Adam()])


@st.composite
def companies(draw: st.DrawFn) -> tuple[list[int], list[Optimizer], list[int]]:
    """Draw clients' sizes, from one row to many, their optimisers, and who is trained in which order."""
    sizes = draw(st.lists(st.sampled_from([1, 2, 3, 7, 16, 45]), min_size=1, max_size=5))
    family = draw(families)
    rules = [replace(family, lr=draw(rates), rates=draw(parts)) for _ in sizes]
    order = draw(st.permutations(range(len(sizes))))
    return sizes, rules, order[: draw(st.integers(1, len(order)))]


lengths = st.fixed_dictionaries({"epochs": st.integers(1, 3)}) | st.fixed_dictionaries({"steps": st.integers(1, 9)})


@settings(max_examples=40)
@given(companies(), lengths, st.sampled_from([2, 5, 16]), st.sampled_from([1, 30_000, 2**28]))
def test_every_client_is_trained_as_if_alone_in_any_company_order_and_chunks(
    company: tuple[list[int], list[Optimizer], list[int]], length: dict[str, int], batch_size: int, budget: int
) -> None:
    sizes, rules, order = company
    check(MLP, sizes, rules, order, batch_size=batch_size, memory_budget=budget, **length)


@pytest.mark.parametrize("budget", [1, 2**28])
def test_clients_of_a_quantum_head_are_trained_as_if_alone(budget: int) -> None:
    rules = [Adam(lr=0.05 * (c + 1), rates={"core": 0.1}) for c in range(4)]
    check(QUANTUM, [9, 1, 4, 6], rules, [2, 0, 3, 1], batch_size=4, epochs=2, memory_budget=budget)


def test_budgets_cut_a_cohort_into_chunks() -> None:
    seen: list[int] = []

    def apply(params: Params, features: Tensor) -> Tensor:
        seen.append(len(features))
        return LINEAR.apply(params, features)

    rows = rows_of([4] * 5)
    lanes = [lane(c, rows[c], Sgd()) for c in range(5)]
    for budget, expected in [(1, [1] * 5), (2 * 4 * LINEAR.row_bytes, [1, 2, 2]), (2**28, [5])]:
        seen.clear()
        train_cohort(
            replace(LINEAR, apply=apply), initial(LINEAR, range(5)), TABLE, LABELS, lanes, batch_size=4,
            memory_budget=budget,
        )  # fmt: skip
        assert sorted(seen) == expected  # chunks may run side by side


def test_in_float32_company_changes_rounding_only_and_dead_angles_stay() -> None:
    # tolerance as in "what equal means": 1e-4 after 20 steps. The last RZ on each wire cannot reach Z: its gradient is
    # zero, not rounding noise, which Adam would turn into steps.
    model = QUANTUM.with_precision("float32")
    rows, params = rows_of([40, 3, 11]), initial(model, range(3))
    lanes = [lane(c, rows[c], Adam(lr=0.02)) for c in range(3)]
    table = TABLE.float()
    together = train_cohort(model, params, table, LABELS, lanes, batch_size=4, steps=20)
    for c in range(3):
        mine = {name: tensor[c : c + 1] for name, tensor in params.items()}
        by_itself = train_cohort(model, mine, table, LABELS, [lane(c, rows[c], Adam(lr=0.02))], batch_size=4, steps=20)
        for name, tensor in by_itself.params.items():
            torch.testing.assert_close(together.params[name][c], tensor[0], rtol=0, atol=1e-4)
    moved = together.params["circuit.weights"] != params["circuit.weights"]
    assert not moved[..., 2].any()
    assert moved[..., 1].all()


def one_client(rows: Sequence[int], model: Model = LINEAR, table: Tensor = TABLE, **options: int) -> Trained:
    zero = {spec.name: torch.zeros(1, *spec.shape, dtype=torch.float64) for spec in model.specs}
    return train_cohort(model, zero, table, LABELS, [lane(0, np.array(rows), Sgd(lr=1.0))], **options)


def test_loss_and_step_worked_by_hand() -> None:
    # zero parameters give probabilities 1/2 and the loss ln 2; d loss / d logits = p - onehot, the mean of it over rows
    table, model = torch.tensor([[2.0], [4.0]], dtype=torch.float64), Linear().bind(1, 2).with_precision("float64")
    zero = {spec.name: torch.zeros(1, *spec.shape, dtype=torch.float64) for spec in model.specs}
    lanes = [lane(0, np.array([0, 1]), Sgd(lr=1.0))]
    done = train_cohort(model, zero, table, torch.tensor([0, 1]), lanes, batch_size=16)
    assert float(done.loss) == pytest.approx(np.log(2), abs=1e-12)
    # row 0, class 0: (-1/2, 1/2); row 1, class 1: (1/2, -1/2); weights: mean of (-1, 1) and (2, -2) = (1/2, -1/2)
    assert done.params["readout.bias"].flatten().tolist() == pytest.approx([0, 0], abs=1e-12)
    assert done.params["readout.weight"].flatten().tolist() == pytest.approx([-0.5, 0.5], abs=1e-12)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), 1e300])
def test_rows_that_are_not_a_clients_own_cannot_reach_it(poison: float) -> None:
    table = TABLE.clone()
    mine = [5, 17, 30]
    table[[row for row in range(400) if row not in mine]] = poison
    clean, poisoned = one_client(mine, batch_size=16), one_client(mine, table=table, batch_size=16)
    for name, tensor in clean.params.items():
        assert torch.equal(poisoned.params[name], tensor)
    assert torch.equal(clean.loss, poisoned.loss)


def test_one_clients_nan_stays_its_own() -> None:
    rows = rows_of([6, 5, 9])
    table = TABLE.clone()
    table[rows[1][0]] = float("nan")
    lanes = [lane(c, rows[c], Adam()) for c in range(3)]
    done = train_cohort(MLP, initial(MLP, range(3)), table, LABELS, lanes, batch_size=4, epochs=2)
    finite = torch.stack([tensor.flatten(1).isfinite().all(1) for tensor in done.params.values()]).all(0)
    assert finite.tolist() == [True, False, True]
    assert done.loss.isfinite().tolist() == [True, False, True]


def test_steps_and_examples_are_counted_exactly() -> None:
    rows = rows_of([1, 5, 16, 17])
    lanes = [lane(c, rows[c], Sgd()) for c in range(4)]
    by_epoch = train_cohort(LINEAR, initial(LINEAR, range(4)), TABLE, LABELS, lanes, batch_size=16, epochs=2)
    assert (by_epoch.steps, by_epoch.examples) == ([2, 2, 2, 4], [2, 10, 32, 34])
    by_steps = train_cohort(LINEAR, initial(LINEAR, range(4)), TABLE, LABELS, lanes, batch_size=16, steps=3)
    assert (by_steps.steps, by_steps.examples) == ([3, 3, 3, 3], [3, 15, 48, 16 + 1 + 16])


def test_no_client_is_padded_to_the_largest() -> None:
    seen = 0

    def apply(params: Params, features: Tensor) -> Tensor:
        nonlocal seen
        seen += features.shape[0] * features.shape[1]
        return LINEAR.apply(params, features)

    rows = rows_of([200, 1, 1, 1, 1])
    lanes = [lane(c, rows[c], Sgd()) for c in range(5)]
    train_cohort(replace(LINEAR, apply=apply), initial(LINEAR, range(5)), TABLE, LABELS, lanes, batch_size=4)
    assert seen == 4 * (50 + 4)  # 50 batches of the first client and one of each other; padded it would be 4 * 250


def test_the_order_of_minibatches_is_the_lanes_own_and_drawn_once_an_epoch() -> None:
    batches: list[Tensor] = []

    def apply(params: Params, features: Tensor) -> Tensor:
        batches.append(features)
        return LINEAR.apply(params, features)

    one = lane(3, rows_of([6])[0], Sgd())
    train_cohort(replace(LINEAR, apply=apply), initial(LINEAR, [0]), TABLE, LABELS, [one], batch_size=3, epochs=2)
    generator = stream(1, "order", 3)
    expected = np.concatenate([one.rows[generator.permutation(6)] for _ in range(2)])
    assert torch.equal(torch.cat(batches, dim=1)[0], TABLE[expected])
    assert one.generator.integers(2**62) == generator.integers(2**62)


@pytest.mark.parametrize("rule", [Sgd(momentum=0.9), Adam()], ids=["momentum", "adam"])
def test_optimiser_state_goes_on_where_it_stopped(rule: Optimizer) -> None:
    rows = rows_of([7, 20])
    whole = train_cohort(
        MLP, initial(MLP, range(2)), TABLE, LABELS, [lane(c, rows[c], rule) for c in range(2)], batch_size=4, epochs=2
    )
    lanes = [lane(c, rows[c], rule) for c in range(2)]
    half = train_cohort(MLP, initial(MLP, range(2)), TABLE, LABELS, lanes, batch_size=4)
    kept = {name: tensor.clone() for name, tensor in half.state.items()}
    rest = train_cohort(MLP, half.params, TABLE, LABELS, lanes, batch_size=4, state=half.state)
    fresh = train_cohort(MLP, half.params, TABLE, LABELS, lanes, batch_size=4)
    for name, tensor in whole.params.items():
        torch.testing.assert_close(rest.params[name], tensor, rtol=0, atol=1e-12)
    for name, tensor in whole.state.items():
        torch.testing.assert_close(rest.state[name], tensor, rtol=0, atol=1e-12)
        assert torch.equal(half.state[name], kept[name])
    assert not torch.allclose(fresh.params["readout.bias"], whole.params["readout.bias"])


def test_parameters_given_are_left_unchanged() -> None:
    given_params = initial(MLP, range(2))
    kept = {name: tensor.clone() for name, tensor in given_params.items()}
    lanes = [lane(c, rows, Sgd()) for c, rows in enumerate(rows_of([5, 8]))]
    done = train_cohort(MLP, given_params, TABLE, LABELS, lanes)
    for name, tensor in given_params.items():
        assert torch.equal(tensor, kept[name])
        assert not tensor.requires_grad
        assert not torch.equal(done.params[name], tensor)
        assert not done.params[name].requires_grad


def test_frozen_parameters_stay_and_the_others_are_trained() -> None:
    model = replace(QUANTUM, specs=tuple(replace(spec, trainable=spec.part != "core") for spec in QUANTUM.specs))
    start = initial(model, [0])
    done = train_cohort(model, start, TABLE, LABELS, [lane(0, rows_of([8])[0], Adam())], batch_size=4)
    for spec in model.specs:
        assert torch.equal(done.params[spec.name], start[spec.name]) != spec.trainable


@pytest.mark.parametrize(
    ("lanes", "message"),
    [
        ([], "at least one client"),
        (
            [lane(0, np.array([1, 2]), Sgd()), lane(1, np.array([], dtype=np.int64), Sgd())],
            "at least one row from each",
        ),
        ([lane(0, np.array([1]), Sgd()), lane(1, np.array([2]), Adam())], "differ in learning rates only"),
        ([lane(0, np.array([1]), Sgd()), lane(1, np.array([2]), Sgd(momentum=0.9))], "differ in learning rates only"),
        ([lane(0, np.array([1]), Adam()), lane(1, np.array([2]), Adam(beta2=0.99))], "differ in learning rates only"),
    ],
    ids=["empty cohort", "empty client", "mixed rules", "mixed momentum", "mixed decay"],
)
def test_cohorts_that_cannot_be_trained_are_refused(lanes: list[Lane], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        train_cohort(LINEAR, initial(LINEAR, range(max(1, len(lanes)))), TABLE, LABELS, lanes, steps=2)


@pytest.mark.parametrize("model", [LINEAR, MLP, QUANTUM])
def test_everything_in_training_lies_on_the_tables_device(model, monkeypatch):
    """Torch's "meta" device has shapes and no values, and refuses what mixes it with tensors elsewhere."""
    move = Tensor.to

    def to(tensor: Tensor, *args: object) -> Tensor:
        if tensor.is_meta and args == (torch.device("cpu"),):
            return torch.zeros(tensor.shape, dtype=tensor.dtype)
        return move(tensor, *args)  # type: ignore[call-overload]

    monkeypatch.setattr(Tensor, "to", to)
    chosen = [lane(client, rows, Adam()) for client, rows in enumerate(rows_of([5, 9]))]
    trained = train_cohort(model, initial(model, [0, 1]), TABLE.to("meta"), LABELS.to("meta"), chosen, batch_size=4)
    assert {tensor.device.type for tensor in (*trained.params.values(), *trained.state.values())} == {"cpu"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("model", [LINEAR, MLP, QUANTUM])
def test_cuda_trains_as_the_processor_does(model):
    def train(device: str) -> Trained:
        chosen = [lane(client, rows, Adam()) for client, rows in enumerate(rows_of([5, 9]))]
        table, labels = TABLE.to(device), LABELS.to(device)
        return train_cohort(model, initial(model, [0, 1]), table, labels, chosen, batch_size=4)

    here, there = train("cpu"), train("cuda")
    for name, tensor in here.params.items():
        torch.testing.assert_close(there.params[name], tensor, rtol=0, atol=1e-8)
