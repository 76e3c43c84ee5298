"""jax without a library: one-qubit gates as small matrices on the state, CNOT rings as exchanges of amplitudes.

`block` wires share one matrix, the Kronecker product of their gates. With 1 this is the circuit as one would write it;
with 4 it is our own algorithm under another compiler, which shows what is left to gain by compiling it.
"""

from collections.abc import Callable
from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .problem import Call, Problem, entanglers, signs


def build(problem: Problem, block: int) -> Call:
    return compiled(one_row(problem.qubits, problem.layers, block), problem)


def compiled(row: Any, problem: Problem) -> Call:
    """Return the call for the jax function of one row: vmapped over rows and clients, with its gradient, compiled."""
    jax.config.update("jax_enable_x64", problem.inputs.dtype == "float64")
    clients = jax.vmap(jax.vmap(row, in_axes=(0, None)))

    @jax.jit
    def gradient(inputs: Any, weights: Any, cotangent: Any) -> Any:
        values, backward = jax.vjp(clients, inputs, weights)
        return values, *backward(cotangent)

    arrays = [jnp.asarray(array) for array in problem]
    return lambda: jax.block_until_ready(gradient(*arrays))


def one_row(qubits: int, layers: int, block: int) -> Any:
    """Return the function (inputs (qubits,), weights (layers, qubits, 3)) -> <Z> (qubits,)."""
    exchanges = [_exchange(qubits, pairs) for pairs in entanglers(qubits, layers)]

    def function(x: Any, w: Any) -> Any:
        kind = jnp.result_type(x, jnp.complex64)
        state = reduce(jnp.kron, jnp.stack([jnp.cos(x / 2), jnp.sin(x / 2)], axis=-1).astype(kind))
        for matrices, exchange in zip(_rot(w).astype(kind), exchanges, strict=True):
            for first in range(0, qubits, block):
                matrix = reduce(jnp.kron, matrices[first : first + block])
                parts = state.reshape(2**first, len(matrix), -1)
                state = jnp.einsum("ij,ajb->aib", matrix, parts).reshape(-1)
            state = exchange(state)
        return (state.real**2 + state.imag**2) @ signs(qubits).astype(x.dtype)

    return function


def _rot(angles: Any) -> Any:
    """Return RZ(omega) RY(theta) RZ(phi) of each (phi, theta, omega) on the last axis, (..., 2, 2)."""
    phi, theta, omega = jnp.moveaxis(angles, -1, 0)
    c, s = jnp.cos(theta / 2), jnp.sin(theta / 2)
    plus, minus = jnp.exp(0.5j * (phi + omega)), jnp.exp(0.5j * (phi - omega))
    return jnp.stack([c / plus, -s * minus, s / minus, c * plus], axis=-1).reshape(*angles.shape[:-1], 2, 2)


def _exchange(qubits: int, pairs: list[tuple[int, int]]) -> Callable[[Any], Any]:
    """Return a ring of CNOTs as new[x] = old[source[x]]; backward it gathers too, where jax alone would scatter."""
    source = np.arange(2**qubits)
    for control, target in reversed(pairs):
        source = source ^ ((source >> (qubits - 1 - control) & 1) << (qubits - 1 - target))
    inverse = np.argsort(source)

    @jax.custom_vjp
    def exchange(state: Any) -> Any:
        return state[source]

    exchange.defvjp(lambda state: (state[source], None), lambda _, cotangent: (cotangent[inverse],))
    return exchange
