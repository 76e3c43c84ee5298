"""PennyLane tapes as programs, lowered once per structure.

A tape is what a QNode records anew at each call: operators with numbers in them. All that shapes the program (operator
classes, wires, hyperparameters, shapes of the parameters) is its structure; the numbers are parameters. A structure is
lowered once, by rebuilding its operators around symbols (`pennylane`), and remembered; later calls only gather the
numbers: those with a broadcasting axis are inputs "x" (one value a row), all others weights "w" of a single client.

An operator is taken apart by PennyLane at each call, numbers and all, where this would be wrong or is impossible:
classes that are not PennyLane's own (they may keep state outside data and hyperparameters), hyperparameters without a
value of their own (operators, functions), complex parameters, and decompositions that look at the numbers.
"""

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pennylane as qml
import torch
from pennylane.operation import Operator
from torch import Tensor

from ..errors import CircuitError
from .expr import Expr, Op
from .operations import Operation, program_of
from .pennylane import GATE_NAMES, Angles, attempt, expand
from .program import Program

KEPT = 256
"""How many structures are remembered; the oldest goes first."""
_ATOMS, _NUMBERS = (str, qml.wires.Wires, type(None)), (bool, int, float, np.generic)
_ADVICE = (
    "take a device that supports it, or qml.device('qfedfm.statevector', ..., fallback=True) for default.qubit's try"
)


class UnsupportedError(CircuitError, qml.exceptions.DeviceError):  # type: ignore[misc]  # PennyLane has no types
    """What the device cannot run: a `CircuitError` to qfedfm and a `DeviceError` to PennyLane."""


class Parameter(NamedTuple):
    """The value of one operator parameter, its shape without the broadcasting axis, and whether it has that axis."""

    value: Any
    shape: tuple[int, ...]
    batched: bool


class Lowered(NamedTuple):
    """A program with the number of each wire label, and the angles (rad) of its global phase, to be added up."""

    program: Program
    numbers: dict[Any, int]
    phase: float
    phases: tuple[Expr, ...]


class Arguments(NamedTuple):
    """What the program is called with; batched: whether a parameter is broadcast; torch: whether one is a tensor."""

    inputs: dict[str, Tensor]
    weights: dict[str, Tensor]
    batched: bool
    torch: bool


class _Opaque(Exception):  # noqa: N818  (never leaves this module: it says to take the operator apart)
    pass


class Lowering:
    """Lowers the tapes of one device, whose wires are `wires` (None: those of each tape)."""

    def __init__(self, wires: Sequence[Any] | None) -> None:
        self._wires = wires
        self._lowered: dict[Hashable, Lowered] = {}
        self._symbolic: dict[Hashable, bool] = {}

    def __call__(
        self, operators: Sequence[Any], measured: Sequence[Any], prepared: Sequence[Any]
    ) -> tuple[Lowered, list[Parameter]]:
        """Return the program of `operators` and its parameters in order.

        measured: labels of the wires that are measured. prepared: labels of the wires that start in the basis state of
        an input "basis" (angles 0 or pi, with a phase of -i for each pi). Raises `UnsupportedError` with the operator
        and the reason.
        """
        ends = (tuple(measured), tuple(prepared))
        parameters: list[Parameter] = []
        try:
            key = (ends, tuple(structure(operator, parameters) for operator in operators))
            if key in self._lowered:
                return self._lowered[key], parameters
        except _Opaque:
            pass
        flat = [part for operator in operators for part in self._apart(operator)]
        parameters = []
        key = (ends, tuple(structure(operator, parameters) for operator in flat))
        if key not in self._lowered:
            _keep(self._lowered, key, self._lower(flat, parameters, *ends))
        return self._lowered[key], parameters

    def _apart(self, operator: Any) -> Iterator[Any]:
        """Yield `operator`, or what PennyLane makes of it, until all can be lowered with symbols for numbers."""
        if isinstance(operator, qml.BasisState):
            yield from _flips(operator)
            return
        parameters: list[Parameter] = []
        try:
            known = structure(operator, parameters)
            if known not in self._symbolic:
                _keep(self._symbolic, known, _lowers(operator, parameters))
            if self._symbolic[known]:
                yield operator
                return
        except _Opaque:
            pass
        for part in _decomposed(operator):
            yield from self._apart(part)

    def _lower(
        self,
        operators: Sequence[Any],
        parameters: Sequence[Parameter],
        measured: Sequence[Any],
        prepared: Sequence[Any],
    ) -> Lowered:
        used = dict.fromkeys(
            [*prepared, *(wire for operator in operators for wire in operator.wires), *measured] or [0]
        )
        if self._wires is not None:
            if unknown := [wire for wire in used if wire not in self._wires]:
                raise qml.exceptions.WireError(
                    f"the device has the wires {list(self._wires)}; the circuit uses {unknown}"
                )
            labels = [wire for wire in self._wires if wire in used]
        else:  # PennyLane's standard order: 0..n-1 as they are, other labels as they come
            labels = sorted(used) if set(used) == set(range(len(used))) else list(used)
        numbers = {label: number for number, label in enumerate(labels)}
        basis = [Operation("rx", (numbers[wire],), (Expr("input", ("basis", i)),)) for i, wire in enumerate(prepared)]
        gates = [gate for symbolic in _with_symbols(operators, parameters) for gate in expand(symbolic, numbers)]
        sizes = {batched: sum(math.prod(p.shape) for p in parameters if p.batched == batched) for batched in (0, 1)}
        inputs = {"basis": (len(prepared),)} if prepared else {}
        inputs |= {"x": (sizes[1],)} if any(p.batched for p in parameters) else {}
        program = program_of(len(numbers), [*basis, *gates], inputs, {"w": (max(sizes[0], 1),)})
        phases = [gate.angles[0] for gate in gates if not gate.wires]
        fixed = [float(angle) for angle in phases if not isinstance(angle, Expr) or angle.op == "const"]
        return Lowered(
            program, numbers, sum(fixed), tuple(a for a in phases if isinstance(a, Expr) and a.op != "const")
        )


def _keep(table: dict[Hashable, Any], key: Hashable, value: Any) -> None:
    if len(table) >= KEPT:
        table.pop(next(iter(table)))
    table[key] = value


def structure(operator: Any, parameters: list[Parameter]) -> Hashable:
    """Return all of `operator` but its numbers, which are appended to `parameters`; raise `_Opaque` where it cannot."""
    kind = type(operator)
    if not _is_known(kind):
        raise _Opaque
    data, metadata = operator._flatten()
    nested = any(isinstance(item, Operator) for item in data)
    ndims = (0,) * len(data) if nested else operator.ndim_params
    if ndims is None or len(ndims) != len(data):
        raise _Opaque
    parts: list[Hashable] = []
    for item, ndim in zip(data, ndims, strict=True):
        if isinstance(item, Operator):
            parts.append(structure(item, parameters))
            continue
        shape = tuple(item.shape if isinstance(item, Tensor | np.ndarray) else qml.math.shape(item))
        batched = len(shape) > ndim
        if len(shape) > ndim + 1 or _is_complex(item):
            raise _Opaque
        parameters.append(Parameter(item, shape[batched:], batched))
        parts.append((shape[batched:], batched))
    return kind, _frozen(metadata), tuple(parts)


def arguments(parameters: Sequence[Parameter], beside: Sequence[Any] = ()) -> Arguments:
    """Return the numbers as one array of inputs and one of weights.

    float64, unless all torch tensors among them, and among `beside`, are float32 or complex64; where there are none,
    the NumPy arrays decide. Python numbers follow.
    """
    values = [*beside, *(parameter.value for parameter in parameters)]
    tensors = [value for value in values if isinstance(value, Tensor)]
    arrays: Sequence[Any] = tensors or [value for value in values if isinstance(value, np.ndarray | np.generic)]
    kinds = {str(array.dtype).rpartition(".")[2] for array in arrays}
    single = kinds & {"float32", "complex64"} and not kinds & {"float64", "complex128"}
    real, place = torch.float32 if single else torch.float64, tensors[0].device if tensors else torch.device("cpu")
    inputs = [_tensor(value, real, place).reshape(len(value), -1) for value, _, batched in parameters if batched]
    weights = [_tensor(value, real, place).reshape(-1) for value, _, batched in parameters if not batched]
    if len({len(rows) for rows in inputs}) > 1:
        raise UnsupportedError(f"broadcast parameters need equally many rows; got {[len(rows) for rows in inputs]}")
    x = {"x": torch.cat(inputs, dim=1).unsqueeze(0)} if inputs else {}
    w = torch.cat(weights) if weights else torch.zeros(1, dtype=real, device=place)
    return Arguments(x, {"w": w.unsqueeze(0)}, bool(inputs), bool(tensors))


def _tensor(value: Any, real: torch.dtype, place: torch.device) -> Tensor:
    if isinstance(value, Tensor):
        return value.to(place, real)
    return torch.as_tensor(value if isinstance(value, float | int) else np.asarray(value), dtype=real, device=place)


def _is_known(kind: type) -> bool:
    """Say whether a class is PennyLane's own."""
    return kind.__module__.partition(".")[0] == "pennylane"


def _is_complex(value: Any) -> bool:
    return isinstance(value, complex) or "complex" in str(getattr(value, "dtype", ""))


def _frozen(value: Any) -> Hashable:
    """Return metadata as something that is hashed and compared by value, or raise `_Opaque`."""
    if isinstance(value, tuple | list):
        return (type(value), *map(_frozen, value))
    if isinstance(value, _ATOMS) or (isinstance(value, type) and _is_known(value)):
        return value
    if isinstance(value, _NUMBERS):
        return type(value), value
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.shape, value.dtype.str, value.tobytes()
    if isinstance(value, dict):
        return (dict, *((_frozen(key), _frozen(item)) for key, item in value.items()))
    raise _Opaque


def _with_symbols(operators: Iterable[Any], parameters: Sequence[Parameter]) -> list[Any]:
    """Return `operators` rebuilt around symbols, in the order of `parameters`."""
    symbols = _symbols(parameters)

    def rebuild(operator: Any) -> Any:
        data, metadata = operator._flatten()
        fresh = tuple(rebuild(item) if isinstance(item, Operator) else next(symbols) for item in data)
        return type(operator)._unflatten(fresh, metadata)

    with qml.QueuingManager.stop_recording():
        return [rebuild(operator) for operator in operators]


def _symbols(parameters: Iterable[Parameter]) -> Iterator[Any]:
    """Yield for each parameter an array of leaves, or a single leaf; they count up in "x" and in "w"."""
    used = {"x": 0, "w": 0}
    for _, shape, batched in parameters:
        op: Op = "input" if batched else "weight"
        name = "x" if batched else "w"
        array = np.empty(math.prod(shape), dtype=object)
        for place in range(len(array)):
            array[place] = Expr(op, (name, used[name] + place))
        used[name] += len(array)
        yield array.reshape(shape).view(Angles) if shape else array[0]


def _lowers(operator: Any, parameters: Sequence[Parameter]) -> bool:
    """Say whether `operator` becomes gates without knowing its numbers."""
    numbers: Mapping[Any, int] = {wire: number for number, wire in enumerate(operator.wires)}
    try:
        attempt(lambda: [list(expand(one, numbers)) for one in _with_symbols([operator], parameters)], operator.name)
    except CircuitError:
        return False
    return True


def _decomposed(operator: Any) -> list[Any]:
    """Return what PennyLane decomposes `operator` into, numbers and all."""
    where = f"'{operator.name}' on wires {operator.wires.tolist()}"
    is_gate = isinstance(operator, qml.operation.Operation) and operator.name not in GATE_NAMES
    if isinstance(operator, qml.QubitUnitary) and qml.math.requires_grad(operator.parameters[0]):
        raise UnsupportedError(f"the gradient through the matrix of {where} is not supported; {_ADVICE}")
    with qml.QueuingManager.stop_recording():
        if isinstance(operator, qml.ops.Exp) and len(operator.base.pauli_rep or ()) == 1:
            return _rotation(operator)
        if operator.name not in GATE_NAMES and operator.has_decomposition:
            return attempt(operator.decomposition, f"decomposing {where}")  # type: ignore[no-any-return]
        if is_gate and operator.has_matrix:
            return [qml.QubitUnitary(operator.matrix(), operator.wires)]
    raise UnsupportedError(f"{where} is not supported: it is no unitary gate with real angles; {_ADVICE}")


def _rotation(operator: Any) -> list[Any]:
    """Return exp(i angle word) of one Pauli word as a gate: PennyLane's own decomposition wants plain numbers."""
    ((word, factor),) = operator.base.pauli_rep.items()
    exponent = qml.math.asarray(operator.coeff * factor)
    if qml.math.real(exponent) != 0:
        raise UnsupportedError(f"{operator} is not unitary: its exponent should be imaginary; got {exponent}")
    angle, letters = qml.math.imag(exponent), "".join(word.values())
    return [qml.PauliRot(-2 * angle, letters, list(word)) if word else qml.GlobalPhase(-angle)]


def _flips(operator: Any) -> Iterator[Any]:
    """Yield a basis state as turns by 0 or pi and a phase: one structure for all states, with RX(pi) = -i X."""
    with qml.QueuingManager.stop_recording():
        for bit, wire in zip(qml.math.toarray(operator.parameters[0]).tolist(), operator.wires, strict=True):
            yield qml.RX(math.pi * bit, wire)
            yield qml.GlobalPhase(-math.pi / 2 * bit, wire)
