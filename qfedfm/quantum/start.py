"""The product state in which a program starts: every wire on its own, until it meets another.

The state of a wire is R_m E_m ... R_1 E_1 R_0 |0> with matrices R of its client and diagonals E = exp(i angle h) of its
row; the state of all is their Kronecker product, by pairs. An encoding layer and the first trained layer so cost no
pass over the 2^n amplitudes. Gradients are carried as in `matrices`.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .stages import Plan, Run, Turn

Tree = tuple[Tensor, Tensor, Any] | None
"""The two factors of a Kronecker product and the tree of the first, or of what both were joined to."""


class Begun(NamedTuple):
    """What `Start.backward` needs: for each turn the diagonal and the vectors after it, and the Kronecker factors."""

    turned: list[tuple[Tensor, Tensor]]
    tree: Tree


class Start:
    """The start of a plan. slots: for each turn the slot on each wire, turn by turn. runs: the R likewise."""

    def __init__(self, made: Plan, fallback: int, real: torch.dtype, device: torch.device) -> None:
        wires = [_alternate(factors) for factors in made.start]
        self.n_turns = max(len(turns) for _, turns in wires)
        self._n = made.n_wires
        self.runs = [runs[j] if j < len(runs) else Run() for j in range(self.n_turns + 1) for runs, _ in wires]
        still = Turn(fallback, (0.0, 0.0))
        grid = [[turns[j] if j < len(turns) else still for _, turns in wires] for j in range(self.n_turns)]
        self.slots = [turn.slot for turns in grid for turn in turns]
        rates = np.array([[turn.spectrum for turn in turns] for turns in grid]).reshape(-1, self._n, 1, 2, 1, 1)
        self._rates = torch.tensor(rates, dtype=real, device=device)
        self._rates_back = -self._rates[..., 0, :]
        self._shift = torch.tensor([0.0, -math.pi / 2], dtype=real, device=device)

    def forward(self, matrices: Tensor, rows: Tensor, width: int) -> tuple[Tensor, Begun]:
        """Return the state (clients, 2^n, width). matrices: those of `runs` first. rows: (clients, angles, width)."""
        n = self._n
        vector, turned = matrices[:n, :, :, :1], []
        for j in range(self.n_turns):
            angles = rows[:, j * n : (j + 1) * n].transpose(0, 1)[:, :, None, :, None]
            diagonal = torch.view_as_complex(torch.addcmul(self._shift, angles, self._rates[j]).cos())
            moved = diagonal * vector
            turned.append((diagonal, moved))
            vector = matrices[(j + 1) * n : (j + 2) * n] @ moved
        state, tree = _join(vector)
        return (state if state.shape[-1] == width else state.expand(-1, -1, width).contiguous()), Begun(turned, tree)

    def backward(self, begun: Begun, gradient: Tensor, matrices: Tensor, into: Tensor, rows: Tensor) -> None:
        """Write the gradients of the matrices to `into`, and those of the angles to `rows`."""
        n, count = self._n, gradient.shape[0]
        if not self.n_turns and gradient.shape[-1] > 1:
            gradient = gradient.sum(-1, keepdim=True)
        vector = _split(begun.tree, gradient.unsqueeze(0)).flatten(0, 1)
        for j in reversed(range(self.n_turns)):
            diagonal, moved = (part.flatten(0, 1) for part in begun.turned[j])
            after = slice((j + 1) * n, (j + 2) * n)
            torch.bmm(vector, moved.mT, out=into[after].flatten(0, 1))
            vector = torch.bmm(matrices[after].flatten(0, 1).mT, vector)
            angles = torch.view_as_real(vector * moved)[..., 1].reshape(n, count, 2, -1)
            rows[:, j * n : (j + 1) * n] = (angles * self._rates_back[j]).sum(2).transpose(0, 1)
            vector = vector * diagonal
        first = into[:n].flatten(0, 1)
        torch.sum(vector, dim=-1, out=first[..., 0])
        first[..., 1] = 0


def _alternate(factors: Sequence[Run | Turn]) -> tuple[list[Run], list[Turn]]:
    """Return runs and turns such that run, turn, run, turn, ..., run is `factors`."""
    runs: list[Run] = [Run()]
    turns: list[Turn] = []
    for factor in factors:
        if isinstance(factor, Turn):
            turns.append(factor)
            runs.append(Run())
        else:
            runs[-1] = factor
    return runs, turns


def _join(vectors: Tensor) -> tuple[Tensor, Tree]:
    """Return the Kronecker product over axis 0 of (wires, clients, d, rows), and the factors on the way."""
    wires = vectors.shape[0]
    if wires == 1:
        return vectors[0], None
    if wires % 2 == 0:
        a, b = vectors[::2], vectors[1::2]
        state, inner = _join(_kron(a, b))
        return state, (a, b, inner)
    first, inner = _join(vectors[:-1])
    a, b = first.unsqueeze(0), vectors[-1:]
    return _kron(a, b)[0], (a, b, inner)


def _split(tree: Tree, gradient: Tensor) -> Tensor:
    """Return the gradient of the wires' vectors from that of the product, (1, clients, 2^n, rows)."""
    if tree is None:
        return gradient
    a, b, inner = tree
    even = a.shape[0] > 1 or a.shape[2] == b.shape[2]
    if even:
        gradient = _split(inner, gradient)
    pairs = gradient.reshape(*gradient.shape[:2], a.shape[2], b.shape[2], -1)
    of_a, of_b = (pairs * b.unsqueeze(2)).sum(3), (pairs * a.unsqueeze(3)).sum(2)
    return torch.stack([of_a, of_b], dim=1).flatten(0, 1) if even else torch.cat([_split(inner, of_a), of_b])


def _kron(a: Tensor, b: Tensor) -> Tensor:
    return (a.unsqueeze(3) * b.unsqueeze(2)).flatten(2, 3)
