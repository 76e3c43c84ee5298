"""jax without a library: gates as tensor products on the state, CNOT rings as index tables, everything compiled.

Stronger than TensorCircuit on jax from 8 qubits up, and much quicker to compile: the honest opponent.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .problem import Call, Problem, entanglers, signs


def one_row(qubits: int, layers: int) -> Any:
    """Return the function (inputs (qubits,), weights (layers, qubits, 3)) -> <Z> (qubits,)."""
    sources = [_source(qubits, pairs) for pairs in entanglers(qubits, layers)]

    def function(x: Any, w: Any) -> Any:
        kind = jnp.result_type(x, jnp.complex64)
        state = jnp.ones(1, kind)
        for vector in jnp.stack([jnp.cos(x / 2), jnp.sin(x / 2)], axis=-1).astype(kind):
            state = jnp.kron(state, vector)
        for matrices, source in zip(_rot(w).astype(kind), sources, strict=True):
            state = state.reshape((2,) * qubits)
            for wire, matrix in enumerate(matrices):
                state = jnp.moveaxis(jnp.tensordot(matrix, state, ([1], [wire])), 0, wire)
            state = state.reshape(-1)[source]
        return (state.real**2 + state.imag**2) @ signs(qubits).astype(x.dtype)

    return function


def build(problem: Problem) -> Call:
    return compiled(one_row(problem.qubits, problem.layers), problem)


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


def _rot(angles: Any) -> Any:
    """Return RZ(omega) RY(theta) RZ(phi) of each (phi, theta, omega) on the last axis, (..., 2, 2)."""
    phi, theta, omega = jnp.moveaxis(angles, -1, 0)
    c, s = jnp.cos(theta / 2), jnp.sin(theta / 2)
    plus, minus = jnp.exp(0.5j * (phi + omega)), jnp.exp(0.5j * (phi - omega))
    return jnp.stack([c / plus, -s * minus, s / minus, c * plus], axis=-1).reshape(*angles.shape[:-1], 2, 2)


def _source(qubits: int, pairs: list[tuple[int, int]]) -> np.ndarray:
    """Return where each amplitude comes from in a ring of CNOTs: new[x] = old[source[x]]."""
    source = np.arange(2**qubits)
    for control, target in reversed(pairs):
        source = source ^ ((source >> (qubits - 1 - control) & 1) << (qubits - 1 - target))
    return source
