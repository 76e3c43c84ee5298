"""Exact expectation values of a program for all clients and rows at once, differentiable through inputs and weights.

The state is one tensor (clients, 2^n, rows), rows last, because then every exchange of basis states moves whole rows;
wire 0 is the most significant bit. A program is compiled once for its observables: gates that cannot reach them are
left out (`lightcone`), the rest becomes a few large steps (`stages`, `evolution`), and the observables are read from
the probabilities by a table of signs (`readout`), into which an exchange of basis states at the end is folded.
"""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import CircuitError, nearest
from .evolution import BLOCK, COMPLEX, Evolution, Step
from .lightcone import reachable
from .program import Observable, Program
from .readout import Reading, readings
from .stages import Permute, Plan, plan, rotate

MAX_WIRES = 20
MEMORY_BUDGET = 4 * 2**30
"""Bytes of states that one call may hold, unless it is told otherwise."""


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
    clients, rows, real, device = _check_arguments(program, inputs, weights)
    compiled = _prepare(program, tuple(observables), (clients, rows), real, device, _traced(inputs, weights), budget)
    values = compiled.evolution.values(inputs, weights)
    state = compiled.evolution.run(values)
    parts = []
    for turn, signs in compiled.readings:
        turned = state if turn is None else turn(state, values)
        parts.append(signs @ torch.view_as_real(turned).square().sum(-1))
    total = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
    return total.transpose(1, 2).expand(clients, rows, -1)


def states(
    program: Program, inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor], budget: int = MEMORY_BUDGET
) -> Tensor:
    """Return the state vectors, complex (clients, 2^n, rows); arguments and errors are those of `simulate`.

    The global phase is that of the matrices in `gates.GATES`.
    """
    clients, rows, real, device = _check_arguments(program, inputs, weights)
    compiled = _prepare(program, None, (clients, rows), real, device, _traced(inputs, weights), budget)
    return compiled.evolution.run(compiled.evolution.values(inputs, weights)).expand(clients, -1, rows)


def state_bytes(
    program: Program,
    observables: tuple[Observable, ...] | None,
    clients: int,
    rows: int,
    real: torch.dtype,
    gradient: bool,
) -> int:
    """Return an upper bound of the bytes that one call holds in states: four, and a few more a step for a gradient.

    observables: None for `states`. real: float32 or float64.
    """
    if program.n_wires > MAX_WIRES:
        raise CircuitError(f"the exact simulator takes at most {MAX_WIRES} qubits; this circuit has {program.n_wires}")
    made, found = _plan(program, observables)
    one = clients * 2**program.n_wires * rows * COMPLEX[real].itemsize
    kept = max(3, math.ceil(program.n_wires / BLOCK)) * (len(made.stages) + len(found)) if gradient else 0
    return int((4 + kept) * one)


class _Compiled(NamedTuple):
    """readings: for each the turn of the state that it needs, if any, and its signs (observables, 2^n)."""

    evolution: Evolution
    readings: list[tuple[Step | None, Tensor]]


@lru_cache(maxsize=64)
def _plan(program: Program, observables: tuple[Observable, ...] | None) -> tuple[Plan, list[Reading]]:
    if observables is None:
        return plan(program), []
    found = readings(program.n_wires, observables)
    made = plan(reachable(program, observables))
    last = made.stages[-1] if made.stages else None
    if isinstance(last, Permute) and not any(reading.turned for reading in found):
        made.stages.pop()
        for reading in found:
            reading.signs = reading.signs[:, np.argsort(last.source)]
    return made, found


@lru_cache(maxsize=64)
def _compile(
    program: Program, observables: tuple[Observable, ...] | None, real: torch.dtype, device: torch.device
) -> _Compiled:
    made, found = _plan(program, observables)
    evolution = Evolution(program, made, [rotate(reading.turned) for reading in found], real, device)
    turns = [turn if reading.turned else None for turn, reading in zip(evolution.turns, found, strict=True)]
    signs = [torch.from_numpy(reading.signs).to(device, real) for reading in found]
    return _Compiled(evolution, list(zip(turns, signs, strict=True)))


def _prepare(
    program: Program,
    observables: tuple[Observable, ...] | None,
    size: tuple[int, int],
    real: torch.dtype,
    device: torch.device,
    traced: bool,
    budget: int,
) -> _Compiled:
    """Refuse what does not fit, then compile."""
    needed = state_bytes(program, observables, *size, real, traced)
    if needed > budget:
        raise CircuitError(
            f"{size[0]} clients with {size[1]} rows on {program.n_wires} qubits need up to {needed / 2**20:.0f} MiB "
            f"for states; the budget is {budget / 2**20:.0f} MiB: pass fewer clients or rows, or a larger budget"
        )
    return _compile(program, observables, real, device)


def _traced(inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in [*inputs.values(), *weights.values()])


def _check_arguments(
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
