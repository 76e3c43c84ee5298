"""The PennyLane device against default.qubit, PennyLane's own device tests, and circuits made to confuse its memory."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pennylane import numpy as pnp

import qfedfm.quantum.tape
from qfedfm.errors import CircuitError

DEVICE = "qfedfm.statevector"
SHARED = qml.device(DEVICE, wires=4)
"""One device for many tests, so that what it remembers of one circuit could spoil another."""


def f64(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def run(node: Callable[..., Any], *tensors: torch.Tensor) -> tuple[list[Any], list[Any]]:
    """Return the results of a QNode, and the gradients of a weighted sum of all their entries."""
    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    results = node(*leaves)
    several = results if isinstance(results, tuple) else (results,)
    flat = [torch.view_as_real(result) if result.is_complex() else result for result in several]
    if not any(r.requires_grad for r in flat):
        return [r.numpy() for r in flat], [np.zeros(leaf.shape) for leaf in leaves]
    total = sum((r * torch.arange(1.0, r.numel() + 1, dtype=r.dtype).reshape(r.shape)).sum() for r in flat)
    gradients = torch.autograd.grad(total, leaves, materialize_grads=True)
    return [r.detach().numpy() for r in flat], [g.numpy() for g in gradients]


def assert_as_default_qubit(circuit: Callable[..., Any], *tensors: torch.Tensor, device: Any = SHARED) -> None:
    reference = qml.QNode(circuit, qml.device("default.qubit", wires=device.wires), interface="torch")
    assert_equal(qml.QNode(circuit, device, interface="torch"), reference, *tensors)


def assert_equal(node: Callable[..., Any], reference: Callable[..., Any], *tensors: torch.Tensor) -> None:
    (values, gradients), (expected, slopes) = run(node, *tensors), run(reference, *tensors)
    assert len(values) == len(expected)
    for got, wanted in zip(values, expected, strict=True):
        assert got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, atol=1e-10, rtol=0)
    for got, wanted in zip(gradients, slopes, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-8, rtol=0)


# name: wires, function of as many angles as it has arguments before `wires`
GATES: dict[str, tuple[int, int, Callable[..., Any]]] = {
    "h": (1, 0, lambda wires: qml.H(wires)),
    "cnot": (2, 0, lambda wires: qml.CNOT(wires)),
    "toffoli": (3, 0, lambda wires: qml.Toffoli(wires)),
    "adjoint sx": (1, 0, lambda wires: qml.adjoint(qml.SX(wires))),
    "rx": (1, 1, qml.RX),
    "ry": (1, 1, qml.RY),
    "phase": (1, 1, qml.PhaseShift),
    "crz": (2, 1, qml.CRZ),
    "ising": (2, 1, qml.IsingXY),
    "pauli rotation": (3, 1, lambda a, wires: qml.PauliRot(a, "XYZ", wires)),
    "multi rz": (3, 1, qml.MultiRZ),
    "global phase": (1, 1, qml.GlobalPhase),
    "excitation": (2, 1, qml.SingleExcitation),
    "iswap": (2, 0, lambda wires: qml.ISWAP(wires)),
    "pswap": (2, 1, qml.PSWAP),
    "rot": (1, 3, qml.Rot),
    "adjoint u3": (1, 3, lambda a, b, c, wires: qml.adjoint(qml.U3(a, b, c, wires))),
    "crot": (2, 3, qml.CRot),
    "controlled rot": (3, 3, lambda a, b, c, wires: qml.ctrl(qml.Rot(a, b, c, wires[2]), wires[:2], [0, 1])),
    "power": (1, 1, lambda a, wires: qml.pow(qml.RX(a, wires), 3)),
    "product": (2, 2, lambda a, b, wires: qml.prod(qml.RX(a, wires[0]), qml.CRY(b, wires))),
    "evolution": (2, 1, lambda a, wires: qml.evolve(qml.X(wires[0]) @ qml.Y(wires[1]), a)),
    "trotter": (2, 1, lambda a, wires: qml.TrotterProduct(a * qml.Z(wires[0]) + qml.X(wires[1]), 0.3, order=2)),
    "matrix": (2, 0, lambda wires: qml.QubitUnitary(qml.matrix(qml.QFT([0, 1])), wires)),
}
MEASURED: list[Callable[[], Any]] = [
    lambda: qml.expval(qml.Z(0)),
    lambda: qml.expval(qml.X(1) @ qml.Y(2)),
    lambda: qml.expval(0.3 * qml.Z(0) - 2 * qml.X(1) @ qml.Z(3) + qml.I(2)),
    lambda: qml.expval(qml.Hamiltonian([0.5, -1.5], [qml.Z(3), qml.Y(0) @ qml.Y(1)])),
    lambda: qml.expval(qml.Hermitian(np.array([[1, 2j], [-2j, 3]]), 1)),
    lambda: qml.expval(qml.Projector([1, 0], [2, 0])),
    lambda: qml.var(qml.X(0) @ qml.Z(2)),
    lambda: qml.probs([2, 0]),
    lambda: qml.probs(op=qml.X(1)),
    lambda: qml.state(),
    lambda: qml.density_matrix([1, 3]),
    lambda: qml.purity([0]),
]


@st.composite
def circuits(draw: st.DrawFn) -> tuple[Callable[..., Any], torch.Tensor, torch.Tensor]:
    """Draw a circuit of the arguments x (rows, 3), broadcast, or (3,), and w (4,), and numbers for both."""
    chosen = []
    for name in draw(st.lists(st.sampled_from(sorted(GATES)), min_size=1, max_size=8)):
        size, angles, _ = GATES[name]
        wires = tuple(draw(st.permutations(range(4)))[:size])
        sources = st.one_of(st.tuples(st.just("w"), st.integers(0, 3)), st.tuples(st.just("x"), st.integers(0, 2)))
        sources |= st.tuples(st.just("constant"), st.floats(-3, 3))
        chosen.append((name, wires, [draw(sources) for _ in range(angles)]))
    measured = draw(st.lists(st.sampled_from(MEASURED), min_size=1, max_size=3))
    rows = draw(st.sampled_from([None, 1, 3]))
    # PennyLane broadcasts neither coefficients of Hamiltonians nor matrix exponents
    plain = any(name in ("trotter", "evolution") for name, _, _ in chosen)

    def circuit(x: torch.Tensor, w: torch.Tensor) -> Any:
        qml.RY(x[..., 0], 0)
        for name, wires, sources in chosen:
            values = [f64(i)[0] if source == "constant" else {"x": x, "w": w}[source][..., i] for source, i in sources]
            GATES[name][2](*values, wires=wires)
        return tuple(measurement() for measurement in measured)

    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (3,) if rows is None or plain else (rows, 3)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    return circuit, x, torch.randn(4, dtype=torch.float64, generator=generator)


@settings(max_examples=60)
@given(circuits())
def test_values_and_gradients_are_those_of_default_qubit(drawn: tuple[Callable[..., Any], Any, Any]) -> None:
    circuit, x, w = drawn
    single = qml.QNode(circuit, qml.device("default.qubit", wires=4), interface="torch")

    def row_by_row(x: torch.Tensor, w: torch.Tensor) -> Any:  # default.qubit fails for some gates that are broadcast
        if x.dim() == 1:
            return single(x, w)
        return tuple(torch.stack(parts) for parts in zip(*(single(row, w) for row in x), strict=True))

    assert_equal(qml.QNode(circuit, SHARED, interface="torch"), row_by_row, x, w)


def templates(x: Any, w: Any, v: Any) -> Any:
    qml.AngleEmbedding(x, range(4), rotation="Y")
    qml.StronglyEntanglingLayers(w, range(4))
    qml.BasicEntanglerLayers(v, [2, 0, 3], rotation=qml.RZ)
    qml.IQPEmbedding(x, range(4))
    return tuple(qml.expval(qml.Z(i)) for i in range(4))


@pytest.mark.parametrize("rows", [None, 1, 5])
def test_templates(rows: int | None) -> None:
    x = torch.randn((4,) if rows is None else (rows, 4), dtype=torch.float64)
    assert_as_default_qubit(templates, x, torch.randn(2, 4, 3).double(), torch.randn(3, 3).double())


@pytest.mark.parametrize("rows", [None, 3])
@pytest.mark.parametrize("prepared", [None, 3])
def test_prepared_states_with_gradients(rows: int | None, prepared: int | None) -> None:
    def circuit(amplitudes: Any, angle: Any) -> Any:
        qml.AmplitudeEmbedding(amplitudes, wires=[3, 1], normalize=True, pad_with=0.1)
        qml.RX(angle, 1)
        qml.CNOT([1, 0])
        qml.GlobalPhase(angle)
        return qml.state(), qml.expval(qml.X(0) @ qml.Z(3)), qml.probs([1])

    amplitudes = torch.rand((3,) if prepared is None else (prepared, 3), dtype=torch.float64) + 0.1
    assert_as_default_qubit(circuit, amplitudes, torch.rand(() if rows is None else (rows,), dtype=torch.float64))


def test_complex_and_late_state_preparations() -> None:
    def circuit(angle: Any) -> Any:
        qml.StatePrep(np.array([0.6, 0.8j, 0, 0]), [0, 2])
        qml.RY(angle[0], 2)
        qml.StatePrep(np.array([0.6, 0.8]), [1])
        qml.BasisState([1], [3])
        return qml.state()

    assert_as_default_qubit(circuit, f64(0.4))


def test_basis_states_share_one_program(monkeypatch: pytest.MonkeyPatch) -> None:
    device, count = qml.device(DEVICE, wires=4), counted(monkeypatch)
    for bits in ([0, 1, 1, 0], [1, 1, 0, 1], torch.tensor([0, 0, 1, 1])):

        def circuit(angle: Any, bits: Any = bits) -> Any:
            qml.BasisEmbedding(bits, range(4))
            qml.RX(angle[0], 1)
            return qml.state()

        assert_as_default_qubit(circuit, f64(0.3), device=device)
    assert len(count) == 1


def test_trainable_coefficients() -> None:
    def circuit(x: Any) -> Any:
        qml.RY(x[2], 0)
        qml.CNOT([0, 1])
        energy = qml.Hamiltonian(torch.stack([x[0], 0 * x[1], x[1]]), [qml.Z(0), qml.X(1), qml.Z(0) @ qml.Z(1)])
        return qml.expval(energy), qml.expval(qml.Z(1)), qml.var(qml.X(0))

    assert_as_default_qubit(circuit, f64(0.3, 0.4, 0.5))


def test_measurements_in_the_middle_are_deferred() -> None:
    def circuit(x: Any) -> Any:
        qml.RX(x[0], 0)
        outcome = qml.measure(0)
        qml.cond(outcome, qml.RY)(x[1], 1)
        return qml.expval(qml.Z(1)), qml.probs(op=outcome), qml.expval(outcome)

    assert_as_default_qubit(circuit, f64(0.3, 0.4))


def test_second_derivatives() -> None:
    x = torch.randn(4, dtype=torch.float64)
    w, v = torch.randn(1, 4, 3, dtype=torch.float64), torch.randn(1, 3, dtype=torch.float64)

    def hessian(device: Any) -> torch.Tensor:
        return torch.autograd.functional.hessian(lambda x: sum(qml.QNode(templates, device)(x, w, v)), x)

    torch.testing.assert_close(hessian(SHARED), hessian(qml.device("default.qubit")), atol=1e-8, rtol=0)


# the device's memory


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that grows with every program that is lowered from now on."""
    count: list[Any] = []
    lower = qfedfm.quantum.tape.program_of
    monkeypatch.setattr(qfedfm.quantum.tape, "program_of", lambda *args: count.append(args) or lower(*args))
    return count


def test_a_structure_is_lowered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    count, device = counted(monkeypatch), qml.device(DEVICE, wires=4)
    for rows in (2, 7, 2):
        x, w = torch.randn(rows, 4).double(), torch.randn(2, 4, 3).double()
        assert_as_default_qubit(templates, x, w, torch.randn(3, 3).double(), device=device)
    assert len(count) == 1


class Hidden(qml.operation.Operation):
    """A user's gate with state that PennyLane's description of it does not hold."""

    num_wires, ndim_params = 1, (0,)

    def __init__(self, angle: Any, wires: Any, factor: float = 1.0) -> None:
        self.factor = factor
        super().__init__(angle, wires=wires)

    def decomposition(self) -> list[Any]:
        return [qml.RX(self.factor * self.parameters[0], self.wires)]


class Entangler(qml.operation.Operation):
    """A user's entangling gate that changes its mind."""

    num_wires, num_params, angle = 2, 0, 0.3

    @staticmethod
    def compute_decomposition(wires: Any) -> list[Any]:
        return [qml.IsingXX(Entangler.angle, wires)]


def _changing(angle: float, layers: Any) -> Any:
    Entangler.angle = angle
    return qml.StronglyEntanglingLayers(layers, range(3), imprimitive=Entangler)


LAYERS = torch.linspace(0, 1, 9, dtype=torch.float64).reshape(1, 3, 3)
ALIKE: dict[str, tuple[Callable[[Any], Any], ...]] = {
    "numbers": (lambda x: qml.RX(0.3, 0), lambda x: qml.RX(0.4, 0), lambda x: qml.RX(1, 0), lambda x: qml.RX(x[0], 0)),
    "wires": (lambda x: qml.CRX(x[0], [0, 1]), lambda x: qml.CRX(x[0], [1, 0]), lambda x: qml.CRX(x[0], [0, 2])),
    "classes": (lambda x: qml.RX(x[0], 0), lambda x: qml.RY(x[0], 0), lambda x: qml.adjoint(qml.RY(x[0], 0))),
    "words": (lambda x: qml.PauliRot(x[0], "XY", [0, 1]), lambda x: qml.PauliRot(x[0], "YX", [0, 1])),
    "powers": (lambda x: qml.pow(qml.RX(x[0], 0), 2), lambda x: qml.pow(qml.RX(x[0], 0), 3)),
    "fractions": (lambda x: qml.pow(qml.RX(x[0], 0), 0.5), lambda x: qml.pow(qml.RX(x[0], 0), 0.25)),
    "control values": tuple(
        (lambda x, v=v: qml.ctrl(qml.RX(x[0], 2), [0, 1], control_values=v)) for v in ([0, 1], [1, 0], [1, 1])
    ),
    "ranges": tuple((lambda x, r=r: qml.StronglyEntanglingLayers(LAYERS, range(3), ranges=[r])) for r in (1, 2)),
    "entanglers": tuple(
        (lambda x, gate=g: qml.StronglyEntanglingLayers(LAYERS, range(3), imprimitive=gate)) for g in (qml.CZ, qml.CNOT)
    ),
    "a user's entangler": tuple((lambda x, a=a: _changing(a, LAYERS)) for a in (0.3, 0.7)),
    "rotations": tuple(
        (lambda x, gate=g: qml.BasicEntanglerLayers(LAYERS[0], range(3), rotation=gate)) for g in (qml.RX, qml.RZ)
    ),
    "axes": tuple((lambda x, axis=a: qml.AngleEmbedding(x, range(3), rotation=axis)) for a in "XYZ"),
    "seeds": tuple((lambda x, s=s: qml.RandomLayers(LAYERS[0], range(3), seed=s)) for s in (1, 2)),
    "hidden state": tuple((lambda x, f=f: Hidden(x[0], 0, f)) for f in (1.0, 2.0)),
    "matrices": tuple((lambda x, a=a: qml.QubitUnitary(qml.matrix(qml.RX(a, 0)), 0)) for a in (0.1, 0.2)),
    "operands": (
        lambda x: qml.prod(qml.RX(x[0], 0), qml.RY(x[1], 0)),
        lambda x: qml.prod(qml.RY(x[1], 0), qml.RX(x[0], 0)),
        lambda x: qml.prod(qml.RX(x[1], 0), qml.RY(x[0], 0)),
    ),
    "generators": tuple((lambda x, c=c: qml.evolve(c * qml.X(0) @ qml.Z(1), x[0])) for c in (1.0, 2.0)),
    "Trotter steps": tuple(
        (lambda x, n=n: qml.TrotterProduct(qml.X(0) + 0.5 * qml.Z(0), 0.7, n=n, order=2)) for n in (1, 2)
    ),
    "Trotter terms": tuple(
        (lambda x, c=c: qml.TrotterProduct(qml.X(0) + c * qml.Z(0), 0.7, order=2)) for c in (0.5, 0.6)
    ),
    "phases": (lambda x: qml.GlobalPhase(x[0]), lambda x: qml.GlobalPhase(x[1]), lambda x: qml.I(0)),
    "selected": tuple((lambda x, a=a: qml.Select([qml.RX(a, 2), qml.RY(x[1], 2)], control=[0])) for a in (0.1, 0.2)),
    "nearly equal": (lambda x: qml.RX(0.3, 0), lambda x: qml.RX(0.3 + 1e-9, 0)),  # PennyLane's == calls them equal
}


@pytest.mark.parametrize("name", ALIKE)
def test_circuits_alike_but_for_one_thing_are_not_confused(name: str) -> None:
    device = qml.device(DEVICE, wires=3)
    x = f64(0.3, 0.5, 0.7)
    for _ in range(2):
        for operator in ALIKE[name]:

            def circuit(x: Any, operator: Callable[[Any], Any] = operator) -> Any:
                for wire in range(3):
                    qml.RY(0.5 + wire, wire)
                operator(x)
                return qml.state()

            assert_as_default_qubit(circuit, x, device=device)


def test_measurements_and_coefficients_are_not_confused() -> None:
    device = qml.device(DEVICE, wires=3)
    observables = [qml.Z(0), qml.Z(1), 2 * qml.Z(0), 3 * qml.Z(0), qml.X(0) @ qml.Y(1), qml.Y(0) @ qml.X(1), qml.I(2)]
    observables += [qml.Hamiltonian([c, 1], [qml.Z(0), qml.X(1)]) for c in (0.1, 0.2)]
    observables += [qml.Hermitian(np.diag([1.0, c]), 0) for c in (2, 3)]
    for observable in [*observables, *observables]:

        def circuit(x: Any, observable: Any = observable) -> Any:
            qml.Rot(*x, 0)
            qml.CRY(x[1], [0, 1])
            return qml.expval(observable)

        assert_as_default_qubit(circuit, f64(0.3, 0.5, 0.7), device=device)


def test_broadcast_and_plain_parameters_are_not_confused() -> None:
    def circuit(x: Any, y: Any) -> Any:
        qml.RX(x, 0)
        qml.RY(y, 0)
        return qml.expval(qml.Z(0)), qml.state()

    one, three = torch.rand((), dtype=torch.float64), torch.rand(3, dtype=torch.float64)
    device = qml.device(DEVICE, wires=1)
    for x, y in [(one, one), (one, three), (three, one), (three, three), (three[:1], one), (one, three[:1])]:
        assert_as_default_qubit(circuit, x, y, device=device)


def test_memory_is_bounded() -> None:
    device = qml.device(DEVICE, wires=1)
    for power in range(2, qfedfm.quantum.tape.KEPT + 50):
        device.execute(qml.tape.QuantumScript([qml.pow(qml.RX(0.1, 0), power)], [qml.expval(qml.Z(0))]))
    assert len(device._lowering._lowered) <= qfedfm.quantum.tape.KEPT
    assert len(device._lowering._symbolic) <= qfedfm.quantum.tape.KEPT


# wires, precision, shots


@pytest.mark.parametrize("wires", [["q", "a", 7], [7, "q", "a"], None])
def test_wire_labels(wires: Any) -> None:
    def circuit(x: Any) -> Any:
        qml.RX(x[0], "a")
        qml.CRY(x[1], ["a", "q"])
        qml.IsingXX(x[2], [7, "q"])
        return qml.state(), qml.probs(["q", "a"]), qml.expval(qml.Z("q") @ qml.X(7))

    assert_as_default_qubit(circuit, f64(0.3, 0.5, 0.7), device=qml.device(DEVICE, wires=wires))


def test_only_used_wires_are_simulated() -> None:
    @qml.qnode(qml.device(DEVICE, wires=60))
    def circuit(x: float) -> Any:
        qml.RX(x, 41)
        qml.CNOT([41, 7])
        return qml.expval(qml.Z(7)), qml.probs([7, 41])

    value, probabilities = circuit(0.3)
    assert value == pytest.approx(np.cos(0.3), abs=1e-12)
    assert probabilities == pytest.approx([np.cos(0.15) ** 2, 0, 0, np.sin(0.15) ** 2], abs=1e-12)


def test_unknown_wires_are_refused() -> None:
    circuit = qml.QNode(lambda: qml.expval(qml.Z(5)), SHARED)
    with pytest.raises(qml.exceptions.WireError, match=r"wires \[0, 1, 2, 3\].*\[5\]"):
        circuit()


@pytest.mark.parametrize(
    ("angles", "expected"),
    [
        (torch.tensor([0.1, 0.2]), torch.float32),
        (f64(0.1, 0.2), torch.float64),
        ([torch.tensor(0.1), 0.2], torch.float32),
        ([torch.tensor(0.1), f64(0.2)[0]], torch.float64),
        (np.array([0.1, 0.2]), np.float64),
        (np.array([0.1, 0.2], dtype=np.float32), np.float32),
        ([0.1, 0.2], np.float64),
        ([1, 2], np.float64),
    ],
)
def test_precision_follows_the_parameters(angles: Any, expected: Any) -> None:
    @qml.qnode(SHARED, diff_method=None)
    def circuit() -> Any:
        qml.RX(angles[0], 0)
        qml.RY(angles[1], 0)
        return qml.expval(qml.Z(0)), qml.state()

    device_result = SHARED.execute(qml.workflow.construct_tape(circuit)())
    assert device_result[0].dtype == expected
    assert "complex64" in str(device_result[1].dtype) or expected in (torch.float64, np.float64)
    assert float(device_result[0]) == pytest.approx(np.cos(float(angles[0])) * np.cos(float(angles[1])), abs=1e-6)


def sampled(seed: int | None, shots: Any, device: str = DEVICE) -> Any:
    @qml.set_shots(shots)
    @qml.qnode(qml.device(device, wires=3, seed=seed))
    def circuit(x: Any) -> Any:
        qml.RY(x, 0)
        qml.CNOT([0, 1])
        return qml.sample(wires=[0, 1]), qml.counts(wires=[1]), qml.expval(qml.Z(0)), qml.probs([0]), qml.var(qml.X(2))

    return circuit(1.0)


def test_shots_repeat_with_the_seed() -> None:
    first, again, other = (sampled(seed, 50)[0] for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(sampled(None, 50)[0], sampled(None, 50)[0])  # equal by chance: below 1e-12


def test_shots_follow_the_exact_probabilities() -> None:
    # 20,000 shots, seed 3: five standard deviations of a mean of outcomes +-1 are .035, of a probability .018
    samples, counts, value, probabilities, variance = sampled(3, 20_000)
    assert samples.shape == (20_000, 2)
    assert np.array_equal(samples[:, 0], samples[:, 1])
    one = np.sin(0.5) ** 2
    assert samples[:, 0].mean() == pytest.approx(one, abs=0.018)
    assert counts["1"] / 20_000 == pytest.approx(one, abs=0.018)
    assert sum(counts.values()) == 20_000
    assert value == pytest.approx(np.cos(1.0), abs=0.035)
    assert probabilities == pytest.approx([1 - one, one], abs=0.018)
    assert variance == pytest.approx(1, abs=0.035)


def test_shot_vectors_and_broadcasting_have_pennylanes_shapes() -> None:
    mine, theirs = (sampled(3, (10, 20), device) for device in (DEVICE, "default.qubit"))
    assert [[np.shape(part) for part in parts] for parts in mine] == [[np.shape(p) for p in parts] for parts in theirs]

    @qml.set_shots(100)
    @qml.qnode(qml.device(DEVICE, wires=1, seed=1))
    def circuit(x: Any) -> Any:
        qml.RX(x, 0)
        return qml.expval(qml.Z(0))

    assert circuit(np.array([0.0, np.pi])).tolist() == [1.0, -1.0]


# derivatives in other ways, and other interfaces


def energy(x: Any, y: Any) -> Any:
    qml.RX(x[0], 0)
    qml.CRY(x[1], [0, 1])
    qml.StronglyEntanglingLayers(y, range(2))
    return qml.expval(qml.Z(0) + 0.5 * qml.X(1)), qml.probs([1])


def loss(node: Any, x: Any, y: Any) -> Any:
    value, probabilities = node(x, y)
    return value**2 + probabilities[1]


@pytest.mark.parametrize("method", ["best", "backprop", "adjoint", "device", "parameter-shift", "finite-diff"])
def test_autograd_gradients(method: str) -> None:
    x, y = pnp.array([0.3, 0.5]), pnp.array(np.linspace(0, 1, 6).reshape(1, 2, 3))
    reference = qml.grad(lambda *args: loss(qml.QNode(energy, qml.device("default.qubit")), *args), argnums=[0, 1])
    mine = qml.grad(lambda *args: loss(qml.QNode(energy, SHARED, diff_method=method), *args), argnums=[0, 1])
    for got, expected in zip(mine(x, y), reference(x, y), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-5 if method == "finite-diff" else 1e-10)


def test_autograd_gradients_of_a_state() -> None:
    # real and imaginary parts, whose cotangents autograd and torch conjugate differently
    def circuit(x: Any) -> Any:
        qml.Rot(x[0], x[1], x[2], 0)
        return qml.state()

    def cost(node: Any, x: Any) -> Any:
        state = node(x)
        return qml.math.real(state[0] * qml.math.conj(state[1]) * (1 + 2j)) + qml.math.imag(state[1])

    def gradient(device: Any) -> Any:
        node = qml.QNode(circuit, device, diff_method="backprop")
        return qml.grad(lambda x: cost(node, x))(pnp.array([0.1, 0.2, 0.3]))

    expected = gradient(qml.device("default.qubit", wires=1))
    np.testing.assert_allclose(gradient(qml.device(DEVICE, wires=1)), expected, atol=1e-10)


@pytest.mark.parametrize("method", ["parameter-shift", "finite-diff", "best"])
def test_torch_gradients_in_other_ways(method: str) -> None:
    x, y = f64(0.3, 0.5).requires_grad_(), torch.linspace(0, 1, 6).double().reshape(1, 2, 3).requires_grad_()
    gradients = []
    for node in (qml.QNode(energy, SHARED, diff_method=method), qml.QNode(energy, qml.device("default.qubit"))):
        gradients.append(torch.autograd.grad(loss(node, x, y), (x, y)))
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_jacobians_are_those_of_parameter_shifts() -> None:
    tape = qml.tape.QuantumScript([qml.RX(0.3, 0), qml.RY(0.4, 0)], [qml.expval(qml.X(0)), qml.probs([0])])
    tapes, assemble = qml.gradients.param_shift(tape)
    expected = assemble(SHARED.execute(tapes))
    for got, wanted in zip(SHARED.compute_derivatives((tape,))[0], expected, strict=True):
        np.testing.assert_allclose(np.stack(got), np.stack(wanted), atol=1e-10)
    single = qml.tape.QuantumScript([qml.RX(0.3, 0)], [qml.expval(qml.Z(0))])
    assert SHARED.compute_derivatives((single,))[0] == pytest.approx(-np.sin(0.3), abs=1e-12)


def test_numpy_in_numpy_out() -> None:
    node, reference = (qml.QNode(energy, device) for device in (SHARED, qml.device("default.qubit")))
    x, y = np.array([0.3, 0.5]), np.ones((1, 2, 3))
    for got, expected in zip(node(x, y), reference(x, y), strict=True):
        assert isinstance(got, np.ndarray | np.floating)
        np.testing.assert_allclose(got, expected, atol=1e-12)


# what is refused, and the fallback


def _with(operator: Callable[[], Any]) -> Callable[[], Any]:
    def circuit() -> Any:
        operator()
        return qml.expval(qml.Z(0))

    return circuit


def _postselected() -> Any:
    qml.H(0)
    return qml.expval(qml.measure(0, postselect=1))


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "channel": (_with(lambda: qml.AmplitudeDamping(0.1, 0)), r"'AmplitudeDamping' on wires \[0\] is not supported"),
    "complex angle": (_with(lambda: qml.RX(0.1 + 0.2j, 0)), r"'RX' on wires \[0\].* real angles"),
    "not unitary": (_with(lambda: qml.exp(qml.X(0), -0.3)), "not unitary"),
    "observable as gate": (_with(lambda: qml.Hermitian(np.diag([1.0, 2.0]), 0)), "not supported"),
    "postselection": (_postselected, "postselection is not supported"),
    "samples without shots": (lambda: qml.sample(wires=0), "not accepted without shots"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_name_the_reason_and_the_way_out(name: str) -> None:
    circuit, message = REFUSED[name]
    with pytest.raises((qml.exceptions.DeviceError, CircuitError), match=message) as caught:
        qml.QNode(circuit, SHARED)()
    assert isinstance(caught.value, CircuitError)
    assert isinstance(caught.value, qml.exceptions.DeviceError)


def test_state_with_shots_is_refused() -> None:
    node = qml.set_shots(qml.QNode(lambda: qml.state(), SHARED), 10)
    with pytest.raises(CircuitError, match="not accepted with finite shots"):
        node()


def test_other_ways_to_measure_in_the_middle_are_refused() -> None:
    node = qml.set_shots(qml.QNode(_postselected, SHARED, mcm_method="one-shot"), 10)
    with pytest.raises(CircuitError, match="mcm_method 'one-shot' is not supported"):
        node()


def test_too_many_qubits_are_refused_before_memory_is_taken() -> None:
    with pytest.raises(CircuitError, match="at most 20 qubits; this circuit has 30"):
        qml.QNode(lambda: qml.state(), qml.device(DEVICE, wires=30))()


def test_gradients_through_matrices_are_refused_not_dropped() -> None:
    def circuit(matrix: Any) -> Any:
        qml.QubitUnitary(matrix, [0, 1])
        return qml.expval(qml.Z(0))

    matrix = torch.eye(4, dtype=torch.complex128)
    assert qml.QNode(circuit, SHARED)(matrix).item() == pytest.approx(1)
    with pytest.raises(CircuitError, match="gradient through the matrix"):
        qml.QNode(circuit, SHARED)(matrix.requires_grad_())


def test_rows_must_agree() -> None:
    def circuit(amplitudes: Any, x: Any, y: Any) -> Any:
        if amplitudes is not None:
            qml.StatePrep(amplitudes, [0], normalize=True)
        qml.RX(x, 0)
        qml.RY(y, 0)
        return qml.expval(qml.Z(0))

    for arguments in [(None, np.ones(2), np.ones(3)), (np.ones((2, 2)), np.ones(3), 0.1)]:
        with pytest.raises(Exception, match=r"rows|[Bb]roadcast"):
            qml.QNode(circuit, SHARED)(*arguments)


def test_fallback_hands_over_only_when_asked_and_counts_it() -> None:
    def circuit(x: Any) -> Any:
        qml.RX(x[0], 0)
        qml.QubitUnitary(torch.matrix_exp(1j * x[1] * torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128)), 0)
        return qml.expval(qml.Z(0)), qml.probs([0])

    device = qml.device(DEVICE, wires=2, fallback=True)
    with qml.Tracker(device) as tracker:
        assert_as_default_qubit(circuit, f64(0.3, 0.4), device=device)
    assert tracker.totals["handed_over"] == 1
    with qml.Tracker(device) as tracker:
        assert_as_default_qubit(lambda x: energy(x, LAYERS[:, :2]), f64(0.3, 0.4), device=device)
    assert "handed_over" not in tracker.totals
    with pytest.raises(CircuitError, match="fallback=True"):
        run(qml.QNode(circuit, qml.device(DEVICE, wires=2)), f64(0.3, 0.4))


def test_fallback_gives_numpy_for_numpy_and_keeps_shots_and_seed() -> None:
    results = [qml.QNode(_postselected, qml.device(DEVICE, wires=2, fallback=True))() for _ in range(2)]
    assert results == [pytest.approx(1)] * 2
    assert not isinstance(results[0], torch.Tensor)
    draws = [
        qml.set_shots(qml.QNode(_postselected_samples, qml.device(DEVICE, wires=2, seed=5, fallback=True)), 40)()
        for _ in range(2)
    ]
    assert np.array_equal(*draws)


def _postselected_samples() -> Any:
    qml.H(0)
    qml.H(1)
    qml.measure(0, postselect=1)
    return qml.sample(wires=1)


def test_fallback_under_autograd() -> None:
    def circuit(x: Any) -> Any:
        qml.DoubleExcitationPlus(x, [0, 1, 2, 3])
        qml.RX(x, 3)
        return qml.expval(qml.Z(3))

    mine = qml.grad(qml.QNode(circuit, qml.device(DEVICE, wires=4, fallback=True)))
    shifted = qml.grad(qml.QNode(circuit, qml.device("default.qubit", wires=4), diff_method="parameter-shift"))
    assert mine(pnp.array(0.3)) == pytest.approx(shifted(pnp.array(0.3)), abs=1e-10)


# existing programs with their device line changed


def classifier(device: str) -> tuple[list[float], torch.Tensor]:
    """Return losses and predictions of PennyLane's tutorial on turning QNodes into torch layers, on made-up moons."""
    generator = torch.Generator().manual_seed(0)
    angle = torch.rand(40, generator=generator) * torch.pi
    side = (torch.arange(40) % 2).float()
    x = torch.stack([angle.cos() + side, (1 - 2 * side) * angle.sin() + 0.5 * side], dim=1)
    targets = torch.nn.functional.one_hot(side.long(), 2).float()

    n_qubits = 2
    dev = qml.device(device, wires=n_qubits)

    @qml.qnode(dev)
    def qnode(inputs: Any, weights: Any) -> Any:
        qml.AngleEmbedding(inputs, wires=range(n_qubits))
        qml.BasicEntanglerLayers(weights, wires=range(n_qubits))
        return [qml.expval(qml.PauliZ(wires=i)) for i in range(n_qubits)]

    torch.manual_seed(1)
    layers = [torch.nn.Linear(2, 2), qml.qnn.TorchLayer(qnode, {"weights": (3, n_qubits)}), torch.nn.Linear(2, 2)]
    model = torch.nn.Sequential(*layers, torch.nn.Softmax(dim=1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    losses = []
    for batch in range(8):
        rows = slice(5 * batch, 5 * batch + 5)
        optimizer.zero_grad()
        value = torch.nn.L1Loss()(model(x[rows]), targets[rows])
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses, model(x).detach()


def test_torch_layer_tutorial_with_the_device_line_changed() -> None:
    (losses, predictions), (expected, reference) = classifier(DEVICE), classifier("default.qubit")
    assert losses == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(predictions, reference, atol=1e-5, rtol=0)


def parity(device: str) -> tuple[list[float], np.ndarray]:
    """Return costs and weights of PennyLane's variational classifier of parity, with its autograd optimiser."""
    dev = qml.device(device, wires=4)

    @qml.qnode(dev)
    def circuit(weights: Any, x: Any) -> Any:
        qml.BasisState(x, wires=[0, 1, 2, 3])
        for layer_weights in weights:
            for wire in range(4):
                qml.Rot(*layer_weights[wire], wires=wire)
            for wires in ([0, 1], [1, 2], [2, 3], [3, 0]):
                qml.CNOT(wires)
        return qml.expval(qml.PauliZ(0))

    generator = np.random.default_rng(0)
    bits = generator.integers(0, 2, (10, 4))
    signs = 1 - 2 * (bits.sum(1) % 2)
    weights, bias = pnp.array(0.5 * generator.normal(size=(2, 4, 3))), pnp.array(0.0)
    optimizer = qml.NesterovMomentumOptimizer(0.3)

    def cost(weights: Any, bias: Any, rows: Any) -> Any:
        return sum((circuit(weights, bits[row]) + bias - signs[row]) ** 2 for row in rows) / len(rows)

    costs = []
    for step in range(4):
        rows = [(3 * step + i) % 10 for i in range(3)]
        (weights, bias), value = optimizer.step_and_cost(lambda w, b, rows=rows: cost(w, b, rows), weights, bias)
        costs.append(float(value))
    return costs, np.asarray(weights)


def test_variational_classifier_tutorial_with_the_device_line_changed() -> None:
    (costs, weights), (expected, reference) = parity(DEVICE), parity("default.qubit")
    assert costs == pytest.approx(expected, abs=1e-10)
    np.testing.assert_allclose(weights, reference, atol=1e-8)


# PennyLane's own device tests

EXCLUDED = {
    "QubitDensityMatrix": "a mixed state has no state vector",
    "test_hessian and autograd and backprop": "for autograd, second derivatives are by parameter shifts or with torch",
    "test_custom_measurement": "expects a refusal in preprocessing; ours comes in execution, before the fallback",
}
"""Words of the names of PennyLane's device tests that are not run, and why; the same list is in docs."""


@pytest.mark.slow
@pytest.mark.parametrize("shots", ["None", "20000"])
def test_pennylanes_device_tests_pass(shots: str, tmp_path: Path) -> None:
    command = Path(sys.executable).parent / "pl-device-test"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = " and ".join(f"not ({words})" for words in EXCLUDED)
    options = ["-q", "-p", "no:cacheprovider", "-W", "ignore", "-k", words]
    done = subprocess.run(
        [command, "--device", DEVICE, "--shots", shots, *options],
        cwd=tmp_path,
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=85,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
