"""PennyLane functions as circuits.

A quantum function or QNode is called once, with arrays of expressions where it expects numbers. The gates that it
queues are decomposed by PennyLane itself (Bergholm et al. 2018, arXiv 1811.04968) until each is in `GATES`; their
angles stay exact expressions. What is left is plain data: the function is never called again. Of a QNode only the
function and the order of the device's wires are used; shots and differentiation method are no part of a circuit.

PennyLane's way to control a parametrised gate by several wires needs the gate's numbers, so this is done here, with

    C^k[P(t)] = C^k[RZ(t)] on the target, C^(k-1)[P(t/2)] on the controls,
    C^k[R(t)] = C^k[A] R(-t/2) C^k[A] R(t/2),  A = X for RY and RZ, and Z for RX: it anticommutes with the axis.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import torch

from ..errors import CircuitError, nearest
from .expr import Expr, Op, as_expr, symbols
from .operations import Operation, program_of
from .program import Circuit, Observable, PauliWord, Program, z_on_every_wire

GATE_NAMES = {
    "Identity": "id", "PauliX": "x", "PauliY": "y", "PauliZ": "z", "Hadamard": "h", "S": "s", "Adjoint(S)": "sdg",
    "T": "t", "Adjoint(T)": "tdg", "SX": "sx", "Adjoint(SX)": "sxdg", "RX": "rx", "RY": "ry", "RZ": "rz",
    "PhaseShift": "p", "CNOT": "cx", "CY": "cy", "CZ": "cz", "CH": "ch", "SWAP": "swap", "CRX": "crx", "CRY": "cry",
    "CRZ": "crz", "ControlledPhaseShift": "cp", "IsingXX": "rxx", "IsingYY": "ryy", "IsingZZ": "rzz", "Toffoli": "ccx",
    "CSWAP": "cswap",
}  # fmt: skip
"""PennyLane's name of a gate to that in `GATES`."""
_DROPPED = ("Identity", "Barrier", "Snapshot", "WireCut")
_SAME_IN_NUMPY = (
    "add", "subtract", "multiply", "divide", "true_divide", "negative", "square", "sum", "prod", "reshape", "ravel",
    "stack", "sin", "cos", "tan", "arcsin", "arccos", "arctan", "exp", "log", "sqrt",
)  # fmt: skip
_TORCH_TO_NUMPY = {name: name for name in _SAME_IN_NUMPY} | {
    "sub": "subtract", "mul": "multiply", "div": "divide", "truediv": "divide", "neg": "negative", "asin": "arcsin",
    "acos": "arccos", "atan": "arctan", "flatten": "ravel", "cat": "concatenate", "pow": "power",
}  # fmt: skip


class Angles(np.ndarray[Any, Any]):
    """An object array of expressions that torch functions accept, and whose single entries are expressions."""

    def __getitem__(self, index: Any) -> Any:
        item = super().__getitem__(index)
        return item.item() if isinstance(item, np.ndarray) and item.ndim == 0 else item

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        name = func.__name__.strip("_")
        if name in ("rsub", "rdiv", "rtruediv"):  # array - tensor reaches torch as tensor.__rsub__(array)
            name, args = name[1:], args[::-1]
        if name not in _TORCH_TO_NUMPY:
            raise CircuitError(f"torch.{name} is not known for arrays of angles; known: {', '.join(_TORCH_TO_NUMPY)}")
        options = {"axis" if key == "dim" else key: value for key, value in (kwargs or {}).items()}
        values = [arg.numpy(force=True) if isinstance(arg, torch.Tensor) else arg for arg in args]
        return getattr(np, _TORCH_TO_NUMPY[name])(*values, **options)


def lower(
    function: Callable[..., Any],
    shapes: Mapping[str, Sequence[int]],
    n_wires: int | None = None,
    inputs: Sequence[str] | None = None,
) -> Circuit:
    """Return the circuit that a PennyLane quantum function or QNode describes.

    shapes: argument name to shape, of one row of data or of a weight; () for a single number. An argument that has a
    default and no shape keeps its default. inputs: names of the data arguments, by default the first; the others are
    weights. n_wires: needed only if the function leaves trailing wires untouched. Returned `qml.expval` of Pauli words
    and their sums become the observables; with no return value Z on every wire is read out. Raises `CircuitError` with
    the gate or argument and the reason for what cannot be a fixed program: measurement in the middle, channels, state
    preparation from data, branching on values, functions that angles do not know.
    """
    import autoray
    import pennylane as qml

    # PennyLane asks this of numbers in a few decompositions: U2 for a one, the adjoint of U3 for an angle in one turn
    autoray.register_function("qfedfm", "ones_like", lambda _: 1.0)
    autoray.register_function("qfedfm", "mod", lambda angle, _: angle)
    name = getattr(function, "__name__", type(function).__name__)
    device_wires: list[Any] = []
    if isinstance(function, qml.QNode):
        if len(function.compile_pipeline):
            raise CircuitError(
                f"circuit '{name}' carries PennyLane transforms, which would be lost; pass it without them"
            )
        device_wires, function = list(function.device.wires or ()), function.func
    data, weights = _declare(function, name, shapes, inputs)
    arguments = {**_symbols("input", data), **_symbols("weight", weights)}
    with qml.queuing.AnnotatedQueue() as queue:
        returned = attempt(lambda: function(**arguments), f"circuit '{name}', called once with symbols for numbers")
    script = qml.tape.QuantumScript.from_queue(queue)
    numbers = _number_wires(name, list(script.wires), device_wires, n_wires)
    operations = [operation for gate in script.operations for operation in expand(gate, numbers)]
    program = program_of(max(numbers.values()) + 1 if n_wires is None else n_wires, operations, data, weights)
    observables = tuple(_observable(measurement, numbers, name) for measurement in _flat(returned))
    source = f"{getattr(function, '__module__', '')}.{name}"
    return Circuit(program, observables or z_on_every_wire(program.n_wires), name=name, source=source)


def to_pennylane(program: Program, observables: Sequence[Observable] = ()) -> Callable[[Any], list[Any]]:
    """Return `program` as a PennyLane quantum function of its slots' angles, the way back from `lower`.

    The function takes an array of angles in radians, (slots,) or broadcast (rows, slots), of any of PennyLane's
    interfaces, queues the gates on wires 0..n-1, and returns `qml.expval` of each observable: the body of a QNode, or
    with no observables a part of one.
    """
    import pennylane as qml

    names = {name: theirs for theirs, name in GATE_NAMES.items()}

    def gate(name: str, *angles: Any, wires: Sequence[int]) -> None:
        theirs = names[name]
        if theirs.startswith("Adjoint("):
            qml.adjoint(getattr(qml, theirs[len("Adjoint(") : -1])(wires=wires))
        else:
            getattr(qml, theirs)(*angles, wires=wires)

    def word(letters: PauliWord) -> Any:
        return qml.prod(*(getattr(qml, letter)(wire) for wire, letter in letters)) if letters else qml.I(0)

    def circuit(angles: Any) -> list[Any]:
        for name, wires, slots in program.gates:
            gate(name, *(angles[..., slot] if isinstance(slot, int) else slot for slot in slots), wires=wires)
        sums = [([factor for factor, _ in terms], [word(letters) for _, letters in terms]) for terms in observables]
        return [qml.expval(qml.dot(*parts)) for parts in sums]

    return circuit


def _declare(
    function: Callable[..., Any], name: str, shapes: Mapping[str, Sequence[int]], inputs: Sequence[str] | str | None
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Return the shapes of the data and of the weights, in the order of the function's arguments."""
    parameters = inspect.signature(function).parameters
    for key, parameter in parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise CircuitError(f"circuit '{name}': argument '{parameter}' must be an ordinary named argument")
        if key not in shapes and parameter.default is parameter.empty:
            raise CircuitError(f"circuit '{name}': argument '{key}' needs a shape, as in  shapes={{'{key}': (4,)}}")
    if inputs is None:
        inputs = list(parameters)[:1]
    chosen = (inputs,) if isinstance(inputs, str) else tuple(inputs)
    for what, keys in (("shapes", shapes), ("inputs", chosen)):
        for key in keys:
            if key not in parameters:
                has = ", ".join(parameters) or "none"
                raise CircuitError(
                    f"circuit '{name}' has arguments {has}; {what} names '{key}'{nearest(key, parameters)}"
                )
    sized = {key: tuple(int(size) for size in shapes[key]) for key in parameters if key in shapes}
    return {k: v for k, v in sized.items() if k in chosen}, {k: v for k, v in sized.items() if k not in chosen}


def _symbols(op: Op, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    return {
        name: symbols(op, name, shape) if shape == () else symbols(op, name, shape).view(Angles)
        for name, shape in shapes.items()
    }


def attempt(call: Callable[[], Any], what: str) -> Any:
    """Return `call()`; name the gate that was being made in any error, because PennyLane's own errors do not."""
    try:
        return call()
    except Exception as error:
        gate = _gate_in(error.__traceback__)
        raise CircuitError(f"{what} failed{f' in gate {gate}' if gate else ''}: {error}") from error


def _gate_in(traceback: TracebackType | None) -> str:
    """Return the name of the innermost PennyLane operator that a traceback passes through, or an empty string."""
    import pennylane as qml

    found = ""
    while traceback is not None:
        owner = traceback.tb_frame.f_locals.get("self")
        if isinstance(owner, qml.operation.Operator):
            found = f"'{type(owner).__name__}'"
        traceback = traceback.tb_next
    return found


def _number_wires(name: str, used: list[Any], device_wires: list[Any], n_wires: int | None) -> dict[Any, int]:
    """Return the number of each wire label: 0..n-1 keep theirs, others count in the device's or the gates' order."""
    count = n_wires or len(device_wires) or len(used)
    labels = device_wires or used
    if not used or len(labels) > count or not set(used) <= set(labels):
        raise CircuitError(
            f"circuit '{name}' acts on the wires {used}; expected at least one and at most {labels[:count]}"
        )
    if all(isinstance(label, int | np.integer) and 0 <= label < count for label in labels):
        return {label: int(label) for label in labels}
    return {label: number for number, label in enumerate(labels)}


def expand(gate: Any, numbers: Mapping[Any, int]) -> Iterator[Operation]:
    """Yield `gate` as operations of `GATES`, and of "gphase" on no wires: exp(i angle)."""
    import pennylane as qml

    if gate.name in _DROPPED:
        return
    if gate.name == "GlobalPhase":
        yield Operation("gphase", (), (-as_expr(gate.parameters[0]),))
        return
    if gate.name in GATE_NAMES:
        angles = tuple(as_expr(angle) for angle in gate.parameters)
        yield Operation(GATE_NAMES[gate.name], tuple(numbers[wire] for wire in gate.wires), angles)
        return
    symbolic = any(isinstance(item, Expr) for angle in gate.parameters for item in np.asarray(angle, dtype=object).flat)
    if isinstance(gate, qml.ops.Controlled) and symbolic:
        parts = attempt(lambda: _control(gate), f"controlling '{gate.base.name}'")
    elif not gate.has_decomposition:
        raise CircuitError(
            f"gate '{gate.name}' on wires {gate.wires.tolist()} has no decomposition into gates: "
            "a circuit holds unitary gates only, without measurements, noise channels or state preparation from data"
        )
    else:
        parts = attempt(gate.decomposition, f"decomposing '{gate.name}' on wires {gate.wires.tolist()}")
    for part in parts:
        yield from expand(part, numbers)


def _control(gate: Any) -> list[Any]:
    """Return PennyLane gates, each with fewer controls or a simpler target, whose product is the controlled `gate`."""
    import pennylane as qml

    base, controls = gate.base, list(gate.control_wires)
    flips = [qml.X(wire) for wire, value in zip(controls, gate.control_values, strict=True) if not value]
    if flips:
        return [*flips, qml.ctrl(base, controls), *flips]
    if base.name == "GlobalPhase":
        phase = qml.PhaseShift(-base.parameters[0], controls[-1])
        return [qml.ctrl(phase, controls[:-1]) if len(controls) > 1 else phase]
    if base.name == "PhaseShift":
        (angle,), target = base.parameters, base.wires
        return [
            qml.ctrl(qml.RZ(angle, target), controls),
            qml.ctrl(qml.PhaseShift(angle / 2, controls[-1]), controls[:-1]),
        ]
    if base.name in ("RX", "RY", "RZ"):
        (angle,), target, turn = base.parameters, base.wires, type(base)
        flip = qml.ctrl(qml.Z(target) if base.name == "RX" else qml.X(target), controls)
        return [turn(angle / 2, target), flip, turn(-angle / 2, target), flip]
    return [qml.ctrl(part, controls) for part in base.decomposition()]


def _flat(returned: Any) -> list[Any]:
    if returned is None:
        return []
    return [item for part in returned for item in _flat(part)] if isinstance(returned, list | tuple) else [returned]


def _observable(measurement: Any, numbers: Mapping[Any, int], name: str) -> Observable:
    import pennylane as qml

    if not isinstance(measurement, qml.measurements.ExpectationMP):
        what = type(measurement).__name__
        raise CircuitError(
            f"circuit '{name}' returns {what}; it may return qml.expval(...), a list of them, or nothing"
        )
    sentence = None if measurement.obs is None else measurement.obs.pauli_rep
    if sentence is None:
        raise CircuitError(
            f"circuit '{name}' measures {measurement.obs}; an observable is a Pauli word or a sum of them"
        )
    terms = []
    for word, coefficient in sentence.items():
        if np.imag(coefficient):
            raise CircuitError(f"circuit '{name}' measures an observable with the complex coefficient {coefficient}")
        terms.append(
            (float(np.real(coefficient)), tuple(sorted((numbers[wire], letter) for wire, letter in word.items())))
        )
    return tuple(terms)
