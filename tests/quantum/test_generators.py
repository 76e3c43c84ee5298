"""Layers of generators against PennyLane's block-diagonal metric and the blocks of the exact Fisher metric."""

import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pennylane import numpy as pnp
from reference import arguments, programs, strongly_entangling

from qfedfm.quantum import Gate, assemble, compute_uncompute, fidelity, generator_layers, quantum_fisher, simulate
from qfedfm.quantum.angles import evaluate
from qfedfm.quantum.expr import Expr

# torch compiles a few forward derivatives when the first is taken, with a function that it has itself deprecated
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


def blocks(program, inputs, weights, names):
    """Return the slots of each layer with its covariances, (C, R, m, m)."""
    return [
        (layer.slots, layer.covariances(simulate(layer.program, inputs, weights, layer.observables)))
        for layer in generator_layers(program, names)
    ]


def test_layers_of_a_small_circuit_by_hand():
    w = [Expr("weight", ("w", i)) for i in range(4)]
    gates = [Gate("h", (0,)), Gate("rz", (0,), (0,)), Gate("ry", (1,), (1,)), Gate("h", (2,)), Gate("cx", (0, 1)),
             Gate("rx", (2,), (2,)), Gate("ry", (1,), (3,))]  # fmt: skip
    layers = generator_layers(assemble(3, gates, w, {}, {"w": (4,)}), ("w",))
    assert [layer.slots for layer in layers] == [(0, 1, 2), (3,)]
    # the CX comes after the first layer, the Hadamard on wire 2 before it
    assert [gate.name for gate in layers[0].program.gates] == ["h", "h"]
    assert [gate.name for gate in layers[1].program.gates] == ["h", "rz", "ry", "h", "cx", "rx"]
    values = simulate(layers[0].program, {}, {"w": torch.zeros(1, 4).double()}, layers[0].observables)
    # Z/2 in |+>, Y/2 in |0> vary by 1/4; X/2 in |+> does not
    torch.testing.assert_close(layers[0].covariances(values)[0, 0], torch.diag(torch.tensor([0.25, 0.25, 0])).double())


def test_blocks_equal_pennylanes_metric_tensor():
    n, layers = 3, 2
    program = strongly_entangling(n, layers)
    inputs, weights = {"x": torch.randn(1, 1, n).double()}, {"w": torch.randn(1, layers, n, 3).double()}

    @qml.qnode(qml.device("default.qubit", wires=n))
    def circuit(x, w):
        for wire in range(n):
            qml.RX(x[wire], wire)
        for layer in range(layers):
            for number, gate in enumerate((qml.RZ, qml.RY, qml.RZ)):
                for wire in range(n):  # side by side, for PennyLane puts gates into layers in the order they come
                    gate(w[layer, wire, number], wire)
            for wire in range(n):
                qml.CNOT((wire, (wire + layer % (n - 1) + 1) % n))
        return qml.expval(qml.Z(0))

    w = pnp.array(weights["w"][0].numpy(), requires_grad=True)
    expected = torch.as_tensor(
        qml.metric_tensor(circuit, approx="block-diag")(pnp.array(inputs["x"][0, 0].numpy(), requires_grad=False), w)
    ).reshape(18, 18)
    found = torch.zeros(18, 18).double()
    for slots, block in blocks(program, inputs, weights, ("w",)):
        places = torch.tensor([program.slots[slot].args[1] for slot in slots])
        found[places[:, None], places] = block[0, 0]
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)


@settings(max_examples=30)
@given(st.data(), st.integers(0, 999))
def test_every_block_is_a_block_of_the_quantum_fisher_metric_of_the_slots(data, seed):
    """Each slot becomes a weight of its own, so the exact metric of those weights has the layers as diagonal blocks."""
    program = data.draw(programs(max_wires=3, max_gates=8))
    if not program.slots:
        return
    inputs, weights = arguments(1, 1, seed, torch.float64)
    own = (
        {n: inputs[n].detach() for n, _ in program.inputs},
        {s.name: weights[s.name].detach() for s in program.weights},
    )
    if not any(own):
        return
    angles = evaluate(program.slots, *own)[0, :, 0]
    gates, values = [], []
    for gate in program.gates:
        slots = [len(values) if isinstance(angle, int) else angle for angle in gate.angles]
        values += [angles[angle] for angle in gate.angles if isinstance(angle, int)]
        gates.append(Gate(gate.name, gate.wires, tuple(slots)))
    leaves = [Expr("weight", ("w", i)) for i in range(len(values))]
    free = assemble(program.n_wires, gates, leaves, {}, {"w": (len(values),)})
    at = {"w": torch.stack(values)[None]}
    exact = quantum_fisher(free, {}, at)[0] / 4
    seen = []
    for slots, block in blocks(free, {}, at, ("w",)):
        places = torch.tensor(slots)
        torch.testing.assert_close(block[0, 0], exact[places[:, None], places], atol=1e-9, rtol=0)
        seen += slots
    assert sorted(seen) == list(range(len(values)))


@settings(max_examples=30)
@given(st.data(), st.integers(0, 999))
def test_compute_uncompute_measures_the_fidelity(data, seed):
    program = data.draw(programs(max_wires=3, max_gates=8))
    inputs, weights = arguments(2, 3, seed, torch.float64)
    inputs = {n: inputs[n] for n, _ in program.inputs}
    weights = {s.name: weights[s.name] for s in program.weights}
    if not inputs or not weights:
        return
    others = {name: tensor + 0.3 for name, tensor in weights.items()}
    both, zeros = compute_uncompute(program)
    found = simulate(both, inputs, weights | {f"{n}.other": t for n, t in others.items()}, (zeros,))[..., 0]
    expected = fidelity(program, inputs, weights, others)
    torch.testing.assert_close(found.expand_as(expected), expected, atol=1e-10, rtol=0)
