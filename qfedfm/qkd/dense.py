"""BB84 with every pulse drawn, 64 to a word: the reference for `pulses.py`, and the quicker way to count many clicks.

Each random choice is a plane of bits, one a pulse, and physics is Boolean algebra on planes, in the order in which it
happens: Alice chooses, light reaches Bob or not, is misaligned or not, falls on his detectors, and darkness adds to it.
The table of `outcomes.py` is not used, so that agreement says something. A plane of probability p compares random bits
with those of p until they differ, about ten words of randomness for a word of result. There is no Eve here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .clicks import Clicks, Counts, of_one_loss
from .detection import Gates
from .link import Link, SinglePhotons
from .outcomes import Bytes
from .photons import pulse_probabilities
from .pulses import Transmission, receive

Words = NDArray[np.uint64]

BLOCK = 1 << 20
"""Pulses at a time, so that the planes fit into the processor's cache; a multiple of 64."""

DIGITS = 53  # of a probability, after the binary point
SHRINK = range(DIGITS - 8, -1, -3)  # places after which decided words are left out


@dataclass(frozen=True)
class Block:
    """Successive pulses start, ..., stop-1 as planes, (words,): pulse start + i is bit i % 64 of word i // 64.

    alice_basis, alice_bit, bob_basis: her and his choices. intensities: (K, words), one plane set at each pulse. zero,
    one: clicks of the detector of either bit. exists: pulses up to `stop`, which need not fill the last word.
    """

    start: int
    stop: int
    alice_basis: Words
    alice_bit: Words
    bob_basis: Words
    intensities: Words
    zero: Words
    one: Words
    exists: Words

    @property
    def clicks(self) -> Clicks:
        """The pulses that clicked, unpacked."""
        clicked = np.unpackbits((self.zero | self.one).view(np.uint8), bitorder="little")
        return self.silent(np.flatnonzero(clicked) + self.start)

    def silent(self, pulses: Gates) -> Clicks:
        """Return what these pulses were, whether they clicked or not."""
        at = pulses - self.start
        intensity = sum(np.uint8(k) * _bits(plane, at) for k, plane in enumerate(self.intensities))
        return Clicks(
            pulse=pulses,
            intensity=np.asarray(intensity, dtype=np.uint8),
            alice_basis=_bits(self.alice_basis, at),
            alice_bit=_bits(self.alice_bit, at),
            bob_basis=_bits(self.bob_basis, at),
            mask=_bits(self.zero, at) | _bits(self.one, at) << np.uint8(1),
            photons=np.full(at.size, 255, np.uint8),
            guess=np.zeros(at.size, np.uint8),
            certainty=np.full(at.size, 0.5, np.float32),
        )

    def sent(self) -> Counts:
        """Return all pulses by basis and intensity: (2, K)."""
        return _counts([~self.alice_basis & self.exists, self.alice_basis], self.intensities)


@dataclass(frozen=True)
class Tally:
    """What detectors that never rest would count, by basis and intensity, (2, K).

    sent, clicks: by Alice's basis. sifted: clicks where Bob chose the same. wrong: those in the wrong detector alone.
    double: those in both, half of which become wrong bits.
    """

    sent: Counts
    clicks: Counts
    sifted: Counts
    wrong: Counts
    double: Counts


def transmit_densely(link: Link, pulses: int, generator: np.random.Generator) -> Transmission:
    """Do as `transmit` does, without Eve, drawing every pulse; the time is that of the pulses and not of the clicks."""
    return receive(blocks(link, pulses, generator), link, pulses, generator)


def tally(link: Link, pulses: int, generator: np.random.Generator) -> Tally:
    """Send `pulses` pulses and count, keeping no record of any; dead time and after-pulses are left out."""
    totals = np.zeros((5, 2, pulse_probabilities(link.source).size), np.int64)
    for block in blocks(link, pulses, generator):
        either, both = block.zero | block.one, block.zero & block.one
        sifted = either & ~(block.alice_basis ^ block.bob_basis)
        wrong = sifted & ~both & (block.one ^ block.alice_bit)
        for total, plane in zip(totals, (block.exists, either, sifted, wrong, sifted & both), strict=True):
            total += _counts((plane & ~block.alice_basis, plane & block.alice_basis), block.intensities)
    return Tally(*totals)


def blocks(link: Link, pulses: int, generator: np.random.Generator) -> Iterator[Block]:
    """Yield `pulses` pulses, a block at a time; the random words are of a quicker generator that `generator` seeds."""
    quick = np.random.Generator(np.random.SFC64(generator.integers(0, 1 << 63, 4)))
    for part, start, end in of_one_loss(link, pulses):
        for first in range(start, end, BLOCK):
            yield _block(part, first, min(first + BLOCK, end), quick)


def _block(link: Link, start: int, stop: int, generator: np.random.Generator) -> Block:
    words = -(-(stop - start) // 64)
    exists = np.full(words, ~np.uint64(0))
    exists[-1] >>= np.uint64(-(stop - start) % 64)

    def plane(*chances: float) -> Words:
        """Return a plane of this probability, or of one for each intensity."""
        return _plane(chances, intensities if len(chances) > 1 else exists[None, :], generator)

    intensities = _one_of(pulse_probabilities(link.source).tolist(), exists, generator)
    alice_basis, bob_basis = (plane(1 - link.basis_probability) for _ in range(2))
    alice_bit, flipped = plane(0.5), plane(link.detectors.misalignment)
    one_way, other_way = _light(link, plane)
    agree = ~(alice_basis ^ bob_basis)
    to_one = alice_bit ^ flipped
    light = one_way | other_way
    zero = (agree & light & ~to_one) | (~agree & one_way) | plane(link.detectors.dark_count)
    one = (agree & light & to_one) | (~agree & other_way) | plane(link.detectors.dark_count)
    return Block(start, stop, alice_basis, alice_bit, bob_basis, intensities, zero, one, exists)


def _light(link: Link, plane: Callable[..., Words]) -> tuple[Words, Words]:
    """Return whether light is seen at either end of a beam splitter of 1/2, as in the basis that does not match.

    Coherent light: Poisson of mean eta k / 2 at each, independently. One photon: at either, with probability eta / 2.
    """
    eta = link.transmittance()
    if isinstance(link.source, SinglePhotons):
        seen, way = plane(eta), plane(0.5)
        return seen & way, seen & ~way
    chances = [float(-np.expm1(-eta * k / 2)) for k in link.source.intensities]
    return plane(*chances), plane(*chances)


def _one_of(chances: Sequence[float], exists: Words, generator: np.random.Generator) -> Words:
    """Return one plane for each of `chances` (sum 1), of which exactly one is set at each pulse: (K, words)."""
    left, total, planes = exists, 1.0, []
    for chance in chances[:-1]:
        chosen = left & _plane((chance / total,), exists[None, :], generator)
        planes.append(chosen)
        left, total = left & ~chosen, total - chance
    return np.stack([*planes, left])


def _plane(chances: Sequence[float], members: Words, generator: np.random.Generator) -> Words:
    """Return a plane whose bit is set with probability chances[k] where members[k] is set, and clear where none is.

    members: (K, words), at most one set at each pulse. A uniform number below p is one that has 0 at the first digit
    where it differs from p; words whose 64 pulses are all decided are left out of the further digits.
    """
    certain = (1 << DIGITS) - 1
    digits = [min(round(chance * (1 << DIGITS)), certain) for chance in chances]
    result = np.zeros(members.shape[1], np.uint64)
    if not any(digits) or all(number == certain for number in digits):
        return np.bitwise_or.reduce(members) if any(digits) else result
    last = min(number & -number for number in digits if number).bit_length() - 1  # further digits are zeros
    active, undecided, below = np.arange(result.size), np.bitwise_or.reduce(members), result.copy()
    for place in reversed(range(last, DIGITS)):
        differs = generator.bit_generator.random_raw(undecided.size)
        of_p = [member for number, member in zip(digits, members, strict=True) if number >> place & 1]
        for member in of_p:
            differs ^= member
        differs &= undecided
        undecided ^= differs
        for member in of_p:
            below |= differs & member
        if place in SHRINK:
            open_ = undecided != 0
            result[active] = below
            active, undecided, below, members = active[open_], undecided[open_], below[open_], members[:, open_]
            if not active.size:
                break
    result[active] = below
    return result


def _bits(plane: Words, at: NDArray[np.int64]) -> Bytes:
    return np.asarray(plane[at >> 6] >> (at & 63).astype(np.uint64) & np.uint64(1), dtype=np.uint8)


def _counts(of_basis: Sequence[Words], intensities: Words) -> Counts:
    return np.array([[int(np.bitwise_count(plane & k).sum()) for k in intensities] for plane in of_basis])
