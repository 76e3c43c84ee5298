import itertools
import math

import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import amplitudes, arguments, expectations, observables, programs, strongly_entangling

from qfedfm.errors import CircuitError
from qfedfm.quantum import evolution, statevector
from qfedfm.quantum.expr import Expr
from qfedfm.quantum.program import Gate, assemble, pauli_z, z_on_every_wire
from qfedfm.quantum.statevector import simulate, state_bytes, states

X, W = Expr("input", ("x", 0)), Expr("weight", ("w", 0))
ENCODED = assemble(1, [Gate("rx", (0,), (0,))], [X], {"x": (1,)}, {})
TRAINED = assemble(2, [Gate("ry", (0,), (0,)), Gate("cx", (0, 1))], [W], {}, {"w": (1,)})
BOTH = assemble(2, [Gate("rx", (0,), (0,)), Gate("cry", (0, 1), (1,))], [X, W], {"x": (2,)}, {"w": (3,)})
BELL = assemble(2, [Gate("h", (0,)), Gate("cx", (0, 1))], [], {}, {})


def gradients(values, cotangent, tensors):
    graph = (values * cotangent).sum() + 0 * sum(tensor.sum() for tensor in tensors)
    return torch.autograd.grad(graph, tensors)


@given(st.data(), st.integers(1, 3), st.integers(1, 3), st.integers(0, 999))
@settings(max_examples=60)
def test_random_programs_equal_pennylane_in_values_and_gradients(data, clients, rows, seed):
    program = data.draw(programs())
    measured = data.draw(observables(program.n_wires))
    inputs, weights = arguments(clients, rows, seed, torch.float64)
    values, truth = simulate(program, inputs, weights, measured), expectations(program, inputs, weights, measured)
    torch.testing.assert_close(values, truth.to(values), atol=1e-10, rtol=0)
    tensors = [*inputs.values(), *weights.values()]
    cotangent = torch.randn(values.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    pairs = zip(gradients(values, cotangent, tensors), gradients(truth, cotangent, tensors), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=0)


@pytest.mark.parametrize("n", [3, 4, 6])
@pytest.mark.parametrize("axis", ["Z", "X"])
def test_strongly_entangling_layers_equal_the_template_of_pennylane(n, axis):
    @qml.qnode(qml.device("default.qubit"))
    def circuit(x, w):
        qml.AngleEmbedding(x, range(n))
        qml.StronglyEntanglingLayers(w, range(n))
        return [qml.expval(qml.Z(wire) if axis == "Z" else qml.X(wire)) for wire in range(n)]

    generator = torch.Generator().manual_seed(n)
    x = torch.randn(2, 2, n, dtype=torch.float64, generator=generator)
    w = torch.randn(2, 3, n, 3, dtype=torch.float64, generator=generator)
    values = simulate(strongly_entangling(n, 3), {"x": x}, {"w": w}, [((1.0, ((wire, axis),)),) for wire in range(n)])
    truth = [[torch.stack(circuit(x[c, r], w[c])) for r in range(2)] for c in range(2)]
    torch.testing.assert_close(values, torch.stack([torch.stack(rows) for rows in truth]), atol=1e-12, rtol=0)


@given(st.data(), st.integers(1, 3), st.integers(1, 3), st.integers(0, 999))
@settings(max_examples=30)
def test_float32_agrees_with_float64(data, clients, rows, seed):
    program = data.draw(programs())
    measured = z_on_every_wire(program.n_wires)
    results = []
    for dtype in (torch.float32, torch.float64):
        inputs, weights = arguments(clients, rows, seed, dtype)
        values = simulate(program, inputs, weights, measured)
        assert values.dtype == dtype
        results.append([values, *gradients(values, 1.0, [*inputs.values(), *weights.values()])])
    for single, double in zip(*results, strict=True):
        scale = 1 + double.abs().max().item()
        torch.testing.assert_close(single.double(), double, atol=1e-5 * scale, rtol=0)


@given(st.data(), st.integers(0, 999))
@settings(max_examples=30)
def test_states_equal_pennylane_with_global_phase(data, seed):
    program = data.draw(programs(max_wires=4))
    inputs, weights = arguments(2, 3, seed, torch.float64)
    truth = amplitudes(program, inputs, weights).transpose(1, 2)
    torch.testing.assert_close(states(program, inputs, weights), truth.to(torch.complex128), atol=1e-10, rtol=0)


def test_a_client_and_a_row_do_not_see_the_others():
    inputs = {"x": torch.randn(3, 4, 2, dtype=torch.float64)}
    weights = {"w": torch.randn(3, 3, dtype=torch.float64)}
    together = simulate(BOTH, inputs, weights, z_on_every_wire(2))
    for client in range(3):
        for row in range(4):
            alone = {"x": inputs["x"][client, row][None, None]}
            value = simulate(BOTH, alone, {"w": weights["w"][client][None]}, z_on_every_wire(2))
            torch.testing.assert_close(value[0, 0], together[client, row], atol=1e-14, rtol=0)


def test_a_rotation_by_hand():
    x = torch.tensor([[[0.3], [2.0]]], dtype=torch.float64, requires_grad=True)
    values = simulate(ENCODED, {"x": x}, {}, [pauli_z(0), ((1.0, ((0, "Y"),)),), ((2.0, ((0, "X"),)), (0.5, ()))])
    assert values[0, :, 0].tolist() == pytest.approx([math.cos(0.3), math.cos(2.0)], abs=1e-14)
    assert values[0, :, 1].tolist() == pytest.approx([-math.sin(0.3), -math.sin(2.0)], abs=1e-14)
    assert values[0, :, 2].tolist() == pytest.approx([0.5, 0.5], abs=1e-14)
    (slope,) = torch.autograd.grad(values[..., 0].sum(), x)
    assert slope.flatten().tolist() == pytest.approx([-math.sin(0.3), -math.sin(2.0)], abs=1e-14)


def test_a_bell_pair_by_hand():
    words = [((1.0, ((0, axis), (1, axis))),) for axis in "XYZ"]
    assert simulate(BELL, {}, {}, words).tolist() == [[pytest.approx([1, -1, 1], abs=1e-6)]]
    amplitudes = states(BELL, {}, {}).flatten()
    assert amplitudes.tolist() == pytest.approx([math.sqrt(0.5), 0, 0, math.sqrt(0.5)], abs=1e-6)


def test_wire_zero_is_the_most_significant():
    program = assemble(3, [Gate("x", (0,))], [], {}, {})
    assert states(program, {}, {}).abs().argmax().item() == 0b100


def test_without_inputs_there_is_one_row_for_each_client():
    weights = {"w": torch.tensor([[0.0], [1.0], [2.0]])}
    values = simulate(TRAINED, {}, weights, z_on_every_wire(2))
    assert values.shape == (3, 1, 2)
    torch.testing.assert_close(values[:, 0], weights["w"].cos().expand(3, 2))


def test_finite_differences_of_first_and_second_order():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 2, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    w = torch.randn(1, 3, dtype=torch.float64, generator=generator, requires_grad=True)

    def function(x, w):
        return simulate(BOTH, {"x": x}, {"w": w}, [pauli_z(1), ((1.0, ((0, "X"), (1, "Y"))),)])

    assert torch.autograd.gradcheck(function, (x, w))
    assert torch.autograd.gradgradcheck(function, (x, w))


@pytest.mark.parametrize(
    ("inputs", "weights", "message"),
    [
        ({}, {"w": (2, 3)}, "needs the input 'x' of shape .2,."),
        ({"x": (2, 5, 2)}, {}, "needs the weight 'w' of shape .3,."),
        ({"x": (2, 5, 2), "xx": (2, 5, 2)}, {"w": (2, 3)}, "no input 'xx' .did you mean 'x'"),
        ({"x": (2, 5, 3)}, {"w": (2, 3)}, "input 'x' .* = .2, 5, 2.; got .2, 5, 3."),
        ({"x": (2, 5, 2)}, {"w": (4, 3)}, "weight 'w' .* = .2, 3.; got .4, 3."),
        ({"x": (2, 2)}, {"w": (2, 3)}, "input 'x' should be .clients, rows, .shape."),
        ({"x": (2, 0, 2)}, {"w": (2, 3)}, "at least one client and one row; got 2 clients and 0 rows"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(inputs, weights, message):
    given_inputs = {name: torch.zeros(shape) for name, shape in inputs.items()}
    given_weights = {name: torch.zeros(shape) for name, shape in weights.items()}
    with pytest.raises(CircuitError, match=message):
        simulate(BOTH, given_inputs, given_weights, [pauli_z(0)])


@pytest.mark.parametrize(("first", "second"), [(torch.float32, torch.float64), (torch.float16, torch.float16)])
def test_mixed_and_other_precisions_are_refused(first, second):
    with pytest.raises(CircuitError, match=r"all float64, on one device; got .*'w'.*float"):
        simulate(BOTH, {"x": torch.zeros(1, 1, 2, dtype=first)}, {"w": torch.zeros(1, 3, dtype=second)}, [pauli_z(0)])


@pytest.mark.parametrize(
    "measured", [[], [((1.0, ((2, "Z"),)),)], [((1.0, ((0, "Q"),)),)], [((1.0, ((0, "Z"), (0, "X"))),)]]
)
def test_observables_without_meaning_are_refused(measured):
    with pytest.raises(CircuitError, match=r"at least one observable|observable 0 has the word"):
        simulate(TRAINED, {}, {"w": torch.zeros(1, 1)}, measured)


def test_too_many_qubits_and_too_much_memory_are_refused_before_allocation():
    large = assemble(21, [Gate("h", (0,))], [], {}, {})
    with pytest.raises(CircuitError, match="at most 20 qubits; this circuit has 21"):
        simulate(large, {}, {}, [pauli_z(0)])
    wide = assemble(20, [Gate("ry", (0,), (0,))], [W], {}, {"w": (1,)})
    with pytest.raises(CircuitError, match=r"1000 clients with 1 rows on 20 qubits need up to 64... MiB"):
        states(wide, {}, {"w": torch.zeros(1000, 1)})
    with pytest.raises(CircuitError, match=r"one row of one client on 20 qubits need up to .* budget is 50 MiB"):
        simulate(wide, {}, {"w": torch.zeros(1000, 1)}, [pauli_z(0)], budget=50 * 2**20)


def peak(call):
    """Return the most bytes that tensors made in `call` took at one time."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


@pytest.mark.parametrize(("n", "clients", "rows", "budget"), [(9, 7, 64, 2**32), (9, 40, 64, 2**32), (9, 2, 64, 2**24)])
def test_state_bytes_bound_the_memory_of_values_and_gradient(n, clients, rows, budget):
    program = strongly_entangling(n, 2)
    measured = tuple(((1.0, ((wire, axis),)),) for wire in range(n) for axis in "ZX")
    x, w = torch.rand(clients, rows, n), torch.rand(clients, 2, n, 3, requires_grad=True)
    bound = state_bytes(program, measured, clients, rows, torch.float32, gradient=True, budget=budget)
    simulate(program, {"x": x[:1, :1]}, {"w": w[:1]}, measured)  # the tables of the circuit stay for later calls
    needed = peak(lambda: simulate(program, {"x": x}, {"w": w}, measured, budget).sum().backward())
    assert bound / 5 < needed <= bound <= budget


@given(st.data(), st.integers(1, 4), st.integers(1, 5), st.integers(0, 999))
@settings(max_examples=30)
def test_results_do_not_depend_on_chunks(data, clients, rows, seed):
    program = data.draw(programs(max_wires=4))
    measured = data.draw(observables(program.n_wires))
    inputs, weights = arguments(clients, rows, seed, torch.float64)
    some, width = data.draw(st.integers(1, clients)), data.draw(st.integers(1, rows))
    results = []
    for chunk in (clients, rows), (some, width):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(statevector, "_fitting", lambda *_, chunk=chunk: chunk)
            values = simulate(program, inputs, weights, measured)
            with torch.no_grad():
                torch.testing.assert_close(simulate(program, inputs, weights, measured), values, atol=1e-12, rtol=0)
            results.append([values, *gradients(values.square(), 1.0, [*inputs.values(), *weights.values()])])
    for whole, pieces in zip(*results, strict=True):
        torch.testing.assert_close(pieces, whole, atol=1e-11, rtol=0)


@given(st.data(), st.integers(0, 999))
@settings(max_examples=30)
def test_many_rows_go_through_a_unitary_with_equal_results(data, seed):
    program = data.draw(programs(max_wires=3))
    measured = data.draw(observables(program.n_wires))
    inputs, weights = arguments(2, 17, seed, torch.float64)
    results = []
    for many in (2, 1000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(evolution, "MANY_ROWS", many)
            values = simulate(program, inputs, weights, measured)
            results.append([values, *gradients(values.square(), 1.0, [*inputs.values(), *weights.values()])])
    for unitary, rowwise in zip(*results, strict=True):
        torch.testing.assert_close(unitary, rowwise, atol=1e-11, rtol=0)


@given(st.data(), st.integers(0, 999))
@settings(max_examples=15)
def test_the_written_gradient_equals_that_of_autograd_and_so_do_second_derivatives(data, seed):
    program = data.draw(programs(max_wires=4))
    measured = data.draw(observables(program.n_wires))
    inputs, weights = arguments(2, 3, seed, torch.float64)
    tensors = [*inputs.values(), *weights.values()]
    cotangent = torch.randn(2, 3, len(measured), dtype=torch.float64)

    def first(*tensors):
        given = dict(zip(inputs, tensors, strict=False)), dict(zip(weights, tensors[len(inputs) :], strict=True))
        return (simulate(program, *given, measured) * cotangent).sum() + 0 * sum(tensor.sum() for tensor in tensors)

    plain = torch.func.grad(first, argnums=tuple(range(len(tensors))))
    written = torch.autograd.grad(first(*tensors), tensors, create_graph=True)
    for ours, theirs in zip(gradients(first(*tensors), 1.0, tensors), plain(*tensors), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=0)
    second = gradients(sum(part.square().sum() for part in written), 1.0, tensors)
    truth = torch.func.grad(
        lambda *given: sum(part.square().sum() for part in plain(*given)), argnums=tuple(range(len(tensors)))
    )
    for ours, theirs in zip(second, truth(*tensors), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)


def test_vmap_over_weights():
    x, w = torch.rand(1, 4, 2, dtype=torch.float64), torch.rand(5, 1, 3, dtype=torch.float64)
    measured = [pauli_z(0), pauli_z(1)]
    mapped = torch.func.vmap(lambda w: simulate(BOTH, {"x": x}, {"w": w}, measured))(w)
    for one, values in zip(w, mapped, strict=True):
        torch.testing.assert_close(simulate(BOTH, {"x": x}, {"w": one}, measured), values, atol=1e-14, rtol=0)


@pytest.mark.parametrize("turns", [1, 2, 3, 4, 7])
def test_long_runs_of_rotations_on_one_wire(turns):
    names = ["rx", "rz", "ry"]
    gates = [Gate("h", (0,)), Gate("cx", (0, 1))] + [Gate(names[i % 3], (0,), (i,)) for i in range(turns)]
    program = assemble(2, gates, [Expr("weight", ("w", i)) for i in range(turns)], {}, {"w": (turns,)})
    w = torch.randn(3, turns, dtype=torch.float64, requires_grad=True)
    measured = [pauli_z(0), ((1.0, ((0, "Y"), (1, "X"))),)]
    values, truth = simulate(program, {}, {"w": w}, measured), expectations(program, {}, {"w": w}, measured)
    torch.testing.assert_close(values, truth, atol=1e-12, rtol=0)
    pairs = zip(gradients(values, 1.0, [w]), gradients(truth, 1.0, [w]), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


def test_inputs_are_told_apart_by_name_and_not_by_order():
    slots = [Expr("input", ("a", 0)), Expr("input", ("b", 0))]
    program = assemble(2, [Gate("rx", (0,), (0,)), Gate("rx", (1,), (1,))], slots, {"a": (), "b": ()}, {})
    a, b = torch.tensor([[0.3]]), torch.tensor([[1.1]])
    values = simulate(program, {"b": b, "a": a}, {}, z_on_every_wire(2))
    torch.testing.assert_close(values[0, 0], torch.stack([a, b]).flatten().cos())
