"""Observables read from probabilities.

A sum of Pauli words is diagonal once every X and Y in it is turned to Z, and then its expectation value is the sum of
the probabilities of the basis states, each times a sign. Words that want the same axis on every wire they share are
read from one turned state.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import CircuitError
from .program import Observable
from .stages import Real, bits


@dataclass
class Reading:
    """What is read from one turned state.

    axes: X, Y or Z for each wire that is read. signs: (observables, 2^n); the expectation values are the sum over all
    readings of signs @ probabilities.
    """

    axes: dict[int, str]
    signs: Real

    @property
    def turned(self) -> dict[int, str]:
        """The wires that are not read as they are."""
        return {wire: axis for wire, axis in self.axes.items() if axis != "Z"}


def readings(n_wires: int, observables: Sequence[Observable]) -> list[Reading]:
    """Group the words first-fit into readings; raise `CircuitError` for an observable that has no meaning."""
    found: list[Reading] = []
    for number, observable in enumerate(observables):
        for coefficient, word in observable:
            wires = [wire for wire, _ in word]
            if len(set(wires)) < len(wires) or not all(0 <= w < n_wires and axis in "XYZ" for w, axis in word):
                raise CircuitError(
                    f"observable {number} has the word {word}: expected pairs (wire, 'X', 'Y' or 'Z'), "
                    f"each wire once and within 0..{n_wires - 1}"
                )
            fits = (r for r in found if all(r.axes.get(wire, axis) == axis for wire, axis in word))
            reading = next(fits, None)
            if reading is None:
                reading = Reading({}, np.zeros((len(observables), 2**n_wires)))
                found.append(reading)
            reading.axes.update(word)
            odd = np.bitwise_count(bits(n_wires, wires)) % 2
            reading.signs[number] += coefficient * (1.0 - 2.0 * odd)
    if not found:
        raise CircuitError("there is nothing to measure: expected at least one observable with at least one Pauli word")
    return found
