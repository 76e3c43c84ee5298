"""Gradients of expectation values from expectation values: what a machine without autograd can give.

A rule names points around the angles of a row and how values there combine into derivatives,

    dO_k / d angle_j = sum_s weights[j, s] O_k(angles + offsets[s]),

so that the row itself and all its points are one submission. Rules act on flat angles, one for each gate, and torch
carries the derivatives on to inputs, weights and the layers before the circuit.

- `ParameterShift`: exact derivatives. Two points for a gate whose generator has one gap w, w/2 (f(+pi/2w) - f(-pi/2w))
  (Mitarai et al. 2018, arXiv:1803.00745; Schuld et al. 2019, arXiv:1811.11184); four for controlled rotations, with
  gaps 1/2 and 1 (Anselmetti et al. 2021, doi:10.1088/1367-2630/ac2cb3).
- `Spsa`: two points whatever the number of angles, all moved at once by random signs (Spall 1992,
  doi:10.1109/9.119632). Each row gets signs of its own, so a gradient averaged over rows of data averages over as many
  directions. Unbiased up to the square of the step.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..declaration import declared
from ..errors import BackendError
from .allocation import Allocation, Allotted, allot
from .contract import Array
from .flat import Flat


@dataclass(frozen=True)
class Points:
    """Where to evaluate, and how to combine.

    offsets: (N or 1, S, slots), radians. weights: (N or 1, slots, S); rows of slots without a derivative are zero.
    """

    offsets: Array
    weights: Array

    def jacobian(self, values: Array) -> Array:
        """Return derivatives (N, K, slots) from values at the points, (N, S, K)."""
        return np.asarray(np.swapaxes(self.weights @ values, 1, 2))


@runtime_checkable
class Gradient(Protocol):
    """A rule for gradients."""

    def count(self, flat: Flat, live: NDArray[np.bool_]) -> int:
        """Return the number of points S of each row."""
        ...

    def points(self, flat: Flat, live: NDArray[np.bool_], rows: int, generator: np.random.Generator) -> Points:
        """Return the points for so many rows; live: (slots,) whose derivative is wanted."""
        ...


_FOUR = (
    (math.pi / 2, (math.sqrt(2) + 1) / (4 * math.sqrt(2))),
    (3 * math.pi / 2, (1 - math.sqrt(2)) / (4 * math.sqrt(2))),
)


@declared
class ParameterShift:
    """Exact derivatives from two points a gate, four for controlled rotations.

    allocation: how shots are spread over the points of a row (`allocation`): "uniform", "coefficient", "variance" or
    "weighted_random", all of the same total.
    """

    allocation: Allocation = "uniform"

    def count(self, flat: Flat, live: NDArray[np.bool_]) -> int:
        """Return the number of points."""
        return sum(2 * len(_shifts(flat, j)) for j in np.flatnonzero(live).tolist())

    def points(self, flat: Flat, live: NDArray[np.bool_], rows: int, generator: np.random.Generator) -> Points:  # noqa: ARG002
        """Return the same points for every row."""
        count = self.count(flat, live)
        offsets, weights = np.zeros((1, count, len(live))), np.zeros((1, len(live), count))
        place = 0
        for j in np.flatnonzero(live).tolist():
            for shift, factor in _shifts(flat, j):
                for sign in (1, -1):
                    offsets[0, place, j], weights[0, j, place] = sign * shift, sign * factor
                    place += 1
        return Points(offsets, weights)

    def allot(
        self, points: Points, shots: int, rows: int, spread: Array | None, generator: np.random.Generator
    ) -> Allotted | None:
        """Return the shots of each point; None where they are equal. spread: of one shot (rows, S), where known."""
        if self.allocation == "uniform":
            return None
        return allot(self.allocation, points.weights, shots, rows, spread, generator)


@runtime_checkable
class AllotsShots(Protocol):
    """A rule for gradients that may give its points different numbers of shots."""

    def allot(
        self, points: Points, shots: int, rows: int, spread: Array | None, generator: np.random.Generator
    ) -> Allotted | None:
        """As in `ParameterShift`."""
        ...


def _shifts(flat: Flat, slot: int) -> tuple[tuple[float, float], ...]:
    """Return the shifts of a slot's gate, each with the factor of f(+shift) - f(-shift)."""
    gaps = flat.frequencies[slot]
    if len(gaps) == 1:
        return ((math.pi / (2 * gaps[0]), gaps[0] / 2),)
    if gaps == (0.5, 1.0):
        return _FOUR
    raise BackendError(f"no shift rule is known for gate '{flat.gates[slot]}', whose spectrum has gaps {gaps}")


@declared
class Spsa:
    """Derivatives along random directions: (f(+c D) - f(-c D)) / 2c D_j, D_j = +-1, averaged over `repeats`.

    step: c in radians. repeats: independent directions for each row.
    """

    step: Annotated[float, Field(gt=0, le=math.pi)] = 0.2
    repeats: Annotated[int, Field(ge=1)] = 1

    def count(self, flat: Flat, live: NDArray[np.bool_]) -> int:  # noqa: ARG002
        """Return the number of points."""
        return 2 * self.repeats if live.any() else 0

    def points(self, flat: Flat, live: NDArray[np.bool_], rows: int, generator: np.random.Generator) -> Points:
        """Return two points along each direction of a row's own."""
        count = self.count(flat, live)
        signs = np.where(generator.random((rows, count // 2, len(live))) < 0.5, -1.0, 1.0) * live
        offsets = np.concatenate([self.step * signs, -self.step * signs], axis=1)
        weights = np.concatenate([signs, -signs], axis=1).swapaxes(1, 2) / (self.step * max(count, 1))
        return Points(offsets, weights)
