"""Expectation values of noisy circuits, batched and differentiable by torch.

The state is one real tensor (lanes, 4^n, rows). Where inputs only turn wires before they meet others, as in most
encodings, a lane is a client, whose matrices all its rows share; elsewhere each row is a lane of its own. With fewer
observables than rows, the observables are taken backwards through the circuit instead of the states forwards, which is
the same steps transposed; at the beginning they meet each row's product state, whose 4^n numbers are never formed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..errors import BackendError
from ..quantum.angles import Angles
from ..quantum.program import Program
from ..quantum.stages import Real
from .pauli_stages import Plan
from .pauli_steps import Pieces, Steps

CHUNK = 4 * 2**20
"""Bytes of one state of all that is taken through a circuit at once."""
MEMORY_BUDGET = 4 * 2**30
"""Bytes that one call may hold in states."""


class Evolution:
    """A plan with its constants as tensors of one precision on one device.

    words: numbers of the Pauli words that are read, each once. factors: (K, words) makes observables of them; None
    reads the words as they are.
    """

    def __init__(
        self,
        program: Program,
        made: Plan,
        words: Sequence[int],
        factors: Real | None,
        real: torch.dtype,
        device: torch.device,
    ) -> None:
        self._options: Any = {"dtype": real, "device": device}
        self._n_wires = made.n_wires
        self._count = len(words) if factors is None else len(factors)
        by_row = {number for number, slot in enumerate(program.slots) if slot.uses("input")}
        self._shared = not made.slots & by_row
        sizes = tuple((name, int(np.prod(shape, dtype=int))) for name, shape in program.inputs)
        trained = tuple((spec.name, spec.size) for spec in program.weights)
        self._angles = Angles(program.slots, sizes, trained) if program.slots else None
        self._start = Pieces(made.start, self._options)
        self._steps = Steps(made.n_wires, made.stages, self._options)
        self._words = torch.tensor(words, device=device)
        self._factors = None if factors is None else torch.tensor(factors, **self._options)

    def __call__(
        self, inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor], clients: int, rows: int, budget: int
    ) -> Tensor:
        """Return the values (clients, rows, K); raise `BackendError` where a single row exceeds `budget` bytes."""
        angles = self._angles(inputs, weights) if self._angles else torch.empty((1, 0, 1), **self._options)
        if self._shared:
            return self._in_chunks(angles, budget).transpose(1, 2).expand(clients, rows, -1)
        lanes = angles.expand(clients, -1, rows).transpose(1, 2).reshape(clients * rows, -1, 1)
        return self._in_chunks(lanes, budget).reshape(clients, rows, -1)

    def _in_chunks(self, angles: Tensor, budget: int) -> Tensor:
        """Return the values (lanes, K, rows) for angles (lanes, slots, rows).

        Of several chunks none keeps its states for the gradient, which takes each through the circuit again.
        """
        lanes, _, rows = angles.shape
        backwards = self._shared and self._count < rows
        traced = torch.is_grad_enabled() and angles.requires_grad
        state = 4**self._n_wires * angles.element_size()
        kept = len(self._steps.steps) + 8 if traced else 4
        if kept * state > budget:
            raise BackendError(
                f"one row of this circuit needs {kept * state / 2**20:.0f} MiB for states; the budget is "
                f"{budget / 2**20:.0f} MiB: pass a larger one, or a circuit with fewer gates"
            )
        limit = min(CHUNK, budget // kept)
        of_row = 2**self._n_wires * self._count * angles.element_size() if backwards else state
        width = max(1, min(rows, limit // of_row))
        some = max(1, limit // (width * of_row + (self._count * state if backwards else 0)))
        if some >= lanes and width == rows:
            return self._run(angles, backwards)
        again = traced and not torch._C._are_functorch_transforms_active()

        def part(some_angles: Tensor) -> Tensor:
            if not again:
                return self._run(some_angles, backwards)
            found: Tensor = checkpoint(self._run, some_angles, backwards, use_reentrant=False, preserve_rng_state=False)
            return found

        values = [
            torch.cat([part(angles[i : i + some, :, j : j + width]) for j in range(0, rows, width)], dim=2)
            for i in range(0, lanes, some)
        ]
        return torch.cat(values)

    def _run(self, angles: Tensor, backwards: bool) -> Tensor:
        made, vectors = self._steps.matrices(angles[:, :, 0]), self._product(angles)
        if backwards:
            columns = torch.zeros((4**self._n_wires, self._count), **self._options)
            columns[self._words] = (
                torch.eye(self._count, **self._options) if self._factors is None else self._factors.mT
            )
            columns = columns[None]
            for step in reversed(self._steps.steps):
                columns = step.apply(columns, made, transposed=True)
            return self._meet(columns, vectors)
        state = _join(vectors)
        for step in self._steps.steps:
            state = step.apply(state, made, transposed=False)
        read = state.index_select(1, self._words)
        return read if self._factors is None else self._factors @ read

    def _product(self, angles: Tensor) -> list[Tensor]:
        """Return the vector of each wire before it meets another, (lanes, 4, rows) each."""
        start = self._start
        state = torch.tensor([1.0, 0.0, 0.0, 1.0], **self._options).reshape(1, 1, 4, 1).expand(1, self._n_wires, 4, 1)
        if not angles.shape[1]:  # then nothing but the constant terms is there
            return list((start.terms[0, :, 0] @ state).unbind(1))
        factors = start.factors(angles)
        for depth in range(start.depth):
            parts = (start.terms[depth].flatten(1, 2) @ state).reshape(len(state), self._n_wires, 3, 4, -1)
            state = (parts * factors[:, depth, :, :, None]).sum(2)
        return list(state.unbind(1))

    def _meet(self, columns: Tensor, vectors: list[Tensor]) -> Tensor:
        """Return (lanes, K, rows): columns (lanes, 4^n, K) times the Kronecker products of `vectors`."""
        half = self._n_wires // 2
        first = _join(vectors[:half]) if half else torch.ones((1, 1, 1), **self._options)
        second = _join(vectors[half:])
        split = columns.reshape(len(columns), 4**half, -1, self._count).transpose(2, 3).flatten(1, 2)
        met = (split @ second).reshape(-1, 4**half, self._count, second.shape[2])
        return (met * first[:, :, None]).sum(dim=1)


def _join(vectors: Sequence[Tensor]) -> Tensor:
    """Return the Kronecker product of vectors (lanes, size, rows) for each lane and row."""
    joined: Tensor = vectors[0]
    for vector in vectors[1:]:
        joined = (joined[:, :, None] * vector[:, None]).flatten(1, 2)
    return joined
