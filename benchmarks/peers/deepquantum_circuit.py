"""deepquantum: rows by its own vmap over encoded data; weights are the parameters of its gates."""

from typing import Any

import deepquantum as dq
import torch

from .problem import Call, Problem, entanglers, signs


def build(problem: Problem) -> Call:
    calls = [_one_client(*arrays) for arrays in zip(*map(torch.tensor, problem), strict=True)]

    def call() -> tuple[Any, Any, Any]:
        values, inputs, weights = zip(*(one() for one in calls), strict=True)
        return torch.stack(values), torch.stack(inputs), torch.stack(weights)

    return call


def _one_client(inputs: torch.Tensor, weights: torch.Tensor, cotangent: torch.Tensor) -> Call:
    layers, n, _ = weights.shape
    circuit = dq.QubitCircuit(n)
    circuit.rylayer(encode=True)
    for pairs in entanglers(n, layers):
        circuit.u3layer()
        for pair in pairs:
            circuit.cnot(*pair)
    circuit.to(inputs.dtype)
    parameters = list(circuit.parameters())
    # Rot(phi, theta, omega) is U3(theta, omega, phi), one parameter for each of its angles
    with torch.no_grad():
        for parameter, angle in zip(parameters, weights[..., [1, 2, 0]].flatten(), strict=True):
            parameter.copy_(angle)
    table = torch.tensor(signs(n), dtype=inputs.dtype)
    inputs.requires_grad_()

    def call() -> tuple[Any, Any, Any]:
        values = circuit(inputs).squeeze(-1).abs().square() @ table
        found, *angles = torch.autograd.grad(values, [inputs, *parameters], cotangent)
        return values.detach(), found, torch.stack(angles).view(layers, n, 3)[..., [2, 0, 1]]

    return call
