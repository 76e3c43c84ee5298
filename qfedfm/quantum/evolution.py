"""A compiled program: from the angles of clients and rows to expectation values, and back to the angles' gradients.

The gradient is written out, since autograd's bookkeeping costs as much as small circuits do; for derivatives of
derivatives, and under `torch.func`, the same steps run under autograd.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .angles import Angles
from .matrices import Built, Matrices
from .program import Program
from .readout import Reading
from .stages import Local, Permute, Phases, Plan, Run, rotate
from .start import Begun, Start
from .steps import Block, Env, Order, Phase, Step, Table, to_front

BLOCK = 4
"""Most wires in one matrix: 16 x 16 complex numbers."""
MANY_ROWS = 2
"""With more than this times 2^n rows of one client, its unitary is built once and applied to all of them:
a third less time at (4 qubits, 10 layers, 64 rows, 100 clients), and within the noise at (4, 3, 64, 100)."""
COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}
Kept = list[tuple[Tensor, ...]]


class Tape(NamedTuple):
    """What the gradient needs of one evaluation: of the matrices, of the start, and of each step.

    unitary: the product of the trunk's steps and what it was applied to, where there are many rows.
    """

    built: Built
    begun: Begun
    env: Env
    trunk: Kept
    unitary: tuple[Tensor, Tensor] | None
    branches: list[Kept]
    ends: list[Tensor]


class Evolution:
    """A plan with its constants as tensors of one precision on one device.

    found: what is read at the end; each reading is a branch of the evolution's trunk with a table of signs.
    """

    def __init__(
        self, program: Program, made: Plan, found: Sequence[Reading], real: torch.dtype, device: torch.device
    ) -> None:
        self._real, self._device = real, device
        self._slopes = torch.tensor([2.0, -2.0], dtype=real, device=device)  # of a square, and conjugate
        self._by_row = {number for number, slot in enumerate(program.slots) if slot.uses("input")}
        self._start = Start(made, min(self._by_row, default=0), real, device)
        self._blocks: list[list[Run]] = [[run] for run in self._start.runs]
        self._row_slots = list(self._start.slots)
        self._phase_slots: list[int] = []
        order = np.arange(2**made.n_wires)
        staged: list[Any] = []
        for stage in made.stages:
            order = self._lower(made.n_wires, stage, order, staged)
        count = len(staged)
        self.places = torch.from_numpy(np.argsort(order)).to(device)
        ends = []
        for reading in found:
            end = self._lower(made.n_wires, rotate(reading.turned), order, staged)
            ends.append((len(staged), self._constant(reading.signs[:, end])))
        self._matrices = Matrices(self._blocks, real, device)
        shift = len(self._matrices.slots)
        steps = [self._place(step, shift) for step in staged]
        self._trunk = steps[:count]
        self._trunk_is_shared = count > 0 and not any(isinstance(step, Phase) and step.rows for step in self._trunk)
        starts = [count, *(last for last, _ in ends)]
        self._branches = [(steps[first:last], signs) for first, (last, signs) in zip(starts, ends, strict=False)]
        sizes = tuple((name, math.prod(shape)) for name, shape in program.inputs)
        trained = tuple((spec.name, spec.size) for spec in program.weights)
        self._angles = [
            Angles([program.slots[slot] for slot in slots], sizes, trained) if slots else None
            for slots in ([*self._matrices.slots, *self._phase_slots], self._row_slots)
        ]

    def angles(
        self, inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor], clients: int
    ) -> tuple[Tensor, Tensor]:
        """Return the angles of clients, (clients, slots), and of rows, (clients, slots, rows), in the order of use."""
        of_clients, of_rows = self._angles
        none = torch.empty((clients, 0, 1), dtype=self._real, device=self._device)
        mine = of_clients(inputs, weights) if of_clients else none
        return mine.squeeze(2), of_rows(inputs, weights) if of_rows else none

    def state(self, clients: Tensor, rows: Tensor, keep: bool = True) -> tuple[Tensor, Tape]:
        """Return the state (clients, 2^n, rows), basis state x at `self.places[x]`, and the tape."""
        matrices, built = self._matrices.forward(clients[:, : len(self._matrices.slots)])
        env = Env(matrices, clients.unsqueeze(2), rows)
        state, begun = self._start.forward(matrices[1], rows, rows.shape[2])
        size = state.shape[1]
        if self._trunk_is_shared and rows.shape[2] > MANY_ROWS * size:
            identity = torch.eye(size, dtype=state.dtype, device=state.device).expand(len(state), size, size)
            unitary, trunk = _through(self._trunk, identity, env, keep)
            return torch.bmm(unitary, state), Tape(built, begun, env, trunk, (unitary, state), [], [])
        state, trunk = _through(self._trunk, state, env, keep)
        return state, Tape(built, begun, env, trunk, None, [], [])

    def forward(self, clients: Tensor, rows: Tensor, keep: bool = True) -> tuple[Tensor, Tape]:
        """Return the expectation values (clients, observables, rows), and the tape (without states unless `keep`)."""
        state, tape = self.state(clients, rows, keep)
        parts = []
        for steps, signs in self._branches:
            end, kept = _through(steps, state, tape.env, keep)
            tape.branches.append(kept)
            tape.ends.append(end)
            numbers = torch.view_as_real(end).flatten(2)
            both = torch.matmul(signs, numbers * numbers)
            parts.append(both.view(*both.shape[:2], -1, 2).sum(3))
        return (parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)), tape

    def backward(self, tape: Tape, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of the angles of clients and of rows from that of the expectation values."""
        clients, rows = torch.empty_like(tape.env.clients), torch.empty_like(tape.env.rows)
        into = Env({size: torch.empty_like(made) for size, made in tape.env.matrices.items()}, clients, rows)
        both = (gradient.unsqueeze(-1) * self._slopes).flatten(2)
        total = None
        for (steps, signs), kept, end in zip(self._branches, tape.branches, tape.ends, strict=True):
            flat = torch.matmul(signs.mT, both).mul_(torch.view_as_real(end).flatten(2))
            part = _back(steps, kept, torch.view_as_complex(flat.view(*end.shape, 2)), tape.env, into)
            total = part if total is None else total.add_(part)
        assert total is not None
        if tape.unitary:
            unitary, state = tape.unitary
            _back(self._trunk, tape.trunk, torch.bmm(total, state.mT), tape.env, into)
            total = torch.bmm(unitary.mT, total)
        else:
            total = _back(self._trunk, tape.trunk, total, tape.env, into)
        self._start.backward(tape.begun, total, tape.env.matrices[1], into.matrices[1], rows)
        clients[:, : len(self._matrices.slots), 0] = self._matrices.backward(tape.built, into.matrices)
        return clients.squeeze(2), rows

    def _lower(self, n_wires: int, stage: Local | Phases | Permute, order: Order, steps: list[Any]) -> Order:
        """Append what `stage` does to a state in that order, and return the order after it."""
        if isinstance(stage, Permute):
            return np.argsort(stage.source)[order]
        if isinstance(stage, Phases):
            tables = []
            for rowwise, slots in ((False, self._phase_slots), (True, self._row_slots)):
                mine = [slot for slot in stage.rates if (slot in self._by_row) == rowwise]
                rates = np.stack([stage.rates[slot][order] for slot in mine], axis=1) if mine else None
                tables.append(None if rates is None else Table(len(slots), self._constant(rates)))
                slots.extend(mine)
            steps.append(Phase(self._constant(stage.constant[order][:, None]), *tables))
            return order
        wires = sorted(stage.runs)
        count = -(-len(wires) // BLOCK)
        for part in (wires[i * len(wires) // count : (i + 1) * len(wires) // count] for i in range(count)):
            gathers, order = to_front(n_wires, part, order, self._device)
            steps += [*gathers, len(self._blocks)]
            self._blocks.append([stage.runs[wire] for wire in part])
        return order

    def _place(self, step: Any, shift: int) -> Step:
        """Return `step` with what is known only once all steps are: the places of matrices and of angles."""
        if isinstance(step, int):
            return Block(*self._matrices.places[step])
        if isinstance(step, Phase) and step.clients:
            return Phase(step.constant, Table(step.clients.first + shift, step.clients.rates), step.rows)
        return step  # type: ignore[no-any-return]

    def _constant(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device, self._real)


def _through(steps: Sequence[Step], state: Tensor, env: Env, keep: bool) -> tuple[Tensor, Kept]:
    tape = []
    for step in steps:
        state, kept = step.forward(state, env)
        tape.append(kept if keep else ())
    return state, tape


def _back(steps: Sequence[Step], tape: Kept, gradient: Tensor, env: Env, into: Env) -> Tensor:
    for step, kept in zip(reversed(steps), reversed(tape), strict=True):
        gradient = step.backward(kept, gradient, env, into)
    return gradient
