"""The gate program: what every circuit becomes, once.

An OpenQASM 3 file and a PennyLane function lower to the same immutable value: gates on wires, each angle either a
constant or a slot, and one expression per slot. A program is plain data: it is hashed, saved and sent as canonical JSON
and never holds code. Wire 0 is the most significant bit of a basis state, as in PennyLane.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

from ..errors import CircuitError, nearest
from ..params import ParamSpec, Specs
from .expr import Expr, affine_in, from_json
from .gates import GATES

FORMAT = 1
PauliWord = tuple[tuple[int, str], ...]
Observable = tuple[tuple[float, PauliWord], ...]


class Gate(NamedTuple):
    """One gate: its name in `GATES`, its wires, and its angles: an `int` is a slot, a `float` a constant in radians."""

    name: str
    wires: tuple[int, ...]
    angles: tuple[int | float, ...] = ()


@dataclass(frozen=True)
class Program:
    """An immutable circuit with angle slots; build one with `assemble`.

    slots: one expression per slot. inputs: name to shape of the data of one row. weights: specs of the trainable
    arrays, with the period that the gates give them.
    """

    n_wires: int
    gates: tuple[Gate, ...]
    slots: tuple[Expr, ...]
    inputs: tuple[tuple[str, tuple[int, ...]], ...]
    weights: Specs

    def __hash__(self) -> int:
        # programs are keys of caches that are asked at every call; the default hash walks through all gates each time
        return hash(self.hash)

    @cached_property
    def hash(self) -> str:
        """The sha256 of the canonical JSON, in hex: equal programs have equal hashes."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @cached_property
    def depth(self) -> int:
        """The number of layers when every gate starts as early as its wires allow."""
        level = [0] * self.n_wires
        for gate in self.gates:
            top = 1 + max(level[wire] for wire in gate.wires)
            for wire in gate.wires:
                level[wire] = top
        return max(level, default=0)

    @property
    def n_parameters(self) -> int:
        """The number of trainable angles."""
        return sum(spec.size for spec in self.weights)

    @property
    def n_inputs(self) -> int:
        """The number of values that one row of data supplies."""
        return sum(math.prod(shape) for _, shape in self.inputs)

    def count_gates(self) -> dict[str, int]:
        """Return how often each gate occurs, most frequent first."""
        return dict(Counter(gate.name for gate in self.gates).most_common())

    def to_json(self) -> str:
        """Return the canonical JSON: sorted keys, no spaces, slots as integers and constants as floats."""
        data = {
            "format": FORMAT,
            "n_wires": self.n_wires,
            "gates": [[gate.name, list(gate.wires), list(gate.angles)] for gate in self.gates],
            "slots": [slot.to_json() for slot in self.slots],
            "inputs": [[name, list(shape)] for name, shape in self.inputs],
            "weights": [[spec.name, list(spec.shape)] for spec in self.weights],
        }
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Program":
        """Return the program that `to_json` wrote; raise `CircuitError` for anything else."""
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise CircuitError(
                    f"circuit format {data['format']!r} is not known; this version reads format {FORMAT}"
                )
            return assemble(
                int(data["n_wires"]),
                [Gate(name, tuple(wires), tuple(angles)) for name, wires, angles in data["gates"]],
                [from_json(slot) for slot in data["slots"]],
                {name: tuple(shape) for name, shape in data["inputs"]},
                {name: tuple(shape) for name, shape in data["weights"]},
            )
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            if isinstance(error, CircuitError):
                raise
            raise CircuitError(f"not a saved circuit: {error}") from error


@dataclass(frozen=True)
class Circuit:
    """A program with what is read out of it.

    observables: what a head measures, <Z> on every wire unless the source says otherwise. input_scale: inputs are meant
    to lie in [-input_scale, input_scale] radians; a whole turn would put the two ends of the range on the same state.
    source: where it came from, for people.
    """

    program: Program
    observables: tuple[Observable, ...]
    name: str = "circuit"
    input_scale: float = math.pi / 2
    reference: str = ""
    source: str = ""

    def _repr_html_(self) -> str:
        from .drawing import to_html

        return to_html(self)

    def to_json(self) -> str:
        """Return the canonical JSON, the program inside it."""
        data = {
            "program": json.loads(self.program.to_json()),
            "observables": self.observables,
            "name": self.name,
            "input_scale": self.input_scale,
            "reference": self.reference,
        }
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str, source: str = "") -> "Circuit":
        """Return the circuit that `to_json` wrote; raise `CircuitError` for anything else."""
        try:
            data = json.loads(text)
            observables = tuple(
                tuple(
                    (float(factor), tuple((int(wire), str(axis)) for wire, axis in word)) for factor, word in observable
                )
                for observable in data["observables"]
            )
            program = Program.from_json(json.dumps(data["program"]))
            return cls(program, observables, data["name"], float(data["input_scale"]), data["reference"], source)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, CircuitError):
                raise
            raise CircuitError(f"not a saved circuit: {error}") from error


def pauli_z(wire: int) -> Observable:
    """Return the observable Z on `wire`."""
    return ((1.0, ((wire, "Z"),)),)


def z_on_every_wire(n_wires: int) -> tuple[Observable, ...]:
    """Return <Z_0> ... <Z_(n-1)>, the usual read-out of a variational classifier."""
    return tuple(pauli_z(wire) for wire in range(n_wires))


def assemble(
    n_wires: int,
    gates: Iterable[Gate],
    slots: Sequence[Expr],
    inputs: Mapping[str, Sequence[int]],
    weights: Mapping[str, Sequence[int]],
) -> Program:
    """Check a circuit and return it as a program, equal slots merged and weight periods computed.

    Slots that are constant become constants. Raises `CircuitError` with the gate and the reason.
    """
    shapes = {name: tuple(int(size) for size in shape) for name, shape in [*inputs.items(), *weights.items()]}
    if n_wires < 1:
        raise CircuitError(f"a circuit has at least one wire; got {n_wires}")
    if both := inputs.keys() & weights.keys():
        raise CircuitError(f"inputs and weights need different names; got {', '.join(sorted(both))} as both")
    numbers: dict[Expr, int] = {}
    checked = []
    for gate in gates:
        _check_gate(gate, n_wires, len(slots))
        angles: list[int | float] = []
        for angle in gate.angles:
            slot = slots[angle] if isinstance(angle, int) else None
            if slot is None:
                angles.append(float(angle))
            elif slot.op == "const":
                angles.append(float(slot.args[0]))
            else:
                angles.append(numbers.setdefault(slot, len(numbers)))
        checked.append(Gate(gate.name, tuple(int(wire) for wire in gate.wires), tuple(angles)))
    kept = tuple(numbers)
    for slot in kept:
        for leaf in slot.leaves():
            _check_leaf(leaf, inputs if leaf.op == "input" else weights, shapes)
    bare = Program(
        n_wires,
        tuple(checked),
        kept,
        tuple((name, shapes[name]) for name in inputs),
        tuple(ParamSpec(name, shapes[name], part="core") for name in weights),
    )
    return replace(bare, weights=tuple(_with_period(spec, bare) for spec in bare.weights))


def _check_gate(gate: Gate, n_wires: int, n_slots: int) -> None:
    kind = GATES.get(gate.name)
    if kind is None:
        raise CircuitError(
            f"gate '{gate.name}' is not known{nearest(gate.name, GATES)}; known gates: {', '.join(GATES)}"
        )
    if len(gate.wires) != kind.wires or len(gate.angles) != kind.angles:
        raise CircuitError(
            f"gate '{gate.name}' acts on {kind.wires} wires with {kind.angles} angles; "
            f"got {len(gate.wires)} wires and {len(gate.angles)} angles"
        )
    if len(set(gate.wires)) != len(gate.wires) or not all(0 <= wire < n_wires for wire in gate.wires):
        raise CircuitError(f"gate '{gate.name}' on wires {gate.wires}: wires must differ and lie in 0..{n_wires - 1}")
    for angle in gate.angles:
        if isinstance(angle, int) and not 0 <= angle < n_slots:
            raise CircuitError(f"gate '{gate.name}' uses slot {angle}; the circuit has {n_slots} slots")
        if not isinstance(angle, int) and not math.isfinite(angle):
            raise CircuitError(f"gate '{gate.name}' on wires {gate.wires} has the angle {angle}; angles must be finite")


def _check_leaf(leaf: Expr, known: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    if leaf.op == "const":
        return
    name, index = leaf.args
    if name not in known or not 0 <= index < math.prod(shapes[name]):
        raise CircuitError(f"an angle uses {leaf.op} {name}[{index}], which is not declared; declared: {dict(shapes)}")


def _with_period(spec: ParamSpec, program: Program) -> ParamSpec:
    """Return `spec` as angular with its period where every gate that it reaches turns at a fixed rate.

    The period of one entry in one gate is 2 pi over the smallest gap between the generator's eigenvalues, over the
    coefficient of the entry in the slot. Of several, the least common multiple holds for all.
    """
    periods: set[float] = set()
    for gate in program.gates:
        for position, angle in enumerate(gate.angles):
            if not isinstance(angle, int):
                continue
            slot = program.slots[angle]
            for leaf in {leaf for leaf in slot.leaves() if leaf.op == "weight" and leaf.args[0] == spec.name}:
                coefficient = affine_in(slot, leaf)
                if coefficient is None:
                    return spec
                if coefficient != 0:
                    periods.add(2 * math.pi / GATES[gate.name].gaps[position] / abs(coefficient))
    period = _common_multiple(periods)
    return spec if period is None else replace(spec, kind="angular", period=period)


def _common_multiple(periods: Iterable[float]) -> float | None:
    """Return the smallest common multiple of `periods` as multiples of the first, or None if there is none below 64."""
    ordered = sorted(periods)
    if not ordered:
        return None
    total = Fraction(1)
    for period in ordered:
        ratio = Fraction(period / ordered[0]).limit_denominator(64)
        if abs(float(ratio) * ordered[0] - period) > 1e-9 * period:
            return None
        total = Fraction(math.lcm(total.numerator, ratio.numerator), math.gcd(total.denominator, ratio.denominator))
    return float(total) * ordered[0] if total <= 64 else None
