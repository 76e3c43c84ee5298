"""Choosing m of n with the smallest sum of pairwise costs: exactly, by annealing, by QAOA.

    minimise  sum_{i<j} c_ij x_i x_j + A (sum_i x_i - m)^2,  x in {0, 1}^n,  c_ij >= 0

is a quadratic unconstrained binary optimisation (Lucas 2014, doi:10.3389/fphy.2014.00005). With A above the largest sum
of m costs of one member, every minimum has exactly m members. The optimum is what matters, not who finds it:
`ExactSolver` does for n <= 16 by looking at all subsets, and the others are measured against it.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from ..declaration import declared
from ..errors import ConfigurationError, MissingExtraError
from ..quantum.expr import Expr
from ..quantum.measure import samples
from ..quantum.program import Gate, Observable, Program, assemble
from ..quantum.statevector import simulate

Floats = NDArray[np.float64]
EXACT_LIMIT = 16
"""The largest n whose subsets are all looked at."""


@runtime_checkable
class Solver(Protocol):
    """Finds a subset of small cost."""

    def solve(self, costs: Floats, m: int, generator: np.random.Generator) -> NDArray[np.intp]:
        """Return m members, sorted, out of n with costs (n, n), symmetric, not negative, of zero diagonal."""
        ...


@declared
class ExactSolver:
    """Looks at all subsets, n <= 16; of equal ones it takes the first in the order of clients. Cost: C(n, m) n^2."""

    def solve(self, costs: Floats, m: int, generator: np.random.Generator) -> NDArray[np.intp]:  # noqa: ARG002
        """Return the optimum; raise `ConfigurationError` for n > 16."""
        n = len(costs)
        if n > EXACT_LIMIT:
            raise ConfigurationError(
                f"ExactSolver looks at all subsets of at most {EXACT_LIMIT} clients; got {n}: use SimulatedAnnealing()"
            )
        return _best(_subsets(n, m), costs, m)


@declared
class SimulatedAnnealing:
    """Simulated annealing on a classical computer (Kirkpatrick et al. 1983), by the package dwave-samplers.

    reads: independent runs. sweeps: of each. Flips of one member at a time must climb over the penalty, so that members
    of the best read are then exchanged for others, one by one, while it helps. Cost: reads x sweeps x n^2.
    """

    reads: int = 100
    sweeps: int = 1000

    def __post_init__(self) -> None:
        if self.reads < 1 or self.sweeps < 1:
            raise ConfigurationError(
                f"SimulatedAnnealing: expected one read and sweep or more; got {self.reads}, {self.sweeps}"
            )

    def solve(self, costs: Floats, m: int, generator: np.random.Generator) -> NDArray[np.intp]:
        """Return the best of all reads; raise `MissingExtraError` without the extra `qubo`."""
        try:
            from dwave.samplers import SimulatedAnnealingSampler
        except ImportError:
            raise MissingExtraError("dwave-samplers", "qubo", "simulated annealing") from None
        matrix = qubo_matrix(costs, m)
        entries = {(i, j): float(matrix[i, j]) for i in range(len(matrix)) for j in range(i, len(matrix))}
        seed = int(generator.integers(2**31))
        found = SimulatedAnnealingSampler().sample_qubo(
            entries, num_reads=self.reads, num_sweeps=self.sweeps, seed=seed
        )
        places = [found.variables.index(i) for i in range(len(costs))]
        return _exchanged(_best(np.asarray(found.record.sample, dtype=bool)[:, places], costs, m), costs)


@declared
class Qaoa:
    """The quantum approximate optimisation algorithm (Farhi et al. 2014, arXiv:1411.4028) on the exact simulator.

    layers: p. shots: samples of the final state, the best of which is taken. The angles begin at a linear ramp and
    follow the exact gradient of the energy (L-BFGS). n <= 16. A simulation: 2^n amplitudes, n^2 p gates a step, which
    costs more than `ExactSolver`.
    """

    layers: int = 2
    shots: int = 1000

    def __post_init__(self) -> None:
        if self.layers < 1 or self.shots < 1:
            raise ConfigurationError(f"Qaoa: expected one layer and shot or more; got {self.layers}, {self.shots}")

    def solve(self, costs: Floats, m: int, generator: np.random.Generator) -> NDArray[np.intp]:
        """Return the best sample; raise `ConfigurationError` for n > 16 or where no sample has m members."""
        n = len(costs)
        if n > EXACT_LIMIT:
            raise ConfigurationError(
                f"Qaoa is simulated for at most {EXACT_LIMIT} clients; got {n}: use SimulatedAnnealing()"
            )
        ansatz = qaoa_circuit(qubo_matrix(costs, m), self.layers)
        outcomes = samples(ansatz.program, {}, _optimised(ansatz, self.layers), self.shots, generator)
        bits = (outcomes.flatten().numpy()[:, None] >> np.arange(n)[::-1]) & 1
        return _best(bits.astype(bool), costs, m)


@dataclass(frozen=True)
class Ansatz:
    """QAOA's program, with weights gamma and beta (layers,) in radians, and its energy as an observable."""

    program: Program
    energy: Observable


def qubo_matrix(costs: Floats, m: int) -> Floats:
    """Return Q, upper triangular (n, n), with x^T Q x = cost of x + A (sum x - m)^2 - A m^2."""
    largest = np.sort(costs, axis=1)[:, -m:].sum(1).max()
    penalty = largest + 1
    matrix: Floats = np.triu(costs + 2 * penalty, 1) + np.diag(np.full(len(costs), penalty * (1 - 2 * m)))
    return matrix


def qaoa_circuit(matrix: Floats, layers: int) -> Ansatz:
    """Return the QAOA circuit of x^T Q x with x_i = (1 - Z_i)/2, couplings scaled to at most 1.

    Uniform superposition, then in each layer exp(-i gamma E) as RZ and RZZ, and exp(-i beta sum X).
    """
    n = len(matrix)
    both = np.triu(matrix, 1) + np.triu(matrix, 1).T
    fields, couplings = -np.diag(matrix) / 2 - both.sum(1) / 4, np.triu(matrix, 1) / 4
    scale = max(np.abs(fields).max(), np.abs(couplings).max())
    fields, couplings = fields / scale, couplings / scale
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    gates, slots = [Gate("h", (i,)) for i in range(n)], []

    def slot(name: str, layer: int, factor: float) -> int:
        slots.append(float(factor) * Expr("weight", (name, layer)))
        return len(slots) - 1

    for layer in range(layers):
        gates += [Gate("rz", (i,), (slot("gamma", layer, 2 * fields[i]),)) for i in range(n)]
        gates += [Gate("rzz", (i, j), (slot("gamma", layer, 2 * couplings[i, j]),)) for i, j in pairs]
        mix = slot("beta", layer, 2.0)
        gates += [Gate("rx", (i,), (mix,)) for i in range(n)]
    terms: list[Any] = [(float(fields[i]), ((i, "Z"),)) for i in range(n)]
    terms += [(float(couplings[i, j]), ((i, "Z"), (j, "Z"))) for i, j in pairs]
    return Ansatz(assemble(n, gates, slots, {}, {"gamma": (layers,), "beta": (layers,)}), tuple(terms))


def subset_cost(costs: Floats, members: NDArray[np.intp]) -> float:
    """Return sum_{i<j} c_ij over the members."""
    return float(costs[np.ix_(members, members)].sum() / 2)


def lower_bound(costs: Floats, m: int) -> float:
    """Return a number that no m members can cost less than: half the sum of the m cheapest members.

    A member costs at least its m - 1 smallest costs. O(n^2 log n).
    """
    others = np.sort(costs + np.diag(np.full(len(costs), np.inf)), axis=1)[:, : m - 1].sum(1)
    return float(np.sort(others)[:m].sum() / 2)


def _optimised(ansatz: Ansatz, layers: int) -> dict[str, torch.Tensor]:
    """Return angles of small energy, {name: (1, layers)} float64."""
    from scipy.optimize import minimize

    def energy(angles: Floats) -> tuple[float, Floats]:
        point = torch.tensor(angles, dtype=torch.float64, requires_grad=True)
        value = simulate(
            ansatz.program, {}, {"gamma": point[None, :layers], "beta": point[None, layers:]}, [ansatz.energy]
        )
        value.sum().backward()  # type: ignore[no-untyped-call]  # so typed by torch
        assert point.grad is not None
        return value.item(), point.grad.numpy()

    ramp = (np.arange(layers) + 0.5) / layers
    start = np.concatenate([0.5 * ramp, 0.5 * (1 - ramp)])
    angles = minimize(energy, start, jac=True, method="L-BFGS-B", options={"maxiter": 50}).x
    return {"gamma": torch.from_numpy(angles[None, :layers]), "beta": torch.from_numpy(angles[None, layers:])}


def _exchanged(members: NDArray[np.intp], costs: Floats) -> NDArray[np.intp]:
    """Return members after the best exchange of one for another, again and again until none helps."""
    while len(members) < len(costs):
        others = np.setdiff1d(np.arange(len(costs)), members)
        to_members = costs[:, members].sum(1)
        gain = to_members[members][:, None] + costs[np.ix_(members, others)] - to_members[others]
        out, into = np.unravel_index(gain.argmax(), gain.shape)
        if gain[out, into] <= 1e-12 * (1 + to_members.max()):
            break
        members = np.sort(np.append(np.delete(members, out), others[into]))
    return members


def _subsets(n: int, m: int) -> NDArray[np.bool_]:
    """Return all subsets of m of n as rows, those with the first members first."""
    codes = np.arange(2**n)[::-1]
    rows = ((codes[:, None] >> np.arange(n)[::-1]) & 1).astype(bool)
    chosen: NDArray[np.bool_] = rows[rows.sum(1) == m]
    return chosen


def _best(rows: NDArray[np.bool_], costs: Floats, m: int) -> NDArray[np.intp]:
    """Return the members of the cheapest row that has m of them."""
    right = rows[rows.sum(1) == m].astype(np.float64)
    if len(right) == 0:
        raise ConfigurationError(
            f"none of {len(rows)} samples of the solver has {m} of {len(costs)} members: ask for more of them"
        )
    energies = ((right @ costs) * right).sum(1) / 2
    return np.flatnonzero(right[energies.argmin()])
