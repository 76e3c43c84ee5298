"""A noisy program as few large steps on Pauli vectors.

As in the exact simulator (`quantum.stages`), gates are gathered into stages, here of three kinds:

    Local     4 x 4 matrices on some wires: one-qubit gates with all the noise that follows them
    Exchange  new[p] = factor[p] old[source[p]]: Clifford gates with diagonal noise
    Block     the matrix of a gate on two or three wires that is neither, its noise inside

A gate joins the earliest stage of its kind that it can reach by passing stages on other wires, so that a ring of CNOTs
with depolarising noise is one exchange. As long as a wire has met no other, its state is a vector of four numbers and
stays out of the stages.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..quantum.gates import GATES
from ..quantum.program import Gate, Program
from ..quantum.stages import Real
from .noise import NoiseModel
from .pauli_transfer import Turn, digits, exchange, kron, transfer, turn

ONE_TURN = (np.array([0.0, 1.0, 1.0]), np.array([0.0, 0.0, -np.pi / 2]))
"""Rates and shifts of every one-qubit gate with an angle."""


class Piece(NamedTuple):
    """One-qubit gates of which at most one has an angle: its slot (None: no angle), and the terms of a `Turn`."""

    slot: int | None
    terms: Real


@dataclass
class Run:
    """One-qubit gates and noise in a row."""

    pieces: list[Piece] = field(default_factory=list)

    def add(self, slot: int | None, terms: Real) -> None:
        """Append a gate; terms: (3, 4, 4) as of a `Turn` if it has an angle, else one matrix (4, 4)."""
        last = self.pieces[-1] if self.pieces else None
        if slot is not None and last is not None and last.slot is None:
            self.pieces[-1] = Piece(slot, terms @ last.terms[0])
        elif slot is not None:
            self.pieces.append(Piece(slot, terms))
        elif last is not None:
            self.pieces[-1] = Piece(last.slot, terms @ last.terms)
        else:
            self.pieces.append(Piece(None, np.stack([terms, np.zeros((4, 4)), np.zeros((4, 4))])))

    @property
    def fixed(self) -> bool:
        """Whether no gate has an angle; then the only piece's first term is the whole."""
        return all(piece.slot is None for piece in self.pieces)


@dataclass
class Local:
    """One run on each of some wires."""

    runs: dict[int, Run] = field(default_factory=dict)

    @property
    def wires(self) -> Iterable[int]:
        """The wires that have a run."""
        return self.runs.keys()


@dataclass
class Exchange:
    """new[p] = factor[p] old[source[p]], (4^n,) each."""

    wires: set[int]
    source: NDArray[np.int64]
    factor: Real

    def then(self, source: NDArray[np.int64], factor: Real) -> None:
        """Append another exchange."""
        self.source, self.factor = self.source[source], factor * self.factor[source]


@dataclass
class Block:
    """A gate on two or three wires and its noise; slot: None if there is one term only."""

    wires: tuple[int, ...]
    slot: int | None
    turn: Turn


Stage = Local | Exchange | Block
AnyStage = TypeVar("AnyStage", Local, Exchange)


@dataclass
class Plan:
    """What `plan` makes of a program: for each wire what acts on |0> before it meets another, then the stages."""

    n_wires: int
    start: list[Run]
    stages: list[Stage] = field(default_factory=list)
    met: set[int] = field(default_factory=set)

    @property
    def slots(self) -> set[int]:
        """The slots that stages depend on."""
        runs = [run for stage in self.stages if isinstance(stage, Local) for run in stage.runs.values()]
        slots = {piece.slot for run in runs for piece in run.pieces}
        slots |= {stage.slot for stage in self.stages if isinstance(stage, Block)}
        return {slot for slot in slots if slot is not None}


def plan(program: Program, noise: NoiseModel) -> Plan:
    """Return `program` under `noise` as a product state and stages."""
    made = Plan(program.n_wires, [Run() for _ in range(program.n_wires)])
    for gate in program.gates:
        _add(made, gate, noise)
    return made


def _add(made: Plan, gate: Gate, noise: NoiseModel) -> None:
    kind, after = GATES[gate.name], noise.after(gate.name)
    slot = next((angle for angle in gate.angles if isinstance(angle, int)), None)
    shrink, single = after.depolarise(kind.wires), after.on_each_wire()
    matrix = transfer(kind.unitary(*gate.angles)) if slot is None else turn(gate.name).terms
    if kind.wires == 1:
        _run(made, gate.wires[0]).add(slot, single @ (shrink[:, None] * matrix))
        return
    made.met.update(gate.wires)
    simple = exchange(matrix) if slot is None else None
    if simple is None:
        noisy = kron([single] * kind.wires) @ (shrink[:, None] * matrix)
        rates, shifts = (np.zeros(1), np.zeros(1)) if slot is None else turn(gate.name)[:2]
        made.stages.append(Block(gate.wires, slot, Turn(rates, shifts, noisy if slot is not None else noisy[None])))
        return
    source, factor = simple
    diagonal = np.diag(single)
    if np.array_equal(single, np.diag(diagonal)):
        _exchange(made, gate.wires, source, factor * shrink * np.diag(kron([np.diag(diagonal)] * kind.wires)))
        return
    _exchange(made, gate.wires, source, factor * shrink)
    for wire in gate.wires:
        _run(made, wire).add(None, single)


def _reach(made: Plan, wires: Iterable[int], kind: type[AnyStage]) -> AnyStage | None:
    """Return the earliest stage of `kind` that a gate on `wires` reaches by passing stages on other wires, if any."""
    found = None
    for stage in reversed(made.stages):
        if isinstance(stage, kind):
            found = stage
        if not set(wires).isdisjoint(stage.wires):
            break
    return found


def _run(made: Plan, wire: int) -> Run:
    """Return the run that the next one-qubit gate on `wire` belongs to."""
    if wire not in made.met:
        return made.start[wire]
    stage = _reach(made, [wire], Local)
    if stage is None:
        stage = Local()
        made.stages.append(stage)
    return stage.runs.setdefault(wire, Run())


def _exchange(made: Plan, wires: tuple[int, ...], source: NDArray[np.int64], factor: Real) -> None:
    """Append an exchange of words on some wires, (4^k,) each."""
    n = made.n_wires
    stage = _reach(made, wires, Exchange)
    if stage is None:
        stage = Exchange(set(), np.arange(4**n), np.ones(4**n))
        made.stages.append(stage)
    stage.wires.update(wires)
    stage.then(*spread(n, wires, source, factor))


def spread(
    n_wires: int, wires: tuple[int, ...], source: NDArray[np.int64], factor: Real
) -> tuple[NDArray[np.int64], Real]:
    """Return an exchange of words on some wires, (4^k,) each, as one on all, (4^n,) each."""
    local = digits(n_wires, wires)
    places = [2 * (n_wires - 1 - wire) for wire in wires]
    whole = np.arange(4**n_wires) & ~sum(3 << place for place in places)
    for i, place in enumerate(reversed(places)):
        whole = whole + ((source[local] >> 2 * i & 3) << place)
    return whole, factor[local]
