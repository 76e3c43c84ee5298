"""What happens to a state (clients, 2^n, rows) on its way: gathers, blocks of wires, phases; each with its gradient.

Basis states may lie in any order: a stage that only exchanges them moves no data but changes the order, and the tables
of what follows are arranged for it. Only a block needs its wires in front, so that it is one batched product over all
rows of a client; what brings them there is one gather, which does the exchanges before it as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .stages import bits

Order = NDArray[np.int64]
"""For each place in memory the basis state that lies there."""


class Table(NamedTuple):
    """Part of the angles, from `first` on, and how fast each turns the phase of each place: (2^n, angles)."""

    first: int
    rates: Tensor

    def angles(self, known: Tensor) -> Tensor:
        """Return rates @ angles, (clients, 2^n, rows)."""
        return self.rates @ known.narrow(1, self.first, self.rates.shape[1])

    def backward(self, gradient: Tensor, into: Tensor) -> None:
        """Write the gradient of the angles from that of what `angles` returned."""
        into.narrow(1, self.first, self.rates.shape[1]).copy_(self.rates.mT @ gradient)


class Env(NamedTuple):
    """What steps draw from, or where they leave its gradient: matrices of each size, angles of clients and rows."""

    matrices: dict[int, Tensor]
    clients: Tensor
    rows: Tensor


@dataclass(frozen=True, eq=False)
class Gather:
    """new[place] = old[source[place]]."""

    source: Tensor
    back: Tensor

    def forward(self, state: Tensor, _env: Env) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the state after the step, and what `backward` needs to be kept."""
        return state.index_select(1, self.source), ()

    def backward(self, _kept: tuple[Tensor, ...], gradient: Tensor, _env: Env, _into: Env) -> Tensor:
        """Return the gradient of the state before the step from that of the state after it."""
        return gradient.index_select(1, self.back)


@dataclass(frozen=True, eq=False)
class Block:
    """A matrix on the wires in front: number `place` of those on `size` wires."""

    size: int
    place: int

    def forward(self, state: Tensor, env: Env) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the state after the step, and what `backward` needs to be kept."""
        front = state.reshape(state.shape[0], 2**self.size, -1)
        return torch.bmm(env.matrices[self.size][self.place], front).reshape(state.shape), (front,)

    def backward(self, kept: tuple[Tensor, ...], gradient: Tensor, env: Env, into: Env) -> Tensor:
        """Return the gradient of the state before the step; leave that of the matrix in `into`."""
        (front,) = kept
        flat = gradient.reshape(front.shape)
        torch.bmm(flat, front.mT, out=into.matrices[self.size][self.place])
        return torch.bmm(env.matrices[self.size][self.place].mT, flat).reshape(gradient.shape)


@dataclass(frozen=True, eq=False)
class Phase:
    """exp(i angle) at each place: constant, and angles of the client and of the row."""

    constant: Tensor
    clients: Table | None
    rows: Table | None

    def forward(self, state: Tensor, env: Env) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the state after the step, and what `backward` needs to be kept."""
        angles = self.constant
        if self.clients:
            angles = angles + self.clients.angles(env.clients)
        if self.rows:
            angles = angles + self.rows.angles(env.rows)
        factor = torch.complex(angles.cos(), angles.sin())
        turned = factor * state
        return turned, (factor, turned)

    def backward(self, kept: tuple[Tensor, ...], gradient: Tensor, _env: Env, into: Env) -> Tensor:
        """Return the gradient of the state before the step; leave that of the angles in `into`."""
        factor, turned = kept
        if self.clients or self.rows:
            angles = torch.view_as_real(gradient * turned)[..., 1].neg()
            if self.rows:
                self.rows.backward(angles, into.rows)
            if self.clients:
                self.clients.backward(angles.sum(-1, keepdim=True), into.clients)
        return gradient * factor


Step = Gather | Block | Phase


def to_front(n_wires: int, wires: Sequence[int], order: Order, device: torch.device) -> tuple[list[Gather], Order]:
    """Return the gather, if one is needed, that makes `wires` the most significant bits of the place, and the order."""
    rest = [wire for wire in range(n_wires) if wire not in wires]
    wanted = np.argsort(bits(n_wires, [*wires, *rest]))
    source = np.argsort(order)[wanted]
    if np.array_equal(source, np.arange(len(source))):
        return [], wanted
    back = np.argsort(source)
    return [Gather(torch.from_numpy(source).to(device), torch.from_numpy(back).to(device))], wanted
