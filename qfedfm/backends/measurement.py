"""Measurement settings: which Pauli words can be read from the same shots, and what the shots say.

Words that agree on every wire where both act (qubit-wise commuting) are read in one setting, each wire turned to its
letter. For a setting, outcome b adds table[b, k] to observable k, so that for frequencies f of outcomes

    <O_k> = constant_k + sum_settings sum_b f_b table[b, k],
    Var   = sum_settings (sum_b f_b table[b, k]^2 - (sum_b f_b table[b, k])^2) / shots,

the variance of the estimate when f comes from that many shots. Words are put greedily into the first setting that
takes them (Verteletskyi, Yen and Izmaylov 2020, arXiv:1907.03358, discuss better groupings of many words).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..quantum.program import Observable, PauliWord
from .contract import Array

Setting = tuple[tuple[int, str], ...]
"""Wires that are measured, in rising order, with the letter each is turned to."""


@dataclass(frozen=True, eq=False)
class Reading:
    """One setting with the terms read from it.

    wires: those measured, sorted; the first is the most significant bit of an outcome. letters: X, Y or Z for each.
    table: (2^len(wires), K).
    """

    wires: tuple[int, ...]
    letters: str
    table: Array


@dataclass(frozen=True, eq=False)
class Readings:
    """All settings of some observables, and their constant parts (K,)."""

    settings: tuple[Reading, ...]
    constant: Array


def readings(observables: Sequence[Observable]) -> Readings:
    """Return the settings in which `observables` are measured."""
    settings: list[dict[int, str]] = []
    terms: list[list[tuple[int, float, PauliWord]]] = []
    constant = np.zeros(len(observables))
    for k, observable in enumerate(observables):
        for factor, word in observable:
            if not word:
                constant[k] += factor
                continue
            place = next((i for i, known in enumerate(settings) if _agrees(known, word)), len(settings))
            if place == len(settings):
                settings.append({})
                terms.append([])
            settings[place].update(word)
            terms[place].append((k, factor, word))
    made = [_reading(known, some, len(observables)) for known, some in zip(settings, terms, strict=True)]
    return Readings(tuple(made), constant)


def _agrees(known: dict[int, str], word: PauliWord) -> bool:
    return all(known.get(wire, letter) == letter for wire, letter in word)


def _reading(known: dict[int, str], terms: Sequence[tuple[int, float, PauliWord]], count: int) -> Reading:
    wires = tuple(sorted(known))
    outcomes = np.arange(2 ** len(wires))
    signs = {wire: 1 - 2 * ((outcomes >> (len(wires) - 1 - i)) & 1) for i, wire in enumerate(wires)}
    table = np.zeros((len(outcomes), count))
    for k, factor, word in terms:
        sign = np.full(len(outcomes), factor)
        for wire, _ in word:
            sign = sign * signs[wire]
        table[:, k] += sign
    return Reading(wires, "".join(known[wire] for wire in wires), table)


def estimates(made: Readings, frequencies: Sequence[Array], shots: NDArray[np.int64] | None) -> tuple[Array, Array]:
    """Return values and variances (N, K) from outcome frequencies, one array (N, 2^k) for each setting.

    shots: (N,) behind the frequencies of each setting; None for probabilities, whose variance is 0.
    """
    rows = len(frequencies[0]) if frequencies else 1
    values = np.tile(made.constant, (rows, 1))
    variances = np.zeros_like(values)
    for setting, found in zip(made.settings, frequencies, strict=True):
        mean = found @ setting.table
        values += mean
        if shots is not None:
            variances += np.clip(found @ setting.table**2 - mean**2, 0, None) / shots[:, None]
    return values, variances


def draw(probabilities: Array, shots: NDArray[np.int64], generator: np.random.Generator) -> Array:
    """Return frequencies (N, outcomes) of `shots` (N,) independent outcomes of each row of probabilities."""
    clean = np.clip(probabilities, 0, None)
    clean /= clean.sum(axis=1, keepdims=True)
    return np.asarray(generator.multinomial(shots, clean) / shots[:, None])
