"""All matrices of an evolution at once: from the angles of the clients to the matrix of every block of wires.

A run of one-qubit gates F_m D_m ... D_1 F_0 with D_j = diag(exp(i angle_j h_j)) is a trigonometric polynomial: with a
choice s of one of two eigenvalues in each D_j, its entries are sum_s exp(i sum_j angle_j h_j(s_j)) times a constant
matrix. So the matrices of all runs are two batched products with one cosine between them, however many there are. Runs
with more than `TURNS` angles are products of such pieces. The matrices of several wires are Kronecker products, all
those of one size together.

Gradients are written out. They are carried as conj(dL/dRe + i dL/dIm), with which complex linear maps are simply
transposed and nothing is ever conjugated.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .gates import Complex
from .stages import Real, Run, Turn

TURNS = 3
"""Most angles in one piece of a run: a piece has 2^TURNS terms."""


Tree = tuple[Tensor, Tensor, Any] | None
"""The two factors of a Kronecker product and the tree of the first, or of what both were joined to."""


class Built(NamedTuple):
    """What `Matrices.backward` needs: the cosines' arguments, the pieces, their products, and the Kronecker factors."""

    angles: Tensor
    layers: Tensor
    products: list[Tensor]
    trees: dict[int, Tree]


class Matrices:
    """The matrices of blocks of runs.

    blocks: for each block the runs on its wires, the first the most significant. slots: for each angle the slot that
    belongs there; the angles given to `forward` are in this order.
    """

    def __init__(self, blocks: Sequence[Sequence[Run]], real: torch.dtype, device: torch.device) -> None:
        self.sizes = sorted({len(block) for block in blocks})
        members = {size: [number for number, block in enumerate(blocks) if len(block) == size] for size in self.sizes}
        self.places = {number: (size, i) for size, found in members.items() for i, number in enumerate(found)}
        runs = [run for size in self.sizes for number in members[size] for run in blocks[number]]
        longest = max((len(run.turns) for run in runs), default=0)
        self._shapes = [(size, len(members[size])) for size in self.sizes]
        self._depth, self._turns = max(1, math.ceil(longest / TURNS)), min(TURNS, longest)
        pieces = [_piece(run, k, self._turns) for k in range(self._depth) for run in runs]
        any_slot = next((turn.slot for run in runs for turn in run.turns), 0)
        self.slots = [any_slot if turn is None else turn.slot for _, turns in pieces for turn in turns]
        rates, terms = zip(*(_polynomial(*piece) for piece in pieces), strict=True)
        options: Any = {"dtype": real, "device": device}
        self._rates = torch.tensor(np.stack(rates), **options)
        self._shift = torch.tensor([0.0, -math.pi / 2], **options).repeat_interleave(2**self._turns).reshape(1, 1, -1)
        self._terms = torch.tensor(np.stack(terms), **options)
        self._rates_back = -self._rates.mT
        self._terms_back = self._terms.mT * torch.tensor([1.0, -1.0] * 4, **options).reshape(8, 1)

    def forward(self, clients: Tensor) -> tuple[dict[int, Tensor], Built]:
        """Return for each size the matrices (blocks, clients, 2^size, 2^size), and what `backward` needs.

        clients: (clients, len(slots)), in radians.
        """
        count, pieces = clients.shape[0], len(self._rates)
        split = clients.reshape(count, pieces, self._turns).transpose(0, 1)
        angles = torch.baddbmm(self._shift, split, self._rates)
        made = torch.view_as_complex(torch.bmm(angles.cos(), self._terms).reshape(pieces, count, 2, 2, 2))
        layers = made.reshape(self._depth, -1, count, 2, 2)
        products = [layers[0]]
        for layer in layers[1:]:
            products.append(layer @ products[-1])
        matrices, trees, start = {}, {}, 0
        for size, blocks in self._shapes:
            part = products[-1][start : start + size * blocks].reshape(blocks, size, count, 2, 2)
            matrices[size], trees[size] = _join(part)
            start += size * blocks
        return matrices, Built(angles, layers, products, trees)

    def backward(self, built: Built, gradients: Mapping[int, Tensor]) -> Tensor:
        """Return the gradient of the angles, (clients, len(slots))."""
        parts = [_split(built.trees[size], gradients[size].unsqueeze(1)).flatten(0, 1) for size in self.sizes]
        gradient = torch.cat(parts) if len(parts) > 1 else parts[0]
        layers = []
        for k in range(self._depth - 1, 0, -1):
            layers.append(gradient @ built.products[k - 1].mT)
            gradient = built.layers[k].mT @ gradient
        layers.append(gradient)
        flat = torch.cat(layers[::-1]) if len(layers) > 1 else gradient
        real = torch.view_as_real(flat).reshape(*flat.shape[:2], 8)
        turned = torch.bmm(real, self._terms_back).mul_(built.angles.sin())
        return torch.bmm(turned, self._rates_back).transpose(0, 1).reshape(flat.shape[1], -1)


def _piece(run: Run, k: int, length: int) -> tuple[list[Complex], list[Turn | None]]:
    """Return the fixed gates and turns of piece k of `run`, filled up with turns that do nothing."""
    one = np.eye(2, dtype=complex)
    first, turns = k * TURNS, run.turns[k * TURNS : (k + 1) * TURNS]
    fixed = [run.fixed[0] if k == 0 else one, *run.fixed[first + 1 : first + 1 + len(turns)]]
    missing = length - len(turns)
    return fixed + [one] * missing, [*turns, *[None] * missing]


def _polynomial(fixed: Sequence[Complex], turns: Sequence[Turn | None]) -> tuple[Real, Real]:
    """Return the rates (turns, 2 terms) of cosines and of cosines shifted to sines, and the terms (2 terms, 8).

    The eight numbers are the real and imaginary parts of the entries of the matrix.
    """
    rates, terms = [], []
    for choice in itertools.product((0, 1), repeat=len(turns)):
        matrix = fixed[0]
        for which, after in zip(choice, fixed[1:], strict=True):
            matrix = np.outer(after[:, which], matrix[which])
        rates.append([turn.spectrum[which] if turn else 0.0 for which, turn in zip(choice, turns, strict=True)])
        terms.append(matrix.reshape(4))
    entries = np.stack([terms, 1j * np.stack(terms)]).reshape(-1, 4)
    numbers = np.stack([entries.real, entries.imag], axis=-1).reshape(-1, 8)
    return np.tile(np.array(rates).reshape(len(terms), len(turns)).T, 2), numbers


def _join(part: Tensor) -> tuple[Tensor, Tree]:
    """Return the Kronecker products over axis 1 of (blocks, wires, clients, d, d), and the factors on the way."""
    wires = part.shape[1]
    if wires == 1:
        return part[:, 0], None
    if wires % 2 == 0:
        a, b = part[:, ::2], part[:, 1::2]
        matrix, inner = _join(_kron(a, b))
        return matrix, (a, b, inner)
    a, inner = _join(part[:, :-1])
    a, b = a.unsqueeze(1), part[:, -1:]
    return _kron(a, b)[:, 0], (a, b, inner)


def _split(tree: Tree, gradient: Tensor) -> Tensor:
    """Return the gradient of the wires' matrices from that of the product, (blocks, 1, clients, d, d)."""
    if tree is None:
        return gradient
    a, b, inner = tree
    if a.shape[1] > 1 or a.shape[-1] == b.shape[-1]:
        of_a, of_b = _factors(_split(inner, gradient), a, b)
        return torch.stack([of_a, of_b], dim=2).flatten(1, 2)
    of_a, of_b = _factors(gradient, a, b)
    return torch.cat([_split(inner, of_a), of_b], dim=1)


def _kron(a: Tensor, b: Tensor) -> Tensor:
    """Return the Kronecker products of (..., m, m) and (..., n, n)."""
    return (a[..., :, None, :, None] * b[..., None, :, None, :]).flatten(-4, -3).flatten(-2, -1)


def _factors(gradient: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of a and b from that of their Kronecker product."""
    m, n, lead = a.shape[-1], b.shape[-1], gradient.shape[:-2]
    pairs = gradient.reshape(*lead, m, n, m, n).transpose(-3, -2).reshape(*lead, m * m, n * n)
    of_a = (pairs @ b.reshape(*lead, n * n, 1)).reshape(*lead, m, m)
    return of_a, (a.reshape(*lead, 1, m * m) @ pairs).reshape(*lead, n, n)
