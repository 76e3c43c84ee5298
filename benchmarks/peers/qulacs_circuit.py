"""qulacs: its backward pass in C++, row by row.

For each row: the state and <Z> of every wire, then one backward pass for sum_k cotangent_k Z_k, which gives the
derivatives by all angles. qulacs turns by exp(+i angle/2), so angles change sign; its wire 0 is the least significant.
"""

from typing import Any

import numpy as np
from qulacs import Observable, ParametricQuantumCircuit, QuantumState

from .problem import Call, Problem, entanglers, signs


def build(problem: Problem) -> Call:
    n, layers = problem.qubits, problem.layers
    circuit = ParametricQuantumCircuit(n)
    for wire in range(n):
        circuit.add_parametric_RY_gate(wire, 0.0)
    for pairs in entanglers(n, layers):
        for wire in range(n):
            circuit.add_parametric_RZ_gate(wire, 0.0)
            circuit.add_parametric_RY_gate(wire, 0.0)
            circuit.add_parametric_RZ_gate(wire, 0.0)
        for pair in pairs:
            circuit.add_CNOT_gate(*pair)
    table = signs(n)[:, ::-1].astype(float)
    inputs, weights, cotangent = (-problem.inputs, -problem.weights, problem.cotangent)

    def row(x: Any, w: list[float], c: Any) -> tuple[Any, Any]:
        for number, angle in enumerate([*x, *w]):
            circuit.set_parameter(number, angle)
        state = QuantumState(n)
        circuit.update_quantum_state(state)
        values = np.abs(state.get_vector()) ** 2 @ table
        observable = Observable(n)
        for wire in range(n):
            observable.add_operator(c[wire], f"Z {wire}")
        return values, circuit.backprop(observable)

    def call() -> tuple[Any, Any, Any]:
        results = [
            [row(x, w.ravel().tolist(), c) for x, c in zip(xs.tolist(), cs.tolist(), strict=True)]
            for xs, w, cs in zip(inputs, weights, cotangent, strict=True)
        ]
        values = np.array([[one[0] for one in rows] for rows in results])
        gradients = -np.array([[one[1] for one in rows] for rows in results])
        return values, gradients[..., :n], gradients[..., n:].sum(1).reshape(weights.shape)

    return call
