"""pyqtorch: rows on its batch axis."""

import pyqtorch as pyq
import torch

from .problem import Call, Problem, client_by_client, entanglers, signs


def build(problem: Problem) -> Call:
    n = problem.qubits
    gates: list[torch.nn.Module] = [pyq.RY(wire, f"x{wire}") for wire in range(n)]
    for layer, pairs in enumerate(entanglers(n, problem.layers)):
        for wire in range(n):
            gates.append(pyq.U(wire, *(f"w{layer},{wire},{k}" for k in range(3))))
        gates += [pyq.CNOT(*pair) for pair in pairs]
    real = torch.tensor(problem.inputs).dtype
    kind = torch.complex64 if real == torch.float32 else torch.complex128
    circuit = pyq.QuantumCircuit(n, gates).to(dtype=kind)
    table = torch.tensor(signs(n), dtype=real)

    def function(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        values = {f"x{wire}": column for wire, column in enumerate(x.unbind(-1))}
        for layer, wire, k in torch.cartesian_prod(*map(torch.arange, w.shape)).tolist():
            values[f"w{layer},{wire},{k}"] = w[layer, wire, k]
        state = pyq.run(circuit, values=values)
        return state.reshape(2**n, -1).abs().square().T @ table

    return client_by_client(function, problem)
