"""Spectra against numpy's and PennyLane's transforms of what circuits really give, and the surrogates built on them."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qfedfm.data import from_arrays
from qfedfm.errors import CircuitError, ConfigurationError
from qfedfm.evidence import fourier_coefficients, fourier_surrogate, spectrum
from qfedfm.evidence.fourier import fourier_kernel
from qfedfm.evidence.surrogate import _share
from qfedfm.heads import Linear, Variational
from qfedfm.quantum import Circuit, Gate, assemble, load, pauli_z, simulate, z_on_every_wire
from qfedfm.quantum.expr import Expr
from qfedfm.quantum.gates import GATES

X, W = Expr("input", ("x", 0)), [Expr("weight", ("w", i)) for i in range(4)]


def uploads(*gates, weights=4):
    """One input that enters through these gates, a rotation by a weight between any two."""
    slots, made = list(W[:weights]), []
    for i, (name, wires, slot) in enumerate(gates):
        slots.append(slot)
        made += [Gate(name, wires, (len(slots) - 1,)), Gate("ry", (wires[-1],), (i % weights,))]
    return Circuit(assemble(2, made, slots, {"x": (1,)}, {"w": (weights,)}), z_on_every_wire(2))


def on_a_line(circuit, weights, points):
    inputs = {"x": torch.from_numpy(points).reshape(1, -1, 1)}
    return simulate(circuit.program, inputs, {"w": weights.reshape(1, -1)}, circuit.observables)[0].T.numpy()


def test_coefficients_are_numpys_transform_of_the_output():
    circuit = uploads(("rx", (0,), X), ("rz", (1,), 2 * X), ("cp", (0, 1), X), ("rx", (1,), X))
    weights = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = fourier_coefficients(circuit, {"w": weights})
    assert found.shape == (3, 2, 11)  # 1 + 2 + 1 + 1 on either side
    for c in range(3):
        values = on_a_line(circuit, weights[c], np.arange(64) * 2 * np.pi / 64)
        transform = np.fft.fft(values, norm="forward")
        np.testing.assert_allclose(found[c, :, :6], transform[:, :6], atol=1e-12)
        np.testing.assert_allclose(found[c, :, 6:], transform[:, -5:], atol=1e-12)
        np.testing.assert_allclose(transform[:, 6:-5], 0, atol=1e-12)


def test_coefficients_are_pennylanes():
    weights = np.random.default_rng(0).normal(size=(2, 2, 3))

    @qml.qnode(qml.device("default.qubit", wires=2))
    def circuit(x):
        for layer in weights:
            for wire in range(2):
                qml.RX(x[wire], wire)
                qml.Rot(*layer[wire], wire)
            qml.CNOT((0, 1))
        return qml.expval(qml.Z(1))

    expected = qml.fourier.coefficients(lambda x: circuit(x), 2, [2, 2])
    slots = [Expr("input", ("x", i)) for i in range(2)] + [Expr("weight", ("w", i)) for i in range(12)]
    gates = []
    for layer in range(2):
        for wire in range(2):
            own = 2 + 6 * layer + 3 * wire
            gates.append(Gate("rx", (wire,), (wire,)))
            gates += [Gate(name, (wire,), (own + k,)) for k, name in enumerate(("rz", "ry", "rz"))]
        gates.append(Gate("cx", (0, 1)))
    ours = Circuit(assemble(2, gates, slots, {"x": (2,)}, {"w": (12,)}), (pauli_z(1),))
    found = fourier_coefficients(ours, {"w": torch.from_numpy(weights.reshape(1, 12))})
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-12)


@st.composite
def linear_circuits(draw):
    """Two inputs enter three qubits by any gates, with whole factors and weights before and after."""
    slots = [Expr("weight", ("w", i)) for i in range(4)]
    gates = [Gate("ry", (i,), (i,)) for i in range(3)]
    turning = [name for name, kind in GATES.items() if kind.angles]
    fixed = ["h", "cx", "cz", "swap", "s", "ccx"]
    for _ in range(draw(st.integers(1, 4))):
        name, still = draw(st.sampled_from(turning)), draw(st.sampled_from(fixed))
        a, b = draw(st.integers(-2, 2)), draw(st.integers(-1, 1))
        slots.append(a * Expr("input", ("x", 0)) + b * Expr("input", ("x", 1)) - W[3])
        wires = draw(st.permutations(range(3)))
        gates.append(Gate(name, tuple(wires[: GATES[name].wires]), (len(slots) - 1,)))
        gates.append(Gate(still, tuple(wires[: GATES[still].wires])))
        gates.append(Gate("rx", (wires[0],), (draw(st.integers(0, 2)),)))
    return Circuit(assemble(3, gates, slots, {"x": (2,)}, {"w": (4,)}), z_on_every_wire(3))


@given(linear_circuits(), st.integers(0, 999))
@settings(max_examples=40)
def test_no_random_circuit_leaves_its_spectrum(circuit, seed):
    # half-whole gaps of controlled rotations become whole on a circle of 4 pi
    weights = torch.randn(4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    found = spectrum(circuit, {"w": weights})
    assert found.complete
    assert (np.abs(found.frequencies) <= found.bound + 1e-9).all()
    points = torch.arange(64, dtype=torch.float64) * (4 * math.pi / 64)  # frequencies up to 16
    grid = torch.cartesian_prod(points, points)[None]
    values = simulate(circuit.program, {"x": grid}, {"w": weights[None]}, circuit.observables)[0]
    power = np.fft.fft2(values.reshape(64, 64, 3).numpy(), axes=(0, 1), norm="forward")
    doubled = np.round(2 * found.frequencies).astype(int) % 64
    for sign in (1, -1):
        power[(sign * doubled[:, 0]) % 64, (sign * doubled[:, 1]) % 64] = 0
    assert np.abs(power).max() < 1e-12


@given(linear_circuits(), st.integers(0, 999))
@settings(max_examples=20)
def test_the_kernel_is_the_sum_over_the_spectrum(circuit, seed):
    generator = torch.Generator().manual_seed(seed)
    weights = {"w": torch.randn(4, dtype=torch.float64, generator=generator)}
    a, b = (torch.randn(3, 2, dtype=torch.float64, generator=generator) for _ in range(2))
    found = spectrum(circuit, weights)
    pairs = np.where(found.frequencies.any(1), 2, 1) * found.ways
    apart = (a[:, None] - b).numpy() @ found.frequencies.T
    np.testing.assert_allclose(fourier_kernel(circuit, weights, a, b), np.cos(apart) @ pairs, atol=1e-9)
    assert pairs.sum() == pytest.approx(1)


@pytest.mark.parametrize("uploads_", [1, 2, 3])
def test_frequencies_of_repeated_pauli_uploads_are_binomial(uploads_):
    # schuld, sweke and meyer 2021: r Pauli rotations give the whole numbers up to r; 4^r ways, (2r choose r + w) each
    circuit = uploads(*[("rx", (0,), X)] * uploads_, weights=4)
    one = Circuit(circuit.program, (pauli_z(0),))
    found = spectrum(one, {"w": torch.zeros(4)})
    assert found.frequencies.ravel().tolist() == list(range(uploads_ + 1))
    expected = [math.comb(2 * uploads_, uploads_ + w) / 4**uploads_ for w in range(uploads_ + 1)]
    np.testing.assert_allclose(found.ways, expected)
    assert found.bound == [uploads_]


def test_weights_that_scale_data_set_the_frequencies():
    circuit = uploads(("rx", (0,), W[3] * X), ("rx", (0,), X))
    found = spectrum(Circuit(circuit.program, (pauli_z(0),)), {"w": torch.tensor([0.1, 0.2, 0.3, 0.7])})
    np.testing.assert_allclose(sorted(np.abs(found.frequencies.ravel())), [0, 0.3, 0.7, 1, 1.7], atol=1e-6)
    with pytest.raises(CircuitError, match="not whole numbers"):
        fourier_coefficients(circuit, {"w": torch.tensor([[0.1, 0.2, 0.3, 0.7]])})


def test_only_what_reaches_an_observable_has_frequencies():
    circuit = uploads(("rx", (0,), X), ("rx", (1,), 3 * X))
    assert spectrum(Circuit(circuit.program, (pauli_z(0),)), {"w": torch.zeros(4)}).bound == [1]
    assert spectrum(circuit, {"w": torch.zeros(4)}).bound == [4]


@pytest.mark.parametrize("angle", [X * X, X.sin(), 1 / (X + 3)])
def test_angles_that_are_not_linear_are_refused(angle):
    with pytest.raises(CircuitError, match="not linear in the inputs"):
        spectrum(uploads(("rx", (0,), angle)), {"w": torch.zeros(4)})
    with pytest.raises(CircuitError, match="not linear in the inputs"):
        fourier_surrogate(Variational("iqp"))


def test_what_has_no_grid_is_refused():
    with pytest.raises(CircuitError, match=r"has 4,782,969 points; the limit is 262,144"):
        fourier_coefficients(load("angle_ring", {"n": 14}), {"weights": torch.zeros(1, 3, 14)})
    bare = Circuit(assemble(1, [Gate("ry", (0,), (0,))], W[:1], {}, {"w": (1,)}), z_on_every_wire(1))
    with pytest.raises(CircuitError, match="takes no data"):
        fourier_coefficients(bare, {"w": torch.zeros(1, 1)})


def test_a_small_head_is_dequantised_and_its_coefficients_are_found():
    head = Variational("strongly_entangling", {"n": 2, "layers": 2}, input_scale=math.pi)
    params = head.bind(2, 2).init(3)
    params["projection.weight"] = torch.eye(2)
    params["projection.bias"] = torch.zeros(2)
    features = np.arctanh(np.random.default_rng(0).uniform(-0.999, 0.999, (600, 2)))  # angles fill the period
    found = fourier_surrogate(head, features, params, queries=200)
    assert found.dequantised
    assert found.verdict.startswith("Dequantised: a classical Fourier series, fitted to 200 answers of the head")
    assert "criterion: with 95 % confidence relative squared error at most 0.01" in found.verdict
    assert found.error.high < 1e-12
    assert len(found.spectrum.frequencies) == 5
    circuit = head.resolve()
    exact = fourier_coefficients(circuit, {"weights": params["circuit.weights"][None]})[0]  # (observables, 3, 3)
    readout = params["readout.weight"].double() - params["readout.weight"].double().mean(0)
    bias = params["readout.bias"].double() - params["readout.bias"].double().mean()
    places = found.spectrum.frequencies.astype(int)
    expected = exact[:, places[:, 0], places[:, 1]].T @ readout.T.to(exact.dtype)
    expected[0] += bias
    torch.testing.assert_close(found.coefficients(), expected, atol=1e-7, rtol=0)
    scores = found.predict(features)
    truth = head.bind(2, 2).apply({k: v[None] for k, v in params.items()}, torch.from_numpy(features).float()[None])[0]
    torch.testing.assert_close(scores.float(), truth - truth.mean(1, keepdim=True), atol=1e-5, rtol=0)


def test_a_head_of_many_frequencies_is_not_reproduced_from_few_answers():
    # 2 inputs, 12 uploads each: 625 frequencies on the whole period cannot be read off 50 answers
    slots = [Expr("input", ("x", i)) for i in range(2)] + [Expr("weight", ("w", i)) for i in range(48)]
    gates = []
    for layer in range(12):
        gates += [Gate("rx", (wire,), (wire,)) for wire in range(2)]
        for wire in range(2):
            gates += [Gate("rz", (wire,), (2 + 4 * layer + wire,)), Gate("ry", (wire,), (4 + 4 * layer + wire,))]
        gates.append(Gate("cz", (0, 1)))
    program = assemble(2, gates, slots, {"x": (2,)}, {"w": (48,)})
    head = Variational(Circuit(program, z_on_every_wire(2), input_scale=math.pi))
    found = fourier_surrogate(head, np.random.default_rng(0).normal(size=(600, 2)) * 3, queries=50)
    assert not found.dequantised
    assert found.verdict.startswith("Not dequantised by this surrogate, which does not mean that none could")
    assert found.error.low > 0.01


def test_few_rows_leave_it_undecided():
    found = fourier_surrogate(Variational("angle_ring"), np.random.default_rng(0).normal(size=(300, 4)))
    assert found.error.high < 0.01
    assert not found.dequantised
    assert found.verdict.startswith("Undecided, more rows are needed")


def test_a_surrogate_takes_data_sets_and_shows_itself():
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=120)
    data = from_arrays(generator.normal(size=(120, 5)) + labels[:, None], labels)
    found = fourier_surrogate(Variational("basic_entangler", {"n": 3, "layers": 1}), data)
    assert found.scores.shape == (40, 3)
    frame = found.to_frame()
    assert frame.frequency[0] == (0.0, 0.0, 0.0)
    assert len(frame) == 14
    assert "no frequency above" in found._repr_html_()
    ax = found.plot()
    assert ax.get_ylabel() == "score of the surrogate"
    plt.close(ax.figure)


def test_the_exact_interval_of_a_share():
    # Clopper and Pearson 1934: none of n seen leaves 1 - .025^(1/n); 5 of 10 has .187 to .813
    assert _share(0, 20).high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert (_share(0, 20).low, _share(20, 20).high) == (0, 1)
    assert (_share(5, 10).low, _share(5, 10).high) == (pytest.approx(0.187, abs=5e-4), pytest.approx(0.813, abs=5e-4))


def test_wrong_arguments_are_refused():
    head, rows = Variational("angle_ring"), np.random.default_rng(0).normal(size=(60, 4))
    with pytest.raises(ConfigurationError, match="expected a Variational head"):
        fourier_surrogate(Linear(), rows)
    with pytest.raises(ConfigurationError, match="8 queries or more"):
        fourier_surrogate(head, rows[:10])
    with pytest.raises(ConfigurationError, match="tolerance between 0 and 1"):
        fourier_surrogate(head, rows, tolerance=2.0)
    with pytest.raises(ConfigurationError, match=r"not those of this head on 4 features: .*projection\.weight"):
        fourier_surrogate(head, rows, head.bind(5, 2).init(0))
    with pytest.raises(ConfigurationError, match="the data are texts"):
        fourier_surrogate(head, ("a text", "another"))
    with pytest.raises(ConfigurationError, match="finite numbers"):
        fourier_surrogate(head, np.full((60, 4), np.nan))


def test_a_surrogate_reads_as_many_features_as_its_head():
    surrogate = fourier_surrogate(Variational("strongly_entangling", {"n": 2, "layers": 1}), queries=32)
    assert surrogate.predict([[0.1, 0.2]]).shape == (1, 2)
    with pytest.raises(ConfigurationError, match="does not read 3 features"):
        surrogate.predict([[0.1, 0.2, 0.3]])
