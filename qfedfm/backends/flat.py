"""Flat programs: one slot for each gate that has an angle, and how each slot can be shifted.

In a program two gates may share a slot and a slot may be any expression of inputs and weights. A flat program has the
same gates, each with a slot of its own that is one entry of a single input, so that a machine gets a bare matrix of
angles and a shift rule may move one gate alone. Torch computes the angles and spreads them over the gates.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..quantum.expr import Expr
from ..quantum.gates import GATES
from ..quantum.lightcone import reachable
from ..quantum.program import Gate, Observable, Program, assemble

ANGLES = "angles"


@dataclass(frozen=True, eq=False)
class Flat:
    """A flat program and its way back.

    program: its only input is `ANGLES`, (slots,). source: (slots,) for each flat slot the slot of the original program
    whose value it takes. gates: (slots,) names of the gates that the slots turn.
    """

    program: Program
    source: NDArray[np.int64]
    gates: tuple[str, ...]

    @property
    def frequencies(self) -> tuple[tuple[float, ...], ...]:
        """For each slot the frequencies of expectation values in its angle: the gaps of the gate's spectrum."""
        return tuple(_gaps(name) for name in self.gates)


@lru_cache(maxsize=256)
def flatten(program: Program, observables: tuple[Observable, ...]) -> Flat:
    """Return `program` flat, without the gates that cannot reach any of `observables`."""
    kept = reachable(program, observables)
    gates: list[Gate] = []
    slots: list[Expr] = []
    source: list[int] = []
    names: list[str] = []
    for gate in kept.gates:
        angles: list[int | float] = []
        for angle in gate.angles:
            if isinstance(angle, int):
                slots.append(Expr("input", (ANGLES, len(slots))))
                source.append(angle)
                names.append(gate.name)
                angle = len(slots) - 1
            angles.append(angle)
        gates.append(Gate(gate.name, gate.wires, tuple(angles)))
    flat = assemble(kept.n_wires, gates, slots, {ANGLES: (len(slots),)}, {})
    return Flat(flat, np.array(source, dtype=np.int64), tuple(names))


@lru_cache(maxsize=64)
def _gaps(gate: str) -> tuple[float, ...]:
    levels = GATES[gate].spectrum
    return tuple(sorted({round(abs(a - b), 12) for a in levels for b in levels} - {0.0}))
