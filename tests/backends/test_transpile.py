"""Transpilation: the best of many, the same again from disk, and no wire mixed up."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from qiskit import QuantumCircuit
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import Statevector
from qiskit_ibm_runtime.fake_provider import FakeEssexV2, FakeFractionalBackend, FakeKyoto, FakeManilaV2, FakeTorino

from qfedfm.backends import flatten
from qfedfm.backends.folding import fold, fold_circuit
from qfedfm.backends.measurement import readings
from qfedfm.backends.transpile import compile_for, duration_seconds, fidelity, usable
from qfedfm.errors import BackendError
from qfedfm.quantum import Gate, assemble, load, simulate

OBSERVABLES = (
    ((1.0, ((0, "Z"),)),),
    ((1.0, ((1, "Z"),)),),
    ((1.0, ((2, "Z"), (3, "Z"))),),
    ((0.5, ((0, "X"), (2, "Y"))), (0.25, ())),
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QFEDFM_CACHE", str(tmp_path))
    return tmp_path


def asymmetric():
    """A flat program whose wires can be told apart, on a ring that no line of qubits offers."""
    gates = [Gate("ry", (w,), (0.3 + 0.4 * w,)) for w in range(4)]
    gates += [Gate("cx", (0, 2)), Gate("rzz", (0, 3), (0.9,)), Gate("cry", (3, 1), (1.1,)), Gate("rx", (2,), (0.5,))]
    return assemble(4, gates, [], {}, {"v": ()})  # v is in no gate: it makes simulations use float64


def exact(program):
    return simulate(program, {}, {"v": torch.zeros(1, dtype=torch.float64)}, OBSERVABLES)[0, 0].numpy()


def compact(circuit: QuantumCircuit) -> tuple[QuantumCircuit, list[int]]:
    """Return the unmeasured part of a circuit on its used qubits, and the places of its outcome bits."""
    used = sorted({circuit.find_bit(q).index for item in circuit.data for q in item.qubits})
    small = QuantumCircuit(len(used), global_phase=circuit.global_phase)
    places = {}
    for item in circuit.data:
        where = [used.index(circuit.find_bit(q).index) for q in item.qubits]
        if item.operation.name == "measure":
            places[circuit.find_bit(item.clbits[0]).index] = where[0]
        else:
            small.append(item.operation, where)
    return small, [places[bit] for bit in range(len(places))]


@pytest.mark.parametrize("device", [FakeManilaV2, FakeEssexV2, FakeFractionalBackend, FakeTorino])
@pytest.mark.parametrize("scale", [1, 3])
def test_each_setting_has_the_probabilities_of_the_program(device, scale):
    program, made = asymmetric(), readings(OBSERVABLES)
    found = compile_for(device(), program, made.settings, seeds=3, scale=scale)
    values = made.constant.copy()
    for setting, circuit in zip(made.settings, found.circuits, strict=True):
        small, places = compact(circuit)
        values += Statevector(small).probabilities(places) @ setting.table
    np.testing.assert_allclose(values, exact(program), atol=1e-10)
    assert len(set(np.round(np.abs(values), 3))) == len(values)  # no two could be exchanged unnoticed


def test_only_gates_of_the_device_are_left_and_no_fractional_ones():
    found = compile_for(FakeFractionalBackend(), asymmetric(), readings(OBSERVABLES).settings, seeds=2)
    assert {"rx", "rzz"} <= set(FakeFractionalBackend().operation_names)
    assert {name for circuit in found.circuits for name in circuit.count_ops()} <= {"rz", "sx", "x", "cx", "measure"}


def test_broken_couplings_are_not_used():
    # the snapshot of torino reports an error of 1 for 22 couplings, that of kyoto for so many that 4 qubits are nowhere
    device = FakeTorino()
    broken = {where for where, told in device.target["cz"].items() if told.error == 1}
    assert len(broken) == 22
    assert not broken & usable(device.target)["cz"].keys()
    assert usable(device.target)["cz"].keys() | broken == device.target["cz"].keys()
    whole = FakeManilaV2().target
    assert usable(whole) is whole
    with pytest.raises(BackendError, match=r"reported broken are not used\): use another"):
        compile_for(FakeKyoto(), asymmetric(), [], seeds=1)


def test_more_seeds_are_never_worse_and_the_score_is_the_product_of_fidelities():
    device, made = FakeManilaV2(), readings(OBSERVABLES[:3])
    some = [compile_for(device, asymmetric(), made.settings, seeds=n, cache=False).fidelity for n in (1, 5, 20)]
    assert some == sorted(some)
    by_hand = QuantumCircuit(5, 1)
    by_hand.sx(0)
    by_hand.cx(0, 1)
    by_hand.measure(1, 0)
    target = device.target
    expected = (1 - target["sx"][0,].error) * (1 - target["cx"][0, 1].error) * (1 - target["measure"][1,].error)
    assert fidelity(by_hand, target) == pytest.approx(expected, rel=1e-12)
    assert duration_seconds(by_hand, target) == pytest.approx(by_hand.estimate_duration(target, unit="s"), rel=1e-12)


def test_depth_duration_and_gates_are_qiskits_own():
    device, made = FakeManilaV2(), readings(OBSERVABLES[:3])
    found = compile_for(device, asymmetric(), made.settings, seeds=2)
    (circuit,) = found.circuits
    assert (found.depth, found.two_qubit_gates) == (circuit.depth(), circuit.count_ops()["cx"])
    assert found.duration_s == pytest.approx(circuit.estimate_duration(device.target, unit="s"), rel=1e-12)
    assert found.calibrated == device.properties().last_update_date.isoformat()


def test_a_second_time_nothing_is_transpiled(cache, monkeypatch):
    first = compile_for(FakeManilaV2(), asymmetric(), readings(OBSERVABLES).settings, seeds=4)
    with monkeypatch.context() as patched:
        patched.setattr("qiskit.transpiler.generate_preset_pass_manager", None)
        again = compile_for(FakeManilaV2(), asymmetric(), readings(OBSERVABLES).settings, seeds=4)
        assert (again.layout, again.seed, again.fidelity) == (first.layout, first.seed, first.fidelity)
        assert again.circuits == first.circuits
        with pytest.raises(TypeError):  # other seeds: has to work
            compile_for(FakeManilaV2(), asymmetric(), readings(OBSERVABLES).settings, seeds=5)
    (file,) = (cache / "transpiled").iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    repaired = compile_for(FakeManilaV2(), asymmetric(), readings(OBSERVABLES).settings, seeds=4)
    assert repaired.circuits == first.circuits


def test_a_new_calibration_is_a_new_transpilation(cache):
    device = FakeManilaV2()
    compile_for(device, asymmetric(), [], seeds=1)
    later = device.properties()
    later.last_update_date = later.last_update_date.replace(year=2030)
    device.properties = lambda: later
    assert compile_for(device, asymmetric(), [], seeds=1).calibrated == later.last_update_date.isoformat()
    assert len(list((cache / "transpiled").iterdir())) == 2


def test_what_is_measured_does_not_move_the_layout():
    device, program = FakeTorino(), asymmetric()
    layouts = {
        compile_for(device, program, readings(some).settings, seeds=2).layout for some in (OBSERVABLES, OBSERVABLES[:1])
    }
    assert len(layouts) == 1


def test_qubits_can_be_asked_for():
    program = assemble(3, [Gate("x", (w,)) for w in range(3)], [], {}, {})
    made = readings([((1.0, ((w, "Z"),)),) for w in range(3)])
    found = compile_for(FakeTorino(), program, made.settings, qubits=(60, 3, 17))
    assert found.layout == (60, 3, 17)
    assert [
        circuit.find_bit(i.qubits[0]).index
        for circuit in found.circuits
        for i in circuit.data
        if i.operation.name == "x"
    ]
    with pytest.raises(BackendError, match="5 qubits; the circuit needs 6: use a larger device"):
        compile_for(FakeManilaV2(), assemble(6, [], [], {}, {}), [])
    with pytest.raises(BackendError, match="one transpilation or more; got 0"):
        compile_for(FakeManilaV2(), program, [], seeds=0)


def test_a_device_without_calibration_time_is_not_kept(cache):
    found = compile_for(GenericBackendV2(4, seed=1), asymmetric(), [], seeds=1)
    assert found.calibrated is None
    assert not (cache / "transpiled").exists()


def test_parameters_keep_their_slots():
    circuit = load("strongly_entangling")
    flat = flatten(circuit.program, circuit.observables).program
    found = compile_for(FakeManilaV2(), flat, readings(circuit.observables).settings, seeds=2)
    assert sorted(p.index for p in found.circuits[0].parameters) == list(range(len(flat.slots)))


@pytest.mark.parametrize("scale", [1, 1.5, 2, 3, 5])
def test_folding_changes_no_value_and_scales_the_number_of_gates(scale):
    program = asymmetric()
    folded, source, signs = fold(program, scale)
    assert len(folded.gates) == pytest.approx(scale * len(program.gates), abs=2)
    np.testing.assert_allclose(exact(replace(folded, weights=program.weights)), exact(program), atol=1e-12)
    assert len(source) == len(signs) == 0
    found = compile_for(FakeManilaV2(), program, [], seeds=1, scale=scale)
    plain = compile_for(FakeManilaV2(), program, [], seeds=1)
    assert found.two_qubit_gates == pytest.approx(scale * plain.two_qubit_gates, abs=1)


def test_folded_angles_go_back_and_forth():
    circuit = load("data_reuploading")
    flat = flatten(circuit.program, circuit.observables).program
    folded, source, signs = fold(flat, 3)
    assert len(source) == len(folded.slots) == 3 * len(flat.slots)
    assert source[:3].tolist() == [0, 0, 0]
    assert signs[:3].tolist() == [1, -1, 1]


def test_scales_below_one_are_refused():
    for scale in (0.5, -1, math.nan):
        with pytest.raises(BackendError, match="scaled up only"):
            fold(asymmetric(), scale)
        with pytest.raises(BackendError, match="scaled up only"):
            fold_circuit(QuantumCircuit(1), scale)
