"""The steps of a noisy circuit as tensors: exchanges of Pauli words, and matrices, many of them made of angles.

The matrices of all one-qubit runs are made together: a piece of a run is a sum of constants times 1, cos and sin of one
angle, the pieces of all runs at one depth are one batched product, and neighbouring wires share a 16 x 16 matrix.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..quantum.stages import Real
from .pauli_stages import ONE_TURN, Block, Exchange, Piece, Run, Stage

Made = dict[str, Sequence[Tensor]]
"""Matrices made of angles, (lanes, d, d) each: by "pair" of wires, "single" wire, and "gate" on several."""


class Swap(NamedTuple):
    """An exchange of words, and the one that is its transpose."""

    source: Tensor
    factor: Tensor
    back: Tensor
    back_factor: Tensor

    def apply(self, state: Tensor, _made: Made, transposed: bool) -> Tensor:
        """Return the state (lanes, 4^n, columns) after the step, or after its transpose."""
        way = (*self[2:], *self[:2]) if transposed else self
        return _Exchanged.apply(state, *way)  # type: ignore[no-any-return, no-untyped-call]  # so typed by torch


class Matrix(NamedTuple):
    """A matrix on neighbouring wires; before: 4 to the number of wires in front of them.

    fixed: (1, d, d), or else its kind and place among those made of angles.
    """

    before: int
    fixed: Tensor | None
    kind: str = ""
    place: int = 0

    def apply(self, state: Tensor, made: Made, transposed: bool) -> Tensor:
        """Return the state (lanes, 4^n, columns) after the step, or after its transpose."""
        matrix = made[self.kind][self.place] if self.fixed is None else self.fixed
        if transposed:
            matrix = matrix.mT
        split = state.reshape(len(state), self.before, matrix.shape[-1], -1)
        if split.shape[3] == 1:
            return (split[..., 0] @ matrix.mT).reshape(-1, *state.shape[1:])
        return (matrix[:, None] @ split).reshape(-1, *state.shape[1:])


class _Exchanged(torch.autograd.Function):
    """An exchange, whose gradient is the transposed exchange: a gather, where autograd's own would scatter."""

    generate_vmap_rule = True

    @staticmethod
    def forward(state: Tensor, source: Tensor, factor: Tensor, _back: Tensor, _back_factor: Tensor) -> Tensor:
        if state.shape[2] == 1:  # three times as fast as index_select where there is one column
            return torch.gather(state, 1, source.reshape(1, -1, 1).expand(len(state), -1, 1)) * factor[:, None]
        return state.index_select(1, source) * factor[:, None]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG004  (torch's signature)
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        source, factor, back, back_factor = ctx.saved_tensors
        turned: Tensor = _Exchanged.apply(gradient, back, back_factor, source, factor)  # type: ignore[no-untyped-call]
        return turned, None, None, None, None


class Pieces:
    """Runs of one-qubit gates, filled up to one depth.

    slots: (depth * runs,) where each piece finds its angle. terms: (depth, runs, 3, 4, 4).
    """

    def __init__(self, runs: Sequence[Run], options: Any) -> None:
        self.depth, self.runs = max(1, *(len(run.pieces) for run in runs)), len(runs)
        nothing = Piece(None, np.stack([np.eye(4), np.zeros((4, 4)), np.zeros((4, 4))]))
        padded = [[*run.pieces, *[nothing] * (self.depth - len(run.pieces))] for run in runs]
        pieces = [some[i] for i in range(self.depth) for some in padded]
        any_slot = next((piece.slot for piece in pieces if piece.slot is not None), 0)
        slots = [any_slot if piece.slot is None else piece.slot for piece in pieces]
        terms = np.stack([piece.terms for piece in pieces]).reshape(self.depth, self.runs, 3, 4, 4)
        self.slots = torch.tensor(slots, device=options["device"])
        self.terms = torch.tensor(terms, **options)
        self._rates, self._shifts = (torch.tensor(values, **options).reshape(3, 1) for values in ONE_TURN)

    def factors(self, angles: Tensor) -> Tensor:
        """Return what the terms are multiplied by, (lanes, depth, runs, 3, rows), for angles (lanes, slots, rows)."""
        mine = angles.index_select(1, self.slots).reshape(len(angles), self.depth, self.runs, -1)
        return torch.cos(mine[:, :, :, None] * self._rates + self._shifts)

    def matrices(self, angles: Tensor) -> Tensor:
        """Return the matrix of each run, (runs, lanes, 4, 4), for angles (lanes, slots)."""
        factors = self.factors(angles[..., None])[..., 0].permute(1, 2, 0, 3)
        layers = (factors @ self.terms.flatten(3)).reshape(self.depth, self.runs, -1, 4, 4)
        product: Tensor = layers[0]
        for layer in layers[1:]:
            product = layer @ product
        return product


class Steps:
    """The stages of a plan as steps; options: dtype and device of their tensors."""

    def __init__(self, n_wires: int, stages: Sequence[Stage], options: Any) -> None:
        self._options, self._n_wires = options, n_wires
        self._gates: list[tuple[int, Tensor, Tensor, Tensor]] = []
        self._found: list[Exchange | Matrix] = []
        runs: list[Run] = []
        pairs: list[int] = []
        singles: list[int] = []
        for stage in stages:
            if isinstance(stage, Exchange):
                self._exchange(stage)
            elif isinstance(stage, Block):
                self._block(stage)
            else:
                for wires in _neighbours(sorted(stage.wires)):
                    mine = [stage.runs[wire] for wire in wires]
                    if all(run.fixed for run in mine):
                        fixed = [run.pieces[0].terms[0] for run in mine]
                        matrix = np.kron(*fixed) if len(fixed) == 2 else fixed[0]
                        self._found.append(Matrix(4 ** wires[0], self._constant(matrix)[None]))
                        continue
                    kind, places = ("pair", pairs) if len(mine) == 2 else ("single", singles)
                    self._found.append(Matrix(4 ** wires[0], None, kind, len(places)))
                    places.append(len(runs))
                    runs += mine
        self.steps = [self._swap(step) if isinstance(step, Exchange) else step for step in self._found]
        self._runs = Pieces(runs, options) if runs else None
        self._pairs, self._singles = (
            torch.tensor(places, dtype=torch.int64, device=options["device"]) for places in (pairs, singles)
        )

    def matrices(self, angles: Tensor) -> Made:
        """Return the matrices of the steps that depend on angles (lanes, slots)."""
        made: Made = {}
        if self._runs is not None:
            each = self._runs.matrices(angles)
            a, b = each.index_select(0, self._pairs), each.index_select(0, self._pairs + 1)
            both = (a[..., :, None, :, None] * b[..., None, :, None, :]).flatten(-4, -3).flatten(-2, -1)
            made = {"pair": both.unbind(0), "single": each.index_select(0, self._singles).unbind(0)}
        made["gate"] = [
            (torch.cos(angles[:, slot, None] * rates + shifts) @ terms.flatten(1)).reshape(-1, *terms.shape[1:])
            for slot, rates, shifts, terms in self._gates
        ]
        return made

    def _exchange(self, stage: Exchange) -> None:
        """Append an exchange, to the one before if nothing came between."""
        last = self._found[-1] if self._found else None
        if isinstance(last, Exchange):
            last.then(stage.source, stage.factor)
        else:
            self._found.append(Exchange(stage.wires, stage.source, stage.factor))

    def _block(self, stage: Block) -> None:
        """Append a gate, between two exchanges where its wires are not neighbours in order."""
        made = (self._constant(stage.turn.terms), "", 0) if stage.slot is None else (None, "gate", len(self._gates))
        if stage.slot is not None:
            rates, shifts, terms = map(self._constant, stage.turn)
            self._gates.append((stage.slot, rates, shifts, terms))
        first, n, wires = stage.wires[0], self._n_wires, stage.wires
        if wires == tuple(range(first, first + len(wires))):
            self._found.append(Matrix(4**first, *made))
            return
        rest = [wire for wire in range(n) if wire not in wires]
        source = np.arange(4**n).reshape([4] * n).transpose(*wires, *rest).reshape(-1)
        self._exchange(Exchange(set(), source, np.ones(4**n)))
        self._found.append(Matrix(1, *made))
        self._exchange(Exchange(set(), np.argsort(source), np.ones(4**n)))

    def _swap(self, stage: Exchange) -> Swap:
        back, device = np.argsort(stage.source), self._options["device"]
        source, there = (torch.from_numpy(order).to(device) for order in (stage.source, back))
        return Swap(source, self._constant(stage.factor), there, self._constant(stage.factor[back]))

    def _constant(self, array: Real) -> Tensor:
        return torch.tensor(array, **self._options)


def _neighbours(wires: Sequence[int]) -> list[list[int]]:
    """Return sorted wires as neighbouring pairs, and alone those that have no partner left."""
    groups: list[list[int]] = []
    for wire in wires:
        if groups and groups[-1] == [wire - 1]:
            groups[-1].append(wire)
        else:
            groups.append([wire])
    return groups
