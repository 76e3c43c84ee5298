"""The quantum Fisher metric against PennyLane, against its definition with PennyLane's states, and by hand."""

import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pennylane import numpy as pnp
from reference import WEIGHTS, amplitudes, arguments, programs, strongly_entangling

from qfedfm.errors import CircuitError
from qfedfm.quantum import Gate, assemble, fidelity, quantum_fisher, state_bytes
from qfedfm.quantum.expr import Expr

# torch compiles a few forward derivatives when the first is taken, with a function that it has itself deprecated
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
W = [Expr("weight", ("w", i)) for i in range(3)]


def of(gates, slots, values, n=1):
    program = assemble(n, gates, slots, {}, {"w": (len(values),)})
    return quantum_fisher(program, {}, {"w": torch.tensor([values], dtype=torch.float64)})[0]


def drawn(clients, rows, n, layers, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = {"x": torch.randn(clients, rows, n, dtype=torch.float64, generator=generator)}
    weights = {"w": torch.randn(clients, layers, n, 3, dtype=torch.float64, generator=generator)}
    return strongly_entangling(n, layers), inputs, weights


@pytest.mark.parametrize(
    ("gates", "slots", "expected"),
    [
        # F = 4 Var(G) for exp(-i w G) acting last on a state: RX, RY, RZ have G = P/2, so F = 1 - <P>^2
        ([Gate("ry", (0,), (0,))], [W[0]], 1.0),
        ([Gate("rz", (0,), (0,))], [W[0]], 0.0),
        ([Gate("h", (0,)), Gate("rz", (0,), (0,))], [W[0]], 1.0),
        ([Gate("ry", (0,), (0,))], [3 * W[0]], 9.0),
        ([Gate("ry", (0,), (0,)), Gate("ry", (0,), (0,))], [W[0]], 4.0),
        ([Gate("ry", (0,), (0.5,)), Gate("rz", (0,), (0,))], [W[0]], 1 - 0.7701511529340699),  # cos(1/2)^2
    ],
)
def test_one_weight_by_hand(gates, slots, expected):
    assert of(gates, slots, [0.7]).item() == pytest.approx(expected, abs=1e-12)


def test_a_qubits_sphere_by_hand():
    # the Bloch sphere's own metric, d theta^2 + sin(theta)^2 d phi^2
    theta = 0.7
    found = of([Gate("ry", (0,), (0,)), Gate("rz", (0,), (1,))], W[:2], [theta, 2.0])
    expected = torch.diag(torch.tensor([1.0, theta], dtype=torch.float64).sin().square())
    expected[0, 0] = 1.0
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_strongly_entangling_layers_equal_pennylanes_metric_tensor():
    n, layers, rows = 3, 2, 2
    program, inputs, weights = drawn(2, rows, n, layers)

    @qml.qnode(qml.device("default.qubit", wires=n))
    def circuit(x, w):
        for wire in range(n):
            qml.RX(x[wire], wire)
        qml.StronglyEntanglingLayers(w, range(n))
        return qml.expval(qml.Z(0))

    found = quantum_fisher(program, inputs, weights)
    for c in range(2):
        w = pnp.array(weights["w"][c].numpy(), requires_grad=True)
        metrics = [
            torch.as_tensor(
                qml.adjoint_metric_tensor(circuit)(pnp.array(inputs["x"][c, r].numpy(), requires_grad=False), w)
            )
            for r in range(rows)
        ]
        expected = 4 * torch.stack(metrics).mean(0).reshape(18, 18)
        torch.testing.assert_close(found[c], expected, atol=1e-10, rtol=0)


@given(st.data(), st.integers(0, 999))
@settings(max_examples=25)
def test_random_programs_follow_the_definition_with_pennylanes_states(data, seed):
    program = data.draw(programs(max_wires=3, max_gates=8))
    inputs, weights = arguments(1, 1, seed, torch.float64)

    def real_and_imaginary(*tensors):
        state = amplitudes(program, inputs, dict(zip(WEIGHTS, tensors, strict=True))).flatten().to(torch.complex128)
        return torch.view_as_real(state)

    psi = torch.view_as_complex(real_and_imaginary(*weights.values()).detach())
    jacobians = torch.autograd.functional.jacobian(real_and_imaginary, tuple(weights.values()))
    d = torch.cat([jacobian.reshape(*psi.shape, 2, -1) for jacobian in jacobians], -1)
    d = torch.complex(d[:, 0], d[:, 1])  # (2^n, P)
    along = psi.conj() @ d
    expected = 4 * (d.mH @ d - along.conj()[:, None] * along).real
    torch.testing.assert_close(quantum_fisher(program, inputs, weights)[0], expected, atol=1e-9, rtol=1e-9)


def test_it_is_the_curvature_of_the_fidelity():
    program, inputs, weights = drawn(2, 3, 3, 2)
    step = 1e-3 * torch.randn(2, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    there, back = ({"w": weights["w"] + sign * step / 2} for sign in (1, -1))
    lost = (1 - fidelity(program, inputs, there, back)).mean(1)
    metric, flat = quantum_fisher(program, inputs, weights), step.flatten(1)
    torch.testing.assert_close(torch.einsum("ci,cij,cj->c", flat, metric, flat) / 4, lost, rtol=1e-4, atol=0)


def test_it_is_symmetric_semidefinite_and_zero_for_weights_that_do_nothing():
    program = assemble(2, [Gate("rz", (0,), (0,)), Gate("ry", (1,), (1,))], W[:2], {}, {"w": (3,)})
    found = quantum_fisher(program, {}, {"w": torch.randn(4, 3, dtype=torch.float64)})
    expected = torch.zeros(4, 3, 3, dtype=torch.float64)
    expected[:, 1, 1] = 1.0  # RZ on |0> is a phase, and no gate uses the third
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    program, inputs, weights = drawn(3, 2, 4, 2)
    single = quantum_fisher(program, *({k: v.float() for k, v in d.items()} for d in (inputs, weights)))
    assert single.dtype == torch.float32
    assert torch.equal(single, single.mT)
    assert torch.linalg.eigvalsh(single.double()).min() > -1e-5
    torch.testing.assert_close(single.double(), quantum_fisher(program, inputs, weights), atol=1e-4, rtol=0)


def test_names_choose_a_block_in_their_order():
    slots = [Expr("weight", ("a", 0)), Expr("weight", ("b", 0)), Expr("weight", ("b", 1))]
    gates = [Gate("rx", (0,), (0,)), Gate("ry", (0,), (1,)), Gate("rx", (0,), (2,))]
    program = assemble(1, gates, slots, {}, {"a": (), "b": (2,)})
    weights = {"a": torch.tensor([0.4]), "b": torch.tensor([[0.9, 1.3]])}
    whole = quantum_fisher(program, {}, weights)
    torch.testing.assert_close(quantum_fisher(program, {}, weights, ["b"]), whole[:, 1:, 1:])
    order = torch.tensor([1, 2, 0])
    torch.testing.assert_close(quantum_fisher(program, {}, weights, ["b", "a"]), whole[:, order][:, :, order])


def test_neither_budget_nor_gradient_mode_changes_it():
    program, inputs, weights = drawn(3, 5, 3, 1)
    leaves = {"w": weights["w"].clone().requires_grad_()}
    whole = quantum_fisher(program, inputs, leaves)
    assert not whole.requires_grad
    with torch.no_grad():
        assert torch.equal(quantum_fisher(program, inputs, leaves), whole)
    least = 3 * state_bytes(program, None, 9, 1, torch.float64, gradient=False)
    for budget in (least, 2 * least, 5 * least, 12 * least):
        torch.testing.assert_close(quantum_fisher(program, inputs, weights, budget=budget), whole, atol=1e-12, rtol=0)
    with pytest.raises(CircuitError, match=r"tangents of 9 weights on 3 qubits need up to .* for one row"):
        quantum_fisher(program, inputs, weights, budget=least - 1)


@pytest.mark.parametrize(
    ("names", "message"),
    [(["v"], "no weight 'v'.*; it has w"), ([], "one weight or more"), (["w", "w"], "each named once")],
)
def test_names_that_choose_no_block_are_refused(names, message):
    with pytest.raises(CircuitError, match=message):
        quantum_fisher(*drawn(1, 2, 3, 1), names)


def test_arguments_of_different_clients_are_refused():
    program, inputs, weights = drawn(3, 2, 3, 1)
    with pytest.raises(CircuitError, match=r"the same clients and rows; got \[\(1, 2\), \(3, 2\)\]"):
        quantum_fisher(program, inputs, {"w": weights["w"][:1]})
    with pytest.raises(CircuitError, match="needs the input 'x'"):
        quantum_fisher(program, {}, weights)
