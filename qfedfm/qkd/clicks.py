"""Clicks, and the event-driven way to them: of a stretch of pulses only those that click are drawn.

Pulses are independent, so the distances between clicks are geometric, what each click is comes from the table of
`outcomes.py`, and the others are counted by basis and intensity with one multinomial draw. This is exact, and costs
what the clicks cost.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .detection import Gates, Masks
from .eavesdroppers import Eavesdropper
from .link import Link, Real
from .outcomes import Bytes, Outcomes, outcomes

Counts = NDArray[np.int64]

CLICKS_AT_ONCE = 1 << 20
"""Clicks drawn at a time, which bounds the memory used besides the result to about 100 MB."""


@dataclass(frozen=True)
class Clicks:
    """Pulses that clicked, or would with detectors that never rest; arrays (n,), named as in `Outcomes`."""

    pulse: Gates
    intensity: Bytes
    alice_basis: Bytes
    alice_bit: Bytes
    bob_basis: Bytes
    mask: Masks
    photons: Bytes
    guess: Bytes
    certainty: NDArray[np.float32]

    def take(self, index: NDArray[np.intp]) -> "Clicks":
        """Return the chosen clicks."""
        return Clicks(*(getattr(self, field.name)[index] for field in fields(self)))

    def counts(self, intensities: int) -> Counts:
        """Return how many there are, by Alice's basis and intensity: (2, K)."""
        classes = self.alice_basis.astype(np.intp) * intensities + self.intensity
        return np.bincount(classes, minlength=2 * intensities).reshape(2, intensities)

    @staticmethod
    def join(parts: Sequence["Clicks"]) -> "Clicks":
        """Return all clicks of `parts` (at least one), in that order."""
        return Clicks(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Clicks)))


class Stretch(Protocol):
    """Some successive pulses, up to but not including `stop`; `clicks` is what detectors that never rest would see."""

    @property
    def stop(self) -> int: ...  # noqa: D102

    @property
    def clicks(self) -> Clicks: ...  # noqa: D102

    def silent(self, pulses: Gates) -> Clicks:
        """Return what these pulses were, none of them being among `clicks`; asked once."""
        ...

    def sent(self) -> Counts:
        """Return all pulses of the stretch by basis and intensity, (2, K); asked after `silent`."""
        ...


class Drawn:
    """A stretch of pulses of which only the clicks are drawn."""

    def __init__(self, table: Outcomes, start: int, stop: int, generator: np.random.Generator) -> None:
        self.stop, self._generator = stop, generator
        self._intensities = int(table.intensity.max()) + 1
        loud = table.mask > 0
        self._silent = table.where(~loud)
        positions = click_positions(start, stop, float(table.probability[loud].sum()), generator)
        self.clicks = self._identities(positions, table.where(loud))
        self._known, self._unknown = self.clicks.counts(self._intensities), stop - start - positions.size

    def silent(self, pulses: Gates) -> Clicks:
        """Return what `pulses` were; drawn now, and taken off those that are merely counted."""
        named = self._identities(pulses, self._silent)
        self._known = self._known + named.counts(self._intensities)
        self._unknown -= pulses.size
        return named

    def sent(self) -> Counts:
        """Return all pulses by basis and intensity, (2, K), counting those without a name now."""
        if not self._unknown:
            return self._known
        classes = self._silent.alice_basis.astype(np.intp) * self._intensities + self._silent.intensity
        weights = np.zeros(2 * self._intensities)
        np.add.at(weights, classes, self._silent.probability)
        rest = self._generator.multinomial(self._unknown, _scaled(weights))
        return np.asarray(self._known + rest.reshape(2, self._intensities))

    def _identities(self, pulses: Gates, table: Outcomes) -> Clicks:
        """Return `pulses` with an outcome of `table` for each, independently: how many of each, in random order."""
        kind = np.min_scalar_type(table.probability.size)
        rows = np.zeros(0, kind)
        if pulses.size:
            each = self._generator.multinomial(pulses.size, _scaled(table.probability))
            rows = np.repeat(np.arange(each.size, dtype=kind), each)
            self._generator.shuffle(rows)
        names = [field.name for field in fields(Clicks)][1:]
        return Clicks(pulses, *(getattr(table, name)[rows] for name in names))


def drawn(link: Link, pulses: int, generator: np.random.Generator, eve: Eavesdropper | None) -> Iterator[Stretch]:
    """Yield `pulses` pulses in stretches of about a million clicks and of one loss each."""
    for part, start, end in of_one_loss(link, pulses):
        table = outcomes(part, eve)
        chance = float(table.probability[table.mask > 0].sum())
        length = int(CLICKS_AT_ONCE / max(chance, 1e-12))
        for first in range(start, end, length):
            yield Drawn(table, first, min(first + length, end), generator)


def of_one_loss(link: Link, pulses: int) -> Iterator[tuple[Link, int, int]]:
    """Yield (link of constant loss, start, stop) of the pulses sent through each stretch of the channel, if any."""
    start, elapsed = 0, 0.0
    for share, part in link.moments():
        elapsed += share
        stop = min(pulses, round(elapsed * pulses))
        if stop > start:
            yield part, start, stop
        start = stop


def click_positions(start: int, stop: int, chance: float, generator: np.random.Generator) -> Gates:
    """Return which of the pulses start, ..., stop-1 click, each independently with probability `chance`; rising.

    The distance from one click to the next is geometric: 1 + floor(E / -ln(1 - chance)) with E exponential.
    """
    if chance <= 0:
        return np.zeros(0, np.int64)
    if chance >= 1 - 1e-15:
        return np.arange(start, stop)
    parts, last = [], start - 1
    while last < stop - 1:
        left = (stop - 1 - last) * chance
        gaps = generator.standard_exponential(int(left + 4 * left**0.5) + 8)
        gaps /= -np.log1p(-chance)
        np.minimum(gaps, stop - start, out=gaps)
        positions = gaps.astype(np.int64)
        positions += 1
        positions[0] += last
        np.cumsum(positions, out=positions)
        parts.append(positions)
        last = int(positions[-1])
    positions = np.concatenate(parts) if len(parts) > 1 else parts[0]
    return positions[: np.searchsorted(positions, stop)]


def _scaled(weights: Real) -> Real:
    return np.asarray(weights / weights.sum())
