"""Probabilities, samples and reduced states against PennyLane's reductions of its own states, and by hand."""

import math

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import amplitudes, arguments, programs, strongly_entangling
from scipy.stats import chisquare

from qfedfm.errors import CircuitError
from qfedfm.quantum import Gate, assemble, meyer_wallach, probabilities, purity, reduced_density, samples

BELL = assemble(2, [Gate("h", (0,)), Gate("cx", (0, 1))], [], {}, {})
NINE = strongly_entangling(9, 1)
ONE = assemble(3, [Gate("x", (0,))], [], {}, {})


class Constant:
    """Stands for a generator whose every number is the same."""

    def __init__(self, value):
        self.value = value

    def random(self, shape):
        return np.full(shape, self.value)


@given(st.data(), st.integers(1, 2), st.integers(1, 3), st.integers(0, 999))
@settings(max_examples=40)
def test_random_programs_equal_pennylane(data, clients, rows, seed):
    program = data.draw(programs(max_wires=4))
    n = program.n_wires
    wires = data.draw(st.permutations(range(n)))[: data.draw(st.integers(1, n))]
    inputs, weights = arguments(clients, rows, seed, torch.float64)
    truth = amplitudes(program, inputs, weights).detach().to(torch.complex128).flatten(0, 1)
    rho = qml.math.reduce_statevector(truth, wires)
    size = (clients, rows)
    found = probabilities(program, inputs, weights, wires)
    expected = qml.probs(wires=wires).process_state(truth, qml.wires.Wires(range(n)))
    torch.testing.assert_close(found, expected.reshape(*size, -1), atol=1e-12, rtol=0)
    found = reduced_density(program, inputs, weights, wires)
    torch.testing.assert_close(found, rho.reshape(*size, 2 ** len(wires), -1), atol=1e-12, rtol=0)
    expected = torch.as_tensor(qml.math.purity(rho, range(len(wires))))
    torch.testing.assert_close(purity(program, inputs, weights, wires), expected.reshape(size), atol=1e-12, rtol=0)


def test_a_bell_pair_by_hand():
    tolerance = {"atol": 1e-6, "rtol": 0}
    torch.testing.assert_close(probabilities(BELL, {}, {}), torch.tensor([[[0.5, 0, 0, 0.5]]]), **tolerance)
    half = torch.eye(2, dtype=torch.complex64) / 2
    torch.testing.assert_close(reduced_density(BELL, {}, {}, [1]), half[None, None], **tolerance)
    whole = torch.zeros(1, 1, 4, 4, dtype=torch.complex64)
    whole[..., ::3, ::3] = 0.5
    torch.testing.assert_close(reduced_density(BELL, {}, {}, [0, 1]), whole, **tolerance)
    for wires, expected in (([0], 0.5), ([0, 1], 1.0), ([], 1.0)):
        assert purity(BELL, {}, {}, wires).item() == pytest.approx(expected, abs=1e-6)


def test_the_first_wire_asked_for_is_the_most_significant():
    assert probabilities(ONE, {}, {}).argmax().item() == 0b100
    assert probabilities(ONE, {}, {}, [2, 0]).argmax().item() == 0b01
    assert samples(ONE, {}, {}, 5, np.random.default_rng(0), [0, 1]).tolist() == [[[0b10] * 5]]


def test_gradients_equal_finite_differences():
    program = strongly_entangling(3, 1)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 2, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    w = torch.randn(2, 1, 3, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    for measure in (probabilities, reduced_density, purity):
        assert torch.autograd.gradcheck(lambda x, w, of=measure: of(program, {"x": x}, {"w": w}, [2, 0]), (x, w))


def test_samples_follow_the_probabilities():
    # chi-square over 8 outcomes, 20,000 shots for each of 2 x 2 circuits; a right sampler fails below p = 1e-4 once in
    # 2,500 seeds, and the seed is fixed
    program, generator = strongly_entangling(3, 2), torch.Generator().manual_seed(4)
    inputs = {"x": torch.randn(2, 2, 3, generator=generator)}
    weights = {"w": torch.randn(2, 2, 3, 3, generator=generator)}
    drawn = samples(program, inputs, weights, 20_000, np.random.default_rng(11), [2, 0, 1])
    assert (drawn.shape, drawn.dtype) == ((2, 2, 20_000), torch.int64)
    expected = probabilities(program, inputs, weights, [2, 0, 1]).double()
    for counted, wanted in zip(drawn.flatten(0, 1), expected.flatten(0, 1), strict=True):
        counts = np.bincount(counted.numpy(), minlength=8)
        assert chisquare(counts, (wanted / wanted.sum() * 20_000).numpy()).pvalue > 1e-4


def test_samples_of_clients_and_rows_are_independent():
    # two fair coins in each of 2 x 1 circuits: agreement between clients is binomial, 1/2 +- .005 at 10,000 shots
    plus = assemble(1, [Gate("h", (0,))], [], {}, {"w": (1,)})
    drawn = samples(plus, {}, {"w": torch.zeros(2, 1)}, 10_000, np.random.default_rng(2))
    assert (drawn[0] == drawn[1]).double().mean().item() == pytest.approx(0.5, abs=4 * 0.005)


@pytest.mark.parametrize(
    ("uniform", "program", "outcome"),
    [
        (0.0, BELL, 0),
        (0.0, ONE, 4),
        (0.49, BELL, 0),
        (0.51, BELL, 3),
        (math.nextafter(1, 0), BELL, 3),
        (math.nextafter(1, 0), ONE, 4),
    ],
)
def test_impossible_outcomes_are_never_drawn_not_even_at_the_ends(uniform, program, outcome):
    assert samples(program, {}, {}, 1, Constant(uniform)).item() == outcome


def test_the_seed_decides_the_samples():
    program = strongly_entangling(4, 1)
    arguments = {"x": torch.ones(1, 3, 4)}, {"w": torch.ones(1, 1, 4, 3, requires_grad=True)}
    first, again, other = (samples(program, *arguments, 50, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_many_wires_are_kept_apart():
    program = assemble(14, [Gate("x", (3,)), Gate("h", (12,))], [], {}, {})
    found = probabilities(program, {}, {}, [12, 3]).flatten()
    torch.testing.assert_close(found, torch.tensor([0, 0.5, 0, 0.5]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: probabilities(BELL, {}, {}, [0, 0]), r"different wires within 0\.\.1; got \[0, 0\]"),
        (lambda: reduced_density(BELL, {}, {}, [2]), r"different wires within 0\.\.1; got \[2\]"),
        (lambda: purity(BELL, {}, {}, [-1]), r"got \[-1\]"),
        (lambda: samples(BELL, {}, {}, 0, np.random.default_rng()), "one shot or more; got 0"),
        (lambda: reduced_density(BELL, {}, {}, [0, 1], budget=64), "the budget is"),
        (lambda: reduced_density(NINE, {"x": torch.ones(1, 4, 9)}, {"w": torch.ones(1, 1, 9, 3)}, range(9), 2**20),
         "4 density matrices on 9 wires"),
    ],
)  # fmt: skip
def test_refusals(call, message):
    with pytest.raises(CircuitError, match=message):
        call()


def state(n, *gates):
    return meyer_wallach(assemble(n, [Gate(*gate) for gate in gates], [], {}, {}), {}, {}).item()


def test_meyer_wallach_of_known_states():
    ghz = [("h", (0,)), *(("cx", (0, i)) for i in range(1, 4))]
    assert state(3, ("h", (0,)), ("ry", (1,), (0.7,))) == pytest.approx(0, abs=1e-6)
    assert state(2, ("h", (0,)), ("cx", (0, 1))) == pytest.approx(1, abs=1e-6)
    assert state(4, *ghz) == pytest.approx(1, abs=1e-6)
    assert state(4, ("h", (0,)), ("cx", (0, 1))) == pytest.approx(0.5, abs=1e-6)  # a pair and two bystanders
    # the W state of three: each qubit is diag(2/3, 1/3), so Q = 2 (1 - 5/9) = 8/9
    angle = 2 * math.acos(1 / math.sqrt(3))
    w = state(3, ("ry", (0,), (angle,)), ("ch", (0, 1)), ("cx", (1, 2)), ("cx", (0, 1)), ("x", (0,)))
    assert w == pytest.approx(8 / 9, abs=1e-6)


@given(st.data(), st.integers(0, 999))
@settings(max_examples=25)
def test_meyer_wallach_of_random_programs_is_that_of_pennylanes_states(data, seed):
    program = data.draw(programs(max_wires=4))
    inputs, weights = arguments(2, 2, seed, torch.float64)
    truth = amplitudes(program, inputs, weights).detach().to(torch.complex128).flatten(0, 1)
    purities = [
        torch.as_tensor(qml.math.purity(qml.math.reduce_statevector(truth, [wire]), [0]))
        for wire in range(program.n_wires)
    ]
    expected = 2 * (1 - torch.stack(purities).mean(0)).reshape(2, 2)
    torch.testing.assert_close(meyer_wallach(program, inputs, weights), expected, atol=1e-12, rtol=0)
