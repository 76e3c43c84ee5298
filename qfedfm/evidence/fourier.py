"""Circuits as Fourier series of their inputs: which frequencies they can have, and with which coefficients.

An expectation value of a circuit whose gates turn by angles that are linear in the inputs is a finite Fourier series,
f(x) = sum_w c_w exp(i w x). Each gate that takes data adds to w a difference of its generator's eigenvalues, times the
factor of each input; so no frequency exceeds the sum of the largest gaps over all uploads (Schuld, Sweke and Meyer
2021, doi:10.1103/PhysRevA.103.032430; Gil Vidal and Theis 2020, doi:10.3389/fphy.2020.00297). Some w arise in many
ways, their redundancy, and circuits put more of their power there (Peters and Schuld 2023,
doi:10.22331/q-2023-12-20-1210).
"""

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CircuitError
from ..heads.variational import split_inputs
from ..quantum.angles import evaluate
from ..quantum.expr import Expr
from ..quantum.gates import GATES
from ..quantum.lightcone import reachable
from ..quantum.program import Circuit, Program
from ..quantum.statevector import simulate

MOST = 20_000
"""Frequencies that are followed at once; beyond it the ones that arise in the fewest ways are dropped."""
MOST_POINTS = 2**18
DIGITS = 9  # frequencies that agree to so many decimals are one


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The frequencies that a circuit can have at given weights.

    frequencies: (m, n_inputs), one of each pair +-w, zero first, then by `ways` falling. ways: (m,) the share of all
    ways to add up gaps that gives w; over +-w and all w they sum to 1. bound: (n_inputs,) what no |w_j| exceeds.
    complete: whether none was dropped for being more than `MOST`.
    """

    frequencies: NDArray[np.float64]
    ways: NDArray[np.float64]
    bound: NDArray[np.float64]
    complete: bool


def spectrum(circuit: Circuit, weights: dict[str, Tensor]) -> Spectrum:
    """Return the frequencies of the circuit's observables in its inputs; weights: name to (*shape).

    Only gates that can reach an observable count. Weights matter where they multiply an input. Raises `CircuitError`
    for an angle that is not linear in the inputs (a product of two, a function of one), and without inputs.
    """
    if not circuit.program.inputs:
        raise CircuitError(f"circuit '{circuit.name}' takes no data: it is no function that has a spectrum")
    program = reachable(circuit.program, circuit.observables)
    known: NDArray[np.float64] = np.zeros((1, program.n_inputs))
    ways: NDArray[np.float64] = np.ones(1)
    bound, complete = np.zeros(program.n_inputs), True
    for upload in _uploads(program, weights):
        bound += np.abs(upload.factors) * upload.gaps.max()
        steps = upload.gaps[:, None] * upload.factors
        grown = np.round((known[:, None] + steps).reshape(-1, program.n_inputs), DIGITS) + 0.0
        known, place = np.unique(grown, axis=0, return_inverse=True)
        ways = np.bincount(place.ravel(), (ways[:, None] * upload.shares).ravel()).astype(np.float64)
        if len(known) > MOST:
            complete = False
            kept = np.sort(np.argsort(-ways, kind="stable")[:MOST])
            known, ways = known[kept], ways[kept]
    signs = np.sign(known[np.arange(len(known)), (known != 0).argmax(1)])  # of the first entry that is not zero
    known, ways = known[signs >= 0], ways[signs >= 0]
    order = np.lexsort((-ways, known.any(1)))
    return Spectrum(known[order], ways[order], bound, complete)


def fourier_kernel(circuit: Circuit, weights: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Return K(a, b) = sum over all frequencies of ways_w exp(i w (a - b)), (rows of a, rows of b), float64.

    a, b: (rows, n_inputs) radians. Every function that the circuit can be is a combination of K(., b). As the gaps of
    different uploads add up freely, the sum is a product over uploads, cos^2 of half the difference for a Pauli
    rotation, and no frequency is left out however many there are.
    """
    kernel = torch.ones(len(a), len(b), dtype=torch.float64)
    for upload in _uploads(reachable(circuit.program, circuit.observables), weights):
        factors = torch.from_numpy(upload.factors)
        apart = (a.double() @ factors).unsqueeze(1) - b.double() @ factors
        ahead = upload.gaps > 0  # gaps come in pairs +-g of equal shares
        still = float(upload.shares[upload.gaps == 0].sum())
        pairs = zip(upload.gaps[ahead].tolist(), upload.shares[ahead].tolist(), strict=True)
        kernel *= still + sum(2 * share * torch.cos(gap * apart) for gap, share in pairs)
    return kernel


def fourier_coefficients(circuit: Circuit, weights: dict[str, Tensor]) -> Tensor:
    """Return all Fourier coefficients, complex128 (clients, observables, 2 m_1 + 1, ..., 2 m_d + 1).

    weights: name to (clients, *shape). m_j: the highest frequency of input j; c_w is at index w_j along its axis,
    negative ones from the end, in the order of `numpy.fft.fftfreq`. Exact: the circuit is simulated on the grid that
    the series needs. Raises `CircuitError` as `spectrum` does, for frequencies that are not whole numbers, and for
    more than 2^18 points.
    """
    program, clients = circuit.program, max((len(tensor) for tensor in weights.values()), default=1)
    found = [spectrum(circuit, {name: tensor[i] for name, tensor in weights.items()}) for i in range(clients)]
    if any(np.abs(s.frequencies - np.round(s.frequencies)).max() > 10.0 ** (1 - DIGITS) for s in found):
        raise CircuitError(
            f"circuit '{circuit.name}' has frequencies that are not whole numbers: it has no period 2 pi"
        )
    highest = np.max([np.floor(s.bound + 10.0 ** (1 - DIGITS)) for s in found], axis=0).astype(int)
    sizes = [2 * int(m) + 1 for m in highest]
    if prod(sizes) > MOST_POINTS:
        raise CircuitError(f"the grid of '{circuit.name}' has {prod(sizes):,} points; the limit is {MOST_POINTS:,}")
    axes = [torch.arange(size, dtype=torch.float64) * (2 * torch.pi / size) for size in sizes]
    points = torch.cartesian_prod(*axes).reshape(-1, len(sizes)).expand(clients, -1, -1)
    exact = {name: tensor.detach().double() for name, tensor in weights.items()}
    values = simulate(program, split_inputs(program, points), exact, circuit.observables)
    grid = values.mT.reshape(clients, len(circuit.observables), *sizes)
    coefficients: Tensor = torch.fft.fftn(grid, dim=tuple(range(2, grid.dim())), norm="forward")
    return coefficients


class _Upload(NamedTuple):
    """A gate that takes data: differences of its generator's eigenvalues with their shares, and each input's factor."""

    gaps: NDArray[np.float64]
    shares: NDArray[np.float64]
    factors: NDArray[np.float64]


def _uploads(program: Program, weights: dict[str, Tensor]) -> list[_Upload]:
    factors, found = _factors(program, weights), []
    for gate in program.gates:
        for angle in gate.angles:
            if isinstance(angle, int) and factors[angle].any():
                levels = np.array(GATES[gate.name].spectrum)
                gaps = Counter(np.round(levels[:, None] - levels, DIGITS).ravel().tolist())
                shares = np.array(list(gaps.values())) / levels.size**2
                found.append(_Upload(np.array(list(gaps)), shares, factors[angle]))
    return found


def _factors(program: Program, weights: dict[str, Tensor]) -> NDArray[np.float64]:
    """Return for each slot the factor of each input, (slots, n_inputs)."""
    for slot in program.slots:
        if _degree(slot) > 1:
            raise CircuitError(
                f"the angle {slot} is not linear in the inputs, so the circuit is no Fourier series in them: "
                "make what is not linear an input of its own"
            )
    if not program.slots or not program.n_inputs:
        return np.zeros((len(program.slots), program.n_inputs))
    probes = torch.cat([torch.zeros(1, program.n_inputs), torch.eye(program.n_inputs)]).double()
    own = {name: tensor.detach().double().unsqueeze(0) for name, tensor in weights.items()}
    angles = evaluate(program.slots, split_inputs(program, probes.unsqueeze(0)), own)[0]
    angles = angles.expand(-1, len(probes))
    return (angles[:, 1:] - angles[:, :1]).numpy()


def _degree(angle: Expr) -> int:
    """Return 0 without inputs, 1 if linear in them, 2 for anything else."""
    if angle.op in ("const", "weight"):
        return 0
    if angle.op == "input":
        return 1
    degrees = [_degree(arg) for arg in angle.args]
    if angle.op in ("+", "-", "neg"):
        return max(degrees)
    if angle.op == "*":
        return min(sum(degrees), 2)
    if angle.op == "/":
        return degrees[0] if degrees[1] == 0 else 2
    return 0 if max(degrees) == 0 else 2
