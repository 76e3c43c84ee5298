"""A round as a game: coalitions rebuilt by the rule, utilities on validation rows, influence against autograd."""

from time import perf_counter

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from qfedfm.aggregation import AngularMean, Context, Mean, Updates
from qfedfm.aggregation.updates import weighted_sum
from qfedfm.errors import ConfigurationError
from qfedfm.federation.evaluation import utility_on
from qfedfm.heads import Linear, Variational
from qfedfm.incentives import Game, Influence, LeaveOneOut, Shapley, round_game
from qfedfm.incentives.game import all_coalitions
from qfedfm.params import stack
from qfedfm.seeds import stream

ROWS = np.arange(40, 140)


def round_of(model, features, clients, seed=0, dtype=torch.float64):
    """Return parameters, updates, and a context with validation rows, for a model of two classes."""
    generator = stream(seed, "round")
    table = torch.as_tensor(generator.normal(size=(200, features)), dtype=dtype)
    labels = (table[:, 0] > 0).long()
    params = model.init(seed)
    delta = {
        spec.name: torch.as_tensor(0.3 * generator.normal(size=(clients, *spec.shape)), dtype=dtype)
        for spec in model.specs
    }
    rows = tuple(int(count) for count in generator.integers(5, 50, clients))
    updates = Updates(tuple(f"client-{i}" for i in range(clients)), delta, rows, (1,) * clients, (0.5,) * clients)
    utility = utility_on(model, {}, table, labels, ROWS)
    return params, updates, Context(1, stream(seed, "rule"), model, None, utility), table, labels


LINEAR = Linear().bind(3, 2).with_precision("float64")


def test_coalitions_equal_models_averaged_and_evaluated_one_by_one():
    params, updates, context, table, labels = round_of(LINEAR, 3, 4)
    game = round_game(Mean(), {}, params, updates, LINEAR.specs, context)
    accuracy = round_game(Mean(), {}, params, updates, LINEAR.specs, context, "accuracy")
    for coalition in all_coalitions(4):
        model = {name: tensor.clone() for name, tensor in params.items()}
        total = sum(rows for rows, there in zip(updates.rows, coalition, strict=True) if there)
        for i in np.flatnonzero(coalition):
            for name in model:
                model[name] += updates.rows[i] / total * updates.delta[name][i]
        outputs = LINEAR.apply(stack([model]), table[ROWS][None])[0]
        loss = float(cross_entropy(outputs, labels[ROWS]))
        assert game(coalition[None])[0] == pytest.approx(-loss, abs=1e-12)
        right = float((outputs.argmax(1) == labels[ROWS]).double().mean())
        assert accuracy(coalition[None])[0] == pytest.approx(right, abs=1e-12)


def test_small_budgets_give_the_same_worth():
    params, updates, context, *_ = round_of(LINEAR, 3, 5)
    games = [round_game(AngularMean(), {}, params, updates, LINEAR.specs, context, budget=b) for b in (1, 200, 2**20)]
    worth = [game(all_coalitions(5)) for game in games]
    assert np.array_equal(worth[0], worth[1])
    assert np.array_equal(worth[0], worth[2])


def test_clients_with_equal_updates_and_rows_are_worth_the_same():
    params, updates, context, *_ = round_of(LINEAR, 3, 4)
    twins = Updates(updates.clients, {name: d[[0, 1, 1, 2]] for name, d in updates.delta.items()}, (5, 9, 9, 4), (), ())
    values = Shapley().values(round_game(Mean(), {}, params, twins, LINEAR.specs, context), stream(0)).value
    assert values[1] == pytest.approx(values[2], abs=1e-12)


def test_a_rule_that_draws_sees_the_same_stream_for_every_coalition():
    class Noisy:
        def init(self, specs):
            return {}

        def __call__(self, state, params, updates, specs, context):
            noise = context.generator.normal()
            moved = {name: weighted_sum(updates.weights, delta) for name, delta in updates.delta.items()}
            return {name: params[name] + moved[name] + noise for name in params}, {}, {}

    params, updates, context, *_ = round_of(LINEAR, 3, 3)
    games = [round_game(Noisy(), {}, params, updates, LINEAR.specs, context) for _ in range(2)]
    assert np.array_equal(games[0](all_coalitions(3)), games[1](all_coalitions(3)[::-1])[::-1])


def test_influence_equals_the_gradient_along_each_part_of_the_step():
    params, updates, context, table, labels = round_of(LINEAR, 3, 4)
    game = round_game(Mean(), {}, params, updates, LINEAR.specs, context)
    new = Mean()({}, params, updates, LINEAR.specs, context)[0]
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in new.items()}
    outputs = LINEAR.apply({name: leaf[None] for name, leaf in leaves.items()}, table[ROWS][None])[0]
    grads = torch.autograd.grad(cross_entropy(outputs, labels[ROWS]), list(leaves.values()))
    parts = [
        -sum(float((g * w * updates.delta[n][i]).sum()) for n, g in zip(leaves, grads, strict=True))
        for i, w in enumerate(updates.weights.tolist())
    ]
    found = Influence(step=1e-3).values(game, stream(0))
    assert found.value == pytest.approx(parts, abs=1e-7)
    assert found.evaluations == 8


def test_leave_one_out_is_the_loss_without_a_client():
    params, updates, context, *_ = round_of(LINEAR, 3, 3)
    game = round_game(Mean(), {}, params, updates, LINEAR.specs, context)
    values = LeaveOneOut().values(game, stream(0)).value
    rest = Updates(updates.clients[1:], {n: d[1:] for n, d in updates.delta.items()}, updates.rows[1:])
    without = round_game(Mean(), {}, params, rest, LINEAR.specs, context)
    assert values[0] == pytest.approx(game.whole - without.whole, abs=1e-12)


def test_parameters_that_do_not_travel_are_filled_in():
    _, _, context, table, labels = round_of(LINEAR, 3, 2)
    whole = LINEAR.init(0)
    fixed = {"readout.bias": whole.pop("readout.bias")} if "readout.bias" in whole else {}
    assert fixed
    utility = utility_on(LINEAR, fixed, table, labels, ROWS)
    models = {name: torch.stack([tensor, 2 * tensor]) for name, tensor in whole.items()}
    full = models | {name: tensor.expand(2, *tensor.shape) for name, tensor in fixed.items()}
    assert np.array_equal(utility(models, "loss"), context.utility(full, "loss"))


def test_1024_coalitions_of_ten_clients_take_less_than_ten_seconds():
    # 2.4 s on one busy core; the bound is the one promised
    model = Variational("strongly_entangling", {"n": 4, "layers": 2}).bind(384, 2)
    params, updates, context, *_ = round_of(model, 384, 10, dtype=torch.float32)
    began = perf_counter()
    values = Shapley().values(round_game(AngularMean(), {}, params, updates, model.specs, context), stream(0))
    assert perf_counter() - began < 10
    assert values.evaluations == 1024


def test_what_is_missing_is_named():
    params, updates, *_ = round_of(LINEAR, 3, 2)
    with pytest.raises(ConfigurationError, match="validation rows on the server"):
        round_game(Mean(), {}, params, updates, LINEAR.specs, Context(1, stream(0)))
    with pytest.raises(ConfigurationError, match="use it on a round of updates"):
        Influence().values(Game(2, lambda c: c.sum(1).astype(float)), stream(0))
