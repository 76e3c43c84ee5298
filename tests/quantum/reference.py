"""A second route from program to expectation values: PennyLane's default.qubit, one client and row at a time.

The gates of a `Program` are translated one by one to PennyLane's operations; angles are evaluated by walking their
trees with torch scalars. Nothing of the simulator is used. `programs` and `observables` are hypothesis strategies over
all gates.
"""

import itertools
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import pennylane as qml
import torch
from hypothesis import strategies as st
from torch import Tensor

from qfedfm.quantum.expr import Expr
from qfedfm.quantum.gates import GATES
from qfedfm.quantum.program import Gate, Observable, Program, assemble

OPERATIONS: dict[str, Any] = {
    "id": qml.I,
    "x": qml.X,
    "y": qml.Y,
    "z": qml.Z,
    "h": qml.H,
    "s": qml.S,
    "sdg": lambda wires: qml.adjoint(qml.S(wires)),
    "t": qml.T,
    "tdg": lambda wires: qml.adjoint(qml.T(wires)),
    "sx": qml.SX,
    "sxdg": lambda wires: qml.adjoint(qml.SX(wires)),
    "rx": qml.RX,
    "ry": qml.RY,
    "rz": qml.RZ,
    "p": qml.PhaseShift,
    "cx": qml.CNOT,
    "cy": qml.CY,
    "cz": qml.CZ,
    "ch": qml.CH,
    "swap": qml.SWAP,
    "crx": qml.CRX,
    "cry": qml.CRY,
    "crz": qml.CRZ,
    "cp": qml.ControlledPhaseShift,
    "rxx": qml.IsingXX,
    "ryy": qml.IsingYY,
    "rzz": qml.IsingZZ,
    "ccx": qml.Toffoli,
    "cswap": qml.CSWAP,
}
_BINARY = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
_BINARY |= {"atan2": torch.atan2, "hypot": torch.hypot}
_PAULIS = {"X": qml.X, "Y": qml.Y, "Z": qml.Z}


def value(expr: Expr, arrays: Mapping[tuple[str, str], Tensor]) -> Any:
    """Return an angle, given flat arrays by ("input" or "weight", name)."""
    if expr.op == "const":
        return expr.args[0]
    if expr.op in ("input", "weight"):
        return arrays[expr.op, expr.args[0]][expr.args[1]]
    args = [value(arg, arrays) for arg in expr.args]
    return _BINARY[expr.op](*args) if expr.op in _BINARY else getattr(torch, expr.op)(*args)


def expectations(
    program: Program, inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor], measured: Sequence[Observable]
) -> Tensor:
    """Return (clients, rows, observables); the arguments are those of `simulate`."""
    operators = []
    for observable in measured:
        words = [
            qml.prod(*(_PAULIS[axis](wire) for wire, axis in word)) if word else qml.I(0) for _, word in observable
        ]
        operators.append(qml.dot([coefficient for coefficient, _ in observable], words))
    results = _run(program, inputs, weights, [qml.expval(operator) for operator in operators])
    rows = [torch.stack([torch.as_tensor(v) for v in (row if len(measured) > 1 else [row])]) for row in results]
    return torch.stack(rows).reshape(*_size(inputs, weights), len(measured))


def amplitudes(program: Program, inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    """Return the state vectors (clients, rows, 2^n)."""
    results = _run(program, inputs, weights, [qml.state()])
    return torch.stack([torch.as_tensor(row) for row in results]).reshape(*_size(inputs, weights), -1)


def _size(inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> tuple[int, int]:
    clients = next((tensor.shape[0] for tensor in [*inputs.values(), *weights.values()]), 1)
    return clients, next((tensor.shape[1] for tensor in inputs.values()), 1)


def _run(program: Program, inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor], measurements: list[Any]) -> Any:
    clients, rows = _size(inputs, weights)
    tapes = []
    for client, row in itertools.product(range(clients), range(rows)):
        arrays = {("input", name): tensor[client, row].reshape(-1) for name, tensor in inputs.items()}
        arrays |= {("weight", name): tensor[client].reshape(-1) for name, tensor in weights.items()}
        operations = [qml.Identity(wire) for wire in range(program.n_wires)]
        for name, wires, angles in program.gates:
            numbers = [value(program.slots[a], arrays) if isinstance(a, int) else a for a in angles]
            operations.append(OPERATIONS[name](*numbers, wires=list(wires)))
        tapes.append(qml.tape.QuantumScript(operations, measurements))
    device = qml.device("default.qubit", wires=program.n_wires)
    return qml.execute(tapes, device, diff_method="backprop")


def strongly_entangling(n: int, layers: int) -> Program:
    """StronglyEntanglingLayers of PennyLane (arXiv 1804.00633) after an angle encoding."""
    slots = [Expr("input", ("x", i)) for i in range(n)] + [Expr("weight", ("w", i)) for i in range(layers * n * 3)]
    gates = [Gate("rx", (wire,), (wire,)) for wire in range(n)]
    slot = iter(range(n, len(slots)))
    for layer in range(layers):
        gates += [Gate(name, (wire,), (next(slot),)) for wire in range(n) for name in ("rz", "ry", "rz")]
        distance = layer % (n - 1) + 1
        gates += [Gate("cx", (wire, (wire + distance) % n)) for wire in range(n)]
    return assemble(n, gates, slots, {"x": (n,)}, {"w": (layers, n, 3)})


INPUTS, WEIGHTS = {"x": (2,), "y": ()}, {"w": (2, 2), "v": ()}


@st.composite
def slots(draw: st.DrawFn) -> Expr:
    """Draw an angle: a bare leaf most often, else derived from one or two."""
    leaves = [Expr("input", (name, i)) for name, shape in INPUTS.items() for i in range(math.prod(shape))]
    leaves += [Expr("weight", (name, i)) for name, shape in WEIGHTS.items() for i in range(math.prod(shape))]
    a, b = draw(st.sampled_from(leaves)), draw(st.sampled_from(leaves))
    derived = [a, a, a, 0.5 * a, -a, a * b, a + b, a - 2 * b, a.sin(), (a.cos() + 2).log() * b, (a.sin() / 2).arcsin()]
    derived += [(a.exp() - 1).arctan2(b), (a + 1).hypot(2 * b)]
    derived += [a.arctan() / 3, (a.exp() + 1).sqrt(), (a.cos() / 2).arccos(), (b / 4).tan()]
    return draw(st.sampled_from(derived))


@st.composite
def programs(draw: st.DrawFn, max_wires: int = 6, max_gates: int = 16) -> Program:
    """Draw a circuit over all gates that fit, with constant, shared and derived angles."""
    n_wires = draw(st.integers(1, max_wires))
    angles = draw(st.lists(slots(), min_size=1, max_size=5))
    known = [name for name, kind in GATES.items() if kind.wires <= n_wires]
    gates = []
    for name in draw(st.lists(st.sampled_from(known), min_size=1, max_size=max_gates)):
        wires = tuple(draw(st.permutations(range(n_wires)))[: GATES[name].wires])
        angle = st.one_of(st.integers(0, len(angles) - 1), st.floats(-7, 7))
        gates.append(Gate(name, wires, tuple(draw(angle) for _ in range(GATES[name].angles))))
    return assemble(n_wires, gates, angles, INPUTS, WEIGHTS)


@st.composite
def observables(draw: st.DrawFn, n_wires: int) -> tuple[Observable, ...]:
    """Draw one to three sums of Pauli words."""
    word = st.dictionaries(st.integers(0, n_wires - 1), st.sampled_from("XYZ"), min_size=1, max_size=3)
    term = st.tuples(st.floats(-2, 2), word.map(lambda axes: tuple(sorted(axes.items()))))
    return tuple(
        tuple(terms) for terms in draw(st.lists(st.lists(term, min_size=1, max_size=3), min_size=1, max_size=3))
    )


def arguments(clients: int, rows: int, seed: int, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return random inputs and weights of the drawn programs, with gradients."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator).to(dtype).requires_grad_()

    inputs = {name: normal(clients, rows, *shape) for name, shape in INPUTS.items()}
    return inputs, {name: normal(clients, *shape) for name, shape in WEIGHTS.items()}
