"""What every machine owes its users, checked on all of `machines.MACHINES`.

Seeds are fixed, so a test that passes once passes always; the stated false-alarm rates say how likely an innocent
machine with new random numbers would have failed.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from machines import MACHINES, Case, ideal
from scipy import stats

from qfedfm.backends import Exact, Executor, Handle, ParameterShift, Session
from qfedfm.backends.contract import Measured
from qfedfm.backends.flat import ANGLES
from qfedfm.errors import BackendError
from qfedfm.kinds import build, kind_of, to_table
from qfedfm.quantum.expr import Expr
from qfedfm.quantum.gates import GATES
from qfedfm.quantum.program import Gate, Observable, Program, assemble, pauli_z, z_on_every_wire

WIRES = 3
MIXED: tuple[Observable, ...] = (
    ((0.7, ((0, "X"), (2, "Y"))), (-0.4, ((1, "Z"),))),
    ((1.0, ((1, "Y"),)), (0.25, ()), (0.5, ((0, "Z"), (1, "X"), (2, "Z")))),
)


def flat(gates: list[tuple[str, tuple[int, ...]]], n_wires: int = WIRES) -> Program:
    made, slots = [], 0
    for name, wires in gates:
        made.append(Gate(name, wires, tuple(range(slots, slots + GATES[name].angles))))
        slots += GATES[name].angles
    return assemble(n_wires, made, [Expr("input", (ANGLES, i)) for i in range(slots)], {ANGLES: (slots,)}, {})


def random_program(seed: int) -> Program:
    """Every gate once, in random order on random wires."""
    random = np.random.default_rng(seed)
    names = random.permutation(list(GATES))
    return flat([(str(name), tuple(random.permutation(WIRES)[: GATES[name].wires].tolist())) for name in names])


TURNS = flat(
    [
        *(("ry", (0,)), ("rx", (1,)), ("ry", (2,)), ("cx", (0, 1))),
        *(("rz", (1,)), ("cx", (1, 2)), ("rx", (2,)), ("ry", (1,))),
    ]
)
DISTINCT = np.array([[2.9, 0.0, 2.3, 1.3, 2.1, 0.6]])


@pytest.fixture(params=MACHINES, ids=lambda case: case.name)
def case(request) -> Case:
    if request.param.needs:
        pytest.importorskip(request.param.needs)
    return request.param


def measured(case: Case, program, observables, angles, shots="declared", key="a", seed=0) -> Measured:
    machine = case.backend.connect(Session(seed))
    compiled = machine.compile(program, observables)
    shots = case.backend.shots if isinstance(shots, str) else shots
    return machine.collect(machine.submit(compiled, angles, shots, key))


def check(case: Case, found: Measured, expected: np.ndarray) -> None:
    """Compare with the reference: exact to 1e-10; sampled by one chi-square test for each observable.

    Rows are independent and shots many, so that the sum over rows of squared deviations over variances follows a
    chi-square distribution. Both tails count, false-alarm rate 1e-5 for each observable.
    """
    assert found.values.shape == found.variances.shape == expected.shape
    if case.backend.shots is None:
        np.testing.assert_allclose(found.values, expected, atol=1e-10)
        assert not found.variances.any()
        return
    deviations = (found.values - expected) ** 2 / found.variances
    total, rows = deviations.sum(axis=0), len(expected)
    assert (stats.chi2.sf(total, rows) > 5e-6).all(), deviations
    assert (stats.chi2.cdf(total, rows) > 5e-6).all(), deviations


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_circuits_over_all_gates_agree_with_the_reference(case, seed):
    program, observables = random_program(seed), (*z_on_every_wire(WIRES), *MIXED)
    angles = np.random.default_rng(seed).uniform(-7, 7, size=(4, len(program.slots)))
    check(case, measured(case, program, observables, angles), case.reference(program, observables, angles))


def test_an_asymmetric_circuit_catches_exchanged_wires_and_letters(case):
    words = [((0, "Z"),), ((1, "Z"),), ((2, "Z"),), ((0, "X"), (1, "Y")), ((1, "Z"), (2, "X"))]
    observables = tuple(((1.0, word),) for word in words)
    expected = case.reference(TURNS, observables, DISTINCT)
    pure = ideal(TURNS, observables, DISTINCT)
    gaps = np.abs(pure[0][:, None] - pure[0]) + np.eye(len(observables))
    assert gaps.min() > 0.1, pure  # no two are alike, nor one the other's negative
    assert (np.abs(pure[0][:, None] + pure[0]) + np.eye(len(observables))).min() > 0.1
    np.testing.assert_allclose(expected, pure, atol=0.25)  # noise moves them by less
    found = measured(case, TURNS, observables, DISTINCT)
    check(case, found, expected)
    np.testing.assert_allclose(found.values, expected, atol=1e-10 if case.backend.shots is None else 0.1)


def test_a_circuit_without_angles_has_rows_all_the_same(case):
    program = flat([("h", (0,)), ("cx", (0, 1)), ("t", (1,)), ("h", (1,)), ("x", (2,))])
    observables, angles = (*z_on_every_wire(WIRES), *MIXED), np.empty((3, 0))
    found = measured(case, program, observables, angles)
    expected = case.reference(program, observables, angles)
    assert found.values.shape == (3, 5)
    # sampled: five deviations of 2000 shots, false-alarm rate 1e-5
    np.testing.assert_allclose(found.values, expected, atol=1e-10 if case.backend.shots is None else 5 * 2000**-0.5)
    assert len({tuple(row) for row in found.values}) == (1 if case.backend.shots is None else 3)


def test_misreading_is_part_of_a_noisy_machine(case):
    found = measured(case, flat([]), z_on_every_wire(WIRES), np.empty((8, 0))).values.mean(axis=0)
    if case.misreads:
        assert (found < 0.99).all()
    else:
        np.testing.assert_allclose(found, 1, atol=1e-10)


# -- statistics --------------------------------------------------------------------------------------------------------


def test_variances_are_those_of_repetitions(case):
    rows = 600
    observables = (pauli_z(0), *MIXED)
    shots = None if case.backend.shots is None else 100
    found = measured(case, TURNS, observables, np.repeat(DISTINCT, rows, axis=0), shots)
    if case.backend.shots is None:
        assert not found.variances.any()
        assert np.ptp(found.values, axis=0).max() < 1e-12
        return
    ratio = found.values.var(axis=0, ddof=1) / found.variances.mean(axis=0)
    # estimated from 600 rows a variance is uncertain by sqrt(2 / 600) = 6 %; 27 % is 4.7 deviations: 1e-5 for three
    assert (np.abs(ratio - 1) < 0.27).all(), ratio


def test_every_row_has_the_shots_it_was_given(case):
    if case.backend.shots is None:
        found = measured(case, TURNS, MIXED, DISTINCT)
        assert (found.shots.tolist(), found.cost.shots) == ([0], 0)
        return
    counts = np.array([100, 6400, 400, 6400, 100, 1600])
    found = measured(case, TURNS, MIXED, np.repeat(DISTINCT, len(counts), axis=0), counts)
    settings = found.cost.circuits // len(counts)
    assert settings == 3  # X0 Y2 Z1; Y1; Z0 X1 Z2
    np.testing.assert_array_equal(found.shots, counts * settings)
    assert found.cost.shots == counts.sum() * settings
    one_shot = found.variances * counts[:, None]  # all rows estimate the same number, the shortest within 30 %
    assert (np.abs(one_shot / one_shot[1] - 1) < 0.5).all()
    assert (np.abs(one_shot[3] / one_shot[1] - 1) < 0.1).all()


def test_the_key_decides_the_random_numbers(case):
    names = (("a", 0), ("a", 0), ("b", 0), ("a", 1))
    runs = [measured(case, TURNS, MIXED, DISTINCT, key=key, seed=seed).values for key, seed in names]
    same = [np.array_equal(runs[0], run) for run in runs[1:]]
    assert same == ([True, True, True] if case.backend.shots is None else [True, False, False])


def test_gradients_by_parameter_shift_point_where_the_exact_one_does(case):
    observables = ((((1.0, ((0, "Z"),)), (0.5, ((2, "X"),)), (-0.8, ((1, "Z"), (2, "Z"))))),)
    found, exact = [], []
    for way, machine, shots in ((found, case.backend, case.backend.shots), (exact, Exact(), None)):
        executor = Executor(machine.connect(Session()), shots, ParameterShift())
        angles = torch.from_numpy(DISTINCT)[None].requires_grad_()
        executor(TURNS, {ANGLES: angles}, {}, observables).sum().backward()
        assert executor.jobs == 1
        way.append(angles.grad.flatten())
    assert exact[0].norm() > 0.5
    assert torch.cosine_similarity(found[0], exact[0], dim=0) >= case.cosine


# -- the contract ------------------------------------------------------------------------------------------------------


def test_what_is_estimated_is_what_is_done(case):
    machine = case.backend.connect(Session())
    compiled = machine.compile(TURNS, MIXED)
    angles = np.repeat(DISTINCT, 5, axis=0)
    estimate = machine.estimate(compiled, 5, case.backend.shots)
    found = machine.collect(machine.submit(compiled, angles, case.backend.shots, "k"))
    assert (estimate.circuits, estimate.shots) == (found.cost.circuits, found.cost.shots)
    assert found.cost.shots == found.shots.sum() == 15 * (case.backend.shots or 0)


def test_a_handle_survives_as_json_and_is_collected_once(case):
    machine = case.backend.connect(Session())
    compiled = machine.compile(TURNS, MIXED)
    handles = [machine.submit(compiled, DISTINCT, case.backend.shots, key) for key in ("first", "second")]
    assert handles[0].backend == machine.name
    later = machine.collect(Handle.from_json(handles[1].to_json()))
    first = machine.collect(handles[0])
    np.testing.assert_array_equal(later.values, measured(case, TURNS, MIXED, DISTINCT, key="second").values)
    assert first.values.shape == (handles[0].rows, 2)
    with pytest.raises(BackendError, match="holds no submission 'first'"):
        machine.collect(handles[0])


@pytest.mark.parametrize("shape", [(6,), (1, 5), (2, 7), (1, 1, 6)])
def test_angles_of_another_shape_are_refused(case, shape):
    with pytest.raises(BackendError, match=r"expected angles \(rows, 6\); got"):
        measured(case, TURNS, MIXED, np.zeros(shape))


def test_shots_that_make_no_sense_are_refused(case):
    if case.backend.shots is None and not case.either:
        with pytest.raises(BackendError, match="shots"):
            measured(case, TURNS, MIXED, DISTINCT, 100)
        return
    for wrong in (0, -1, np.array([0])):
        with pytest.raises(BackendError, match="at least one shot; got"):
            measured(case, TURNS, MIXED, DISTINCT, wrong)
    if not case.either:
        with pytest.raises(BackendError, match="shots"):
            measured(case, TURNS, MIXED, DISTINCT, None)
    with pytest.raises(BackendError, match="shots"):
        measured(case, TURNS, MIXED, np.repeat(DISTINCT, 3, axis=0), np.array([10, 20]))


def test_a_declaration_comes_back_from_toml(case):
    problems: list[str] = []
    assert build(type(case.backend), to_table(case.backend), "backend", Path(), problems) == case.backend
    assert (problems, kind_of(case.backend)) == ([], type(case.backend).__name__)
