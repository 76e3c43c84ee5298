import math

import numpy as np
import pennylane as qml
import pytest
import torch
from reference import OPERATIONS

from qfedfm.errors import CircuitError
from qfedfm.quantum.expr import Expr
from qfedfm.quantum.gates import GATES
from qfedfm.quantum.program import Gate, assemble
from qfedfm.quantum.statevector import simulate

PERIODS = {"rx": 2, "ry": 2, "rz": 2, "p": 2, "cp": 2, "crx": 4, "cry": 4, "crz": 4, "rxx": 2, "ryy": 2, "rzz": 2}
"""In units of pi, for expectation values: the controlled rotations tell R(2 pi) = -1 from R(0) = 1."""


@pytest.mark.parametrize("name", GATES)
def test_matrix_equals_pennylane(name):
    kind = GATES[name]
    angles = [torch.tensor([[0.7, -2.0, 9.0]], dtype=torch.float64)] * kind.angles
    matrices = kind.matrix(*angles)
    assert matrices.shape == ((1, 3) if angles else ()) + (2**kind.wires, 2**kind.wires)
    wires = list(range(kind.wires))
    if not angles:
        np.testing.assert_allclose(matrices, qml.matrix(OPERATIONS[name](wires=wires), wires), atol=1e-15)
    for column in range(3 * kind.angles):
        truth = qml.matrix(OPERATIONS[name](angles[0][0, column].item(), wires=wires), wires)
        np.testing.assert_allclose(matrices[0, column], truth, atol=1e-14)
        np.testing.assert_allclose(kind.unitary(angles[0][0, column].item()), truth, atol=1e-14)


@pytest.mark.parametrize("name", GATES)
def test_kind_is_told_by_the_matrix(name):
    kind = GATES[name]
    matrix = kind.unitary(0.7)
    off_diagonal = np.abs(matrix - np.diag(np.diag(matrix))).max()
    assert kind.diagonal == (off_diagonal < 1e-12)
    if kind.permutation:
        assert matrix[list(kind.permutation), range(len(matrix))].tolist() == [1] * len(matrix)


def test_every_gate_with_an_angle_has_a_period():
    assert PERIODS.keys() == {name for name, kind in GATES.items() if kind.angles}


@pytest.mark.parametrize("name", PERIODS)
@pytest.mark.parametrize("factor", [1.0, 0.5, -2.0])
def test_a_weight_may_be_shifted_by_its_period_and_not_by_half_of_it(name, factor):
    wires = tuple(range(GATES[name].wires))
    before = [Gate("ry", (0,), (0.4,)), Gate("rx", (1,), (1.1,)), Gate("rz", (1,), (0.3,)), Gate("rx", (0,), (0.9,))]
    turn, after = Gate(name, wires, (0,)), [Gate("cx", (0, 1)), Gate("ry", (0,), (0.8,)), Gate("rx", (1,), (-0.7,))]
    program = assemble(2, [*before, turn, *after], [factor * Expr("weight", ("w", 0))], {}, {"w": ()})
    period = program.weights[0].period
    assert period == pytest.approx(PERIODS[name] * math.pi / abs(factor))
    measured = [((1.0, word),) for a in "XYZ" for b in "XYZ" for word in [((0, a),), ((1, b),), ((0, a), (1, b))]]
    shifts = torch.tensor([0.2, 0.2 + period, 0.2 + period / 2], dtype=torch.float64)
    start, whole, half = simulate(program, {}, {"w": shifts}, measured)[:, 0]
    torch.testing.assert_close(start, whole, atol=1e-12, rtol=0)
    assert (start - half).abs().max() > 0.05


def test_a_missing_angle_is_refused():
    with pytest.raises(CircuitError, match="takes 1 angles; got 0"):
        GATES["rx"].matrix()
