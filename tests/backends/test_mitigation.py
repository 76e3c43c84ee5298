"""Mitigation: exact where its model of the noise is, honest about variance and cost, and of use to a gradient."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from qiskit_aer.noise import NoiseModel, ReadoutError, depolarizing_error

from qfedfm.backends import (
    Aer,
    Exact,
    Executor,
    ExponentialFit,
    Fake,
    LinearFit,
    Mitigated,
    ReadoutInversion,
    RichardsonFit,
    Session,
    Shots,
    ZeroNoise,
    flatten,
    save_noise,
)
from qfedfm.backends.mitigation import Transpiling
from qfedfm.backends.readout import Calibration, inverted, sensitivities
from qfedfm.errors import BackendError, ConfigurationError
from qfedfm.experiment import Experiment
from qfedfm.quantum import Gate, assemble, load
from qfedfm.quantum.expr import symbols

CIRCUIT = load("strongly_entangling", {"n": 3, "layers": 1})
OBSERVABLES = (
    *CIRCUIT.observables,
    ((0.7, ((0, "X"), (2, "Y"))), (-0.4, ((1, "Z"),)), (0.1, ())),
    ((1.0, ((0, "Z"), (1, "Z"), (2, "Z"))),),
)
FLAT = flatten(CIRCUIT.program, OBSERVABLES).program
ANGLES = np.random.default_rng(1).uniform(-3, 3, (8, len(FLAT.slots)))
RAW = Fake("manila", shots=None, mitigated=False)


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QFEDFM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def misreading(tmp_path):
    """A file with readout errors alone, other ones on each wire."""
    noise = NoiseModel()
    for wire, (p10, p01) in enumerate([(0.02, 0.08), (0.1, 0.05), (0.01, 0.15)]):
        noise.add_readout_error(ReadoutError([[1 - p10, p10], [p01, 1 - p01]]), [wire])
    save_noise(noise, tmp_path / "readout.json")
    return tmp_path / "readout.json"


def run(backend, shots=None, key="k", machine=None, program=FLAT, observables=OBSERVABLES, angles=ANGLES):
    machine = machine or backend.connect(Session(seed=5))
    compiled = machine.compile(program, observables)
    estimate = machine.estimate(compiled, len(angles), shots)
    measured = machine.collect(machine.submit(compiled, angles, shots, key))
    assert measured.cost == estimate
    assert measured.shots.sum() == measured.cost.shots
    return measured


def test_inversion_is_exact_for_readout_errors(misreading):
    exact, raw = run(Exact()), run(Aer(shots=None, noise=misreading))
    found = run(Mitigated(Aer(shots=None, noise=misreading)))
    assert np.abs(raw.values - exact.values).max() > 0.1
    np.testing.assert_allclose(found.values, exact.values, atol=1e-10)


def test_inverted_values_have_the_variance_that_they_claim(misreading):
    # 40 values at 2000 shots with calibrations of so few shots that their error counts; rows of one submission share a
    # calibration, so each row gets its own; chi-square of 40 degrees of freedom stays below 73 in 999 of 1000 draws
    exact, total = run(Exact()).values, 0.0
    machine = Mitigated(Aer(noise=misreading), (ReadoutInversion(shots=300, max_age=1),)).connect(Session(seed=5))
    for row in range(8):
        found = run(None, 2000, f"row {row}", machine, angles=ANGLES[row : row + 1])
        total += (((found.values - exact[row]) ** 2) / found.variances).sum()
    assert 15 < total < 73
    settled = run(Mitigated(Aer(noise=misreading)), 2000, angles=ANGLES[7:])
    assert (settled.variances[:, 4] < 0.7 * found.variances[:, 4]).all()


def test_inverted_observables_by_hand():
    # wire 0 reads .9 in |0> and -.7 in |1>: offset .1, slope .8
    calibration = Calibration(np.array([[0.9], [-0.7]]), np.zeros((2, 1)))
    assert dict(map(reversed, inverted(((2.0, ((0, "Y"),)),), calibration))) == pytest.approx(
        {((0, "Y"),): 2 / 0.8, (): -0.2 / 0.8}
    )


def test_sensitivities_are_derivatives_by_the_calibration():
    # against central differences, on random values of the words
    generator = np.random.default_rng(0)
    read = np.array([[0.9, 0.8, 0.95], [-0.7, -0.9, -0.8]])
    words = {}

    def value(observable):
        return sum(c * (words.setdefault(word, generator.uniform(-1, 1)) if word else 1) for c, word in observable)

    for observable in OBSERVABLES:
        for state, wire, derivative in sensitivities(observable, Calibration(read, read)):
            step = np.zeros_like(read)
            step[state, wire] = 1e-5
            up, down = (value(inverted(observable, Calibration(read + s, read))) for s in (step, -step))
            assert value(derivative) == pytest.approx((up - down) / 2e-5, abs=1e-7)


def test_no_setting_is_added(misreading):
    plain, mitigated = run(Aer(noise=misreading), 10), run(Mitigated(Aer(noise=misreading)), 10)
    calibration = 2 * 8192
    assert mitigated.cost.circuits == plain.cost.circuits  # those of the calibration are no rows
    assert mitigated.cost.shots == plain.cost.shots + calibration
    assert mitigated.cost.jobs == plain.cost.jobs + 1


def test_a_calibration_is_remembered_until_it_is_old_or_the_machine_changes(monkeypatch):
    machine = Mitigated(Fake("manila"), (ReadoutInversion(max_age=2),)).connect(Session())
    jobs = [run(None, 10, f"{number}", machine).cost.jobs for number in range(5)]
    assert jobs == [2, 1, 2, 1, 2]
    later = machine.machine.backend.properties()
    later.last_update_date = later.last_update_date.replace(year=2030)
    monkeypatch.setattr(machine.machine.backend, "properties", lambda: later)
    assert run(None, 10, "after a new calibration", machine).cost.jobs == 2


def test_a_fake_device_inverts_its_readout_unless_told_otherwise():
    asked, named = Fake("manila"), Mitigated(Fake("manila"))
    np.testing.assert_array_equal(run(asked, 500).values, run(named, 500).values)
    assert run(asked, 500).cost == run(named, 500).cost
    assert asked.connect(Session()).name == "fake_manila, mitigated"
    assert Fake("manila", noise=False).connect(Session()).name == RAW.connect(Session()).name == "fake_manila"


def test_methods_that_are_named_take_the_place_of_a_devices_own():
    # twice as many shots for two scales, and no calibration inside of each
    cost, plain = run(Mitigated(Fake("manila"), (ZeroNoise(),)), 500).cost, run(RAW, 500).cost
    assert (cost.shots, cost.jobs) == (2 * plain.shots, 2)


def test_a_calibration_that_does_not_age_is_the_same_after_a_restart():
    def later(machine, key):
        return run(None, 500, key, machine).values

    machine, fresh = (Fake("manila").connect(Session(seed=5)) for _ in range(2))
    later(machine, "first")
    np.testing.assert_array_equal(later(machine, "second"), later(fresh, "second"))


def test_calibrations_are_made_on_the_qubits_that_are_used():
    machine = Mitigated(Fake("torino", shots=None, transpilations=3)).connect(Session())
    inside = machine.machine
    assert isinstance(inside, Transpiling)
    compiled = machine.compile(FLAT, OBSERVABLES)
    calibrator, _ = machine._calibrator(compiled)
    assert inside.layout(calibrator) == inside.layout(compiled.inside)
    measured = machine.collect(machine.submit(compiled, ANGLES, None, "k"))
    raw, exact = run(Fake("torino", shots=None, transpilations=3, mitigated=False)), run(Exact())
    assert np.abs(measured.values - exact.values).mean() < 0.7 * np.abs(raw.values - exact.values).mean()


def test_a_wire_that_reads_nothing_is_refused(tmp_path):
    noise = NoiseModel()
    noise.add_readout_error(ReadoutError([[0.5, 0.5], [0.5, 0.5]]), [1])
    save_noise(noise, tmp_path / "noise.json")
    with pytest.raises(BackendError, match="wire 1 reads nearly the same"):
        run(Mitigated(Aer(shots=None, noise=tmp_path / "noise.json")))


def depolarised(tmp_path, x):
    """One wire whose gates mix in the fully mixed state with probability x."""
    noise = NoiseModel()
    noise.add_all_qubit_quantum_error(depolarizing_error(x, 1), ["ry"])
    save_noise(noise, tmp_path / "noise.json")
    return Aer(shots=None, noise=tmp_path / "noise.json")


@pytest.mark.parametrize("scales", [(1, 3), (1, 3, 5), (1, 2)])
def test_an_exponential_recovers_a_depolarising_decay(tmp_path, scales):
    # n gates in a row leave (1 - x)^n of <Z>, so s times as many leave exp(s n log(1 - x))
    t = symbols("input", "t", (4,))
    program = assemble(1, [Gate("ry", (0,), (slot,)) for slot in range(4)], [t[i] for i in range(4)], {"t": (4,)}, {})
    measured = [((0.5, ((0, "Z"),)), (0.25, ()))]
    angles = np.array([[0.1, 0.2, 0.3, 0.4], [0.5, -0.9, 1.1, 2.0]])
    aer = depolarised(tmp_path, 0.05)
    raw = run(aer, program=program, observables=measured, angles=angles).values
    ideal = 0.25 + 0.5 * np.cos(angles.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(raw - 0.25, (ideal - 0.25) * 0.95**4, atol=1e-12)
    fits = [ExponentialFit(), RichardsonFit(), LinearFit()]
    found = [
        run(Mitigated(aer, (ZeroNoise(scales, fit),)), program=program, observables=measured, angles=angles).values
        for fit in fits
    ]
    errors = [np.abs(values - ideal).max() for values in (*found, raw)]
    assert errors[0] < 1e-12
    assert errors[0] < errors[1] <= errors[2] + 1e-12
    assert errors[2] < errors[3]


def test_richardson_and_linear_are_the_polynomials_that_they_say():
    scales = np.array([1.0, 2.0, 3.0])
    values = (2 - 3 * scales + 0.5 * scales**2)[:, None, None]
    nothing = np.zeros_like(values)
    assert RichardsonFit().extrapolate(scales, values, nothing, np.zeros(1))[0].item() == pytest.approx(2)
    slope, start = np.polyfit(scales, values.ravel(), 1)
    assert LinearFit().extrapolate(scales, values, nothing, np.zeros(1))[0].item() == pytest.approx(start)
    assert slope < 0


@pytest.mark.parametrize("fit", [LinearFit(), RichardsonFit(), ExponentialFit()])
def test_weights_are_derivatives(fit):
    scales, generator = np.array([1.0, 2.0, 3.0]), np.random.default_rng(0)
    values = np.array([0.7, 0.5, 0.4])[:, None, None] * generator.uniform(0.9, 1, (3, 4, 2))
    values[:, 0, 0] = [0.2, -0.1, 0.05]  # no exponential
    args = np.full_like(values, 1e-6), np.array([0.0, 0.1])
    _, weights = fit.extrapolate(scales, values, *args)
    for number in range(3):
        step = np.zeros_like(values)
        step[number] = 1e-6
        up, down = (fit.extrapolate(scales, values + s, *args)[0] for s in (step, -step))
        np.testing.assert_allclose((up - down) / 2e-6, weights[number], atol=1e-6)


def test_an_exponential_that_means_nothing_is_a_line():
    scales = np.array([1.0, 3.0])
    values = np.array([[0.3, 0.3, 0.3, 0.3], [0.2, -0.2, 0.01, 0.2]])[:, None, :]
    variances = np.array([[1e-4, 1e-4, 1e-6, 1e-1], [1e-4, 1e-4, 1e-6, 1e-1]])[:, None, :]
    found = ExponentialFit().extrapolate(scales, values, variances, np.zeros(4))[0][0]
    line = LinearFit().extrapolate(scales, values, variances, np.zeros(4))[0][0]
    assert found[0] == pytest.approx(0.3**1.5 / 0.2**0.5)
    np.testing.assert_allclose(found[1:], line[1:])


def test_extrapolated_values_on_a_device_have_the_variance_and_cost_that_they_claim():
    # 40 values; chi-square of 40 degrees of freedom stays below 73 in 999 of 1000 draws
    methods = (ZeroNoise(), ReadoutInversion(shots=100_000))
    exact, raw = run(Exact()), run(RAW)
    settled, sampled = (
        run(Mitigated(Fake("manila", shots=None), methods)),
        run(Mitigated(Fake("manila"), methods), 4000),
    )
    assert np.abs(settled.values - exact.values).mean() < 0.3 * np.abs(raw.values - exact.values).mean()
    assert (((sampled.values - settled.values) ** 2) / sampled.variances).sum() < 73
    plain = run(RAW, 4000).cost
    assert sampled.cost.shots == 2 * plain.shots + 2 * 100_000
    assert (sampled.cost.circuits, sampled.cost.jobs) == (2 * plain.circuits, 3)
    assert sampled.cost.qpu_seconds > 2 * plain.qpu_seconds
    assert (sampled.cost.depth, sampled.cost.fidelity) == (plain.depth, plain.fidelity)


def test_a_perfect_machine_is_left_as_it_is():
    both = (ReadoutInversion(), ZeroNoise(scales=(1, 2, 3), fit=RichardsonFit()))
    for backend in (Exact(), Fake("manila", shots=None, noise=False)):
        np.testing.assert_allclose(run(Mitigated(backend, both)).values, run(Exact()).values, atol=1e-9)
    found, exact = run(Mitigated(Shots(), both), 2000), run(Exact())
    assert (((found.values - exact.values) ** 2) / found.variances).sum() < 73


def cosine(a, b):
    return (a @ b / (a.norm() * b.norm())).item()


@pytest.mark.slow
def test_readout_inversion_turns_gradients_towards_the_exact_one():
    # published for 1024 shots on FakeManila: .9793 raw, .9846 inverted, for one circuit; here 3 random problems of 4
    # qubits, 2 layers and 8 rows, where sampling alone costs about .03
    circuit = load("strongly_entangling")
    exact, shots = Exact().connect(Session()), 1024
    raw, better = (backend.connect(Session(seed=1)) for backend in (RAW, Mitigated(RAW)))

    def gradient(machine, number, seed):
        generator = torch.Generator().manual_seed(seed)
        x = torch.rand(1, 8, 4, generator=generator, dtype=torch.float64) * 3 - 1.5
        weights = (torch.rand(1, 2, 4, 3, generator=generator, dtype=torch.float64) * 2 - 1).requires_grad_()
        labels = torch.randn(1, 8, generator=generator, dtype=torch.float64).sign()
        readout = torch.randn(4, generator=generator, dtype=torch.float64)
        executor = Executor(machine, number)
        with executor.task(f"problem {seed}"):
            values = executor(circuit.program, {"x": x}, {"weights": weights}, circuit.observables)
        torch.nn.functional.softplus(-labels * (values @ readout)).mean().backward()
        return weights.grad.flatten()

    truth = [gradient(exact, None, seed) for seed in range(3)]
    means = {
        (name, number): np.mean([cosine(gradient(machine, number, seed), truth[seed]) for seed in range(3)])
        for name, machine in (("raw", raw), ("inverted", better))
        for number in (shots, None)
    }
    assert 1 - means["inverted", None] < 0.5 * (1 - means["raw", None]) < 0.01
    assert means["inverted", shots] > means["raw", shots] > 0.9


def test_what_cannot_be_mitigated():
    with pytest.raises(ConfigurationError, match="each of them once"):
        Mitigated(Shots(), ())
    with pytest.raises(ConfigurationError, match="each of them once"):
        Mitigated(Shots(), (ReadoutInversion(), ReadoutInversion()))
    with pytest.raises(ConfigurationError, match="mitigated itself"):
        Mitigated(Mitigated(Shots()))
    with pytest.raises(ConfigurationError, match="two different scales"):
        ZeroNoise(scales=(1.0,))
    with pytest.raises(ConfigurationError, match="no fake device"):
        Mitigated(Fake("nowhere")).check()
    machine = Mitigated(Shots()).connect(Session())
    compiled = machine.compile(FLAT, OBSERVABLES)
    handle = machine.submit(compiled, ANGLES, 10, "k")
    machine.collect(handle)
    for gone in (handle, replace(handle, key="other")):
        with pytest.raises(BackendError, match="holds no submission"):
            machine.collect(gone)


def test_an_experiment_file_names_it():
    backend = Mitigated(Fake("manila"), (ReadoutInversion(shots=1000), ZeroNoise(fit=ExponentialFit())))
    experiment = Experiment(backend=backend)
    assert Experiment.from_toml(experiment.to_toml()) == experiment
    assert experiment.backend.shots == 1024
