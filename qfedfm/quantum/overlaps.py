"""Overlaps of states: fidelities between weights, between clients, between rows.

The fidelity of two pure states is |<a|b>|^2. Between rows of data it is the fidelity quantum kernel (Havlicek et al.
2019, doi:10.1038/s41586-019-0980-2; Schuld and Killoran 2019, doi:10.1103/PhysRevLett.122.040504); between the
circuits of two clients it says how far apart they are as states, whatever their angles are.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import CircuitError
from .expr import Expr
from .program import Gate, Observable, Program, assemble
from .statevector import MEMORY_BUDGET, state_bytes, states


def fidelity(
    program: Program,
    inputs: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    others: Mapping[str, Tensor],
    budget: int = MEMORY_BUDGET,
) -> Tensor:
    """Return |<psi(x, w)|psi(x, v)>|^2, (clients, rows), in [0, 1], differentiable.

    weights, others: w and v, two sets of weights of the same circuit, each name to (clients, *shape). inputs, budget
    (of either set of states), errors: as in `simulate`.
    """
    a, b = (torch.view_as_real(states(program, inputs, w, budget)) for w in (weights, others))
    real = (a * b).sum(dim=(1, 3))
    imaginary = (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]).sum(1)
    return real.square() + imaginary.square()


def fidelity_kernel(
    program: Program,
    inputs: Mapping[str, Tensor],
    others: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    budget: int = MEMORY_BUDGET,
) -> Tensor:
    """Return K[c, r, s] = |<psi(x_r, w_c)|psi(y_s, w_c)>|^2, (clients, rows, other rows), differentiable.

    inputs, others: x and y, each name to (clients, rows or other rows, *shape). weights, budget (of either set of
    states), errors: as in `simulate`.
    """
    return squared_overlaps(states(program, inputs, weights, budget), states(program, others, weights, budget))


def client_fidelities(
    program: Program, probe: Mapping[str, Tensor], weights: Mapping[str, Tensor], budget: int = MEMORY_BUDGET
) -> Tensor:
    """Return F[a, b] = mean over probe rows x of |<psi(x, w_a)|psi(x, w_b)>|^2, (clients, clients), without gradient.

    probe: name to (rows, *shape), the same for all clients; empty for a circuit without inputs. Beside the result, at
    most `budget` bytes are in use: as many rows at a time as fit for all clients. Raises `CircuitError` where not one
    row does.
    """
    clients = max((len(tensor) for tensor in weights.values()), default=1)
    rows = max((len(tensor) for tensor in probe.values()), default=1)
    first_row = {name: tensor[None, :1] for name, tensor in probe.items()}
    like = states(program, first_row, {name: tensor[:1] for name, tensor in weights.items()}, budget).real
    one, two = (state_bytes(program, None, clients, some, like.dtype, gradient=False) for some in (1, 2))
    if one > budget // 2:
        raise CircuitError(
            f"the states of {clients} clients on {program.n_wires} qubits need up to {2 * one / 2**20:.0f} MiB for "
            f"each probe row; the budget is {budget / 2**20:.0f} MiB: pass fewer clients, or a larger budget"
        )
    together = 1 + (budget // 2 - one) // (two - one)
    total = torch.zeros(clients, clients, dtype=like.dtype, device=like.device)
    with torch.no_grad():
        for start in range(0, rows, together):
            some = {
                name: tensor[start : start + together].expand(clients, *tensor[start : start + together].shape)
                for name, tensor in probe.items()
            }
            by_row = states(program, some, weights, budget).permute(2, 1, 0).contiguous()
            block = max(1, budget // 2 // (len(by_row) * clients * 2 * by_row.element_size()))
            for first in range(0, clients, block):
                mine = slice(first, first + block)
                total[mine] += squared_overlaps(by_row[..., mine], by_row).sum(0)
    return total / rows


def squared_overlaps(a: Tensor, b: Tensor) -> Tensor:
    """Return |<a_i|b_j>|^2, (..., I, J), of the columns of `a` (..., 2^n, I) and of `b` (..., 2^n, J)."""
    return torch.view_as_real(a.mH @ b).square().sum(-1)


def compute_uncompute(program: Program) -> tuple[Program, Observable]:
    """Return a circuit and an observable whose expectation value is the fidelity of two sets of weights.

    The circuit is U(x, w), then U(x, v)^dagger; weights v are named "NAME.other". The observable is the projector on
    all zeros, in 2^n words of Z that are read from the same shots. It is what a machine can run in place of `fidelity`.
    """
    slots = [*program.slots, *(-_renamed(slot) for slot in program.slots)]
    undone = [
        Gate(
            _INVERSES.get(gate.name, gate.name),
            gate.wires,
            tuple(angle + len(program.slots) if isinstance(angle, int) else -angle for angle in gate.angles),
        )
        for gate in reversed(program.gates)
    ]
    weights = {spec.name: spec.shape for spec in program.weights}
    weights |= {f"{name}.other": shape for name, shape in weights.items()}
    both = assemble(program.n_wires, [*program.gates, *undone], slots, dict(program.inputs), weights)
    wires = range(program.n_wires)
    words = [tuple((wire, "Z") for wire in wires if chosen >> wire & 1) for chosen in range(2**program.n_wires)]
    return both, tuple((0.5**program.n_wires, word) for word in words)


_INVERSES = {"s": "sdg", "sdg": "s", "t": "tdg", "tdg": "t", "sx": "sxdg", "sxdg": "sx"}
"""Gates without an angle that are not their own inverse, up to a phase."""


def _renamed(expr: Expr) -> Expr:
    """Return an expression of the other set of weights."""
    if expr.op == "weight":
        return Expr("weight", (f"{expr.args[0]}.other", expr.args[1]))
    if expr.op in ("const", "input"):
        return expr
    return Expr(expr.op, tuple(_renamed(arg) for arg in expr.args))
