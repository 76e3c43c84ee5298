"""Gradient variances against closed forms, light cones, and the warning that is drawn from them."""

import math

import numpy as np
import pennylane as qml
import pytest
import torch

import qfedfm as qf
from qfedfm.errors import CircuitError, ConfigurationError
from qfedfm.evidence import gradient_scaling, gradient_variance, light_cones, plateau_warning
from qfedfm.heads import Kernel, Linear, Parallel, Variational
from qfedfm.quantum import Circuit, Gate, assemble, load, z_on_every_wire
from qfedfm.quantum.expr import Expr


def product(n, observable, gate="ry"):
    """One rotation on every wire: the ansatz of Cerezo et al.'s warm-up example."""
    gates = [Gate(gate, (i,), (i,)) for i in range(n)]
    slots = [Expr("weight", ("w", i)) for i in range(n)]
    return Circuit(assemble(n, gates, slots, {}, {"w": (n,)}), (observable,))


def all_zeros(n):
    """1 - |0..0><0..0| in Pauli words, but for its constant."""
    words = (tuple((i, "Z") for i in range(n) if subset >> i & 1) for subset in range(1, 2**n))
    return tuple((-(2.0**-n), word) for word in words)


def averaged_zeros(n):
    """1 - mean over wires of |0><0|, but for its constant."""
    return tuple((-0.5 / n, ((i, "Z"),)) for i in range(n))


def covers(interval, exact, errors=3.0):
    """Within three standard errors: missed once in 370 by an unlucky seed, and the seeds are fixed."""
    half = (interval.high - interval.low) / 2
    return abs(interval.mean - exact) <= errors / 1.96 * half


def test_one_rotation_has_half():
    # d<Z>/dw = -sin w over a whole turn
    found = gradient_variance(product(1, ((1.0, ((0, "Z"),)),)), samples=4000)
    assert covers(found.variance, 0.5)
    assert found.variance.high - found.variance.low < 0.03


@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_global_cost_of_cerezo_2021_vanishes_as_three_eighths_to_the_n(n):
    # C = 1 - prod cos^2(w_i / 2): Var = 1/8 (3/8)^(n - 1), their equation (4)
    found = gradient_variance(product(n, all_zeros(n)), samples=4000)
    assert covers(found.variance, (3 / 8) ** (n - 1) / 8)


@pytest.mark.parametrize("n", [1, 4, 8])
def test_the_local_cost_of_cerezo_2021_vanishes_as_one_over_n_squared(n):
    # C = 1 - mean cos^2(w_i / 2): Var = 1 / (8 n^2), their equation (6)
    found = gradient_variance(product(n, averaged_zeros(n), "rx"), samples=2000)
    assert covers(found.variance, 1 / (8 * n**2))


def test_a_pauli_word_on_every_wire_halves_with_each():
    found = gradient_variance(product(5, ((1.0, tuple((i, "Z") for i in range(5))),)), samples=4000)
    assert covers(found.variance, 2.0**-5)


def test_the_middle_of_a_deep_circuit_is_mcclean_2018s_2_design():
    # both sides Haar: Var = N^2 / (2 (N^2 - 1) (N + 1)) for a Pauli rotation and a Pauli observable
    circuit = load("strongly_entangling", {"n": 3, "layers": 16})
    found = gradient_variance(circuit, samples=300)
    middle = found.each.reshape(3, 16, 9)[:, 6:10].mean()
    assert middle == pytest.approx(64 / (2 * 63 * 9), rel=0.05)


def test_gradients_outside_the_light_cone_are_exactly_zero():
    circuit = load("data_reuploading", {"n": 4, "layers": 2})  # CZ joins only the pairs 01 and 23
    found = gradient_variance(circuit, samples=8)
    of_wire = np.array([int(name.split("[")[1].split(",")[1]) for name in found.names])
    for k in range(4):
        assert (found.each[k, of_wire // 2 != k // 2] == 0).all()
        assert (found.each[k, of_wire // 2 == k // 2] > 0).any()
    assert [cone.wires for cone in light_cones(circuit)] == [2, 2, 2, 2]


def test_each_gradient_is_pennylanes():
    circuit = load("angle_ring", {"n": 3, "layers": 1})
    found = gradient_variance(circuit, torch.tensor([[0.3, -0.8, 1.1]], dtype=torch.float64), samples=4, seed=3)
    weights = torch.from_numpy(qf.seeds.stream(3, "gradients").uniform(-math.pi, math.pi, (4, 2, 3)))

    @qml.qnode(qml.device("default.qubit", wires=3), interface="torch", diff_method="parameter-shift")
    def expectations(w):
        for wire, x in enumerate([0.3, -0.8, 1.1]):
            qml.RY(x, wire)
        for wire in range(3):
            qml.RY(w[0, wire], wire)
        for a, b in ((0, 1), (1, 2), (2, 0)):
            qml.CZ((a, b))
        for wire in range(3):
            qml.RY(w[1, wire], wire)
        return [qml.expval(qml.Z(wire)) for wire in range(3)]

    def stacked(w):
        return torch.stack(expectations(w))

    jacobians = torch.stack([torch.autograd.functional.jacobian(stacked, w).reshape(3, 6) for w in weights])
    np.testing.assert_allclose(found.each, jacobians.var(0).numpy(), atol=1e-12)


def test_strongly_entangling_layers_have_four_dead_angles():
    found = gradient_variance(load("strongly_entangling"), samples=50)
    assert (int(found.live.sum()), len(found.live)) == (20, 24)
    assert (found.to_frame().query("not live").variance == 0).all()


def test_the_interval_covers_the_truth_as_often_as_it_says():
    # 200 seeds of 60 sets: binomial(200, .95) lies in 179..199 with 99.9 %; skewness costs some
    circuit = product(2, all_zeros(2))
    hits = 0
    for seed in range(200):
        v = gradient_variance(circuit, samples=60, seed=seed).variance
        hits += v.low <= 3 / 64 <= v.high
    assert 176 <= hits <= 199


def test_the_warning_comes_where_gradients_sink_below_shot_noise():
    wide = product(10, ((1.0, tuple((i, "Z") for i in range(10))),))  # variance 2^-10, so 512 shots match it
    found = gradient_variance(wide, samples=4000)
    assert found.shots == pytest.approx(512, rel=0.15)
    assert found.warning(2048) is None
    warning = found.warning(128)
    assert warning is not None
    assert "below the shot noise of 0.0625 at 128 shots" in warning
    assert found.verdict.startswith("circuit: gradients at random weights")


def test_the_criterion_is_the_noise_of_a_shift_rule():
    # (f+ - f-) / 2 from S shots each: measured against 1 / (2 S), which it reaches where <Z> is 0
    generator, shots = np.random.default_rng(0), 100
    f = [1 - 2 * generator.binomial(shots, 0.5, 20000) / shots for _ in range(2)]
    assert np.var((f[0] - f[1]) / 2) == pytest.approx(1 / (2 * shots), rel=0.05)


def test_a_quick_warning_agrees_with_the_full_one():
    small = Variational("strongly_entangling", {"n": 4, "layers": 2}).bind(8, 2)
    assert plateau_warning(small) is None
    assert plateau_warning(small, shots=8) is not None
    large = Variational("strongly_entangling", {"n": 11, "layers": 5}).bind(8, 2)
    assert "11 qubits" in plateau_warning(large)
    flat = Variational("strongly_entangling", {"n": 11, "layers": 5})
    beside = Parallel((Variational("iqp"), Variational("strongly_entangling", {"n": 4, "layers": 2}), flat))
    assert "11 qubits" in plateau_warning(beside.bind(8, 2))  # of circuits side by side every one is looked at
    assert plateau_warning(Linear().bind(8, 2)) is None
    assert plateau_warning(Variational("iqp").bind(8, 2)) is None
    assert plateau_warning(Kernel("angle_ring", landmarks=4).bind(8, 2), shots=1) is None  # its circuit stays as it is


def test_a_circuit_whose_weights_do_nothing_is_called_so():
    circuit = product(2, ((1.0, ((0, "Z"),)),), "rz")
    found = gradient_variance(circuit, samples=10)
    assert found.variance.mean == 0
    assert found.shots == math.inf
    assert "nothing to train" in found.verdict
    head = Variational(Circuit(_with_input(circuit.program), circuit.observables))
    assert "nothing to train" in plateau_warning(head.bind(3, 2))


def _with_input(program):
    gates = [Gate("rz", (0,), (0,)), Gate("rx", (1,), (1,))]
    return assemble(2, gates, [Expr("weight", ("w", 0)), Expr("input", ("x", 0))], {"x": (1,)}, {"w": (2,)})


def test_scaling_tells_a_plateau_from_none():
    def wide(n, layers):
        return Variational(product(n, ((1.0, tuple((i, "Z") for i in range(n))),)))

    def flat(n, layers):
        return Variational(Circuit(product(n, ((1.0, ((0, "Z"),)),)).program, z_on_every_wire(1)))

    found = gradient_scaling(wide, (2, 4, 6), (1,), samples=1000)
    assert covers(found.factors[1], 2.0)
    assert "falls exponentially" in found.verdict
    assert list(found.to_frame().qubits) == [2, 4, 6]
    assert "no exponential loss is shown" in gradient_scaling(flat, (2, 4, 6), (1,), samples=200).verdict


def test_what_cannot_be_estimated_is_refused():
    circuit = load("angle_ring")
    with pytest.raises(ConfigurationError, match="samples: expected two or more"):
        gradient_variance(circuit, samples=1)
    with pytest.raises(CircuitError, match="'iqp' has no weights"):
        gradient_variance(load("iqp"))
    with pytest.raises(ConfigurationError, match=r"angles of circuit 'angle_ring' are \('rows', 4\); got \(2, 3\)"):
        gradient_variance(circuit, torch.zeros(2, 3))
    with pytest.raises(ConfigurationError, match="should be finite"):
        gradient_variance(circuit, torch.full((2, 4), math.nan))
    with pytest.raises(ConfigurationError, match="three different numbers of qubits"):
        gradient_scaling(lambda n, layers: Variational(), (2, 4), (1,))


def test_a_head_that_is_not_bound_and_no_shots_are_refused():
    head = Variational("strongly_entangling", {"n": 2, "layers": 1})
    with pytest.raises(ConfigurationError, match=r"expected a bound head.*got Variational"):
        plateau_warning(head)
    with pytest.raises(ConfigurationError, match="shots: expected one or more; got 0"):
        plateau_warning(head.bind(3, 2), shots=0)
    with pytest.raises(ConfigurationError, match="shots: expected one or more; got 0"):
        qf.evidence.trainability(head, shots=0)
