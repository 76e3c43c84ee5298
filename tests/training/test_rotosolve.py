"""Rotosolve against PennyLane's, against brute force along each angle, and by what it promises."""

import numpy as np
import pennylane as qml
import pytest
import torch
from bare import bare, controlled, data, entangling, exact, losses, problem, start, train
from pennylane import numpy as pnp

from qfedfm.backends import Exact, Executor, ParameterShift, Session, Shots
from qfedfm.errors import ConfigurationError
from qfedfm.heads import Parallel, Variational
from qfedfm.params import stack
from qfedfm.quantum import Circuit, Gate, assemble, pauli_z
from qfedfm.quantum.expr import Expr
from qfedfm.training import Rotosolve
from qfedfm.training.rotosolve import _frequencies, _interpolation

ISING = ((0.6, ((0, "Z"), (1, "X"))), (0.4, ((0, "X"),)), (0.3, ((1, "Z"),)))
W, X = [Expr("weight", ("w", i)) for i in range(2)], Expr("input", ("x", 0))


def one_qubit(*gates, slots=(X, W[0]), weights=1):
    return Circuit(assemble(1, gates, slots, {"x": (1,)}, {"w": (weights,)}), (pauli_z(0),))


def test_a_sinusoid_is_at_its_minimum_after_one_step():
    """<Z> = cos(x + w) and class 1 wants it low: the minimum lies at w = pi - x, wherever the search begins."""
    model = bare(one_qubit(Gate("ry", (0,), (0,)), Gate("ry", (0,), (1,))))
    table, labels = torch.tensor([[0.3], [1.1], [-2.0]]).double(), torch.ones(3, dtype=torch.int64)
    params = {"circuit.w": torch.tensor([[0.1], [2.5], [-1.0]]).double()}
    done = train(model, params, Rotosolve(), [np.array([i]) for i in range(3)], table, labels, steps=1)
    away = (done.params["circuit.w"] - (np.pi - table)).remainder(2 * np.pi)
    torch.testing.assert_close(torch.minimum(away, 2 * np.pi - away), torch.zeros(3, 1).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_sweep_equals_pennylanes_rotosolve_where_the_loss_is_an_expectation_value(seed):
    """For one row of class 1 the loss log(1 + exp(4 <M>)) falls and rises with <M>, so both have the same minima."""
    n = 2
    circuit = entangling(n, 1)
    model, params = bare(Circuit(circuit.program, (ISING,))), start(bare(circuit), 1, seed)
    row = torch.tensor([0.4, -0.7]).double()

    @qml.qnode(qml.device("default.qubit", wires=n))
    def cost(w):
        for wire in range(n):
            qml.RX(float(row[wire]), wire)
        qml.StronglyEntanglingLayers(w, range(n))
        return qml.expval(0.6 * qml.Z(0) @ qml.X(1) + 0.4 * qml.X(0) + 0.3 * qml.Z(1))

    w = pnp.array(params["circuit.weights"][0].numpy(), requires_grad=True)
    once = dict.fromkeys(np.ndindex(w.shape), 1)
    theirs = qml.RotosolveOptimizer().step(cost, w, nums_frequency={"w": once})
    done = train(model, params, Rotosolve(), [np.array([0])], row[None], torch.ones(1, dtype=torch.int64), steps=1)
    ours = done.params["circuit.weights"][0].numpy()
    assert cost(ours) == pytest.approx(float(cost(theirs)), abs=1e-6)
    assert np.abs(np.exp(1j * ours) - np.exp(1j * np.asarray(theirs))).max() < 1e-4
    assert cost(ours) < cost(params["circuit.weights"][0].numpy()) - 0.1


def test_every_angle_ends_at_the_best_of_two_thousand():
    """Weights of one and of several frequencies, several rows, a loss behind a softmax; each client on its own."""
    model, (table, labels) = bare(controlled()), data(11, 2, seed=1)
    rows, before = [np.arange(5), np.arange(5, 11)], start(model, 2)
    after = train(model, before, Rotosolve(), rows, table, labels, steps=1).params["circuit.w"]
    at = before["circuit.w"].clone()
    period = model.specs[0].period
    for place in range(3):
        at[:, place] = after[:, place]
        tried = at.repeat(2000, 1, 1)  # (2000, C, 3)
        tried[:, :, place] += period * torch.arange(2000)[:, None] / 2000
        for client in range(2):
            many = {"circuit.w": tried[:, client]}
            features = table[rows[client]].expand(2000, -1, -1)
            outputs = model.apply(many, features).transpose(1, 2)
            each = torch.nn.functional.cross_entropy(
                outputs, labels[rows[client]].expand(2000, -1), reduction="none"
            ).mean(1)
            assert each[0] <= each.min() + 1e-9


def test_the_batchs_loss_never_rises():
    model, (table, labels) = bare(entangling(3, 2)), data(30, 3, seed=2)
    rows, params = [np.arange(10), np.arange(10, 30)], start(bare(entangling(3, 2)), 2)
    found = [losses(model, params, rows, table, labels)]
    for _ in range(4):
        params = train(model, params, Rotosolve(), rows, table, labels, steps=1).params
        found.append(losses(model, params, rows, table, labels))
    assert (np.diff(found, axis=0) <= 1e-12).all()
    assert (np.array(found[0]) - found[-1] > 0.05).all()


def test_numbers_of_points_follow_the_spectra():
    calls, _ = problem(bare(controlled()), start(bare(controlled()), 1), torch.zeros(1, 1, 2).double()).circuits(
        start(bare(controlled()), 1)
    )
    period = 4 * np.pi  # of all entries: half a frequency is the lowest
    # the first turns a CRX (1/2 and 1); the second an RX and an RY (up to 2); the third one RZ (1)
    assert [_frequencies(calls, "circuit.w", place, period) for place in range(3)] == [2, 4, 2]


def test_interpolation_is_exact_and_keeps_the_variance():
    by, period = torch.linspace(-7, 7, 50)[None].double(), 4 * np.pi
    points = period * torch.arange(5).double() / 5

    def f(t):
        return 0.3 + 0.5 * torch.cos(t / 2) - 0.2 * torch.sin(t / 2) + 0.7 * torch.cos(t) + 0.1 * torch.sin(t)

    weights = _interpolation(by, 2, period)
    torch.testing.assert_close(weights @ f(points), f(by), atol=1e-12, rtol=0)
    torch.testing.assert_close(weights.square().sum(-1), torch.ones(1, 50).double(), atol=1e-12, rtol=0)


def test_a_sweep_takes_two_circuits_an_angle_and_row():
    model, (table, labels) = bare(entangling(2, 2)), data(7, 2)
    executor = Executor(Shots(9).connect(Session()), 9, ParameterShift())
    rows = [np.arange(4), np.arange(4, 7)]
    done = train(model, start(model, 2), Rotosolve(), rows, table, labels, steps=1, executor=executor)
    # one for the loss before, one for the values to begin with, two for each of the ten angles that matter
    assert [one.executions for one in done.usage] == [4 * 22, 3 * 22]
    assert [one.shots for one in done.usage] == [9 * 4 * 22, 9 * 3 * 22]


def test_with_shots_it_still_finds_its_way():
    """The loss of 20 rows on 2000 shots falls nearly as far as exactly: by 80 %, where noise alone would be 1 %."""
    model, (table, labels) = bare(entangling(2, 2)), data(20, 2, seed=5)
    rows, params, found = [np.arange(20)], start(bare(entangling(2, 2)), 1), {}
    for shots in (None, 2000):
        executor = Executor(Shots(shots).connect(Session()), shots) if shots else exact()
        done = train(model, params, Rotosolve(), rows, table, labels, steps=3, executor=executor)
        found[shots] = losses(model, done.params, rows, table, labels)[0]
    (before,) = losses(model, params, rows, table, labels)
    assert before - found[2000] > 0.8 * (before - found[None]) > 0.05


def test_projection_and_readout_are_trained_beside_it():
    model = Variational("angle_ring", {"n": 2}).bind(3, 2).with_precision("float64")
    (table, labels), params = data(12, 3), stack([model.init(0), model.init(1)])
    done = train(model, params, Rotosolve(lr=0.02), [np.arange(6), np.arange(6, 12)], table, labels, steps=2,
                 executor=Executor(Exact().connect(Session()), gradient=ParameterShift()))  # fmt: skip
    moved = {name: (done.params[name] != params[name]).flatten(1).any(1).tolist() for name in params}
    assert all(moved[name] == [True, True] for name in params)


def test_of_circuits_side_by_side_only_the_one_that_turns_is_run():
    ring = Variational("angle_ring", {"n": 2, "layers": 1})
    model = Parallel((ring, ring, ring)).bind(3, 2).with_precision("float64")
    (table, labels), params = data(12, 3), stack([model.init(0), model.init(1)])
    rows, executor = [np.arange(6), np.arange(6, 12)], exact(gradient=ParameterShift())
    rule, before = Rotosolve(lr=1e-12), losses(model, params, [np.arange(6), np.arange(6, 12)], table, labels)
    done = train(model, params, rule, rows, table, labels, steps=1, executor=executor)
    # of each circuit: 1 + 2 * 2 for the gradient by its inputs, one value, two for each of four angles
    assert [one.executions for one in done.usage] == [6 * 3 * (5 + 1 + 8)] * 2
    after = losses(model, done.params, rows, table, labels)
    assert all(new < old - 0.01 for new, old in zip(after, before, strict=True))


def test_weights_that_do_not_turn_at_a_fixed_rate_are_refused():
    circuit = one_qubit(Gate("ry", (0,), (0,)), slots=(X * W[0],))
    with pytest.raises(ConfigurationError, match=r"fixed rates; circuit\.w is multiplied by inputs"):
        Rotosolve().bind(bare(circuit), 1)


def test_circuits_that_feed_circuits_are_refused():
    circuit = one_qubit(Gate("ry", (0,), (0,)), Gate("ry", (0,), (1,)))
    model = bare(circuit)

    def hybrid(params, features, execute):
        weights = {"w": params["circuit.w"]}
        inner = execute(circuit.program, {"x": features}, weights, circuit.observables)
        outer = execute(circuit.program, {"x": inner}, weights, circuit.observables)
        return torch.cat([outer, -outer], -1)

    deep = model.__class__(model.specs, model.apply, model.bounds, 1000, circuit, hybrid)
    table, labels = data(3, 1)
    with pytest.raises(ConfigurationError, match="circuits that feed other circuits"):
        train(deep, start(deep, 1), Rotosolve(), [np.arange(3)], table, labels, steps=1)
