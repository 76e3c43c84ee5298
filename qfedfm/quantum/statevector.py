"""Exact expectation values of a program for all clients and rows at once, differentiable through inputs and weights.

The state is one tensor (clients, 2^n, rows), rows last, because then every exchange of basis states moves whole rows;
wire 0 is the most significant bit. A program is compiled once for its observables: gates that cannot reach them are
left out (`lightcone`), the rest becomes a few large steps (`stages`, `evolution`), and the observables are read from
the probabilities by a table of signs (`readout`), arranged in whatever order the basis states end up in.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ..errors import CircuitError, nearest
from .evolution import BLOCK, COMPLEX, Evolution
from .lightcone import reachable
from .program import Observable, Program
from .readout import Reading, readings
from .stages import Local, Plan, plan

MAX_WIRES = 20
MEMORY_BUDGET = 4 * 2**30
"""Bytes that one call may hold, unless it is told otherwise."""
CHUNK = 8 * 2**20
"""Bytes of one state of all the clients that are taken at once (128 clients with 32 rows on 8 qubits).

Below it, states kept for the gradient are faster than states evolved again (100 clients: 36 ms against 45 to 65); far
above, memory is slower than arithmetic (1000 clients: 1160 ms in one chunk, 580 to 700 in chunks).
"""


def simulate(
    program: Program,
    inputs: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    observables: Sequence[Observable],
    budget: int = MEMORY_BUDGET,
) -> Tensor:
    """Return the exact expectation values <psi| O_k |psi>, (clients, rows, len(observables)).

    inputs: name to (clients, rows, *shape). weights: name to (clients, *shape). All float32 or all float64; the state
    is complex in the same precision. A circuit without inputs has one row; one without inputs and weights has one
    client too, and torch's default precision. Raises `CircuitError` for missing, unknown or misshapen arguments, and,
    before any state is allocated, beyond `MAX_WIRES` qubits or where `state_bytes` exceeds `budget`.
    """
    clients, rows, real, device = check_arguments(program, inputs, weights)
    observables, traced = tuple(observables), _traced(inputs, weights)
    chunk = _chunk(program, observables, clients, rows, real, traced, budget)
    evolution = _compile(program, observables, real, device)
    angles = evolution.angles(inputs, weights, clients)
    if torch._C._are_functorch_transforms_active():
        values = evolution.forward(*angles)[0]
    elif traced and any(part.requires_grad for part in angles):
        values = _Differentiable.apply(*angles, evolution, chunk)  # type: ignore[no-untyped-call]  # so typed by torch
    else:
        values = torch.empty((clients, len(observables), angles[1].shape[2]), dtype=real, device=device)
        for mine, width in _pieces(*angles, chunk):
            values[mine, :, width] = evolution.forward(angles[0][mine], angles[1][mine, :, width], keep=False)[0]
    return values.transpose(1, 2).expand(clients, rows, -1)


def states(
    program: Program, inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor], budget: int = MEMORY_BUDGET
) -> Tensor:
    """Return the state vectors, complex (clients, 2^n, rows); arguments and errors are those of `simulate`.

    The global phase is that of the matrices in `gates.GATES`.
    """
    clients, rows, real, device = check_arguments(program, inputs, weights)
    _chunk(program, None, clients, rows, real, _traced(inputs, weights), budget)
    evolution = _compile(program, None, real, device)
    state, _ = evolution.state(*evolution.angles(inputs, weights, clients))
    return state.index_select(1, evolution.places).expand(clients, -1, rows)


def state_bytes(
    program: Program,
    observables: tuple[Observable, ...] | None,
    clients: int,
    rows: int,
    real: torch.dtype,
    gradient: bool,
    budget: int = MEMORY_BUDGET,
) -> int:
    """Return an upper bound of the bytes that one call holds in states and matrices.

    observables: None for `states`. real: float32 or float64. `simulate` takes clients and rows in chunks, so that for
    many of them the bound stops growing.
    """
    of_row, of_client = _bytes_of_one(program, observables, real, gradient)
    if observables is None:
        return clients * (rows * of_row + of_client)
    some, width = _fitting(program, (of_row, of_client), clients, rows, real, budget)
    return some * (width * of_row + of_client)


def _bytes_of_one(
    program: Program, observables: tuple[Observable, ...] | None, real: torch.dtype, gradient: bool
) -> tuple[int, int]:
    """Return the bytes that one row of one client needs, and those of the matrices of a client."""
    if program.n_wires > MAX_WIRES:
        raise CircuitError(f"the exact simulator takes at most {MAX_WIRES} qubits; this circuit has {program.n_wires}")
    made, found = _plan(program, observables)
    runs = [len(stage.runs) for stage in made.stages if isinstance(stage, Local)]
    runs += [len(reading.turned) for reading in found]
    blocks = sum(math.ceil(count / BLOCK) for count in runs)
    kept = 2 * blocks + 3 * (len(made.stages) + len(found)) if gradient else 0
    size = COMPLEX[real].itemsize
    return (8 + kept) * 2**program.n_wires * size, (6 * 4**BLOCK * blocks + 100 * program.n_wires) * size


def _fitting(
    program: Program, one: tuple[int, int], clients: int, rows: int, real: torch.dtype, budget: int
) -> tuple[int, int]:
    """Return how many clients and rows are taken at once."""
    of_row, of_client = one
    width = max(1, min(rows, (budget - of_client) // of_row))
    cached = CHUNK // (width * 2**program.n_wires * COMPLEX[real].itemsize)
    return max(1, min(clients, cached, budget // (width * of_row + of_client))), width


def _chunk(
    program: Program,
    observables: tuple[Observable, ...] | None,
    clients: int,
    rows: int,
    real: torch.dtype,
    traced: bool,
    budget: int,
) -> tuple[int, int]:
    """Return how many clients and rows are taken at once; raise `CircuitError` where nothing fits the budget."""
    needed = state_bytes(program, observables, clients, rows, real, traced, budget)
    if needed > budget:
        what = f"{clients} clients with {rows} rows" if observables is None else "one row of one client"
        raise CircuitError(
            f"{what} on {program.n_wires} qubits need up to {needed / 2**20:.0f} MiB for states; "
            f"the budget is {budget / 2**20:.0f} MiB: pass fewer clients or rows, or a larger budget"
        )
    return _fitting(program, _bytes_of_one(program, observables, real, traced), clients, rows, real, budget)


def _pieces(clients: Tensor, rows: Tensor, chunk: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Return the chunks of clients and rows."""
    some, width = chunk
    return [
        (slice(i, i + some), slice(j, j + width))
        for i in range(0, len(clients), some)
        for j in range(0, rows.shape[2], width)
    ]


class _Differentiable(torch.autograd.Function):
    """Expectation values (clients, observables, rows) of angles, chunk by chunk.

    One chunk keeps its states for the gradient. Of several none does: the gradient evolves each again, so that
    memory is that of one chunk, however many clients there are.
    """

    @staticmethod
    def forward(ctx: Any, clients: Tensor, rows: Tensor, evolution: Evolution, chunk: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(clients, rows)
        ctx.evolution, ctx.pieces, ctx.tape = evolution, _pieces(clients, rows, chunk), None
        if len(ctx.pieces) == 1:
            values, ctx.tape = evolution.forward(clients, rows)
            return values
        made = [evolution.forward(clients[i], rows[i, :, j], keep=False)[0] for i, j in ctx.pieces]
        values = made[0].new_empty((len(clients), made[0].shape[1], rows.shape[2]))
        for (i, j), part in zip(ctx.pieces, made, strict=True):
            values[i, :, j] = part
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        clients, rows = ctx.saved_tensors
        evolution: Evolution = ctx.evolution
        if torch.is_grad_enabled():  # a derivative of the derivative is wanted: leave it to autograd
            values, _ = evolution.forward(clients, rows)
            wanted = [part for part in (clients, rows) if part.requires_grad]
            found = iter(torch.autograd.grad(values, wanted, gradient, create_graph=True, allow_unused=True))
            return *(next(found) if part.requires_grad else None for part in (clients, rows)), None, None
        if ctx.tape is not None:
            return *evolution.backward(ctx.tape, gradient), None, None
        of_clients, of_rows = torch.zeros_like(clients), torch.empty_like(rows)
        for i, j in ctx.pieces:
            _, tape = evolution.forward(clients[i], rows[i, :, j])
            part, of_rows[i, :, j] = evolution.backward(tape, gradient[i, :, j])
            of_clients[i] += part
        return of_clients, of_rows, None, None


@lru_cache(maxsize=64)
def _plan(program: Program, observables: tuple[Observable, ...] | None) -> tuple[Plan, list[Reading]]:
    if observables is None:
        return plan(program), []
    return plan(reachable(program, observables)), readings(program.n_wires, observables)


@lru_cache(maxsize=64)
def _compile(
    program: Program, observables: tuple[Observable, ...] | None, real: torch.dtype, device: torch.device
) -> Evolution:
    return Evolution(program, *_plan(program, observables), real, device)


def _traced(inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in [*inputs.values(), *weights.values()])


def check_arguments(
    program: Program, inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor]
) -> tuple[int, int, torch.dtype, torch.device]:
    """Return clients, rows, dtype and device; raise `CircuitError` where the arguments are not those of `program`."""
    wanted = {("input", name): shape for name, shape in program.inputs}
    wanted |= {("weight", spec.name): spec.shape for spec in program.weights}
    given = {("input", name): tensor for name, tensor in inputs.items()}
    given |= {("weight", name): tensor for name, tensor in weights.items()}
    for role, name in given.keys() - wanted.keys():
        raise CircuitError(f"the circuit has no {role} '{name}'{nearest(name, [n for r, n in wanted if r == role])}")
    for role, name in wanted.keys() - given.keys():
        raise CircuitError(f"the circuit needs the {role} '{name}' of shape {wanted[role, name]}; it is missing")
    clients = next((tensor.shape[0] for tensor in given.values() if tensor.dim()), 1)
    rows = next((tensor.shape[1] for tensor in inputs.values() if tensor.dim() > 1), 1)
    for (role, name), shape in wanted.items():
        got, leading = tuple(given[role, name].shape), (clients, rows) if role == "input" else (clients,)
        if got != (*leading, *shape):
            axes = "(clients, rows, *shape)" if role == "input" else "(clients, *shape)"
            raise CircuitError(f"{role} '{name}' should be {axes} = {(*leading, *shape)}; got {got}")
    if 0 in (clients, rows):
        raise CircuitError(f"expected at least one client and one row; got {clients} clients and {rows} rows")
    kinds = {(tensor.dtype, tensor.device) for tensor in given.values()}
    kinds = kinds or {(torch.get_default_dtype(), torch.device("cpu"))}
    if len(kinds) > 1 or next(iter(kinds))[0] not in COMPLEX:
        found = {f"{role} '{name}'": f"{tensor.dtype} on {tensor.device}" for (role, name), tensor in given.items()}
        raise CircuitError(f"all inputs and weights should be float32, or all float64, on one device; got {found}")
    return clients, rows, *next(iter(kinds))
