"""Programs as Qiskit circuits: the same matrices, by Qiskit's own."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.quantum_info import Operator
from reference import arguments, programs

from qfedfm.quantum import Gate, Program, assemble, load, to_qiskit
from qfedfm.quantum.angles import evaluate
from qfedfm.quantum.expr import symbols
from qfedfm.quantum.gates import GATES
from qfedfm.quantum.statevector import states

V: dict[str, tuple[int, ...]] = {"v": ()}  # a weight in no gate: it makes simulations use float64


def bound(program: Program, values: np.ndarray) -> Operator:
    circuit = to_qiskit(program)
    return Operator(circuit.assign_parameters({p: values[p.index] for p in circuit.parameters}).reverse_bits())


def columns(program: Program, inputs, weights) -> np.ndarray:
    """The matrix of a program, simulated from each basis state; (2^n, 2^n)."""
    made = []
    for basis in range(2**program.n_wires):
        flips = [Gate("x", (w,)) for w in range(program.n_wires) if basis >> (program.n_wires - 1 - w) & 1]
        started = Program(program.n_wires, (*flips, *program.gates), program.slots, program.inputs, program.weights)
        made.append(states(started, inputs, weights).reshape(-1).detach().numpy())
    return np.stack(made, axis=1)


@given(programs(max_wires=4), st.integers(0, 999))
@settings(max_examples=60)
def test_random_programs_have_the_matrix_that_qiskit_gives_them(program, seed):
    inputs, weights = arguments(1, 1, seed, torch.float64)
    values = evaluate(program.slots, inputs, weights).reshape(-1).detach().numpy() if program.slots else np.empty(0)
    np.testing.assert_allclose(bound(program, values).data, columns(program, inputs, weights), atol=1e-12)


def test_every_gate_by_itself_global_phase_included():
    for name, kind in GATES.items():
        for wires in [tuple(range(kind.wires)), tuple(reversed(range(kind.wires)))]:
            program = assemble(kind.wires, [Gate(name, wires, (0.7,) * kind.angles)], [], {}, V)
            np.testing.assert_allclose(
                bound(program, np.empty(0)).data,
                columns(program, {}, {"v": torch.zeros(1, dtype=torch.float64)}),
                atol=1e-12,
            )


def test_slots_are_numbered_also_beyond_ten():
    x = symbols("input", "x", (12,))
    program = assemble(
        1, [Gate("rx", (0,), (slot,)) for slot in range(12)], [x[i] for i in range(12)], {"x": (12,)}, {}
    )
    assert [p.index for p in to_qiskit(program).parameters] == list(range(12))
    assert [p.name for p in to_qiskit(program).parameters] == [f"angles[{i}]" for i in range(12)]


def test_the_library_is_exported_without_changing_its_gates():
    for name in ("strongly_entangling", "iqp", "data_reuploading"):
        program = load(name).program
        assert dict(to_qiskit(program).count_ops()) == program.count_gates()
