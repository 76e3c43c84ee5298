import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import arguments, expectations, observables, programs, strongly_entangling

from qfedfm.quantum.expr import Expr
from qfedfm.quantum.lightcone import dead_weights, reachable
from qfedfm.quantum.program import Gate, assemble, pauli_z, z_on_every_wire
from qfedfm.quantum.statevector import simulate


def test_strongly_entangling_4_qubits_2_layers_has_4_of_24_dead_angles():
    dead = dead_weights(strongly_entangling(4, 2), z_on_every_wire(4))["w"]
    assert dead.nonzero().tolist() == [[1, wire, 2] for wire in range(4)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_of_a_dead_angle_is_exactly_zero_and_of_no_other(dtype):
    program, measured = strongly_entangling(4, 2), z_on_every_wire(4)
    generator = torch.Generator().manual_seed(1)
    w = torch.randn(5, 2, 4, 3, generator=generator, dtype=dtype, requires_grad=True)
    x = torch.randn(5, 3, 4, generator=generator, dtype=dtype)
    simulate(program, {"x": x}, {"w": w}, measured).square().sum().backward()
    assert torch.equal(w.grad == 0, dead_weights(program, measured)["w"].expand(5, 2, 4, 3))


@given(st.data(), st.integers(0, 999))
@settings(max_examples=50)
def test_dropped_gates_change_no_value(data, seed):
    program = data.draw(programs(max_wires=4, max_gates=12))
    measured = data.draw(observables(program.n_wires))
    inputs, weights = arguments(1, 1, seed, torch.float64)
    whole = expectations(program, inputs, weights, measured)
    pruned = expectations(reachable(program, measured), inputs, weights, measured)
    torch.testing.assert_close(pruned, whole, atol=1e-12, rtol=0, check_dtype=False)


X, Z, ZZ = ((1.0, ((0, "X"),)),), pauli_z(0), ((1.0, ((0, "Z"), (1, "Z"))),)


@pytest.mark.parametrize(
    ("gates", "measured", "kept"),
    [
        ([("ry", (0,)), ("ry", (1,))], [Z], [0]),  # another wire
        ([("ry", (0,)), ("rz", (0,))], [Z], [0]),  # diagonal at the end
        ([("rz", (0,)), ("rx", (0,))], [X], [0]),  # along the axis that is measured
        ([("ry", (0,)), ("rz", (0,))], [Z, X], [0, 1]),  # two observables, one of which it reaches
        ([("ry", (0,)), ("crx", (0, 1))], [Z], [0]),  # the control of a gate whose target is not looked at
        ([("ry", (0,)), ("crx", (1, 0))], [Z], [0, 1]),
        ([("rz", (1,)), ("crx", (1, 0))], [Z], [1]),  # a phase on a control
        ([("rz", (0,)), ("rz", (1,)), ("cx", (0, 1)), ("rzz", (0, 1))], [ZZ], [2]),  # diagonal behind a CNOT
        ([("ry", (0,)), ("ry", (1,)), ("swap", (0, 1))], [Z], [1, 2]),  # the swap moves the cone
        ([("rxx", (0, 1)), ("ry", (0,))], [Z], [0, 1]),
    ],
)
def test_gates_that_stay_by_hand(gates, measured, kept):
    listed = [Gate(name, wires, () if name in ("cx", "swap") else (0.3,)) for name, wires in gates]
    program = assemble(2, listed, [], {}, {})
    assert reachable(program, tuple(measured)).gates == tuple(listed[i] for i in kept)


def test_a_weight_shared_by_a_dead_and_a_live_gate_is_alive():
    w = Expr("weight", ("w", 0))
    program = assemble(1, [Gate("ry", (0,), (0,)), Gate("rz", (0,), (1,))], [w, 2 * w], {}, {"w": (), "v": (2,)})
    dead = dead_weights(program, z_on_every_wire(1))
    assert not dead["w"]
    assert dead["w"].shape == ()
    assert dead["v"].tolist() == [True, True]
