"""Gate calls with expressions for angles: what every reader of circuits produces.

A reader (`qasm`, `pennylane`) walks its source and writes down operations; `program_of` turns their angles into slots.
Here are also the two things that OpenQASM may ask of a gate, its inverse and its control, and the gates of
`stdgates.inc` and of the language itself that `GATES` does not hold, as products of those that it does.

    U(theta, phi, lambda) = (a phase) rz(phi) ry(theta) rz(lambda)          (the right-most acts first)
    u2(phi, lambda) = u3(pi/2, phi, lambda),  u3(theta, phi, lambda) = rz(phi) ry(theta) rz(lambda)  without a phase
    cu(theta, phi, lambda, gamma) = p(gamma + (phi + lambda)/2) on the control, then crz(lambda), cry(theta), crz(phi)

A global phase cannot be observed until it is controlled, so `gphase` stays in the list until the program is made. The
phase of the built-in U differs between editions of the OpenQASM 3 specification; its control is therefore refused.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import CircuitError, nearest
from .expr import Expr
from .gates import GATES
from .program import Gate, Program, assemble


class Operation(NamedTuple):
    """One gate on wires; its angles are numbers in radians or expressions of inputs and weights."""

    name: str
    wires: tuple[int, ...]
    angles: tuple[Any, ...] = ()


_U_PHASE = Operation("U", ())  # stands for the unknown phase of a built-in U: dropped, but it has no controlled form
_ALIASES = {"CX": "cx", "phase": "p", "cphase": "cp", "u1": "p", "cnot": "cx"}
_INVERSES = {name: name for name in ("x", "y", "z", "h", "cx", "cy", "cz", "ch", "swap", "ccx", "cswap", "U")}
_INVERSES |= {"id": "id", "s": "sdg", "sdg": "s", "t": "tdg", "tdg": "t", "sx": "sxdg", "sxdg": "sx"}
_CONTROLLED = {"x": "cx", "y": "cy", "z": "cz", "h": "ch", "swap": "cswap", "cx": "ccx"}
_CONTROLLED |= {"rx": "crx", "ry": "cry", "rz": "crz", "p": "cp", "gphase": "p"}
_PHASES = {"s": math.pi / 2, "sdg": -math.pi / 2, "t": math.pi / 4, "tdg": -math.pi / 4}


def _u(wires: Sequence[int], theta: Any, phi: Any, lam: Any) -> list[Operation]:
    return [_U_PHASE, *_u3(wires, theta, phi, lam)]


def _u2(wires: Sequence[int], phi: Any, lam: Any) -> list[Operation]:
    return _u3(wires, math.pi / 2, phi, lam)


def _u3(wires: Sequence[int], theta: Any, phi: Any, lam: Any) -> list[Operation]:
    wire = tuple(wires)
    return [Operation("rz", wire, (lam,)), Operation("ry", wire, (theta,)), Operation("rz", wire, (phi,))]


def _cu(wires: Sequence[int], theta: Any, phi: Any, lam: Any, gamma: Any) -> list[Operation]:
    control, target = wires
    phase = Operation("p", (control,), (gamma + (phi + lam) / 2,))
    return [phase, *controlled(_u3((target,), theta, phi, lam), control)]


# name: wires, angles, the operations
_COMPOSED: dict[str, tuple[int, int, Callable[..., list[Operation]]]] = {
    "U": (1, 3, _u),
    "u": (1, 3, _u),
    "u2": (1, 2, _u2),
    "u3": (1, 3, _u3),
    "cu": (2, 4, _cu),
}


def standard_gate(name: str, wires: Sequence[int], angles: Sequence[Any]) -> list[Operation]:
    """Return the gate `name` of OpenQASM 3 or of `GATES` as operations that are in `GATES`, first one first.

    Raises `CircuitError` for an unknown gate or a wrong number of wires or angles.
    """
    name = _ALIASES.get(name, name)
    if name not in GATES and name not in _COMPOSED:
        known = [*GATES, *_COMPOSED, *_ALIASES]
        raise CircuitError(f"gate '{name}' is not known{nearest(name, known)}; known gates: {', '.join(known)}")
    n_wires, n_angles = (GATES[name].wires, GATES[name].angles) if name in GATES else _COMPOSED[name][:2]
    check_arity(name, (n_wires, n_angles), (len(wires), len(angles)))
    if name in GATES:
        return [Operation(name, tuple(wires), tuple(angles))]
    return _COMPOSED[name][2](wires, *angles)


def check_arity(name: str, expected: tuple[int, int], got: tuple[int, int]) -> None:
    """Raise `CircuitError` unless the gate `name` got its numbers of wires and angles."""
    if expected != got:
        raise CircuitError(
            f"gate '{name}' acts on {expected[0]} wires with {expected[1]} angles; "
            f"got {got[0]} wires and {got[1]} angles"
        )


def inverse(operations: Sequence[Operation]) -> list[Operation]:
    """Return the operations that undo `operations`."""
    return [_undo(operation) for operation in reversed(operations)]


def _undo(operation: Operation) -> Operation:
    name, wires, angles = operation
    if not angles and name not in _INVERSES:
        raise CircuitError(
            f"'inv @ {name}' is not a known gate; there is an inverse for {', '.join(_INVERSES)} and rotations"
        )
    return Operation(_INVERSES.get(name, name), wires, tuple(-angle for angle in angles))


def controlled(operations: Sequence[Operation], control: int) -> list[Operation]:
    """Return `operations`, all of them controlled by the wire `control`."""
    return [_control(operation, control) for operation in operations]


def _control(operation: Operation, control: int) -> Operation:
    name, wires, angles = operation
    if name in _PHASES:
        return Operation("cp", (control, *wires), (_PHASES[name],))
    if operation == _U_PHASE:
        raise CircuitError(
            "'ctrl @ U' depends on the phase of U, which editions of OpenQASM 3 define differently: "
            "write cu(theta, phi, lambda, gamma), or ctrl @ u3 for the gate without a phase"
        )
    if name not in _CONTROLLED:
        raise CircuitError(
            f"'ctrl @ {name}' is not a known gate; there is a controlled {', '.join([*_CONTROLLED, *_PHASES])}"
        )
    return Operation(_CONTROLLED[name], (control, *wires), angles)


def program_of(
    n_wires: int,
    operations: Iterable[Operation],
    inputs: Mapping[str, Sequence[int]],
    weights: Mapping[str, Sequence[int]],
) -> Program:
    """Return the program of `operations`, global phases dropped; see `assemble` for what is checked."""
    gates: list[Gate] = []
    slots: list[Expr] = []
    for name, wires, given in operations:
        if not wires:
            continue
        angles: list[int | float] = []
        for angle in given:
            if isinstance(angle, Expr):
                angles.append(len(slots))
                slots.append(angle)
            else:
                angles.append(float(angle))
        gates.append(Gate(name, wires, tuple(angles)))
    return assemble(n_wires, gates, slots, inputs, weights)
