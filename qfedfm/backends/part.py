"""Some qubits of a Qiskit device, as a device of their own, and what was transpiled for the whole one."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def used_qubits(circuit: Any, observables: Sequence[Any] = ()) -> list[int]:
    """Return the qubits of a device that a circuit acts on or observables read, in order."""
    acted = {
        circuit.find_bit(bit).index for item in circuit.data for bit in item.qubits if item.operation.name != "barrier"
    }
    read = {int(qubit) for one in observables for qubit in np.flatnonzero((one.paulis.x | one.paulis.z).any(axis=0))}
    return sorted(acted | read)


def moved(circuit: Any, qubits: Sequence[int]) -> Any:
    """Return a transpiled circuit on `qubits` alone, numbered by their places."""
    from qiskit import QuantumCircuit

    place = {qubit: i for i, qubit in enumerate(qubits)}
    small = QuantumCircuit(len(qubits))
    for item in circuit.data:
        where = [circuit.find_bit(bit).index for bit in item.qubits]
        if item.operation.name == "barrier":
            where = [qubit for qubit in where if qubit in place]
            small.barrier([place[qubit] for qubit in where])
        else:
            small.append(item.operation, [place[qubit] for qubit in where])
    return small


def moved_observable(observable: Any, qubits: Sequence[int]) -> Any:
    """Return an observable of a device as one of `qubits` alone."""
    from qiskit.quantum_info import SparsePauliOp

    place = {qubit: i for i, qubit in enumerate(qubits)}
    terms = [(word, [place[int(q)] for q in where], factor) for word, where, factor in observable.to_sparse_list()]
    return SparsePauliOp.from_sparse_list(terms, num_qubits=len(qubits))


def part(device: Any, qubits: Sequence[int]) -> Any:
    """Return a device that is `qubits` of another, with their gates, errors and times."""
    from qiskit.providers import BackendV2, Options
    from qiskit.transpiler import Target

    place = {qubit: i for i, qubit in enumerate(qubits)}
    whole = device.target
    told = [whole.qubit_properties[qubit] for qubit in qubits] if whole.qubit_properties else None
    target = Target(num_qubits=len(qubits), dt=whole.dt, qubit_properties=told)
    for name in whole.operation_names:
        operation, known = whole.operation_from_name(name), whole[name]
        if isinstance(operation, type) or None in known:
            continue
        inside = {
            tuple(place[qubit] for qubit in where): one for where, one in known.items() if set(where) <= place.keys()
        }
        if inside:
            target.add_instruction(operation, inside, name=name)

    class Part(BackendV2):  # type: ignore[misc]  # Qiskit is not typed
        target = property(lambda _: target)
        max_circuits = None

        @classmethod
        def _default_options(cls) -> Any:
            return Options()

        def run(self, run_input: Any, **options: Any) -> Any:
            raise NotImplementedError

    return Part(name=device.name)
