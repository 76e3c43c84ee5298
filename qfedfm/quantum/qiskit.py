"""Programs as Qiskit circuits, one parameter for each angle slot.

Wire w becomes qubit w. What differs is how the two libraries write basis states: here wire 0 is the most significant
bit, in Qiskit qubit 0 the least, so that a bit string of one is the reverse of the other's. `circuit.reverse_bits()`
has exactly the program's matrix.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .program import Program

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

PARAMETERS = "angles"


def to_qiskit(program: Program) -> "QuantumCircuit":
    """Return `program` as a Qiskit circuit without measurements, equal in its global phase too.

    Slot i of the program is element i of the parameter vector "angles", in radians; bind a slot's value with
    `circuit.assign_parameters({p: values[p.index] for p in circuit.parameters})`. A constant angle stays a number.
    """
    from qiskit import QuantumCircuit
    from qiskit.circuit import ParameterVector

    circuit = QuantumCircuit(program.n_wires)
    angles = ParameterVector(PARAMETERS, len(program.slots))
    for gate in program.gates:
        add: Callable[..., object] = getattr(circuit, gate.name)  # the names of both are those of stdgates.inc
        add(*(angles[angle] if isinstance(angle, int) else angle for angle in gate.angles), *gate.wires)
    return circuit
