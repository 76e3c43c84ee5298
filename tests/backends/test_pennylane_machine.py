"""PennyLane devices as machines, and programs as PennyLane functions."""

import numpy as np
import pennylane as qml
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import observables, programs, strongly_entangling

from qfedfm.backends import PennyLane, Session, flatten
from qfedfm.backends.pennylane import PennyLaneMachine
from qfedfm.errors import BackendError, ConfigurationError
from qfedfm.quantum import lower, pauli_z, simulate, to_pennylane, z_on_every_wire

X = ((1.0, ((0, "X"),)),)
FLAT = flatten(strongly_entangling(3, 2), (X, *z_on_every_wire(3))).program


def run(backend, observables, angles, shots, key="k"):
    machine = backend.connect(Session())
    return machine.collect(machine.submit(machine.compile(FLAT, observables), angles, shots, key))


@settings(max_examples=20)
@given(st.data())
def test_what_is_lowered_again_is_the_same_program(data):
    flat = flatten(data.draw(programs()), data.draw(observables(1))).program
    if not flat.slots:
        return
    again = lower(to_pennylane(flat), {"angles": (len(flat.slots),)}, n_wires=flat.n_wires).program
    assert [gate for gate in again.gates if gate.name != "id"] == [gate for gate in flat.gates if gate.name != "id"]


def test_a_program_is_the_body_of_a_qnode_with_gradients():
    measured = ((X[0], (0.5, ((1, "Y"), (2, "Z"))), (0.25, ())), pauli_z(1))
    node = qml.QNode(
        to_pennylane(FLAT, measured), qml.device("default.qubit"), interface="torch", diff_method="backprop"
    )
    angles = torch.linspace(-2, 2, 4 * len(FLAT.slots), dtype=torch.float64).reshape(4, -1).requires_grad_()
    theirs = torch.stack(node(angles), dim=1)
    ours = simulate(FLAT, {"angles": angles[None]}, {}, measured)[0]
    torch.testing.assert_close(theirs, ours, atol=1e-10, rtol=0)
    gradients = [torch.autograd.grad((values**2).sum(), angles)[0] for values in (ours, theirs)]
    torch.testing.assert_close(*gradients, atol=1e-9, rtol=0)
    torch.testing.assert_close(torch.stack(node(angles[2])), ours[2], atol=1e-10, rtol=0)  # a row alone


def test_a_submission_is_one_call_with_one_tape_for_each_setting_and_number_of_shots(monkeypatch):
    calls, execute = [], qml.devices.DefaultQubit.execute

    def counted(self, circuits, *args, **options):
        calls.append([(circuit.batch_size, circuit.shots.total_shots) for circuit in circuits])
        return execute(self, circuits, *args, **options)

    monkeypatch.setattr(qml.devices.DefaultQubit, "execute", counted)
    angles = np.zeros((6, len(FLAT.slots)))
    run(PennyLane(), (X, pauli_z(0)), angles, None)
    run(PennyLane(shots=5), (X, pauli_z(0)), angles, np.array([5, 5, 7, 5, 5, 7]))
    assert calls == [[(6, None)] * 2, [(4, 5), (2, 7), (4, 5), (2, 7)]]


def test_a_device_without_a_seed_says_so(monkeypatch):
    class Seedless(qml.devices.DefaultQubit):
        def __init__(self, wires):
            super().__init__(wires, seed=3)

    made = qml.device
    monkeypatch.setattr(
        qml, "device", lambda name, **options: Seedless(**options) if name == "seedless" else made(name, **options)
    )
    angles = np.full((1, len(FLAT.slots)), 0.3)
    assert run(PennyLane("seedless", shots=5), (X,), angles, 5).metadata == {"seeded": False}
    assert run(PennyLane(shots=5), (X,), angles, 5).metadata == {"seeded": True}
    assert run(PennyLane(), (X,), angles, None).metadata == {}


def test_what_pennylane_cannot_do_is_a_backend_error(monkeypatch):
    with pytest.raises(BackendError, match=r"PennyLane cannot make the device 'default.quibt'"):
        PennyLane("default.quibt").connect(Session())
    with pytest.raises(BackendError, match=r"PennyLane cannot make the device 'default.qubit': .*speed"):
        PennyLane(options={"speed": 2}).connect(Session())
    with pytest.raises(ConfigurationError, match=r"PennyLane.options holds seed, wires: .* come from the circuit"):
        PennyLane(options={"wires": 3, "seed": 1})

    def broken(*args, **options):
        raise RuntimeError("no such qubit")

    monkeypatch.setattr(qml.devices.DefaultQubit, "execute", broken)
    with pytest.raises(BackendError, match=r"pennylane:default.qubit failed: no such qubit"):
        run(PennyLane(), (X,), np.zeros((1, len(FLAT.slots))), None)
    assert PennyLane().connect(Session()).name == PennyLaneMachine(PennyLane(), Session()).name
