"""PennyLane functions lowered to programs, against default.qubit in values and gradients."""

import functools
import math

import numpy as np
import pennylane as qml
import pytest
import torch

from qfedfm.errors import CircuitError
from qfedfm.quantum.pennylane import lower
from qfedfm.quantum.program import pauli_z
from qfedfm.quantum.statevector import simulate

N = 4
SHAPES = {"x": (N,), "w": (2, N, 3)}


def rotations(x, w):
    for wire, angle in enumerate(x):
        qml.Rot(angle, w[0, wire, 1] - angle, *w[1, wire, :1], wires=wire)


def zz_feature_map(x, w):
    for _ in range(2):
        for i in range(N):
            qml.Hadamard(i)
            qml.PhaseShift(2 * x[i], i)
        for i in range(N - 1):
            qml.CNOT([i, i + 1])
            qml.PhaseShift(2 * (np.pi - x[i]) * (np.pi - x[i + 1]), i + 1)
            qml.CNOT([i, i + 1])


def functions_of_angles(x, w, lib=torch):
    for i, angle in enumerate(lib.sin(x)):
        qml.RX(angle * w[0, i, 0] / 3, i)
    for i, angle in enumerate(lib.atan(x) + w[0, :, 1] ** 2 - lib.asarray([0.25, 0.5, 1.0, 2.0])):
        qml.RY(angle, i)
    qml.RZ(lib.exp(x[0]) - lib.cos(w[1, 0, 0]), 0)
    qml.RX(lib.sum(x * w[1, :, 1]), 1)
    qml.RY((x / lib.asarray(2.0))[3] * (lib.asarray([0.5, 1.5]) * x[0])[1], 1)
    qml.RY(x.sum() + lib.sum(w[0, 0]) / 4, 2)
    qml.RZ(lib.stack([x, w[0, :, 0]])[1, 2] * math.sqrt(2), 3)


def slices(x, w):
    qml.RX(x[..., 0], 0)
    qml.AngleEmbedding(x[1:3], [1, 2], rotation="Y")
    qml.BasicEntanglerLayers(w[..., 2], range(N), rotation=qml.RY)
    qml.AngleEmbedding(w.reshape(-1)[:N], range(N))


def adjoints(x, w):
    qml.adjoint(qml.StronglyEntanglingLayers)(w, range(N))
    qml.adjoint(qml.SX(0))
    qml.adjoint(qml.U3(*w[0, 0], wires=1))
    qml.adjoint(lambda: [qml.CRX(x[0], [0, 1]), qml.T(1), qml.S(2)])()


def controls(x, w):
    qml.ctrl(qml.RX(x[0], 0), 1)
    qml.ctrl(qml.RX(x[0], 0), [1, 2])
    qml.ctrl(qml.RY(x[1], 0), [1, 2, 3])
    qml.ctrl(qml.RZ(x[2], 3), [1, 2], control_values=[0, 1])
    qml.ctrl(qml.PhaseShift(w[0, 0, 0], 3), [0, 2])
    qml.ctrl(qml.Rot(*w[0, 1], wires=2), [0, 1])
    qml.ctrl(qml.U2(*w[0, 2, :2], wires=2), 0, control_values=[0])
    qml.ctrl(qml.IsingXX(x[3], [0, 1]), 2)
    qml.ctrl(qml.GlobalPhase(w[1, 0, 0]), [0, 1])
    qml.ctrl(qml.AngleEmbedding, control=[3])(x[:2], wires=[0, 1])
    qml.ctrl(qml.Hadamard(0), [1, 2])
    qml.ctrl(qml.S(0), 3)
    qml.ctrl(qml.SX(0), 3)


def many_gates(x, w):
    qml.U1(x[0], 0)
    qml.U2(x[1], w[0, 0, 0], 1)
    qml.U3(*w[0, 1], wires=2)
    qml.CRX(x[0], [0, 1])
    qml.CRY(x[1], [1, 2])
    qml.CRZ(w[0, 2, 0], [2, 3])
    qml.CRot(*w[0, 3], wires=[3, 0])
    qml.ControlledPhaseShift(x[2], [0, 3])
    qml.IsingXX(x[0], [0, 1])
    qml.IsingYY(w[1, 0, 0], [1, 2])
    qml.IsingZZ(x[1] * w[1, 0, 1], [2, 3])
    qml.IsingXY(x[3], [3, 0])
    qml.PSWAP(x[2], [0, 2])
    qml.ISWAP([0, 1])
    qml.ECR([1, 2])
    qml.CCZ([0, 1, 2])
    qml.Toffoli([0, 1, 2])
    qml.CSWAP([0, 1, 2])
    for one in (qml.X, qml.Y, qml.Z, qml.S, qml.T, qml.SX, qml.Identity):
        one(3)
    for two in (qml.CY, qml.CZ, qml.CH, qml.SWAP):
        two([3, 1])


def excitations(x, w):
    qml.SingleExcitation(x[0], [0, 1])
    qml.SingleExcitation(w[0, 0, 0], [2, 1])
    qml.DoubleExcitation(x[1] * w[0, 1, 0], [0, 1, 2, 3])


def pauli_rotations(x, w):
    qml.MultiRZ(x[0], [0, 1, 3])
    qml.PauliRot(w[0, 0, 0] - x[1], "XYZ", [3, 0, 2])
    qml.ApproxTimeEvolution(qml.dot([0.5, -1.0], [qml.X(0) @ qml.X(1), qml.Z(2)]), x[2], 2)


def embedding(**options):
    return lambda x, w: qml.AngleEmbedding(x, range(N), **options)


BODIES = {
    "AngleEmbedding X": embedding(),
    "AngleEmbedding Y": embedding(rotation="Y"),
    "AngleEmbedding Z": embedding(rotation="Z"),
    "StronglyEntanglingLayers": lambda x, w: qml.StronglyEntanglingLayers(w, range(N), ranges=[2, 1]),
    "BasicEntanglerLayers": lambda x, w: qml.BasicEntanglerLayers(w[:, :, 0], range(N)),
    "RandomLayers": lambda x, w: qml.RandomLayers(w[:, :, 1], range(N), seed=11),
    "IQPEmbedding": lambda x, w: qml.IQPEmbedding(x, range(N), n_repeats=2),
    "QAOAEmbedding": lambda x, w: qml.QAOAEmbedding(x, w.reshape(3, 8), range(N)),
    "SimplifiedTwoDesign": lambda x, w: qml.SimplifiedTwoDesign(
        w[0, :, 0], w.reshape(-1)[:12].reshape(2, 3, 2), range(N)
    ),
    "QFT": lambda x, w: qml.QFT(range(N)),
    "BasisState": lambda x, w: qml.BasisState(np.array([1, 0, 1, 1]), range(N)),
    **{f.__name__: f for f in (rotations, zz_feature_map, functions_of_angles, slices, adjoints, controls)},
    **{f.__name__: f for f in (many_gates, excitations, pauli_rotations)},
}


def with_generic_ends(body, x, w):
    """`body` between layers that make every amplitude and every phase of it count."""
    if body is not BODIES["BasisState"]:
        for wire in range(N):
            qml.RX(0.4 + 0.3 * wire, wire)
            qml.RZ(0.7 - x[wire], wire)
    body(x, w)
    for wire in range(N):
        qml.RZ(0.2 * wire, wire)
        qml.RX(1.1 - x[wire] * w[1, wire, 2], wire)
        qml.CNOT([wire, (wire + 1) % N])
    return qml.expval(qml.Z(0)), qml.expval(0.5 * qml.X(1) @ qml.Y(3) - 2.0 * qml.Z(2)), qml.expval(qml.Y(3) + qml.I(0))


@pytest.mark.parametrize("name", BODIES)
def test_values_and_gradients_are_those_of_default_qubit(name):
    function = functools.partial(with_generic_ends, BODIES[name])
    circuit = lower(function, SHAPES)
    generator = torch.Generator().manual_seed(5)
    x, w = (torch.empty(s, dtype=torch.float64).uniform_(-3, 3, generator=generator) for s in SHAPES.values())
    ours, theirs = ([value.clone().requires_grad_() for value in (x, w)] for _ in range(2))
    found = simulate(circuit.program, {"x": ours[0][None, None]}, {"w": ours[1][None]}, circuit.observables)[0, 0]
    node = qml.QNode(function, qml.device("default.qubit", wires=N), interface="torch", diff_method="backprop")
    expected = torch.stack(list(node(*theirs)))
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=0)
    mix = torch.tensor([1.0, -0.7, 0.4], dtype=torch.float64)
    gradients = [
        torch.autograd.grad(values @ mix, given, allow_unused=True, materialize_grads=True)
        for values, given in ((found, ours), (expected, theirs))
    ]
    for mine, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-9, rtol=0)


def test_numpy_and_torch_functions_give_the_same_program():
    in_numpy, in_torch = (functools.partial(functions_of_angles, lib=lib) for lib in (np, torch))
    assert lower(in_numpy, SHAPES).program.hash == lower(in_torch, SHAPES).program.hash


# -- arguments, wires, read-out ----------------------------------------------------------------------------------------


def test_first_argument_is_data_and_the_others_weights_unless_told():
    def circuit(x, a, b, repeats=2):
        for _ in range(repeats):
            qml.RX(x * a[0], 0)
            qml.CRY(b, [0, 1])

    shapes = {"x": (), "a": (2,), "b": ()}
    program = lower(circuit, shapes).program
    assert (program.inputs, [spec.name for spec in program.weights]) == ((("x", ()),), ["a", "b"])
    assert program.count_gates() == {"rx": 2, "cry": 2}
    # a multiplies an input, so it is linear; a controlled rotation takes two turns to come back
    assert [spec.period for spec in program.weights] == [None, pytest.approx(4 * math.pi)]
    assert [name for name, _ in lower(circuit, shapes, inputs=("a", "b")).program.inputs] == ["a", "b"]
    assert lower(circuit, shapes, inputs="b").program.inputs == (("b", ()),)


def test_periods_survive_decomposition():
    def circuit(a, b, c):
        qml.Hadamard(0)
        qml.SingleExcitation(a, [0, 1])
        qml.ControlledPhaseShift(b, [0, 1])
        qml.U3(c, 0.1, 0.2, 1)

    specs = lower(circuit, {"a": (), "b": (), "c": ()}, inputs=()).program.weights
    assert [spec.period for spec in specs] == pytest.approx([4 * math.pi, 2 * math.pi, 2 * math.pi])


@pytest.mark.parametrize(
    ("labels", "options", "expected"),
    [
        ([1, 0], {}, (1, 0)),
        (["b", "a"], {}, (0, 1)),
        ([7, 3], {}, (0, 1)),
        ([0, 2], {}, (0, 1)),
        ([0, 2], {"n_wires": 3}, (0, 2)),
        (list(np.array([1, 0])), {}, (1, 0)),
        ([2, 1], {"n_wires": 5}, (2, 1)),
    ],
)
def test_wire_labels_become_numbers(labels, options, expected):
    def circuit(x):
        qml.CNOT(labels)

    program = lower(circuit, {"x": ()}, **options).program
    assert program.gates[0].wires == expected
    assert program.n_wires == options.get("n_wires", 2)


def test_a_qnode_keeps_the_order_of_its_device():
    @qml.qnode(qml.device("default.qubit", wires=["a", "b", "c"]))
    def node(x):
        qml.CRX(x, ["c", "a"])
        return qml.expval(qml.Z("b") @ qml.X("c"))

    circuit = lower(node, {"x": ()})
    assert (circuit.name, circuit.program.n_wires, circuit.program.gates[0].wires) == ("node", 3, (2, 0))
    assert circuit.observables == (((1.0, ((1, "Z"), (2, "X"))),),)


def test_without_a_return_value_z_is_read_on_every_wire():
    assert lower(rotations, SHAPES).observables == tuple(pauli_z(wire) for wire in range(N))


def test_sums_of_pauli_words_are_observables():
    def circuit(x):
        qml.RX(x, 0)
        return [qml.expval(0.5 * qml.Z(0) - 2 * qml.X(1) @ qml.Y(0) + 3 * qml.I(0)), qml.expval(qml.Z(1))]

    first, second = lower(circuit, {"x": ()}).observables
    assert sorted(first) == [(-2.0, ((0, "Y"), (1, "X"))), (0.5, ((0, "Z"),)), (3.0, ())]
    assert second == pauli_z(1)


def test_the_function_is_called_once():
    calls = []
    lower(lambda x: (calls.append(1), qml.RX(x, 0))[:0], {"x": ()})
    assert calls == [1]


# -- refusals ----------------------------------------------------------------------------------------------------------


def measured_midway(x):
    qml.RX(x[0], 0)
    qml.cond(qml.measure(0), qml.X)(1)


def branches(x):
    if x[0] > 0:
        qml.X(0)


def compares(x):
    qml.RX(x[1], 0)
    if x[0] == 0:
        qml.X(0)


def freezes(x):
    qml.RX(math.sin(x[0]), 0)


@qml.transforms.merge_rotations
@qml.qnode(qml.device("default.qubit"))
def transformed(x):
    qml.RX(x[0], 0)
    return qml.expval(qml.Z(0))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (measured_midway, r"gate 'MidMeasure.*' on wires \[0\] has no decomposition"),
        (branches, "circuit 'branches', called once with symbols for numbers failed: '>' not supported"),
        (compares, "turns the angle x.0. into a plain number"),
        (freezes, "turns the angle x.0. into a plain number"),
        (transformed, "circuit 'transformed' carries PennyLane transforms"),
        (lambda x: qml.AmplitudeEmbedding(x, [0, 1]), "failed in gate 'AmplitudeEmbedding'"),
        (lambda x: qml.StatePrep(x, [0, 1]), "decomposing 'StatePrep' on wires .0, 1. failed"),
        (lambda x: qml.AmplitudeDamping(0.1, 0), "gate 'AmplitudeDamping' on wires .0. has no decomposition"),
        (lambda x: qml.RX(x[0], 0) and qml.probs(wires=0), "returns ProbabilityMP"),
        (lambda x: qml.RX(x[0], 0) and qml.expval(qml.Projector([0], 0)), "an observable is a Pauli word"),
        (lambda x: qml.RX(x[0], 0) and 3, "returns int"),
        (lambda x: qml.RX(x[0], 0), "returns RX"),
        (lambda x: qml.RX(torch.erf(x)[0], 0), "torch.erf is not known for arrays of angles"),
        (lambda x: qml.RX(torch.erf(x[0]), 0), "torch.erf is not known for angles"),
        (lambda x: qml.RX(x, 0), "an angle must be a number"),
        (lambda x: qml.QubitUnitary(np.array([[1, 0], [0, 1]]) * x[0], 0), "gate 'QubitUnitary'"),
        (lambda x: None, "acts on the wires"),
        (lambda x, w: qml.RX(w, 0), r"argument 'w' needs a shape, as in  shapes=\{'w'"),
        (lambda y: qml.RX(y, 0), "argument 'y' needs a shape"),
        (lambda z=0.1: qml.RX(z, 0), "has arguments z; shapes names 'x'"),
        (lambda *x: qml.RX(x[0], 0), "must be an ordinary named argument"),
    ],
)
def test_what_a_program_cannot_hold_is_refused_with_gate_and_reason(function, reason):
    with pytest.raises(CircuitError, match=reason):
        lower(function, {"x": (4,)})


def test_too_few_wires_and_unknown_inputs_are_refused():
    with pytest.raises(CircuitError, match=r"acts on the wires \[0, 1, 2, 3\]"):
        lower(rotations, SHAPES, n_wires=3)
    with pytest.raises(CircuitError, match=r"has arguments x, w; inputs names 'xs' \(did you mean 'x'\?\)"):
        lower(rotations, SHAPES, inputs=("xs",))
