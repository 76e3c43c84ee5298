"""A program as few large steps, for the state vector simulator.

Since every gate is diagonal in some frame (`gates`), a circuit is a sequence of three kinds of stages:

    Local    2 x 2 matrices on some wires, the same for all rows of a client
    Phases   exp(i sum_s angle_s h_s(x)) at each basis state x, whatever the angles depend on
    Permute  an exchange of basis states

A gate joins the earliest stage of its kind that it can reach by passing stages on other wires, so a layer of rotations
becomes one `Local`, an encoding layer one `Phases`, a ring of CNOTs one `Permute`. As long as a wire has met no other,
its state is a vector of two entries and stays out of the stages (`Plan.start`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from .gates import FRAMES, GATES, Complex
from .program import Gate, Program

Real = NDArray[np.float64]


class Turn(NamedTuple):
    """The matrix diag(exp(i angle h)): the slot of the angle, and h over the two states of a wire."""

    slot: int
    spectrum: tuple[float, ...]


@dataclass(eq=False)
class Run:
    """One-qubit gates in a row: F_m D_m ... F_1 D_1 F_0, with D_j = diag(exp(i angle h)).

    fixed: the F, each (2, 2). turns: the D; no angle depends on an input.
    """

    fixed: list[Complex] = field(default_factory=lambda: [np.eye(2, dtype=complex)])
    turns: list[Turn] = field(default_factory=list)

    def then(self, unitary: Complex) -> None:
        """Append a fixed gate."""
        self.fixed[-1] = unitary @ self.fixed[-1]

    def turn(self, turn: Turn) -> None:
        """Append a diagonal gate."""
        self.turns.append(turn)
        self.fixed.append(np.eye(2, dtype=complex))


@dataclass
class Local:
    """One run on each of some wires."""

    runs: dict[int, Run] = field(default_factory=dict)

    def touches(self, wires: Sequence[int]) -> bool:
        """Say whether one of `wires` has a run."""
        return not self.runs.keys().isdisjoint(wires)


@dataclass
class Phases:
    """exp(i (constant(x) + sum_s angle_s rates[s](x))), with vectors over all 2^n basis states."""

    wires: set[int]
    constant: Real
    rates: dict[int, Real] = field(default_factory=dict)

    def touches(self, wires: Sequence[int]) -> bool:
        """Say whether a phase depends on one of `wires`."""
        return not self.wires.isdisjoint(wires)


@dataclass
class Permute:
    """new[x] = old[source[x]]."""

    wires: set[int]
    source: NDArray[np.int64]

    def touches(self, wires: Sequence[int]) -> bool:
        """Say whether the exchange changes or depends on one of `wires`."""
        return not self.wires.isdisjoint(wires)


Stage = Local | Phases | Permute
AnyStage = TypeVar("AnyStage", Local, Phases, Permute)


@dataclass
class Plan:
    """What `plan` makes of a program.

    start: for each wire what acts on its |0> before it meets another: runs, and turns by angles that differ between
    rows. met: the wires that have met another. stages: what follows, in order.
    """

    n_wires: int
    start: list[list[Run | Turn]]
    stages: list[Stage] = field(default_factory=list)
    met: set[int] = field(default_factory=set)


def plan(program: Program) -> Plan:
    """Return `program` as a product state and stages."""
    made = Plan(program.n_wires, [[] for _ in range(program.n_wires)])
    by_row = {number for number, slot in enumerate(program.slots) if slot.uses("input")}
    for gate in program.gates:
        _add(made, gate, by_row)
    return made


def rotate(axes: Mapping[int, str]) -> Local:
    """Return the stage that turns the given axes to Z, so that X and Y are read from probabilities."""
    return Local({wire: Run([FRAMES[axis].conj().T]) for wire, axis in axes.items()})


def bits(n_wires: int, wires: Sequence[int]) -> NDArray[np.int64]:
    """Return for each of the 2^n basis states the number made of its bits on `wires`, the most significant first."""
    states = np.arange(2**n_wires)
    place = range(len(wires) - 1, -1, -1)
    return sum(((states >> (n_wires - 1 - wire) & 1) << p for wire, p in zip(wires, place, strict=True)), 0 * states)


def _add(made: Plan, gate: Gate, by_row: set[int]) -> None:
    kind = GATES[gate.name]
    slot = next((angle for angle in gate.angles if isinstance(angle, int)), None)
    if kind.wires == 1 and slot not in by_row:
        run = _run(made, gate.wires[0])
        if slot is None:
            run.then(kind.unitary(*gate.angles))
        else:
            run.then(FRAMES[kind.axes].conj().T)
            run.turn(Turn(slot, kind.spectrum))
            run.then(FRAMES[kind.axes])
    elif kind.permutation:
        made.met.update(gate.wires)
        _permute(made, gate)
    else:
        turned = [(wire, FRAMES[axis]) for wire, axis in zip(gate.wires, kind.axes, strict=True) if axis != "Z"]
        for wire, frame in turned:
            _run(made, wire).then(frame.conj().T)
        if kind.wires == 1 and slot is not None and gate.wires[0] not in made.met:
            made.start[gate.wires[0]].append(Turn(slot, kind.spectrum))
        else:
            made.met.update(gate.wires)
            _phase(made, gate, slot)
        for wire, frame in turned:
            _run(made, wire).then(frame)


def _reach(made: Plan, wires: Sequence[int], kind: type[AnyStage]) -> AnyStage | None:
    """Return the earliest stage of `kind` that a gate on `wires` reaches by passing stages on other wires, if any."""
    found = None
    for stage in reversed(made.stages):
        if isinstance(stage, kind):
            found = stage
        if stage.touches(wires):
            break
    return found


def _run(made: Plan, wire: int) -> Run:
    """Return the run that the next one-qubit gate on `wire` belongs to."""
    if wire not in made.met:
        factors = made.start[wire]
        last = factors[-1] if factors else None
        if isinstance(last, Run):
            return last
        factors.append(run := Run())
        return run
    stage = _reach(made, [wire], Local)
    if stage is None:
        stage = Local()
        made.stages.append(stage)
    return stage.runs.setdefault(wire, Run())


def _phase(made: Plan, gate: Gate, slot: int | None) -> None:
    stage = _reach(made, gate.wires, Phases)
    if stage is None:
        stage = Phases(set(), np.zeros(2**made.n_wires))
        made.stages.append(stage)
    stage.wires.update(gate.wires)
    rates = np.array(GATES[gate.name].spectrum)[bits(made.n_wires, gate.wires)]
    if slot is not None:
        stage.rates[slot] = stage.rates.get(slot, 0) + rates
    else:
        stage.constant += rates * (gate.angles[0] if gate.angles else 1)


def _permute(made: Plan, gate: Gate) -> None:
    stage = _reach(made, gate.wires, Permute)
    if stage is None:
        stage = Permute(set(), np.arange(2**made.n_wires))
        made.stages.append(stage)
    stage.wires.update(gate.wires)
    n = made.n_wires
    local = np.argsort(GATES[gate.name].permutation)[bits(n, gate.wires)]
    places = [1 << (n - 1 - wire) for wire in gate.wires]
    others = np.arange(2**n) & ~sum(places)
    shifts = range(len(places) - 1, -1, -1)
    source = others + sum((local >> shift & 1) * place for shift, place in zip(shifts, places, strict=True))
    stage.source = stage.source[source]
