"""Natural gradients against PennyLane's, their metrics against the exact one."""

import numpy as np
import pennylane as qml
import pytest
import torch
from bare import bare, controlled, data, entangling, exact, problem, start, train
from pennylane import numpy as pnp

from qfedfm.backends import Executor, ParameterShift, Session, Shots
from qfedfm.errors import ConfigurationError
from qfedfm.heads import Mlp, Parallel, Variational
from qfedfm.params import stack
from qfedfm.quantum import quantum_fisher
from qfedfm.training import Adam, BlockDiagonal, Diagonal, FullMetric, QnSpsa, QuantumNaturalGradient

# torch compiles a few forward derivatives when the first is taken, with a function that it has itself deprecated
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


def measured(metric, model, params, features, executor=None):
    """Return a metric of the model's circuit weights at some rows, (C, P, P)."""
    step, calls = problem(model, params, features, executor), []
    step.gradients(params, calls=calls)
    return metric.measure(step, calls, params, metric.init(params))


def qnode(n, layers):
    @qml.qnode(qml.device("default.qubit", wires=n))
    def circuit(x, w):
        for wire in range(n):
            qml.RX(x[wire], wire)
        for layer in range(layers):
            for number, gate in enumerate((qml.RZ, qml.RY, qml.RZ)):
                for wire in range(n):  # side by side, for PennyLane puts gates into layers in the order they come
                    gate(w[layer, wire, number], wire)
            for wire in range(n):
                qml.CNOT((wire, (wire + 1) % n))
        return [qml.expval(qml.Z(wire)) for wire in range(n)]

    return circuit


@pytest.mark.parametrize("approx", ["block-diag", "diag"])
def test_three_steps_equal_pennylanes_qng_optimizer(approx):
    n, layers = 2, 2
    model, params = bare(entangling(n, layers)), start(bare(entangling(n, layers)), 1)
    table, labels = data(3, n)
    circuit = qnode(n, layers)
    rows = [pnp.array(row.numpy(), requires_grad=False) for row in table]

    def cost(w):
        total = 0.0
        for row, label in zip(rows, labels.tolist(), strict=True):
            outputs = 2 * qml.math.stack(circuit(row, w))
            total = total + qml.math.log(qml.math.sum(qml.math.exp(outputs))) - outputs[label]
        return total / len(rows)

    def metric(w):
        whole = [qml.metric_tensor(circuit, approx=approx)(row, w).reshape(w.size, w.size) for row in rows]
        return (sum(whole) / len(rows)).reshape(*w.shape, *w.shape)

    optimizer = qml.QNGOptimizer(0.1, approx=approx, lam=0.02)
    w = pnp.array(params["circuit.weights"][0].numpy(), requires_grad=True)
    for _ in range(3):
        w = optimizer.step(cost, w, metric_tensor_fn=metric)
    ours = QuantumNaturalGradient(
        lr=0.1, regularisation=0.02, metric=Diagonal() if approx == "diag" else BlockDiagonal()
    )
    found = train(model, params, ours, [np.arange(3)], table, labels, steps=3).params["circuit.weights"][0]
    live = torch.tensor([[[1, 1, 1]] * n] * (layers - 1) + [[[1, 1, 0]] * n], dtype=torch.bool)  # the last RZ is dead
    torch.testing.assert_close(found[live], torch.as_tensor(np.asarray(w))[live], atol=1e-7, rtol=0)
    assert torch.equal(found[~live], params["circuit.weights"][0][~live])


def test_the_full_metric_is_a_quarter_of_the_fisher_metric_and_rows_that_fill_up_do_not_count():
    model, params = bare(controlled()), start(bare(controlled()), 2)
    features = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0)).double()
    step, calls = problem(model, params, features), []
    step.mask = torch.tensor([[True, True, True], [True, True, False]])
    step.size = torch.tensor([3, 2])
    step.gradients(params, calls=calls)
    found = FullMetric().measure(step, calls, params, {})
    for client, rows in enumerate((3, 2)):
        inputs, weights = {"x": features[client : client + 1, :rows]}, {"w": params["circuit.w"][client : client + 1]}
        expected = quantum_fisher(model.circuit.program, inputs, weights)[0] / 4
        torch.testing.assert_close(found[client], expected, atol=1e-12, rtol=0)


def test_blocks_of_a_shared_weight_follow_the_chain_rule():
    """The second weight turns an RX and an RY in different layers: its entry is the sum of both variances."""
    model, params = bare(controlled()), start(bare(controlled()), 1)
    features = torch.randn(1, 1, 2, generator=torch.Generator().manual_seed(1)).double()
    found = measured(BlockDiagonal(), model, params, features)[0]
    full = measured(FullMetric(), model, params, features)[0]
    assert found[0, 0] == pytest.approx(full[0, 0].item(), abs=1e-12)
    free = qml.device("default.qubit", wires=2)

    @qml.qnode(free)
    def circuit(w):
        a, b = features[0, 0].tolist()
        qml.RY(a, 0)
        qml.RY(b, 1)
        qml.CRX(w[0], (0, 1))
        qml.RX(w[1], 0)
        qml.CNOT((0, 1))
        qml.RY(w[2], 1)
        qml.RZ(w[3], 0)
        return qml.expval(qml.Z(0))

    w = params["circuit.w"][0].numpy()
    metric = qml.metric_tensor(circuit, approx="block-diag")(pnp.array([w[0], w[1], w[1], w[2]], requires_grad=True))
    assert found[1, 1] == pytest.approx(float(metric[1, 1] + metric[2, 2]), abs=1e-10)


def test_a_metric_from_shots_is_unbiased():
    """300 independent estimates from 20 shots; every entry within 4.5 standard errors of the exact one (45 entries)."""
    model = bare(entangling(2, 1))
    one = start(model, 1)
    clients = 300
    params = {name: tensor.expand(clients, *tensor.shape[1:]).clone() for name, tensor in one.items()}
    features = torch.tensor([[[0.4, -0.9]]]).double().expand(clients, 1, 2)
    executor = Executor(Shots(20).connect(Session(5)), 20, ParameterShift())
    found = measured(BlockDiagonal(), model, params, features, executor)
    expected = measured(BlockDiagonal(), model, one, features[:1])[0]
    spread = found.std(0) / clients**0.5
    noisy = spread > 1e-9  # the square of a Pauli word is a constant
    assert noisy.any()
    assert ((found.mean(0) - expected).abs()[noisy] / spread[noisy]).max() < 4.5
    torch.testing.assert_close(found.mean(0)[~noisy], expected[~noisy], atol=1e-9, rtol=0)


@pytest.mark.parametrize("shots", [None, 500])
def test_qn_spsa_estimates_the_full_metric(shots):
    """4000 independent estimates; entries within 4.5 standard errors of the exact ones and a bias of order step^2."""
    model = bare(controlled())
    one, clients = start(model, 1), 4000
    params = {name: tensor.expand(clients, *tensor.shape[1:]).clone() for name, tensor in one.items()}
    features = torch.tensor([[[0.4, -0.9]]]).double().expand(clients, 1, 2)
    executor = Executor(Shots(shots).connect(Session(5)), shots, ParameterShift()) if shots else exact()
    step = 0.02 if shots is None else 0.3
    mean = measured(QnSpsa(step=step), model, params, features, executor)
    estimates = 2 * mean - torch.eye(3).double()  # the identity is the first of two
    expected = measured(FullMetric(), model, one, features[:1])[0]
    error = (estimates.mean(0) - expected).abs()
    assert (error < 4.5 * estimates.std(0) / clients**0.5 + step**2).all()
    assert error.max() < 0.2 < expected.max()
    torch.testing.assert_close(estimates, estimates.mT)


def test_qn_spsa_takes_four_fidelities_whatever_the_number_of_weights_and_remembers():
    model, features = bare(entangling(2, 3)), torch.zeros(2, 5, 2).double()
    params, executor, metric = (
        start(model, 2),
        Executor(Shots(7).connect(Session()), 7, ParameterShift()),
        QnSpsa(repeats=2),
    )
    step, calls = problem(model, params, features, executor), []
    with torch.no_grad():
        step.circuits(params)
        before = step.usage[0]
        step.gradients(params, ["circuit.weights"], calls=calls)
    after, state = step.usage[0], metric.init(params)
    metric.measure(step, calls, params, state)
    assert before.executions == 5
    assert step.usage[0].executions - after.executions == 2 * 4 * 5
    assert step.usage[0].shots == 7 * step.usage[0].executions
    assert state["metrics"].tolist() == [3.0, 3.0]


def test_noise_cannot_turn_a_step_round():
    """The metric's eigenvalues count by their absolute values, so a step never points up the gradient."""
    from qfedfm.training.natural_gradient import _solve

    metric, grads = torch.diag(torch.tensor([0.25, -0.05, 0.0])).double()[None], torch.ones(1, 3).double()
    torch.testing.assert_close(_solve(metric, grads, 0.0), torch.tensor([[4.0, 20.0, 0.0]]).double())
    torch.testing.assert_close(_solve(metric, grads, 0.05), torch.tensor([[1 / 0.3, 10.0, 20.0]]).double())


def test_projection_and_readout_follow_adam_and_so_does_a_classical_twin():
    table, labels = data(12, 3)
    rows = [np.arange(6), np.arange(6, 12)]
    head = Variational("strongly_entangling", {"n": 2, "layers": 1}).bind(3, 2).with_precision("float64")
    twin = Mlp((4,)).bind(3, 2).with_precision("float64")
    for model in (head, twin):
        params = stack([model.init(0), model.init(1)])
        ours = train(model, params, QuantumNaturalGradient(lr=0.03, rates={"core": 0.2}), rows, table, labels)
        theirs = train(model, params, Adam(lr=0.03, rates={"core": 0.2}), rows, table, labels)
        for spec in model.specs:
            same = torch.equal(ours.params[spec.name], theirs.params[spec.name])
            assert same == (model is twin or spec.part != "core"), spec.name


def test_circuits_side_by_side_have_metrics_of_their_own():
    ring = Variational("angle_ring", {"n": 2, "layers": 1})
    model, alone = (head.bind(3, 2).with_precision("float64") for head in (Parallel((ring, ring)), ring))
    params, (table, _) = stack([model.init(0)]), data(4, 3)
    weights = {spec.name: params[spec.name] for spec in model.specs if spec.part == "core"}
    for metric in (BlockDiagonal(), FullMetric()):
        step, calls = problem(model, params, table[None]), []
        step.gradients(params, calls=calls)
        found = metric.measure(step, calls, weights, {})[0]
        assert not found[:4, 4:].any()
        for i in range(2):
            own = {f"projection.{k}": params[f"projection.{k}"][:, 2 * i : 2 * i + 2] for k in ("weight", "bias")}
            own |= {"circuit.weights": params[f"circuit.{i}.weights"]}
            own |= {
                name: torch.zeros(1, *spec.shape).double() for spec in alone.specs if (name := spec.name) not in own
            }
            step, calls = problem(alone, own, table[None]), []
            step.gradients(own, calls=calls)
            expected = metric.measure(step, calls, {"circuit.weights": own["circuit.weights"]}, {})[0]
            torch.testing.assert_close(found[4 * i : 4 * i + 4, 4 * i : 4 * i + 4], expected)


def test_the_full_metric_needs_an_exact_simulator():
    model, features = bare(entangling()), torch.zeros(1, 2, 2).double()
    executor = Executor(Shots(5).connect(Session()), 5, ParameterShift())
    with pytest.raises(ConfigurationError, match=r"states of an exact simulator; 'shots' gives none"):
        measured(FullMetric(), model, start(model, 1), features, executor)


def test_the_metric_of_a_client_does_not_depend_on_its_company():
    model, features = bare(entangling(2, 2)), torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(3)).double()
    params = start(model, 3)
    for metric in (BlockDiagonal(), Diagonal(), FullMetric()):
        together = measured(metric, model, params, features, exact())
        for c in range(3):
            own = {name: tensor[c : c + 1] for name, tensor in params.items()}
            torch.testing.assert_close(together[c : c + 1], measured(metric, model, own, features[c : c + 1]))
