"""The values of angle slots, for all clients and rows at once.

Slots whose trees differ only in their leaves are evaluated together: one gather for each leaf position and one torch
operation for each node, however many slots there are. Everything is differentiable through inputs and weights; where
`atan2` and `hypot` have no gradient, at the origin, theirs is taken as zero, as torch takes that of a norm.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .expr import UNARY, Expr


def _atan2(y: Tensor, x: Tensor) -> Tensor:
    """Return torch.atan2, with the gradient zero at the origin, where it has none, in place of NaN."""
    origin = (x == 0) & (y == 0)
    return torch.atan2(y.masked_fill(origin, 0.0), x.masked_fill(origin, 1.0))


def _hypot(x: Tensor, y: Tensor) -> Tensor:
    """Return torch.hypot, with the gradient zero at the origin, where it has none, in place of NaN."""
    origin = (x == 0) & (y == 0)
    return torch.hypot(x.masked_fill(origin, 1.0), y).masked_fill(origin, 0.0)


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "+": torch.add,
    "-": torch.sub,
    "*": torch.mul,
    "/": torch.div,
    "atan2": _atan2,
    "hypot": _hypot,
    **{name: getattr(torch, name) for name in UNARY},
}
Sizes = tuple[tuple[str, int], ...]


class _Group(NamedTuple):
    """Slots of one structure: the tree with numbered leaves, and for each number the leaf's op and one value a slot.

    The values are positions in the table of that op (None: the whole table as it is), or the constants themselves.
    """

    tree: Any
    leaves: tuple[tuple[str, Tensor | None], ...]


class Angles:
    """The values of `slots`, with all that does not depend on the values of inputs and weights done beforehand.

    slots: at least one, none constant. inputs, weights: names and sizes of all arrays that a call gets, in its order.
    """

    def __init__(self, slots: Sequence[Expr], inputs: Sizes, weights: Sizes) -> None:
        self._groups, self._order = _plan(slots, inputs, weights)
        self._names = {
            op: [name for name, _ in sizes]
            for op, sizes in (("input", inputs), ("weight", weights))
            if any(op == leaf for group in self._groups for leaf, _ in group.leaves)
        }

    def __call__(self, inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor:
        """Return the angles in radians: (clients, slots, rows), with 1 for rows if no slot uses an input.

        inputs: name to (clients, rows, *shape). weights: name to (clients, *shape). A weight that no slot uses is still
        part of the graph, with a gradient of exactly zero, if another one is used.
        """
        tables = {}
        for op, names in self._names.items():
            if op == "input":
                flat = [inputs[name].reshape(*inputs[name].shape[:2], -1) for name in names]
                tables[op] = (torch.cat(flat, dim=2) if len(flat) > 1 else flat[0]).transpose(1, 2)
            else:
                flat = [weights[name].reshape(weights[name].shape[0], -1, 1) for name in names]
                tables[op] = torch.cat(flat, dim=1) if len(flat) > 1 else flat[0]
        like = next(iter(tables.values()))
        parts = []
        for group in self._groups:
            leaves = [_leaf(op, values, tables, like) for op, values in group.leaves]
            parts.append(_value(group.tree, leaves))
        if len(parts) == 1:
            return parts[0]
        widest = max(part.shape[-1] for part in parts)
        angles = torch.cat([part.expand(-1, -1, widest) for part in parts], dim=1)
        assert self._order is not None
        return angles.index_select(1, self._order.to(angles.device))


def evaluate(slots: Sequence[Expr], inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    """Return `Angles(slots, ...)(inputs, weights)`."""
    sizes = (
        tuple((name, math.prod(tensor.shape[lead:])) for name, tensor in tensors.items())
        for tensors, lead in ((inputs, 2), (weights, 1))
    )
    return Angles(slots, *sizes)(inputs, weights)


def _leaf(op: str, values: Tensor | None, tables: Mapping[str, Tensor], like: Tensor) -> Tensor:
    if values is None:
        return tables[op]
    if op == "const":
        return values.to(like).unsqueeze(-1)
    return tables[op].index_select(1, values.to(like.device))


def _value(tree: Any, leaves: Sequence[Tensor]) -> Tensor:
    if isinstance(tree, int):
        return leaves[tree]
    op, *args = tree
    return _FUNCTIONS[op](*(_value(arg, leaves) for arg in args))


def _plan(slots: Sequence[Expr], inputs: Sizes, weights: Sizes) -> tuple[tuple[_Group, ...], Tensor | None]:
    """Return `slots` in groups of one structure, and what brings them back in order (None if nothing need be done)."""
    starts = {"input": _starts(inputs), "weight": _starts(weights)}
    totals = {"input": sum(size for _, size in inputs), "weight": sum(size for _, size in weights)}
    members: dict[Any, list[int]] = {}
    for number, slot in enumerate(slots):
        members.setdefault(_structure(slot), []).append(number)
    groups = []
    for (tree, ops), numbers in members.items():
        columns = zip(*(slots[number].leaves() for number in numbers), strict=True)
        leaves: list[tuple[str, Tensor | None]] = []
        for op, column in zip(ops, columns, strict=True):
            values: Tensor | None
            if op == "const":
                values = torch.tensor([leaf.args[0] for leaf in column], dtype=torch.float64)
            else:
                places = [starts[op][leaf.args[0]] + leaf.args[1] for leaf in column]
                values = None if places == list(range(totals[op])) else torch.tensor(places)
            leaves.append((op, values))
        groups.append(_Group(tree, tuple(leaves)))
    order = torch.tensor([number for numbers in members.values() for number in numbers]).argsort()
    return tuple(groups), None if len(groups) == 1 else order


def _structure(slot: Expr) -> tuple[Any, tuple[str, ...]]:
    """Return the tree of `slot` with its leaves numbered from left to right, and the op of each leaf."""
    ops: list[str] = []

    def walk(node: Expr) -> Any:
        if node.op in ("const", "input", "weight"):
            ops.append(node.op)
            return len(ops) - 1
        return (node.op, *(walk(arg) for arg in node.args))

    return walk(slot), tuple(ops)


def _starts(sizes: Iterable[tuple[str, int]]) -> dict[str, int]:
    starts, total = {}, 0
    for name, size in sizes:
        starts[name] = total
        total += size
    return starts
