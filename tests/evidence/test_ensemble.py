"""Expressibility and entanglement against the values of Sim et al. (2019), closed forms and Haar-random states."""

import math

import numpy as np
import pytest
import torch

from qfedfm.errors import ConfigurationError
from qfedfm.evidence import entangling_capability, expressibility
from qfedfm.evidence.ensemble import haar_entanglement
from qfedfm.quantum import Circuit, Gate, assemble, load, z_on_every_wire
from qfedfm.quantum.expr import Expr


def one_qubit(*names):
    """A circuit of these gates, each rotation with a weight of its own."""
    gates, count = [], 0
    for name in names:
        turns = name.startswith("r")
        gates.append(Gate(name, (0,), (count,) if turns else ()))
        count += turns
    slots = [Expr("weight", ("w", i)) for i in range(count)]
    return Circuit(assemble(1, gates, slots, {}, {"w": (count,)} if count else {}), z_on_every_wire(1))


def arcsine(bins):
    """The divergence of F = cos^2 of a uniform angle, whose distribution is (2 / pi) arcsin sqrt F, from uniform."""
    shares = np.diff(2 / math.pi * np.arcsin(np.sqrt(np.linspace(0, 1, bins + 1))))
    return float(shares @ np.log(shares * bins))


def test_the_idle_circuit_of_sim_2019_has_4_30():
    found = expressibility(one_qubit(), bins=74)  # figure 1 prints 4.30 = log 74, not log 75 = 4.32
    assert found.value == pytest.approx(4.30, abs=0.005)
    assert found.value == pytest.approx(math.log(74))
    assert found.divergence.low == found.divergence.high
    assert expressibility(one_qubit()).value == pytest.approx(math.log(75))


@pytest.mark.parametrize(
    ("gates", "published", "error"),
    [(("h", "rz"), 0.22, 0.010), (("h", "rz", "rx"), 0.02, 0.005)],  # circuits A and B of figure 1
)
def test_one_qubit_circuits_of_sim_2019(gates, published, error):
    # two independent estimates from 5,000 pairs each, and a rounded one: three standard errors of their difference
    found = expressibility(one_qubit(*gates))
    assert abs(found.value - published) < 3 * math.sqrt(2) * error + 0.005


def test_the_arbitrary_unitary_of_sim_2019_is_the_bias_of_5000_pairs():
    # Haar-random states have no divergence; the printed .007 is (75 - 1) / (2 * 5000)
    angle = Expr("weight", ("w", 0))
    haar = [angle, (Expr("weight", ("w", 1)) / math.pi).arccos()]  # cos(polar angle) uniform in [-1, 1]
    program = assemble(1, [Gate("ry", (0,), (1,)), Gate("rz", (0,), (0,))], haar, {}, {"w": (2,)})
    found = expressibility(Circuit(program, z_on_every_wire(1)))
    assert found.floor == pytest.approx(0.007, abs=0.0005)
    assert found.value == pytest.approx(found.floor, abs=0.004)
    assert found.divergence.low == 0
    assert "not told from Haar-random states" in found.verdict


def test_the_order_of_sim_2019_is_found():
    circuits = [one_qubit(), one_qubit("h", "rz"), one_qubit("h", "rz", "rx")]
    a, b, c = (expressibility(circuit, bins=74).divergence for circuit in circuits)
    assert a.low > b.high
    assert b.low > c.high


def test_the_interval_covers_the_exact_divergence():
    # 100 seeds: binomial(100, .95) is at least 88 with 99.8 %
    circuit, exact = one_qubit("h", "rz"), arcsine(75)
    found = [expressibility(circuit, pairs=2000, seed=seed).divergence for seed in range(100)]
    assert sum(d.low <= exact <= d.high for d in found) >= 88
    assert np.mean([d.mean for d in found]) == pytest.approx(exact, abs=0.006)


@pytest.mark.parametrize(("n", "haar_bins"), [(3, False), (8, True)])
def test_a_deep_circuit_is_not_told_from_haar(n, haar_bins):
    circuit = load("strongly_entangling", {"n": n, "layers": 6})
    assert expressibility(circuit, haar_bins=haar_bins).divergence.low == 0
    shallow = expressibility(load("basic_entangler", {"n": n, "layers": 1}), haar_bins=haar_bins)
    assert shallow.divergence.low > 0.02
    assert shallow.haar.sum() == pytest.approx(1)


def test_bins_of_equal_haar_probability_are_equal_and_capped():
    idle = Circuit(assemble(10, [], [], {}, {}), z_on_every_wire(10))
    found = expressibility(idle, pairs=10, haar_bins=True)
    np.testing.assert_allclose(found.haar, 1 / 75, rtol=1e-9)
    assert found.value == pytest.approx(math.log(75))
    equal = expressibility(idle, pairs=10)  # all in the last bin, whose Haar share is 75^-1023: no underflow
    assert equal.value == pytest.approx(1023 * math.log(75))


def test_capability_of_a_deep_circuit_is_haars_and_of_local_gates_none():
    generator = np.random.default_rng(0)
    random = generator.normal(size=(4000, 8, 2)) @ np.array([1, 1j])
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    first = random.reshape(-1, 2, 4)
    purity = np.mean(np.abs(np.einsum("sai,sbi->sab", first, first.conj())) ** 2, axis=0).sum()
    assert haar_entanglement(3) == pytest.approx(2 * (1 - purity), abs=0.01)
    found = entangling_capability(load("strongly_entangling", {"n": 3, "layers": 8}))
    assert found.low - 0.01 <= haar_entanglement(3) <= found.high + 0.01
    assert entangling_capability(load("data_reuploading", {"n": 3, "layers": 1})).high < 1e-12


def test_rows_count_as_part_of_the_ensemble():
    # RX(x) then RX(w) on one wire: weights cover a whole circle whatever x is; x alone moves nothing else
    circuit = load("basic_entangler", {"n": 1, "layers": 1})
    one = expressibility(circuit, torch.tensor([[0.3]]), seed=1).divergence
    assert one.low <= arcsine(75) <= one.high
    with pytest.raises(ConfigurationError, match="bins: expected two or more"):
        expressibility(circuit, bins=1)
    with pytest.raises(ConfigurationError, match="pairs: expected two or more"):
        expressibility(circuit, pairs=1)
