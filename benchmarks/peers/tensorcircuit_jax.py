"""TensorCircuit-NG on jax: the whole gradient of all clients and rows, vmapped and compiled."""

import tensorcircuit as tc

from .jax_statevector import compiled
from .problem import Call, Problem
from .tensorcircuit_state import one_row


def build(problem: Problem) -> Call:
    tc.set_backend("jax")
    tc.set_dtype("complex64" if problem.inputs.dtype == "float32" else "complex128")
    return compiled(one_row(problem.qubits, problem.layers), problem)
