"""What every library computes: y = <Z> on every wire behind angle embedding and strongly entangling layers.

The circuit is RY(x_i) on wire i, then for each layer l a Rot(w_l,i) = RZ RY RZ on every wire and a ring of CNOTs from
wire i to wire i + 1 + (l mod (n-1)) (Schuld et al. 2020, doi:10.1103/PhysRevA.101.032308; PennyLane's AngleEmbedding
and StronglyEntanglingLayers). Asked for are y and the gradient of sum(cotangent * y) by inputs and weights.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch

Call = Callable[[], tuple[Any, Any, Any]]


class Problem(NamedTuple):
    """inputs and cotangent: (clients, rows, qubits). weights: (clients, layers, qubits, 3), radians."""

    inputs: np.ndarray
    weights: np.ndarray
    cotangent: np.ndarray

    @property
    def qubits(self) -> int:
        """The number of wires, and of inputs a row."""
        return int(self.inputs.shape[-1])

    @property
    def layers(self) -> int:
        """The number of entangling layers."""
        return int(self.weights.shape[1])


def draw(qubits: int, layers: int, rows: int, clients: int, precision: str) -> Problem:
    """Return the same random problem in every process; a smaller number of clients gives the first of them."""
    inputs, weights, cotangents = [], [], []
    for client in range(clients):
        generator = np.random.default_rng([qubits, layers, rows, client])
        inputs.append(generator.uniform(-np.pi, np.pi, (rows, qubits)))
        weights.append(generator.uniform(-np.pi, np.pi, (layers, qubits, 3)))
        cotangents.append(generator.normal(size=(rows, qubits)))
    return Problem(*(np.stack(arrays).astype(precision) for arrays in (inputs, weights, cotangents)))


def entanglers(qubits: int, layers: int) -> Iterator[list[tuple[int, int]]]:
    """Yield the (control, target) pairs of each layer."""
    for layer in range(layers):
        step = 1 + layer % (qubits - 1)
        yield [(wire, (wire + step) % qubits) for wire in range(qubits)]


def signs(qubits: int) -> np.ndarray:
    """Return (2^qubits, qubits): the eigenvalue of Z on each wire in each basis state, wire 0 most significant."""
    bits = np.arange(2**qubits)[:, None] >> np.arange(qubits - 1, -1, -1) & 1
    return 1 - 2 * bits


def by_autograd(function: Callable[[Any, Any], Any], problem: Problem) -> Call:
    """Return the call for a torch function (inputs, weights) -> values of all clients."""
    inputs, weights = (torch.tensor(array, requires_grad=True) for array in problem[:2])
    cotangent = torch.tensor(problem.cotangent)

    def call() -> tuple[Any, Any, Any]:
        values = function(inputs, weights)
        gradients = torch.autograd.grad(values, (inputs, weights), cotangent.to(values.dtype))
        return values.detach(), *gradients

    return call


def client_by_client(function: Callable[[Any, Any], Any], problem: Problem) -> Call:
    """Return the call for a torch function of one client, (rows, qubits), (layers, qubits, 3) -> (rows, qubits)."""
    calls = [by_autograd(function, Problem(*arrays)) for arrays in zip(*problem, strict=True)]

    def call() -> tuple[Any, Any, Any]:
        values, inputs, weights = zip(*(one() for one in calls), strict=True)
        return torch.stack(values), torch.stack(inputs), torch.stack(weights)

    return call
