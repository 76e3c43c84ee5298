"""qfedfm: all clients and rows in one call."""

import pennylane as qml

from qfedfm.quantum import lower, simulate

from .problem import Call, Problem, by_autograd


def build(problem: Problem) -> Call:
    wires = range(problem.qubits)

    def circuit(x, w):  # type: ignore[no-untyped-def]
        qml.AngleEmbedding(x, wires, rotation="Y")
        qml.StronglyEntanglingLayers(w, wires)
        return [qml.expval(qml.PauliZ(wire)) for wire in wires]

    lowered = lower(circuit, {"x": (problem.qubits,), "w": problem.weights.shape[1:]})
    return by_autograd(lambda x, w: simulate(lowered.program, {"x": x}, {"w": w}, lowered.observables), problem)
