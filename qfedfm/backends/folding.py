"""Noise made larger on purpose, by gates that do nothing: G becomes G G^-1 G.

Local unitary folding of Giurgica-Tiron et al. 2020, arXiv:2005.10921. A scale of 3 folds every gate once; in between,
as many gates are folded as bring the count nearest to the scale, evenly spread over the circuit, one-, two- and
three-qubit gates each for themselves since their errors differ. What a transpiler has to rewrite is folded afterwards
(`fold_circuit`), or it would take the pairs out again.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError
from ..quantum.expr import Expr
from ..quantum.program import Gate, Program, assemble
from .contract import Array
from .flat import ANGLES

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

INVERSE = {"s": "sdg", "sdg": "s", "t": "tdg", "tdg": "t", "sx": "sxdg", "sxdg": "sx"}
"""Gates without an angle that are not their own inverse."""
VIRTUAL = {"rz", "u1", "p", "id", "barrier", "delay", "measure", "reset"}
"""Operations of a device that are done without a pulse, or are no gates: there is nothing to fold."""


def fold(program: Program, scale: float) -> tuple[Program, NDArray[np.int64], Array]:
    """Return a flat program folded, still flat, and where its angles come from.

    The folded program takes angles[:, source] * signs for angles (N, slots) of `program`; source, signs: (new slots,).
    """
    gates: list[Gate] = []
    source: list[int] = []
    signs: list[float] = []
    for gate, times in zip(program.gates, _times([len(gate.wires) for gate in program.gates], scale), strict=True):
        for copy in range(2 * times + 1):
            backwards, angles = copy % 2 == 1, list[int | float]()
            for angle in gate.angles:
                sign = -1.0 if backwards else 1.0
                if isinstance(angle, int):
                    angles.append(len(source))
                    source.append(angle)
                    signs.append(sign)
                else:
                    angles.append(sign * angle)
            name = INVERSE.get(gate.name, gate.name) if backwards else gate.name
            gates.append(Gate(name, gate.wires, tuple(angles)))
    slots = [Expr("input", (ANGLES, number)) for number in range(len(source))]
    folded = assemble(program.n_wires, gates, slots, {ANGLES: (len(slots),)} if slots else {}, {})
    return folded, np.array(source, dtype=np.int64), np.array(signs)


def fold_circuit(circuit: "QuantumCircuit", scale: float) -> "QuantumCircuit":
    """Return a transpiled circuit with its gates folded into gates of the same device; a copy if `scale` is 1."""
    folded = circuit.copy_empty_like()
    real = [item for item in circuit.data if item.operation.name not in VIRTUAL]
    times = iter(_times([len(item.qubits) for item in real], scale))
    for item in circuit.data:
        folded.append(item)
        if item.operation.name in VIRTUAL:
            continue
        for _ in range(next(times)):
            if item.operation.name == "sx":  # devices have no sxdg; rz is free
                for angle in (np.pi, None, -np.pi):
                    folded.sx(item.qubits) if angle is None else folded.rz(angle, item.qubits)
            else:
                folded.append(item.operation.inverse(), item.qubits)
            folded.append(item)
    return folded


def _times(widths: Sequence[int], scale: float) -> list[int]:
    """Return how often each gate is folded, given the number of qubits of each."""
    if not scale >= 1:
        raise BackendError(f"noise can be scaled up only: expected a scale of 1 or more, got {scale}")
    seen: Counter[int] = Counter()
    totals = Counter(widths)

    def each() -> Iterator[int]:
        for width in widths:
            total = totals[width]
            folds = round(total * (scale - 1) / 2)
            yield (seen[width] + 1) * folds // total - seen[width] * folds // total
            seen[width] += 1

    return list(each())
