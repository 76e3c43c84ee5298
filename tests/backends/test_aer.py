"""Aer as a machine: exact, sampled, and with noise models from files."""

import json

import numpy as np
import pytest
from qiskit_aer.noise import (
    NoiseModel,
    ReadoutError,
    amplitude_damping_error,
    coherent_unitary_error,
    depolarizing_error,
    pauli_error,
    thermal_relaxation_error,
)

from qfedfm.backends import Aer, Exact, Session, flatten, save_noise
from qfedfm.backends.qiskit_noise import misread, read_noise
from qfedfm.errors import BackendError, ConfigurationError
from qfedfm.experiment import Experiment
from qfedfm.quantum import Gate, assemble, load
from qfedfm.quantum.expr import symbols

CIRCUIT = load("strongly_entangling", {"n": 3, "layers": 1})
OBSERVABLES = (*CIRCUIT.observables, ((0.7, ((0, "X"), (2, "Y"))), (-0.4, ((1, "Z"),)), (0.1, ())))
FLAT = flatten(CIRCUIT.program, OBSERVABLES).program
ANGLES = np.random.default_rng(1).uniform(-3, 3, (8, len(FLAT.slots)))


def run(backend, shots=None, program=FLAT, angles=ANGLES, observables=OBSERVABLES, key="k"):
    machine = backend.connect(Session(seed=5))
    compiled = machine.compile(program, observables)
    estimate = machine.estimate(compiled, len(angles), shots)
    measured = machine.collect(machine.submit(compiled, angles, shots, key))
    assert measured.cost == estimate
    return measured


def test_without_shots_and_noise_it_is_exact():
    np.testing.assert_allclose(run(Aer(shots=None)).values, run(Exact()).values, atol=1e-10)


def test_samples_have_the_spread_that_they_claim():
    # 32 values at 4000 shots; chi-square of 32 degrees of freedom stays below 63 in 999 of 1000 draws
    exact, sampled = run(Exact()), run(Aer(), 4000)
    assert (((sampled.values - exact.values) ** 2) / sampled.variances).sum() < 63
    assert (sampled.cost.circuits, sampled.cost.shots, sampled.cost.jobs) == (16, 64000, 1)
    assert sampled.shots.tolist() == [8000] * 8


def test_equal_rows_are_drawn_apart_and_equal_keys_alike():
    same = np.tile(ANGLES[:1], (4, 1))
    first = run(Aer(), 100, angles=same).values
    assert len({row.tobytes() for row in first}) == 4
    np.testing.assert_array_equal(run(Aer(), 100, angles=same).values, first)
    assert (run(Aer(), 100, angles=same, key="other").values != first).any()


def test_rows_may_have_shots_of_their_own():
    found = run(Aer(), np.array([10, 5000] * 4))
    assert found.cost.jobs == 2
    assert found.shots.tolist() == [20, 10000] * 4
    assert found.variances[1::2].mean() < found.variances[::2].mean() / 50


@pytest.mark.parametrize("shots", [None, 50])
def test_circuits_without_angles(shots):
    program = assemble(2, [Gate("x", (1,))], [], {}, {})
    measured = [((1.0, ((0, "Z"),)),), ((1.0, ((1, "Z"),)),)]
    found = run(Aer(), shots, program, np.zeros((3, 0)), measured)
    np.testing.assert_allclose(found.values, [[1, -1]] * 3, atol=1e-12)


def noisy() -> NoiseModel:
    """Every kind of error that Qiskit writes down, on all qubits and on single ones."""
    noise = NoiseModel()
    noise.add_quantum_error(amplitude_damping_error(0.2), ["sx"], [0])
    noise.add_quantum_error(thermal_relaxation_error(50, 70, 10), ["sx"], [1])
    noise.add_quantum_error(thermal_relaxation_error(50, 30, 10), ["sx"], [2])
    noise.add_all_qubit_quantum_error(pauli_error([("XY", 0.1), ("II", 0.9)]), ["cx"])
    noise.add_all_qubit_quantum_error(depolarizing_error(0.05, 1), ["h"])
    noise.add_all_qubit_quantum_error(coherent_unitary_error(np.diag([1, 1j])), ["x"])
    noise.add_all_qubit_readout_error(ReadoutError([[0.9, 0.1], [0.2, 0.8]]))
    noise.add_readout_error(ReadoutError([[1, 0], [0.05, 0.95]]), [2], warnings=False)
    return noise


def test_a_noise_model_survives_its_file(tmp_path):
    save_noise(noisy(), tmp_path / "noise.json")
    assert json.loads((tmp_path / "noise.json").read_text()).keys() == {"errors"}
    assert read_noise(tmp_path / "noise.json") == noisy()


def test_noisy_values_with_and_without_shots_agree(tmp_path):
    # Aer applies readout errors itself when it samples and leaves them to us otherwise; chi-square as above
    save_noise(noisy(), tmp_path / "noise.json")
    exact, sampled = run(Aer(shots=None, noise=tmp_path / "noise.json")), run(Aer(noise=tmp_path / "noise.json"), 4000)
    assert np.abs(exact.values - run(Exact()).values).max() > 0.1
    assert (((sampled.values - exact.values) ** 2) / sampled.variances).sum() < 63


def test_readout_error_by_hand(tmp_path):
    noise = NoiseModel()
    noise.add_readout_error(ReadoutError([[0.9, 0.1], [0.2, 0.8]]), [1])
    save_noise(noise, tmp_path / "noise.json")
    t = symbols("input", "t", (1,))
    program = assemble(2, [Gate("ry", (1,), (0,))], [t[0]], {"t": (1,)}, {})
    measured = [((1.0, ((0, "Z"),)),), ((1.0, ((1, "Z"),)),)]
    found = run(Aer(shots=None, noise=tmp_path / "noise.json"), None, program, np.array([[0.0], [np.pi]]), measured)
    np.testing.assert_allclose(found.values, [[1, 0.8], [1, -0.6]], atol=1e-12)


def test_misreading_acts_wire_by_wire():
    first, second = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.7, 0.3], [0.4, 0.6]])
    given = np.random.default_rng(0).dirichlet(np.ones(4), size=3)
    np.testing.assert_allclose(misread(given, [first, second]), given @ np.kron(first, second), atol=1e-15)


def test_files_that_are_no_noise_model(tmp_path):
    path = tmp_path / "noise.json"
    with pytest.raises(ConfigurationError, match="there is no file"):
        Aer(noise=path).check()
    with pytest.raises(BackendError, match="cannot be read as a noise model"):
        Aer(noise=path).connect(Session())
    for text in (
        "",
        "[]",
        '{"errors": [{"type": "qerror"}]}',
        '{"errors": [{"type": "roerror", "probabilities": [[2]]}]}',
    ):
        path.write_text(text)
        with pytest.raises(BackendError, match="write one with qfedfm"):
            read_noise(path)


def test_correlated_readout_has_no_exact_values(tmp_path):
    noise = NoiseModel()
    noise.add_readout_error(ReadoutError(np.eye(4)[::-1]), [0, 1])
    save_noise(noise, tmp_path / "noise.json")
    with pytest.raises(BackendError, match="several qubits together"):
        run(Aer(shots=None, noise=tmp_path / "noise.json"))


def test_an_experiment_file_names_it(tmp_path):
    text = '[backend]\nkind = "Aer"\nshots = "none"\n'
    experiment = Experiment.from_toml(text)
    assert experiment.backend == Aer(shots=None)
    assert Experiment.from_toml(experiment.to_toml()) == experiment
