"""The stages of a program carried out in torch: from inputs and weights to the state (clients, 2^n, rows).

One-qubit matrices that depend on weights are built once per client, all runs with equally many turns together;
neighbouring ones are joined to a matrix on up to four wires and applied to all rows by one batched product. Phases are
one product of a constant table with the angles and one multiplication. Everything here is plain autograd. An axis of
size 1 stands for clients or rows that do not differ yet.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .angles import evaluate
from .program import Program
from .stages import Local, Permute, Phases, Plan, Run, Stage, Turn

BLOCK = 4
"""Most wires in one matrix: 16 x 16 complex numbers."""
COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


class Values(NamedTuple):
    """What the steps of one call draw from.

    clients: angles that differ between clients only, (clients, slots, 1). rows: angles that differ between rows,
    (clients, slots, rows). matrices: of each run, (clients, 2, 2).
    """

    clients: Tensor
    rows: Tensor
    matrices: list[Tensor]


Step = Callable[[Tensor, Values], Tensor]


class Evolution:
    """A plan with its constants as tensors of one precision on one device.

    real: float32 or float64, of the angles; states are complex in that precision. turns: stages beside the plan's, that
    `run` leaves out and `self.turns` holds as functions.
    """

    def __init__(
        self, program: Program, made: Plan, turns: Sequence[Local], real: torch.dtype, device: torch.device
    ) -> None:
        self._slots, self._n_wires, self._real, self._device = program.slots, program.n_wires, real, device
        locals_ = [stage for stage in [*made.stages, *turns] if isinstance(stage, Local)]
        runs = [factor for factors in made.start for factor in factors if isinstance(factor, Run)]
        runs += [run for stage in locals_ for run in stage.runs.values()]
        slots = [factor.slot for factors in made.start for factor in factors if isinstance(factor, Turn)]
        slots += [turn.slot for run in runs for turn in run.turns]
        slots += [slot for stage in made.stages if isinstance(stage, Phases) for slot in stage.rates]
        self._rows = [slot for slot in dict.fromkeys(slots) if program.slots[slot].uses("input")]
        self._clients = [slot for slot in dict.fromkeys(slots) if not program.slots[slot].uses("input")]
        self._runs = sorted(runs, key=lambda run: len(run.turns))
        self._groups = [self._group(turns) for turns in sorted({len(run.turns) for run in runs})]
        self._wires = [[self._factor(factor) for factor in factors] for factors in made.start]
        self._steps = [self._step(stage) for stage in made.stages]
        self.turns = [self._step(stage) for stage in turns]

    def values(self, inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Values:
        """Return the angles of all slots and the matrices of all runs."""
        none = torch.empty((1, 0, 1), dtype=self._real, device=self._device)
        clients, rows = (
            evaluate([self._slots[slot] for slot in slots], inputs, weights) if slots else none
            for slots in (self._clients, self._rows)
        )
        return Values(clients, rows, [matrix for group in self._groups for matrix in group(clients)])

    def run(self, values: Values) -> Tensor:
        """Return the state after all steps, (clients, 2^n, rows)."""
        zero = self._constant(np.array([[[1], [0]]], dtype=complex))
        wires = [reduce(lambda vector, factor: factor(vector, values), factors, zero) for factors in self._wires]
        product = reduce(lambda a, b: (a.unsqueeze(2) * b.unsqueeze(1)).flatten(1, 2), wires)
        return reduce(lambda state, step: step(state, values), self._steps, product)

    def _constant(self, array: NDArray[Any]) -> Tensor:
        """Return `array` as a tensor of this precision, real or complex."""
        dtype = COMPLEX[self._real] if np.iscomplexobj(array) else self._real
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device, dtype)

    def _index(self, places: Sequence[int]) -> Tensor:
        return torch.tensor(places, dtype=torch.long, device=self._device)

    def _group(self, turns: int) -> Callable[[Tensor], Sequence[Tensor]]:
        """Return the function from the clients' angles to the matrices of all runs with that many turns."""
        runs = [run for run in self._runs if len(run.turns) == turns]
        fixed = [self._constant(np.stack([run.fixed[j] for run in runs])) for j in range(turns + 1)]
        index = self._index([self._clients.index(turn.slot) for run in runs for turn in run.turns])
        rates = self._constant(np.array([[turn.spectrum for turn in run.turns] for run in runs]))

        def matrices(clients: Tensor) -> Sequence[Tensor]:
            if not turns:
                return fixed[0].unsqueeze(0).unbind(1)
            angles = clients.index_select(1, index).reshape(-1, len(runs), turns, 1) * rates
            diagonals = _phase(angles).unsqueeze(-1).unbind(2)
            product = fixed[0]
            for diagonal, matrix in zip(diagonals, fixed[1:], strict=True):
                product = matrix @ (diagonal * product)
            return product.unbind(1)

        return matrices

    def _factor(self, factor: Run | Turn) -> Step:
        """Return what a factor does to the vector of one wire, (clients, 2, rows)."""
        if isinstance(factor, Run):
            number = self._runs.index(factor)
            return lambda vector, values: values.matrices[number] @ vector
        place = self._index([self._rows.index(factor.slot)])
        rates = self._constant(np.array(factor.spectrum)[:, None])

        def turn(vector: Tensor, values: Values) -> Tensor:
            return _phase(values.rows.index_select(1, place) * rates) * vector

        return turn

    def _step(self, stage: Stage) -> Step:
        if isinstance(stage, Permute):
            source = torch.from_numpy(stage.source).to(self._device)
            return lambda state, _: state.index_select(1, source)
        return self._phases(stage) if isinstance(stage, Phases) else self._local(stage)

    def _phases(self, stage: Phases) -> Step:
        constant = self._constant(stage.constant[:, None])
        tables = []
        for known in (self._clients, self._rows):
            slots = [slot for slot in stage.rates if slot in known]
            rates = np.stack([stage.rates[slot] for slot in slots], axis=1) if slots else np.zeros((len(constant), 0))
            tables.append((self._index([known.index(slot) for slot in slots]), self._constant(rates)))

        def apply(state: Tensor, values: Values) -> Tensor:
            angles = constant
            for (index, rates), known in zip(tables, (values.clients, values.rows), strict=True):
                if len(index):
                    angles = angles + rates @ known.index_select(1, index)
            return _phase(angles) * state

        return apply

    def _local(self, stage: Local) -> Step:
        identity = self._constant(np.eye(2, dtype=complex)[None])
        blocks: list[list[int]] = []
        for wire in sorted(stage.runs):
            if not blocks or wire >= blocks[-1][0] + BLOCK:
                blocks.append([])
            blocks[-1].append(wire)
        spans = [range(wires[0], wires[-1] + 1) for wires in blocks]
        numbers = [[self._runs.index(stage.runs[w]) if w in stage.runs else None for w in span] for span in spans]

        def apply(state: Tensor, values: Values) -> Tensor:
            for span, places in zip(spans, numbers, strict=True):
                matrix = reduce(_kron, (identity if place is None else values.matrices[place] for place in places))
                left, size, rows = 2 ** span[0], 2 ** len(span), state.shape[2]
                # with the block in front there is one product per client, not `left` of them
                front = state.reshape(state.shape[0], left, size, -1).transpose(1, 2)
                turned = (matrix @ front.flatten(2)).reshape(-1, size, left, front.shape[-1])
                state = turned.transpose(1, 2).reshape(-1, 2**self._n_wires, rows)
            return state

        return apply


def _phase(angles: Tensor) -> Tensor:
    """Return exp(i angles)."""
    return torch.complex(angles.cos(), angles.sin())


def _kron(a: Tensor, b: Tensor) -> Tensor:
    """Return the Kronecker product of (clients, m, m) and (clients, n, n)."""
    return (a[:, :, None, :, None] * b[:, None, :, None, :]).flatten(3, 4).flatten(1, 2)
