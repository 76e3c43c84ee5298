"""Fidelities against PennyLane's states, closed forms and hand cases."""

import itertools
import math

import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import amplitudes, arguments, programs, strongly_entangling

from qfedfm.errors import CircuitError
from qfedfm.quantum import Gate, assemble, client_fidelities, fidelity, fidelity_kernel, load, state_bytes
from qfedfm.quantum.expr import Expr

TURN = assemble(1, [Gate("ry", (0,), (0,))], [Expr("weight", ("w", 0))], {}, {"w": (1,)})


def drawn(clients, rows, n=3, layers=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = {"x": torch.randn(clients, rows, n, dtype=torch.float64, generator=generator)}
    weights = {"w": torch.randn(clients, layers, n, 3, dtype=torch.float64, generator=generator)}
    return strongly_entangling(n, layers), inputs, weights


@given(st.data(), st.integers(1, 2), st.integers(1, 3), st.integers(0, 999))
@settings(max_examples=30)
def test_fidelity_of_random_programs_equals_pennylane(data, clients, rows, seed):
    program = data.draw(programs(max_wires=4))
    inputs, weights = arguments(clients, rows, seed, torch.float64)
    _, others = arguments(clients, rows, seed + 1, torch.float64)
    a, b = (amplitudes(program, inputs, w).detach().to(torch.complex128).flatten(0, 1) for w in (weights, others))
    expected = qml.math.fidelity_statevector(a, b).reshape(clients, rows)
    found = fidelity(program, inputs, weights, others)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(fidelity(program, inputs, weights, weights), torch.ones_like(found), atol=1e-12, rtol=0)


def test_two_turns_of_a_qubit_by_hand():
    angles, others = torch.tensor([[0.0], [0.3], [1.0]]), torch.tensor([[math.pi], [1.7], [1.0]])
    found = fidelity(TURN, {}, {"w": angles}, {"w": others})
    torch.testing.assert_close(found, ((angles - others) / 2).cos().square(), atol=1e-6, rtol=0)
    found = client_fidelities(TURN, {}, {"w": angles})
    torch.testing.assert_close(found, ((angles - angles.T) / 2).cos().square(), atol=1e-6, rtol=0)


def test_gradients_equal_finite_differences_even_where_states_are_equal_or_orthogonal():
    program, inputs, weights = drawn(2, 2, n=2, layers=1)
    x, w = inputs["x"].requires_grad_(), weights["w"].requires_grad_()
    v, others = (w + 0.3).detach().requires_grad_(), {"x": x.detach() + 0.1}
    assert torch.autograd.gradcheck(lambda x, w, v: fidelity(program, {"x": x}, {"w": w}, {"w": v}), (x, w, v))
    assert torch.autograd.gradcheck(lambda x, w: fidelity_kernel(program, {"x": x}, others, {"w": w}), (x, w))
    for gap in (0.0, math.pi):
        turn = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
        value = fidelity(TURN, {}, {"w": turn}, {"w": torch.full((1, 1), gap, dtype=torch.float64)})
        (slope,) = torch.autograd.grad(value.sum(), turn)
        assert slope.item() == pytest.approx(0, abs=1e-12)


def test_client_fidelities_are_means_of_pennylanes_over_the_probe_rows():
    program, inputs, weights = drawn(3, 4)
    probe = {"x": inputs["x"][0]}
    everyone = {"x": probe["x"].expand(3, 4, 3)}
    truth = amplitudes(program, everyone, weights).to(torch.complex128)
    found = client_fidelities(program, probe, weights)
    for a, b in itertools.product(range(3), repeat=2):
        expected = qml.math.fidelity_statevector(truth[a], truth[b]).mean()
        torch.testing.assert_close(found[a, b], expected, atol=1e-12, rtol=0)


def test_client_fidelities_do_not_depend_on_the_budget_and_carry_no_gradient():
    program, inputs, weights = drawn(7, 9)
    probe, weights = {"x": inputs["x"][0]}, {"w": weights["w"].requires_grad_()}
    whole = client_fidelities(program, probe, weights)
    assert not whole.requires_grad
    torch.testing.assert_close(whole, whole.T, atol=1e-12, rtol=0)
    least = 2 * state_bytes(program, None, 7, 1, torch.float64, gradient=False)
    for budget in (least, 2 * least, 5 * least):
        torch.testing.assert_close(client_fidelities(program, probe, weights, budget), whole, atol=1e-12, rtol=0)
    with pytest.raises(CircuitError, match=r"7 clients on 3 qubits need up to .* MiB for each probe row"):
        client_fidelities(program, probe, weights, least - 2)
    with pytest.raises(CircuitError, match="needs the weight 'w'"):
        client_fidelities(program, probe, {})


def test_an_angle_encodings_kernel_is_a_product_of_cosines_whatever_follows():
    # Schuld 2021, arXiv:2101.11020: prod_i cos^2((x_i - y_i) / 2), the weights cancel
    program, inputs, weights = drawn(2, 3)
    others = {"x": torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(9))}
    expected = ((inputs["x"].unsqueeze(2) - others["x"].unsqueeze(1)) / 2).cos().square().prod(-1)
    torch.testing.assert_close(fidelity_kernel(program, inputs, others, weights), expected, atol=1e-12, rtol=0)


def test_the_iqp_kernel_is_pennylanes_circuit_followed_by_its_adjoint():
    program = load("iqp", {"n": 3, "layers": 2}).program
    x = torch.randn(1, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    @qml.qnode(qml.device("default.qubit", wires=3))
    def circuit(a, b):
        qml.IQPEmbedding(a, range(3), n_repeats=2)
        qml.adjoint(qml.IQPEmbedding(b, range(3), n_repeats=2))
        return qml.probs(wires=range(3))

    found = fidelity_kernel(program, {"x": x}, {"x": x}, {})[0]
    for r, s in itertools.product(range(4), repeat=2):
        assert found[r, s].item() == pytest.approx(float(circuit(x[0, r].numpy(), x[0, s].numpy())[0]), abs=1e-12)
    assert torch.linalg.eigvalsh(found).min() > 0
