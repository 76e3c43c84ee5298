"""Flat programs and observables in the form in which IBM's runtime takes them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..quantum.expr import Expr
from ..quantum.program import Gate, Observable, Program, assemble
from .flat import ANGLES
from .transpile import Transpiled


@dataclass(frozen=True, eq=False)
class Asked:
    """A flat program with what is measured; `settings`: how many the runtime measures for each row."""

    program: Program
    observables: tuple[Observable, ...]
    settings: int


def with_a_slot(program: Program) -> Program:
    """Return a flat program that has an angle, at worst one that changes nothing: the runtime sends rows of them."""
    if program.slots:
        return program
    gates = [Gate("rz", (0,), (0,)), *program.gates]
    return assemble(program.n_wires, gates, [Expr("input", (ANGLES, 0))], {ANGLES: (1,)}, {})


def count_settings(observables: Sequence[Observable]) -> int:
    """Return how many settings the runtime measures for each row: it groups words as Qiskit does."""
    from qiskit.quantum_info import PauliList, SparsePauliOp

    words = {word for observable in observables for _, word in observable if word}
    if not words:
        return 0
    width = 1 + max(wire for word in words for wire, _ in word)
    terms = [("".join(letter for _, letter in word), [wire for wire, _ in word], 1.0) for word in sorted(words)]
    paulis: PauliList = SparsePauliOp.from_sparse_list(terms, num_qubits=width).paulis
    return len(paulis.group_commuting(qubit_wise=True))


def on_device(observable: Observable, made: Transpiled) -> Any:
    """Return an observable on the qubits where the wires of a transpiled program end."""
    from qiskit.quantum_info import SparsePauliOp

    terms = [
        ("".join(letter for _, letter in word), [made.layout[wire] for wire, _ in word], factor)
        for factor, word in observable
    ]
    return SparsePauliOp.from_sparse_list(terms, num_qubits=made.circuit.num_qubits)
