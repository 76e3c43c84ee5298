"""TensorCircuit-NG on torch: rows by vmap, eagerly."""

import tensorcircuit as tc
import torch

from .problem import Call, Problem, client_by_client
from .tensorcircuit_state import one_row


def build(problem: Problem) -> Call:
    tc.set_backend("pytorch")
    tc.set_dtype("complex64" if problem.inputs.dtype == "float32" else "complex128")
    rows = torch.vmap(one_row(problem.qubits, problem.layers), in_dims=(0, None))
    return client_by_client(rows, problem)
