"""The values of angle slots, for all clients and rows at once.

Slots whose trees differ only in their leaves are evaluated together: one gather for each leaf position and one torch
operation for each node, however many slots there are. Everything is differentiable through inputs and weights.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .expr import UNARY, Expr

_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "+": torch.add,
    "-": torch.sub,
    "*": torch.mul,
    "/": torch.div,
    **{name: getattr(torch, name) for name in UNARY},
}
Sizes = tuple[tuple[str, int], ...]


class _Group(NamedTuple):
    """Slots of one structure: the tree with numbered leaves, and for each number the leaf's op and one value a slot.

    The values are positions in the table of that op, or the constants themselves.
    """

    tree: Any
    leaves: tuple[tuple[str, Tensor], ...]


def evaluate(slots: Sequence[Expr], inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    """Return the angles of `slots` in radians: (clients, len(slots), rows), with 1 for rows if no slot uses an input.

    slots: at least one, none constant. inputs: name to (clients, rows, *shape). weights: name to (clients, *shape). A
    weight that no slot uses is still part of the graph, with a gradient of exactly zero, if another one is used.
    """
    flat = {
        "input": {name: tensor.reshape(*tensor.shape[:2], -1) for name, tensor in inputs.items()},
        "weight": {name: tensor.reshape(tensor.shape[0], -1) for name, tensor in weights.items()},
    }
    sizes = (tuple((name, tensor.shape[-1]) for name, tensor in flat[op].items()) for op in ("input", "weight"))
    groups, order = _plan(tuple(slots), *sizes)
    used = {op for group in groups for op, _ in group.leaves}
    tables = {op: torch.cat(list(flat[op].values()), dim=-1) for op in used - {"const"}}
    if "input" in tables:
        tables["input"] = tables["input"].transpose(1, 2)
    if "weight" in tables:
        tables["weight"] = tables["weight"].unsqueeze(-1)
    like = next(iter(tables.values()))
    parts = []
    for group in groups:
        leaves = [
            values.to(like).unsqueeze(-1) if op == "const" else tables[op].index_select(1, values.to(like.device))
            for op, values in group.leaves
        ]
        parts.append(_value(group.tree, leaves))
    widest = max(part.shape[-1] for part in parts)
    angles = torch.cat([part.expand(-1, -1, widest) for part in parts], dim=1) if len(parts) > 1 else parts[0]
    return angles if order is None else angles.index_select(1, order.to(angles.device))


def _value(tree: Any, leaves: Sequence[Tensor]) -> Tensor:
    if isinstance(tree, int):
        return leaves[tree]
    op, *args = tree
    return _FUNCTIONS[op](*(_value(arg, leaves) for arg in args))


@lru_cache(maxsize=256)
def _plan(slots: tuple[Expr, ...], inputs: Sizes, weights: Sizes) -> tuple[tuple[_Group, ...], Tensor | None]:
    """Return `slots` in groups of one structure, and what brings them back in order (None if nothing need be done)."""
    starts = {"input": _starts(inputs), "weight": _starts(weights)}
    members: dict[Any, list[int]] = {}
    for number, slot in enumerate(slots):
        members.setdefault(_structure(slot), []).append(number)
    groups = []
    for (tree, ops), numbers in members.items():
        columns = zip(*(slots[number].leaves() for number in numbers), strict=True)
        leaves = []
        for op, column in zip(ops, columns, strict=True):
            if op == "const":
                values = torch.tensor([leaf.args[0] for leaf in column], dtype=torch.float64)
            else:
                values = torch.tensor([starts[op][leaf.args[0]] + leaf.args[1] for leaf in column])
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
