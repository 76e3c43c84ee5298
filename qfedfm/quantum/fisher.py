"""The quantum Fisher metric of a circuit's weights: how fast its state turns with each of them.

F_ij = 4 Re(<d_i psi|d_j psi> - <d_i psi|psi><psi|d_j psi>), four times the Fubini-Study metric (Stokes et al. 2020,
doi:10.22331/q-2020-05-25-269; Meyer 2021, doi:10.22331/q-2021-09-09-539). It is the curvature of the fidelity,
|<psi(w)|psi(w + d)>|^2 = 1 - d F d / 4 + ..., needs no labels and no loss, and is what natural gradients divide by.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..errors import CircuitError, nearest
from .program import Program
from .statevector import MEMORY_BUDGET, state_bytes, states


def quantum_fisher(
    program: Program,
    inputs: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    names: Sequence[str] | None = None,
    budget: int = MEMORY_BUDGET,
) -> Tensor:
    """Return the metric of each client, averaged over its rows, (clients, P, P), without gradient.

    The entries are those of the weights `names` (None: all), flattened and in that order (None: the program's); one
    name gives one block, `.diagonal(dim1=1, dim2=2)` the diagonal. inputs, weights: as in `simulate`. The metric is
    symmetric and positive semidefinite, being a Gram matrix of tangents: F = 4 Re <t_i|t_j> with
    t_i = d_i psi - psi <psi|d_i psi>. Tangents are exact (forward mode); clients and rows are taken in portions that
    fit `budget`. Raises `CircuitError` for unknown names, where one row of one client does not fit, and as `simulate`.
    """
    sizes = _sizes(program, names)
    first_row = {name: tensor[:1, :1] for name, tensor in inputs.items()}
    like = states(program, first_row, {name: tensor[:1] for name, tensor in weights.items()}, budget).real
    count, clients = sum(sizes.values()), len(weights[next(iter(sizes))])
    rows = next((tensor.shape[1] for tensor in inputs.values()), 1)
    leading = {tuple(tensor.shape[:2]) for tensor in inputs.values()} | {(len(w), rows) for w in weights.values()}
    if len(leading) > 1:
        raise CircuitError(f"inputs and weights should be of the same clients and rows; got {sorted(leading)}")
    # states, their tangents, and what forward mode holds between two steps
    one, two = (3 * state_bytes(program, None, count, some, like.dtype, gradient=False) for some in (1, 2))
    if one > budget:
        raise CircuitError(
            f"the tangents of {count} weights on {program.n_wires} qubits need up to {one / 2**20:.0f} MiB for one "
            f"row; the budget is {budget / 2**20:.0f} MiB: pass fewer names, or a larger budget"
        )
    some_rows = min(rows, 1 + (budget - one) // (two - one))
    some_clients = budget // (one + (some_rows - 1) * (two - one))
    metric = torch.zeros(clients, count, count, dtype=like.dtype, device=like.device)
    for first in range(0, clients, some_clients):
        mine = slice(first, first + some_clients)
        own = {name: tensor[mine].detach() for name, tensor in weights.items()}
        for start in range(0, rows, some_rows):
            part = {name: tensor[mine, start : start + some_rows].detach() for name, tensor in inputs.items()}
            flat = torch.view_as_real(_tangents(program, part, own, sizes, budget)).flatten(2)
            metric[mine] += flat @ flat.mT
    return metric * (4 / rows)


def _sizes(program: Program, names: Sequence[str] | None) -> dict[str, int]:
    """Return the number of entries of each chosen weight."""
    known = {spec.name: spec.size for spec in program.weights}
    chosen = list(known) if names is None else list(names)
    for name in chosen:
        if name not in known:
            raise CircuitError(f"the circuit has no weight '{name}'{nearest(name, known)}; it has {', '.join(known)}")
    if not chosen or len(set(chosen)) < len(chosen):
        raise CircuitError(f"the metric needs one weight or more, each named once; got {chosen}")
    return {name: known[name] for name in chosen}


def _tangents(
    program: Program, inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor], sizes: Mapping[str, int], budget: int
) -> Tensor:
    """Return t_i for every client and entry, (clients, P, 2^n, rows).

    Each client is copied once for each entry, and each copy moves along its own: one forward derivative gives all.
    """
    count, clients = sum(sizes.values()), len(weights[next(iter(sizes))])
    copies = {name: tensor.repeat_interleave(count, 0) for name, tensor in weights.items()}
    data = {name: tensor.repeat_interleave(count, 0) for name, tensor in inputs.items()}
    like = weights[next(iter(sizes))]
    columns = torch.split(torch.eye(count, dtype=like.dtype, device=like.device), list(sizes.values()), dim=1)
    moved = tuple(copies[name] for name in sizes)
    directions = tuple(column.repeat(clients, 1).view_as(tensor) for column, tensor in zip(columns, moved, strict=True))

    def along(*chosen: Tensor) -> Tensor:
        return states(program, data, copies | dict(zip(sizes, chosen, strict=True)), budget)

    value_and_change = torch.func.jvp(along, moved, directions)
    state, change = value_and_change[0], value_and_change[1]
    sideways: Tensor = change - state * (state.conj() * change).sum(1, keepdim=True)
    return sideways.reshape(clients, count, *sideways.shape[1:])
