"""Layer-wise learning moves what it should and nothing else, and a machine is spared the rest."""

import numpy as np
import pytest
import torch
from bare import bare, controlled, data, entangling, start, train

from qfedfm.backends import Exact, Executor, ParameterShift, Session
from qfedfm.errors import ConfigurationError
from qfedfm.heads import Linear, Variational
from qfedfm.params import stack
from qfedfm.training import Adam, LayerWise

LAYERS = 4
MODEL = bare(entangling(2, LAYERS))
TABLE, LABELS = data(8, 2)
ROWS = [np.arange(3), np.arange(3, 8)]


@pytest.mark.parametrize(
    ("rule", "layers", "expected"),
    [
        # Skolik et al. 2021: grow by p layers and train the newest q, then parts of r of the circuit in turn
        (LayerWise(), 3, [(1, "0"), (2, "1"), (3, "2"), (3, "01"), (3, "2"), (3, "01")]),
        (LayerWise(start=2, grow=2, window=4), 6, [(2, "01"), (4, "0123"), (6, "2345"), (6, "012"), (6, "345")]),
        (LayerWise(rounds=2, share=1.0), 2, [(1, "0"), (1, "0"), (2, "1"), (2, "1"), (2, "01"), (2, "01")]),
        (LayerWise(start=9, share=0.25), 4, [(4, "0123"), (4, "0"), (4, "1"), (4, "2"), (4, "3"), (4, "0")]),
        (LayerWise(start=1, grow=2, window=1), 4, [(1, "0"), (3, "2"), (4, "3"), (4, "01")]),
    ],
)
def test_what_is_there_and_what_is_trained_in_each_round_by_hand(rule, layers, expected):
    plans = [rule.plan(layers, round) for round in range(1, len(expected) + 1)]
    assert [(there, "".join(map(str, trained))) for there, trained in plans] == expected


@pytest.mark.parametrize("round", [1, 2, 4, 5, 6])
@pytest.mark.parametrize("executor", [None, Executor(Exact().connect(Session()), gradient=ParameterShift())])
def test_exactly_the_layers_of_the_round_move_and_those_to_come_are_zero(round, executor):
    before, rule = start(MODEL, 2), LayerWise(lr=0.1)
    there, trained = rule.plan(LAYERS, round)
    after = train(MODEL, before, rule, ROWS, TABLE, LABELS, steps=3, round=round, executor=executor).params
    moved = (after["circuit.weights"] != before["circuit.weights"]).flatten(2).any(2)
    for layer in range(LAYERS):
        if layer >= there:
            assert not after["circuit.weights"][:, layer].any()
        else:
            assert moved[:, layer].tolist() == [layer in trained] * 2


def test_a_fully_grown_circuit_in_one_part_is_trained_by_adam():
    rule = LayerWise(lr=0.1, start=LAYERS, share=1.0)
    ours, theirs = (
        train(MODEL, start(MODEL, 2), r, ROWS, TABLE, LABELS, steps=3, round=5) for r in (rule, Adam(lr=0.1))
    )
    torch.testing.assert_close(ours.params["circuit.weights"], theirs.params["circuit.weights"], atol=1e-12, rtol=0)


def test_momentum_does_not_move_what_is_frozen():
    rule, params = LayerWise(lr=0.1), start(MODEL, 2)
    first = train(MODEL, params, rule, ROWS, TABLE, LABELS, steps=2, round=1)
    second = train(MODEL, first.params, rule, ROWS, TABLE, LABELS, steps=2, round=2, state=first.state)
    assert torch.equal(second.params["circuit.weights"][:, 0], first.params["circuit.weights"][:, 0])
    assert not torch.equal(second.params["circuit.weights"][:, 1], first.params["circuit.weights"][:, 1])


def test_a_machine_runs_no_points_for_frozen_layers():
    found = []
    for rule in (LayerWise(), Adam()):
        executor = Executor(Exact().connect(Session()), gradient=ParameterShift())
        done = train(MODEL, start(MODEL, 2), rule, ROWS, TABLE, LABELS, steps=1, round=2, executor=executor)
        found.append([one.executions for one in done.usage])
    # one layer of two qubits has 6 angles; of all four, the two last RZ cannot reach Z
    assert found == [[3 * 13, 5 * 13], [3 * (1 + 2 * 22), 5 * (1 + 2 * 22)]]


def test_projection_and_readout_move_all_the_time():
    model = Variational("strongly_entangling", {"n": 2, "layers": 2}).bind(2, 2).with_precision("float64")
    before = stack([model.init(0), model.init(1)])
    after = train(model, before, LayerWise(lr=0.1), ROWS, TABLE, LABELS, steps=1, round=2).params
    assert all(not torch.equal(after[name], before[name]) for name in before)


def test_weights_without_layers_are_refused_and_a_twin_has_none():
    with pytest.raises(ConfigurationError, match="two or more axes"):
        LayerWise().bind(bare(controlled()), 1)
    linear = Linear().bind(2, 2).with_precision("float64")
    before = stack([linear.init(0), linear.init(1)])
    ours, theirs = (train(linear, before, r, ROWS, TABLE, LABELS, steps=2) for r in (LayerWise(lr=0.1), Adam(lr=0.1)))
    assert all(torch.equal(ours.params[name], theirs.params[name]) for name in before)
