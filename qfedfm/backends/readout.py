"""Readout errors and their inversion, on expectation values.

A wire that is misread, each independently of the others, turns the Z that is measured into

    M = offset + slope Z,    offset = (z0 + z1) / 2,    slope = (z0 - z1) / 2,

z0 and z1 being <M> with the wire prepared in |0> and |1>. So Z = (M - offset) / slope, and a Pauli word is the product
of that over its wires: a sum of words on fewer wires, all read in the same setting. Measuring that sum in place of the
word is the tensored inversion of the misreading matrices (Bravyi et al. 2021, arXiv:2006.14044, section II), with
the variance that it has, and needs nothing of a machine but expectation values.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import BackendError
from ..quantum.expr import Expr
from ..quantum.program import Gate, Observable, PauliWord, Program, assemble, z_on_every_wire
from .contract import Array
from .flat import ANGLES

SMALLEST_SLOPE = 0.1
Factors = Mapping[int, tuple[float, float]]
"""For each wire c0 and c1, its letter P becoming c0 + c1 P."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What each wire reads: read[s] is <M> of the wires prepared in |s>, (2, wires), variances those of `read`."""

    read: Array
    variances: Array

    @property
    def offset(self) -> Array:
        """(wires,), 0 where 0 and 1 are misread equally often."""
        return np.asarray(self.read.mean(axis=0))

    @property
    def slope(self) -> Array:
        """(wires,), 1 without readout errors."""
        return np.asarray((self.read[0] - self.read[1]) / 2)


def calibration_program(n_wires: int) -> tuple[Program, tuple[Observable, ...], Array]:
    """Return what a calibration runs: all wires in |0> and all in |1>.

    A flat program that turns each wire by an angle, Z on every wire, and two rows of angles (2, wires). The turn has
    the same gates in both rows; its error, far below that of reading, is inverted with it.
    """
    slots = [Expr("input", (ANGLES, wire)) for wire in range(n_wires)]
    gates = [Gate("rx", (wire,), (wire,)) for wire in range(n_wires)]
    program = assemble(n_wires, gates, slots, {ANGLES: (n_wires,)}, {})
    return program, z_on_every_wire(n_wires), np.outer([0, np.pi], np.ones(n_wires))


def checked(calibration: Calibration) -> Calibration:
    """Return `calibration`; raise `BackendError` for a wire that reads nearly the same whatever is prepared."""
    worst = int(calibration.slope.argmin())
    if calibration.slope[worst] < SMALLEST_SLOPE:
        raise BackendError(
            f"wire {worst} reads nearly the same in |0> and |1> ({calibration.read[0, worst]:.3f} and "
            f"{calibration.read[1, worst]:.3f}): readout inversion is of no use on this qubit"
        )
    return calibration


def inverted(observable: Observable, calibration: Calibration) -> Observable:
    """Return what has to be measured so that its value is that of `observable` without readout errors."""
    return _expanded(observable, _inverse(calibration))


def sensitivities(observable: Observable, calibration: Calibration) -> list[tuple[int, int, Observable]]:
    """Return how the inverted value depends on the calibration: (s, wire, derivative by read[s, wire]) for each.

    A derivative is an observable of the same settings. With read of variance v it adds derivative^2 v to the variance.
    """
    found = []
    wires = sorted({wire for _, word in observable for wire, _ in word})
    for wire in wires:
        touched = tuple((factor, word) for factor, word in observable if wire in dict(word))
        offset, slope = calibration.offset[wire], calibration.slope[wire]
        for state, sign in ((0, -1.0), (1, 1.0)):
            factors = dict(_inverse(calibration))
            factors[wire] = (-0.5 / slope - sign * offset / (2 * slope**2), sign / (2 * slope**2))
            found.append((state, wire, _expanded(touched, factors)))
    return found


def _inverse(calibration: Calibration) -> Factors:
    pairs = zip(calibration.offset.tolist(), calibration.slope.tolist(), strict=True)
    return {wire: (-offset / slope, 1 / slope) for wire, (offset, slope) in enumerate(pairs)}


def _expanded(observable: Observable, factors: Factors) -> Observable:
    """Return `observable` with every letter replaced, multiplied out; whole words come before their parts."""
    total: dict[PauliWord, float] = {}
    for factor, word in observable:
        terms: list[tuple[PauliWord, float]] = [((), factor)]
        for wire, letter in word:
            constant, linear = factors[wire]
            terms = [(((*part, (wire, letter))), value * linear) for part, value in terms] + [
                (part, value * constant) for part, value in terms
            ]
        for part, value in terms:
            total[part] = total.get(part, 0.0) + value
    return tuple((value, part) for part, value in total.items() if value or not part)
