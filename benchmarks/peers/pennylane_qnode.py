"""PennyLane: one QNode for all its devices."""

import numpy as np
import pennylane as qml
import torch

from .problem import Call, Problem, by_autograd, client_by_client


def build(problem: Problem, device: str, diff_method: str, merge_clients: bool = False) -> Call:
    """merge_clients: broadcast over clients and rows at once, each row with its own copy of the weights."""
    wires = range(problem.qubits)
    torch.set_default_dtype(torch.tensor(problem.inputs).dtype)  # in which PennyLane returns what lightning computed
    single = problem.inputs.dtype == "float32"
    options = {"c_dtype": np.complex64} if device == "lightning.qubit" and single else {}
    product_on_device = device == "lightning.qubit" and problem.qubits > 12

    @qml.qnode(
        qml.device(device, wires=problem.qubits, **options),
        interface="torch",
        diff_method=diff_method,
        device_vjp=product_on_device,
    )
    def circuit(x, w):  # type: ignore[no-untyped-def]
        qml.AngleEmbedding(x, wires, rotation="Y")
        qml.StronglyEntanglingLayers(w, wires)
        return [qml.expval(qml.PauliZ(wire)) for wire in wires]

    def rows(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        return torch.stack(circuit(x, w), -1)

    def everything(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        repeated = w.repeat_interleave(x.shape[1], dim=0)
        return rows(x.flatten(0, 1), repeated).view(x.shape)

    return by_autograd(everything, problem) if merge_clients else client_by_client(rows, problem)
