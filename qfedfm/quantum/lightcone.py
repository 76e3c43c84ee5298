"""Which gates, and so which weights, can reach the observables at all.

Going backwards from the observables, the operator O that is measured is followed wire by wire: it acts as the identity,
or commutes with one axis (a letter of `gates.FRAMES`), or may be anything. A gate that is diagonal along axis a on a
wire where O is the identity or commutes with a, for each of its wires, commutes with O and changes no expectation
value: it is dropped. That covers gates outside the light cone and, for <Z>, diagonal gates at the end, also behind a
network of CNOTs. A weight that only dropped gates use has a gradient of exactly zero; computed instead, it would be
rounding noise, which Adam's normalisation turns into real steps.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from .gates import GATES
from .program import Gate, Observable, Program

_ANY = "any"


@lru_cache(maxsize=256)
def reachable(program: Program, observables: tuple[Observable, ...]) -> Program:
    """Return `program` without the gates that cannot change any expectation value of `observables`.

    Slots, inputs and weights stay declared, so that the result takes the same arguments.
    """
    axes: dict[int, str | None] = {}  # a wire that is missing or None: the identity
    for observable in observables:
        for _, word in observable:
            for wire, axis in word:
                axes[wire] = axis if axes.get(wire, axis) == axis else _ANY
    kept = [gate for gate in reversed(program.gates) if not _passes(gate, axes)]
    return replace(program, gates=tuple(reversed(kept)))


def dead_weights(program: Program, observables: Sequence[Observable]) -> dict[str, Tensor]:
    """Return for each weight a bool tensor of its shape: True where no expectation value depends on the entry."""
    dead = {spec.name: torch.ones(spec.size, dtype=torch.bool) for spec in program.weights}
    for gate in reachable(program, tuple(observables)).gates:
        for angle in gate.angles:
            for leaf in program.slots[angle].leaves() if isinstance(angle, int) else ():
                if leaf.op == "weight":
                    dead[leaf.args[0]][leaf.args[1]] = False
    return {spec.name: dead[spec.name].reshape(spec.shape) for spec in program.weights}


def _passes(gate: Gate, axes: dict[int, str | None]) -> bool:
    """Say whether `gate` commutes with O; otherwise take O to the other side of it, in place."""
    kind = GATES[gate.name]
    found = [axes.get(wire) for wire in gate.wires]
    if set(found) == {None}:
        return True
    if gate.name == "swap":
        axes.update(zip(gate.wires, reversed(found), strict=True))
        return False
    own = kind.axes or (_ANY,) * kind.wires
    kept = [a in (None, b) and b != _ANY for a, b in zip(found, own, strict=True)]
    if all(kept):
        return True
    if kind.permutation and set(found) <= {None, "Z"}:
        axes.update(dict.fromkeys(gate.wires, "Z"))
        return False
    for wire, axis, commutes in zip(gate.wires, own, kept, strict=True):
        axes[wire] = axis if commutes else _ANY
    return False
