"""The noisy simulator against PennyLane's default.mixed, Qiskit's channels, and cases known in closed form."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed import mixed_expectations, mixed_gradient
from reference import arguments, expectations, observables, programs, strongly_entangling

from qfedfm.backends import (
    Exact,
    Executor,
    GateNoise,
    NoiseModel,
    Noisy,
    ParameterShift,
    Session,
    flatten,
    pauli_evolution,
    simulate_noisy,
)  # fmt: skip
from qfedfm.backends.contract import Differentiable
from qfedfm.backends.noisy import outcome_probabilities
from qfedfm.errors import BackendError, CircuitError, ConfigurationError
from qfedfm.quantum.angles import evaluate
from qfedfm.quantum.expr import Expr
from qfedfm.quantum.gates import GATES
from qfedfm.quantum.program import Gate, assemble, pauli_z, z_on_every_wire

CHANNELS = ("depolarising", "amplitude_damping", "phase_damping", "bit_flip")
XX, ZZ = ((1.0, ((0, "X"), (1, "X"))),), ((1.0, ((0, "Z"), (1, "Z"))),)
EVERYTHING = NoiseModel(GateNoise(0.02, 0.03, 0.05, 0.01), GateNoise(0.1, 0.08, 0.04, 0.03), p01=0.1, p10=0.04)


def gate_noises() -> st.SearchStrategy[GateNoise]:
    return st.builds(GateNoise, *[st.one_of(st.just(0.0), st.floats(0, 0.3))] * 4)


@st.composite
def noise_models(draw, n_wires):
    chances = st.one_of(st.floats(0, 0.4), st.tuples(*[st.floats(0, 0.4)] * n_wires))
    ideal = tuple(draw(st.sets(st.sampled_from(list(GATES)), max_size=4)))
    return NoiseModel(draw(gate_noises()), draw(gate_noises()), draw(chances), draw(chances), ideal)


def agrees_with_default_mixed(program, inputs, weights, measured, noise):
    values = simulate_noisy(program, inputs, weights, measured, noise)
    clients, rows = values.shape[:2]
    slots = len(program.slots)
    angles = (
        evaluate(program.slots, inputs, weights).expand(clients, slots, rows)
        if slots
        else torch.zeros(clients, 0, rows)
    )
    flat = angles.transpose(1, 2).reshape(clients * rows, slots)
    truth = mixed_expectations(program, noise, flat.detach().numpy(), measured)
    np.testing.assert_allclose(values.detach().reshape(truth.shape), truth, atol=1e-10)
    if flat.requires_grad:
        mix = torch.randn(values.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        slopes = mixed_gradient(program, noise, flat.detach().numpy(), measured, mix.reshape(truth.shape).numpy())
        tensors, options = [*inputs.values(), *weights.values()], {"allow_unused": True, "materialize_grads": True}
        ours = torch.autograd.grad((values * mix).sum(), tensors, **options)
        theirs = torch.autograd.grad(flat, tensors, torch.from_numpy(np.asarray(slopes)), **options)
        for got, wanted in zip(ours, theirs, strict=True):
            torch.testing.assert_close(got, wanted, atol=1e-9, rtol=1e-9)


@settings(max_examples=25)
@given(st.data(), st.integers(1, 2), st.integers(1, 5), st.integers(0, 99))
def test_random_circuits_under_random_noise_equal_default_mixed(data, clients, rows, seed):
    program = data.draw(programs(max_wires=3, max_gates=8))
    noise, measured = data.draw(noise_models(program.n_wires)), data.draw(observables(program.n_wires))
    agrees_with_default_mixed(program, *arguments(clients, rows, seed, torch.float64), measured, noise)


@pytest.mark.parametrize("rows", [2, 6])  # states forwards, and observables backwards
@pytest.mark.parametrize("channel", [*CHANNELS, "p01", "p10", "all"])
def test_each_channel_equals_default_mixed_in_values_and_gradients(channel, rows):
    if channel in CHANNELS:
        noise = NoiseModel(GateNoise(**{channel: 0.04}), GateNoise(**{channel: 0.13}))
    else:
        noise = EVERYTHING if channel == "all" else NoiseModel(**{channel: (0.05, 0.2, 0.1)})
    generator = torch.Generator().manual_seed(2)
    x, w = (
        torch.randn(s, dtype=torch.float64, generator=generator).requires_grad_() for s in ((2, rows, 3), (2, 1, 3, 3))
    )
    measured = (*z_on_every_wire(3), ((0.5, ((0, "X"), (2, "Y"))), (2.0, ())))
    agrees_with_default_mixed(strongly_entangling(3, 1), {"x": x}, {"w": w}, measured, noise)


@settings(max_examples=30)
@given(st.data(), st.integers(1, 3), st.integers(1, 4), st.integers(0, 999))
def test_without_noise_every_circuit_equals_default_qubit(data, clients, rows, seed):
    program = data.draw(programs(max_wires=5))
    measured = data.draw(observables(program.n_wires))
    inputs, weights = arguments(clients, rows, seed, torch.float64)
    values = simulate_noisy(program, inputs, weights, measured, NoiseModel())
    truth = expectations(program, inputs, weights, measured)
    torch.testing.assert_close(values, truth.to(values), atol=1e-10, rtol=0)


def test_qiskits_channels_are_these_at_the_stated_parameters():
    from qiskit.quantum_info import PTM, SuperOp
    from qiskit_aer.noise import amplitude_damping_error, depolarizing_error, pauli_error, phase_damping_error

    def theirs(error):
        return PTM(SuperOp(error)).data.real

    for strength, wires in itertools.product((0.05, 0.6), (1, 2)):
        ours = GateNoise(depolarising=strength * (1 - 4.0**-wires)).depolarise(wires)
        np.testing.assert_allclose(np.diag(ours), theirs(depolarizing_error(strength, wires)), atol=1e-12)
    for ours, error in (
        (GateNoise(amplitude_damping=0.3), amplitude_damping_error(0.3)),
        (GateNoise(phase_damping=0.3), phase_damping_error(0.3)),
        (GateNoise(bit_flip=0.3), pauli_error([("X", 0.3), ("I", 0.7)])),
    ):
        np.testing.assert_allclose(ours.on_each_wire(), theirs(error), atol=1e-12)


# -- states ------------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(st.data(), st.integers(0, 99))
def test_states_keep_their_trace_and_stay_positive(data, seed):
    program = data.draw(programs(max_wires=3))
    noise = NoiseModel(data.draw(gate_noises()), data.draw(gate_noises()))
    n = program.n_wires
    words = [
        tuple((w, p) for w, p in enumerate(letters) if p != "I") for letters in itertools.product("IXYZ", repeat=n)
    ]
    inputs, weights = arguments(1, 1, seed, torch.float64)
    values = simulate_noisy(program, inputs, weights, [((1.0, word),) for word in words], noise)[0, 0].detach().numpy()
    paulis = np.array([[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]])
    rho = np.zeros((2**n, 2**n), dtype=complex)
    for value, places in zip(values, itertools.product(range(4), repeat=n), strict=True):
        matrix = np.eye(1)
        for place in places:
            matrix = np.kron(matrix, paulis[place])
        rho += value * matrix / 2**n
    assert np.trace(rho) == pytest.approx(1, abs=1e-12)
    assert np.linalg.eigvalsh(rho).min() > -1e-12
    assert np.trace(rho @ rho).real <= 1 + 1e-12


def fixed(n_wires, gates, noise, measured):
    return simulate_noisy(assemble(n_wires, gates, [], {}, {}), {}, {}, measured, noise)[0, 0].tolist()


def test_a_bell_state_after_a_depolarised_cnot_is_a_werner_state():
    p = 0.3
    bell = [Gate("h", (0,)), Gate("cx", (0, 1))]
    yy = ((1.0, ((0, "Y"), (1, "Y"))),)
    values = fixed(2, bell, NoiseModel(two_qubit=GateNoise(depolarising=p)), (XX, yy, ZZ, pauli_z(0)))
    visibility = 1 - 16 / 15 * p  # F = (1 + 3 V) / 4 with the Bell state
    assert values == pytest.approx([visibility, -visibility, visibility, 0], abs=1e-6)


def test_excited_and_superposed_wires_decay_as_they_should():
    gamma = 0.3
    damped = NoiseModel(GateNoise(amplitude_damping=gamma))
    # after k gates of which the first excites: P(1) = (1 - gamma)^k
    for k in (1, 2, 3):
        excited = [Gate("x", (0,)), *[Gate("id", (0,))] * (k - 1)]
        assert fixed(1, excited, damped, [pauli_z(0)]) == pytest.approx([1 - 2 * (1 - gamma) ** k], abs=1e-6)
    x = ((1.0, ((0, "X"),)),)
    assert fixed(1, [Gate("h", (0,))], damped, [x, pauli_z(0)]) == pytest.approx([math.sqrt(0.7), gamma], abs=1e-6)
    dephased = NoiseModel(GateNoise(phase_damping=gamma))
    assert fixed(1, [Gate("h", (0,))], dephased, [x, pauli_z(0)]) == pytest.approx([math.sqrt(0.7), 0], abs=1e-6)
    flipped = NoiseModel(GateNoise(bit_flip=gamma))
    assert fixed(1, [Gate("x", (0,))], flipped, [pauli_z(0)]) == pytest.approx([-1 + 2 * gamma], abs=1e-6)


def test_gates_called_ideal_add_nothing():
    noise = NoiseModel(GateNoise(depolarising=0.3), ideal=("x",))
    assert fixed(1, [Gate("x", (0,))], noise, [pauli_z(0)]) == pytest.approx([-1], abs=1e-6)
    assert fixed(1, [Gate("y", (0,))], noise, [pauli_z(0)]) == pytest.approx([-1 + 0.4], abs=1e-6)


def test_inverting_the_misreading_gives_back_what_was_true():
    p01, p10 = (0.1, 0.3), (0.05, 0.02)
    clean = NoiseModel(two_qubit=GateNoise(depolarising=0.1))
    gates = [Gate("ry", (0,), (0.7,)), Gate("cx", (0, 1)), Gate("rx", (1,), (0.4,))]
    program = assemble(2, gates, [], {"angles": (0,)}, {})
    true, read = (
        outcome_probabilities(Noisy(noise).connect(Session()).compile(program, [ZZ]), np.empty((1, 0)), noise)[0][0]
        for noise in (clean, NoiseModel(two_qubit=clean.two_qubit, p01=p01, p10=p10))
    )
    confusion = np.kron(*[[[1 - b, a], [b, 1 - a]] for a, b in zip(p01, p10, strict=True)])
    np.testing.assert_allclose(read, confusion @ true, atol=1e-12)
    np.testing.assert_allclose(np.linalg.solve(confusion, read), true, atol=1e-12)
    assert read.sum() == pytest.approx(1)
    assert np.abs(read - true).max() > 0.05


# -- execution ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [3, 9])
def test_chunks_change_nothing(rows, monkeypatch):
    program, generator = strongly_entangling(4, 2), torch.Generator().manual_seed(4)
    x, w = (
        torch.randn(s, dtype=torch.float64, generator=generator).requires_grad_() for s in ((3, rows, 4), (3, 2, 4, 3))
    )
    results = []
    for chunk in (2**40, 10_000, 1):
        monkeypatch.setattr(pauli_evolution, "CHUNK", chunk)
        values = simulate_noisy(program, {"x": x}, {"w": w}, z_on_every_wire(4), EVERYTHING)
        results.append([values, *torch.autograd.grad((values**2).sum(), (x, w))])
    for other in results[1:]:
        for one, same in zip(results[0], other, strict=True):
            torch.testing.assert_close(one, same, atol=1e-12, rtol=0)


def test_float32_agrees_with_float64():
    program, generator = strongly_entangling(4, 2), torch.Generator().manual_seed(4)
    x, w = (torch.randn(s, dtype=torch.float64, generator=generator) for s in ((2, 8, 4), (2, 2, 4, 3)))
    double, single = (
        simulate_noisy(program, {"x": x.to(real)}, {"w": w.to(real)}, z_on_every_wire(4), EVERYTHING)
        for real in (torch.float64, torch.float32)
    )
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rows", [1, 5])
def test_second_derivatives_and_function_transforms_work(rows):
    program, generator = strongly_entangling(3, 1), torch.Generator().manual_seed(6)
    x, w = (torch.randn(s, dtype=torch.float64, generator=generator) for s in ((1, rows, 3), (2, 1, 1, 3, 3)))

    def total(weights):
        return simulate_noisy(program, {"x": x}, {"w": weights}, z_on_every_wire(3), EVERYTHING).sum()

    assert torch.autograd.gradgradcheck(total, (w[0].requires_grad_(),))
    many = torch.func.vmap(torch.func.grad(total))(w.detach())
    alone = torch.stack([torch.func.grad(total)(one) for one in w.detach()])
    torch.testing.assert_close(many, alone, atol=1e-12, rtol=0)


@settings(max_examples=15)
@given(st.data(), st.integers(0, 99))
def test_whole_programs_and_flat_ones_with_shifted_angles_agree(data, seed):
    program = data.draw(programs(max_wires=3))
    measured, noise = data.draw(observables(program.n_wires)), data.draw(noise_models(program.n_wires))
    inputs, weights = arguments(2, 2, seed, torch.float64)
    tensors, machine = [*inputs.values(), *weights.values()], Noisy(noise).connect(Session())
    assert isinstance(machine, Differentiable)
    results = []
    for executor in (Executor(machine), Executor(machine, gradient=ParameterShift())):
        values = executor(program, inputs, weights, measured)
        total = (values**2).sum() + 0 * sum(t.sum() for t in tensors)
        results.append([values.detach(), *torch.autograd.grad(total, tensors)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


def test_with_shots_torch_cannot_differentiate_it():
    assert not isinstance(Noisy(NoiseModel(), shots=10).connect(Session()), Differentiable)


@pytest.mark.parametrize(("error", "cosine"), [(0.001, 0.9999), (0.01, 0.999), (0.05, 0.98)])
def test_noise_shrinks_gradients_and_hardly_turns_them(error, cosine):
    program, generator = strongly_entangling(4, 2), torch.Generator().manual_seed(8)
    x, w = (torch.randn(s, dtype=torch.float64, generator=generator) for s in ((1, 16, 4), (1, 2, 4, 3)))
    noise = NoiseModel(GateNoise(depolarising=error / 10), GateNoise(depolarising=error), p01=error, p10=error / 2)
    gradients = []
    for backend in (Exact(), Noisy(noise)):
        leaf = w.clone().requires_grad_()
        values = Executor(backend.connect(Session()))(program, {"x": x}, {"w": leaf}, z_on_every_wire(4))
        gradients.append(torch.autograd.grad(values[:, :, 0].sum() - values[:, :, 2].sum(), leaf)[0].flatten())
    exact, noisy = gradients
    assert torch.cosine_similarity(exact, noisy, dim=0) >= cosine
    assert noisy.norm() < exact.norm() * (1 - error)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_simulated_is_refused():
    nine = assemble(9, [Gate("h", (8,))], [], {}, {})
    with pytest.raises(BackendError, match=r"at most 8 qubits.*this circuit has 9"):
        simulate_noisy(nine, {}, {}, [pauli_z(0)], NoiseModel())
    with pytest.raises(BackendError, match=r"at most 8 qubits.*this circuit has 9"):
        Noisy().connect(Session()).compile(flatten(nine, (pauli_z(8),)).program, [pauli_z(8)])
    eight = assemble(8, [Gate("h", (0,)), Gate("ch", (0, 7))], [], {}, {})
    with pytest.raises(BackendError, match=r"one row of this circuit needs 1 MiB .* budget is 0 MiB"):
        simulate_noisy(eight, {}, {}, [pauli_z(0)], NoiseModel(), budget=1000)
    with pytest.raises(BackendError, match=r"NoiseModel.p10 has 3 wires and the circuit 8: give one each"):
        simulate_noisy(eight, {}, {}, [pauli_z(0)], NoiseModel(p10=(0.1, 0.1, 0.1)))
    with pytest.raises(CircuitError, match=r"each wire once and within 0..7"):
        simulate_noisy(eight, {}, {}, [pauli_z(8)], NoiseModel())
    with pytest.raises(CircuitError, match="the circuit has no input 'x'"):
        simulate_noisy(eight, {"x": torch.zeros(1, 1)}, {}, [pauli_z(0)], NoiseModel())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda: GateNoise(depolarising=1.2),
            r"GateNoise.depolarising: input should be less than or equal to 1; got 1.2",
        ),
        (lambda: GateNoise(bit_flip=-0.1), "GateNoise.bit_flip: input should be greater than or equal to 0"),
        (lambda: NoiseModel(p01=(0.1, 2.0)), "NoiseModel.p01"),
        (lambda: NoiseModel(ideal=("rzx",)), r"NoiseModel.ideal: no gate is called 'rzx' \(did you mean 'rz'\?\)"),
        (lambda: Noisy(NoiseModel(), shots=0), "Noisy.shots: input should be greater than or equal to 1"),
        (lambda: Noisy(0.1), "Noisy.noise"),
    ],
)
def test_noise_that_means_nothing_is_refused(make, reason):
    with pytest.raises(ConfigurationError, match=reason):
        make()


def test_a_slot_that_two_gates_share_gets_both_gradients():
    slot = Expr("weight", ("w", 0))
    program = assemble(2, [Gate("ry", (0,), (0,)), Gate("cx", (0, 1)), Gate("ry", (1,), (0,))], [slot], {}, {"w": (1,)})
    angle = torch.tensor([[0.4]], dtype=torch.float64, requires_grad=True)
    agrees_with_default_mixed(program, {}, {"w": angle}, z_on_every_wire(2), EVERYTHING)
