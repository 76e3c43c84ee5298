"""Fake devices: no wire is mixed up, the noise is the snapshot's with its readout, the costs are the device's."""

import numpy as np
import pytest
from qiskit_ibm_runtime.fake_provider import FakeManilaV2

from qfedfm.backends import Exact, Fake, Session, flatten, usage_seconds
from qfedfm.backends.fake import devices
from qfedfm.backends.measurement import estimates
from qfedfm.backends.qiskit_noise import device_misread
from qfedfm.errors import BackendError, ConfigurationError
from qfedfm.experiment import Experiment
from qfedfm.quantum import Gate, assemble, load
from qfedfm.quantum.expr import symbols

CIRCUIT = load("strongly_entangling", {"n": 4, "layers": 2})
OBSERVABLES = (*CIRCUIT.observables, ((0.7, ((0, "X"), (3, "Y"))), (-0.4, ((1, "Z"),)), (0.1, ())))
FLAT = flatten(CIRCUIT.program, OBSERVABLES).program
ANGLES = np.random.default_rng(1).uniform(-3, 3, (6, len(FLAT.slots)))
RAW = Fake("manila", shots=None, mitigated=False)


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QFEDFM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def run(backend, shots=None, program=FLAT, angles=ANGLES, observables=OBSERVABLES):
    machine = backend.connect(Session(seed=5))
    compiled = machine.compile(program, observables)
    estimate = machine.estimate(compiled, len(angles), shots)
    measured = machine.collect(machine.submit(compiled, angles, shots, "k"))
    assert measured.cost == estimate
    return measured


@pytest.mark.parametrize("device", ["manila", "essex", "fractional", "torino", "brisbane"])
def test_without_noise_it_is_exact_wherever_the_wires_lie(device):
    found = run(Fake(device, shots=None, noise=False, transpilations=2))
    exact = run(Exact())
    np.testing.assert_allclose(found.values, exact.values, atol=1e-10)
    assert len(set(np.round(np.abs(exact.values[0]), 3))) == len(OBSERVABLES)  # no two could be exchanged unnoticed


def test_wires_that_are_measured_without_a_gate():
    t = symbols("input", "t", (1,))
    program = assemble(3, [Gate("ry", (1,), (0,))], [t[0]], {"t": (1,)}, {})
    measured = [((1.0, ((wire, "Z"),)),) for wire in range(3)] + [((1.0, ((0, "X"),)),)]
    found = run(Fake("torino", shots=None, noise=False), None, program, np.array([[0.5], [2.0]]), measured)
    np.testing.assert_allclose(found.values, [[1, np.cos(a), 1, 0] for a in (0.5, 2.0)], atol=1e-10)


def test_noisy_values_are_those_of_the_snapshots_own_sampler_readout_included():
    # the snapshot's `run` builds its own noise model of the whole device and lets Aer sample 20,000 shots a circuit;
    # 30 values, chi-square of 30 degrees of freedom below 60 in 999 of 1000 draws
    machine = RAW.connect(Session())
    compiled = machine.compile(FLAT, OBSERVABLES)
    noisy = machine.collect(machine.submit(compiled, ANGLES, None, "k")).values
    shots, frequencies = 20_000, []
    for setting, circuit in zip(compiled.readings.settings, compiled.transpiled.circuits, strict=True):
        bound = [circuit.assign_parameters({p: row[p.index] for p in circuit.parameters}) for row in ANGLES]
        result = FakeManilaV2().run(bound, shots=shots, seed_simulator=3).result()
        found = np.zeros((len(ANGLES), 2 ** len(setting.wires)))
        for row in range(len(ANGLES)):
            for bits, times in result.get_counts(row).items():
                found[row, int(bits, 2)] = times / shots
        frequencies.append(found)
    sampled, variances = estimates(compiled.readings, frequencies, np.full(len(ANGLES), shots))
    assert (((sampled - noisy) ** 2) / variances).sum() < 60
    unread = run(Fake("manila", shots=None, noise=False)).values
    assert (((sampled - unread) ** 2) / variances).sum() > 1000


def test_both_readout_errors_of_the_calibration_are_used():
    # a wire in |0> and in |1> is misread with different probabilities
    t = symbols("input", "t", (1,))
    program = assemble(1, [Gate("rx", (0,), (0,))], [t[0]], {"t": (1,)}, {})
    machine = RAW.connect(Session())
    compiled = machine.compile(program, [((1.0, ((0, "Z"),)),)])
    (qubit,) = machine.layout(compiled)
    read = machine.collect(machine.submit(compiled, np.array([[0.0], [np.pi]]), None, "k")).values[:, 0]
    told = FakeManilaV2().properties().qubit_property(qubit)
    p10, p01 = told["prob_meas1_prep0"][0], told["prob_meas0_prep1"][0]
    assert abs(p10 - p01) > 0.005
    np.testing.assert_allclose(read, [1 - 2 * p10, -1 + 2 * p01], atol=2e-3)  # gate errors are below .001
    (matrix,) = device_misread(FakeManilaV2(), [qubit])
    np.testing.assert_allclose(matrix, [[1 - p10, p10], [p01, 1 - p01]])


def test_samples_have_the_spread_that_they_claim():
    # 30 values, chi-square as above
    exact, sampled = run(RAW), run(RAW, 4000)
    assert (((sampled.values - exact.values) ** 2) / sampled.variances).sum() < 60
    np.testing.assert_array_equal(run(RAW, 4000).values, sampled.values)
    rows = run(RAW, np.array([10, 4000] * 3))
    assert rows.shots.tolist() == [20, 8000] * 3


def test_costs_are_those_of_the_device():
    machine = RAW.connect(Session())
    compiled = machine.compile(FLAT, CIRCUIT.observables)
    cost, transpiled = machine.estimate(compiled, 528, 1024), compiled.transpiled
    assert (cost.circuits, cost.shots, cost.jobs) == (528, 528 * 1024, 1)
    assert (cost.depth, cost.two_qubit_gates) == (transpiled.depth, transpiled.two_qubit_gates)
    assert cost.qpu_seconds == usage_seconds(528 * 1024, transpiled.duration_s)
    assert cost.qpu_seconds == pytest.approx(140, rel=0.05)  # published for 16 rows, 4 qubits, 2 layers
    assert 0.6 < cost.fidelity < 0.85
    assert machine.estimate(compiled, 528, None).qpu_seconds == 0


def test_what_ran_is_in_the_metadata():
    about = run(RAW, 10).metadata
    assert about["calibrated"] == FakeManilaV2().properties().last_update_date.isoformat()
    assert sorted(about) == ["calibrated", "layout", "seed"]
    assert len(set(about["layout"])) == 4


def test_names_of_devices():
    assert {"manila", "torino", "fractional"} <= set(devices())
    assert len(devices()) > 40
    names = {Fake(name, mitigated=False).connect(Session()).name for name in ("manila", "FakeManilaV2", "fake_manila")}
    assert names == {"fake_manila"}
    with pytest.raises(ConfigurationError, match=r"no fake device 'manilla'.*mean 'manila'"):
        Fake("manilla").check()


def test_circuits_that_are_too_large():
    program = assemble(13, [Gate("h", (wire,)) for wire in range(13)], [], {}, {})
    measured = [((1.0, ((wire, "X"),)),) for wire in range(13)]
    with pytest.raises(BackendError, match="13 qubits of fake_torino; fake devices simulate up to 12"):
        Fake("torino", transpilations=1).connect(Session()).compile(program, measured)
    with pytest.raises(BackendError, match="5 qubits; the circuit needs 13"):
        Fake("manila").connect(Session()).compile(program, measured)


def test_an_experiment_file_names_it():
    experiment = Experiment.from_toml('[backend]\nkind = "Fake"\ndevice = "manila"\nnoise = false\n')
    assert experiment.backend == Fake("manila", noise=False)
    assert Experiment.from_toml(experiment.to_toml()) == experiment
