"""What can be read from the exact state: probabilities, samples, reduced density matrices, purity, entanglement.

All for every client and row at once, as `simulate` gives expectation values. `wires` names the qubits that are read,
the first being the most significant bit; the others are summed (traced) out.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import CircuitError
from .program import Program
from .statevector import MEMORY_BUDGET, states


def probabilities(
    program: Program,
    inputs: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    wires: Sequence[int] | None = None,
    budget: int = MEMORY_BUDGET,
) -> Tensor:
    """Return the probability of each outcome on `wires`, (clients, rows, 2^len(wires)), differentiable.

    inputs, weights, budget: as in `simulate`. wires: None reads all, in order. Raises `CircuitError` for wires that
    the circuit does not have or that repeat, and as `simulate` does.
    """
    chosen = _checked(program, wires)
    amplitudes = _apart(states(program, inputs, weights, budget), program.n_wires, chosen)
    return torch.view_as_real(amplitudes).square().sum(dim=(2, 4)).transpose(1, 2)


def samples(
    program: Program,
    inputs: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    shots: int,
    generator: np.random.Generator,
    wires: Sequence[int] | None = None,
    budget: int = MEMORY_BUDGET,
) -> Tensor:
    """Return `shots` outcomes on `wires` for each client and row, int64 (clients, rows, shots), each in 0..2^k - 1.

    Bit k - 1 - i of an outcome belongs to wires[i]. The outcomes are independent, drawn by inverting the cumulative
    probabilities in float64 at uniform numbers of `generator`, in the order client, row, shot. Arguments and errors
    otherwise as in `probabilities`.
    """
    if shots < 1:
        raise CircuitError(f"expected one shot or more; got {shots}")
    with torch.no_grad():
        cumulative = probabilities(program, inputs, weights, wires, budget).double().cumsum(-1)
    cumulative = cumulative / cumulative[..., -1:]  # ends in exactly 1, which no uniform number reaches
    uniform = torch.from_numpy(generator.random((*cumulative.shape[:2], shots))).to(cumulative)
    return torch.searchsorted(cumulative, uniform, right=True)


def reduced_density(
    program: Program,
    inputs: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    wires: Sequence[int],
    budget: int = MEMORY_BUDGET,
) -> Tensor:
    """Return rho = Tr_others |psi><psi|, complex (clients, rows, 2^k, 2^k) with k = len(wires), differentiable.

    Arguments and errors as in `probabilities`; `CircuitError` also where the matrices themselves exceed `budget`.
    """
    chosen = _checked(program, wires)
    amplitudes = _apart(states(program, inputs, weights, budget), program.n_wires, chosen)
    clients, side, _, rows = amplitudes.shape
    needed = clients * rows * side**2 * amplitudes.element_size()
    if needed > budget:
        raise CircuitError(
            f"{clients * rows} density matrices on {len(chosen)} wires need {needed / 2**20:.0f} MiB; the budget is "
            f"{budget / 2**20:.0f} MiB: ask for fewer wires, clients or rows, or pass a larger budget"
        )
    one_a_row = amplitudes.permute(0, 3, 1, 2)
    return one_a_row @ one_a_row.mH


def purity(
    program: Program,
    inputs: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    wires: Sequence[int],
    budget: int = MEMORY_BUDGET,
) -> Tensor:
    """Return Tr rho^2 of the state reduced to `wires`, (clients, rows), from 2^-k (most entangled) to 1 (a product).

    The two halves of a pure state have equal purities, so the smaller one is computed. Arguments and errors as in
    `reduced_density`.
    """
    chosen = _checked(program, wires)
    others = [wire for wire in range(program.n_wires) if wire not in chosen]
    rho = reduced_density(program, inputs, weights, min(chosen, others, key=len), budget)
    return torch.view_as_real(rho).square().sum(dim=(2, 3, 4))


def meyer_wallach(
    program: Program, inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor], budget: int = MEMORY_BUDGET
) -> Tensor:
    """Return the Meyer-Wallach entanglement Q = 2 (1 - mean over wires of Tr rho_wire^2), (clients, rows), in [0, 1].

    0 for a product of single qubits, 1 where every qubit is maximally mixed, as in Bell and GHZ states (Meyer and
    Wallach 2002, doi:10.1063/1.1497700, in the form of Brennen 2003, arXiv:quant-ph/0305094). It does not tell who is
    entangled with whom: two Bell pairs also have 1. Differentiable. Arguments and errors as in `simulate`.
    """
    state = states(program, inputs, weights, budget)
    purities: list[Tensor] = []
    for wire in range(program.n_wires):
        up, down = _apart(state, program.n_wires, [wire]).unbind(1)  # each (clients, 2^(n - 1), rows)
        populations = [torch.view_as_real(part).square().sum(dim=(1, 3)) for part in (up, down)]
        coherence = torch.view_as_real((up.conj() * down).sum(1)).square().sum(-1)
        purities.append(populations[0].square() + populations[1].square() + 2 * coherence)
    return 2 - 2 * torch.stack(purities).mean(0)


def _checked(program: Program, wires: Sequence[int] | None) -> list[int]:
    chosen = list(range(program.n_wires) if wires is None else wires)
    if len(set(chosen)) < len(chosen) or not all(0 <= wire < program.n_wires for wire in chosen):
        raise CircuitError(f"expected different wires within 0..{program.n_wires - 1}; got {chosen}")
    return chosen


def _apart(state: Tensor, n_wires: int, wires: Sequence[int]) -> Tensor:
    """Return a state (clients, 2^n, rows) as (clients, 2^k, 2^(n - k), rows), the chosen wires in front."""
    clients, _, rows = state.shape
    others = [wire for wire in range(n_wires) if wire not in wires]
    axes = [1 + wire for wire in (*wires, *others)]
    split = state.reshape(clients, *[2] * n_wires, rows).permute(0, *axes, n_wires + 1)
    return split.reshape(clients, 2 ** len(wires), -1, rows)
