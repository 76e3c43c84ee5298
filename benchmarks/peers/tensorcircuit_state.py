"""TensorCircuit-NG: the circuit of one row, for both of its backends.

The state is contracted layer by layer: one contraction of the whole network, which is TensorCircuit's way unless told
otherwise, takes 13 s a call at 12 qubits.
"""

from typing import Any

import tensorcircuit as tc

from .problem import entanglers, signs


def one_row(qubits: int, layers: int) -> Any:
    """Return the function (inputs (qubits,), weights (layers, qubits, 3)) -> <Z> (qubits,) on the current backend."""
    table = tc.backend.convert_to_tensor(signs(qubits).astype(tc.rdtypestr))

    def function(x: Any, w: Any) -> Any:
        circuit = tc.Circuit(qubits)
        for wire in range(qubits):
            circuit.ry(wire, theta=x[wire])
        for layer, pairs in enumerate(entanglers(qubits, layers)):
            for wire in range(qubits):
                phi, theta, omega = w[layer, wire, 0], w[layer, wire, 1], w[layer, wire, 2]
                circuit.u(wire, theta=theta, phi=omega, lbd=phi)
            for pair in pairs:
                circuit.cnot(*pair)
            circuit = tc.Circuit(qubits, inputs=circuit.state())
        state = circuit.state()
        return (tc.backend.real(state) ** 2 + tc.backend.imag(state) ** 2) @ table

    return function
