"""The metric of a circuit's angles from expectation values, block by block: what a machine can measure of it.

A gate exp(i a G) turns the state by i G. Gates on different wires with nothing between them form a layer: in the state
just before it, their block of the Fubini-Study metric is the covariance of their generators,

    g_ij = <G_i G_j> - <G_i> <G_j>    (Stokes et al. 2020, doi:10.22331/q-2020-05-25-269),

and as the generators of a layer act on wires of their own, all of it is read from the same shots of one truncated
circuit. Entries between layers are left out. The quantum Fisher metric of `fisher` is four times this one.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from .gates import GATES
from .program import Gate, Observable, Program


@dataclass(frozen=True)
class GeneratorLayer:
    """Gates of one layer.

    program: the circuit before them. slots: the slot that turns each gate. observables: <G_i> of each, then <G_i G_j>
    for i <= j, in rows.
    """

    program: Program
    slots: tuple[int, ...]
    observables: tuple[Observable, ...]

    def covariances(self, values: Tensor) -> Tensor:
        """Return g_ij (..., m, m) from the values of the observables (..., m + m (m + 1) / 2)."""
        m = len(self.slots)
        first, second = values[..., :m], values[..., m:]
        products = values.new_zeros(*values.shape[:-1], m, m)
        rows, columns = torch.triu_indices(m, m)
        products[..., rows, columns] = second
        products[..., columns, rows] = second
        return products - first[..., :, None] * first[..., None, :]


@lru_cache(maxsize=64)
def generator_layers(program: Program, weights: tuple[str, ...]) -> tuple[GeneratorLayer, ...]:
    """Return the layers of gates whose angles depend on any of `weights`, in order.

    Layers are as early as they can be: a gate is in the layer after the last one that reaches any of its wires.
    """
    reached = [0] * program.n_wires  # the layer, counted from 1, that each wire has been through
    levels: list[int] = []
    turning: list[bool] = []
    for gate in program.gates:
        turns = any(
            leaf.op == "weight" and leaf.args[0] in weights
            for angle in gate.angles
            if isinstance(angle, int)
            for leaf in program.slots[angle].leaves()
        )
        levels.append(max(reached[wire] for wire in gate.wires) + turns)
        turning.append(turns)
        for wire in gate.wires:
            reached[wire] = levels[-1]
    placed = list(zip(program.gates, levels, turning, strict=True))
    return tuple(
        _layer(
            program,
            [gate for gate, level, _ in placed if level < number],
            [gate for gate, level, turns in placed if turns and level == number],
        )
        for number in range(1, max(reached) + 1)
    )


def _layer(program: Program, before: Iterable[Gate], layer: Sequence[Gate]) -> GeneratorLayer:
    generators = [_words(gate, GATES[gate.name].spectrum) for gate in layer]
    squares = [_words(gate, tuple(h * h for h in GATES[gate.name].spectrum)) for gate in layer]
    pairs = [
        squares[i] if i == j else _product(generators[i], generators[j])
        for i in range(len(layer))
        for j in range(i, len(layer))
    ]
    slots = tuple(angle for gate in layer for angle in gate.angles if isinstance(angle, int))
    return GeneratorLayer(replace(program, gates=tuple(before)), slots, (*generators, *pairs))


def _words(gate: Gate, levels: Sequence[float]) -> Observable:
    """Return V diag(levels) V^dagger of a gate's frame V in Pauli words."""
    axes, terms = GATES[gate.name].axes, []
    for chosen in range(len(levels)):  # bits: the wires with a letter, the first wire the most significant
        signed = [-h if (chosen & state).bit_count() % 2 else h for state, h in enumerate(levels)]
        factor = sum(signed) / len(levels)
        places = [i for i in range(len(axes)) if chosen >> (len(axes) - 1 - i) & 1]
        if factor:
            terms.append((factor, tuple(sorted((gate.wires[i], axes[i]) for i in places))))
    return tuple(terms)


def _product(first: Observable, second: Observable) -> Observable:
    return tuple((a * b, tuple(sorted((*left, *right)))) for a, left in first for b, right in second)
