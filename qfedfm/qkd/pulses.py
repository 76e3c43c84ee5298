"""The quantum part of BB84, event by event: pulses are sent, and what either party holds afterwards is returned.

Only clicks are drawn (`clicks.py`) and lost pulses are counted; dead time and after-pulses then act on the sequence of
clicks (`detection.py`). So a thousand million pulses at 50 km cost what their two million clicks cost. `dense.py` draws
every pulse instead, as a reference.

All of this is simulated: the keys it leads to protect nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError
from .clicks import Clicks, Counts, Stretch, drawn
from .detection import Awake, Gates, Masks, detect
from .eavesdroppers import Eavesdropper
from .link import Link, Real
from .outcomes import Bytes


@dataclass(frozen=True)
class AliceRecord:
    """What Alice holds, of the pulses that clicked; in reality she remembers all until Bob names those he saw.

    pulse: (n,), rising. basis, bit, intensity: (n,). sent: (2, K), all pulses by basis and intensity.
    """

    pulse: Gates
    basis: Bytes
    bit: Bytes
    intensity: Bytes
    sent: Counts


@dataclass(frozen=True)
class BobRecord:
    """What Bob holds. pulse: (n,), rising. basis, bit: (n,); where both detectors clicked the bit is random."""

    pulse: Gates
    basis: Bytes
    bit: Bytes


@dataclass(frozen=True)
class Truth:
    """What no party may know, for tests and teaching; arrays (n,), one entry a click.

    photons: how many Alice's pulse had: 0, 1, or 2 for several (255: the dense simulation does not say). guess: Eve's,
    once the bases are announced; certainty: the probability that it is right, .5 where she knows nothing. double:
    whether both detectors clicked. after_pulses: how many there were. blind: how many clicks dead time prevented.
    """

    photons: Bytes
    guess: Bytes
    certainty: NDArray[np.float32]
    double: NDArray[np.bool_]
    after_pulses: int
    blind: int


@dataclass(frozen=True)
class Transmission:
    """The result: one record for each party and, apart from them, the truth. pulses: how many were sent."""

    pulses: int
    alice: AliceRecord
    bob: BobRecord
    truth: Truth

    def gains(self) -> Real:
        """Return clicks per pulse sent, by intensity: (K,); for tests and teaching."""
        return np.asarray(
            np.bincount(self.alice.intensity, minlength=self.alice.sent.shape[1]) / self.alice.sent.sum(0)
        )

    def qber(self, basis: int) -> float:
        """Return the share of wrong bits where both chose `basis`, which no party can know; NaN without any."""
        sifted = (self.alice.basis == basis) & (self.bob.basis == basis)
        wrong = self.alice.bit[sifted] != self.bob.bit[sifted]
        return float(wrong.mean()) if wrong.size else float("nan")


def transmit(link: Link, pulses: int, generator: np.random.Generator, eve: Eavesdropper | None = None) -> Transmission:
    """Send `pulses` pulses over `link` and return what Alice and Bob hold.

    Over a satellite pass the pulses are spread evenly over its time. eve: what happens on the way, or nobody.
    """
    return receive(drawn(link, pulses, generator, eve), link, pulses, generator)


def receive(stretches: Iterable[Stretch], link: Link, pulses: int, generator: np.random.Generator) -> Transmission:
    """Return the records that are left when dead time and after-pulsing have acted on the clicks of `stretches`."""
    if pulses < 1:
        raise ConfigurationError(f"a transmission has at least one pulse, got {pulses}")
    awake, after_pulses, blind = Awake(), 0, 0
    parts, sent = [], []
    for stretch in stretches:
        clicks = stretch.clicks
        follows = _bernoulli(clicks.pulse.size, link.detectors.after_pulsing, generator)
        happens, awake = detect(clicks.pulse, clicks.mask, follows, link.dead_gates + 1, awake)
        now = awake.due < stretch.stop
        seen = clicks if happens.size == clicks.pulse.size else clicks.take(happens)
        if now.any():
            seen = _joined(seen, stretch, awake.due[now], awake.masks[now])
        else:
            stretch.silent(awake.due[now])
        awake = replace(awake, due=awake.due[~now], masks=awake.masks[~now])
        parts.append(seen)
        sent.append(stretch.sent())
        after_pulses += int(now.sum())
        blind += clicks.pulse.size - happens.size
    return _records(Clicks.join(parts), sum(sent[1:], sent[0]), pulses, after_pulses, blind, generator)


def _joined(seen: Clicks, stretch: Stretch, due: Gates, masks: Masks) -> Clicks:
    """Return `seen` with the after-pulses `due`; light that came at the same gate made no click of its own."""
    clicks = stretch.clicks
    at = np.searchsorted(clicks.pulse, due)
    met = at < clicks.pulse.size
    met[met] = clicks.pulse[at[met]] == due[met]
    with_light = clicks.take(at[met])
    with_light = replace(with_light, mask=with_light.mask | masks[met])
    alone = replace(stretch.silent(due[~met]), mask=masks[~met])
    together = Clicks.join([seen, with_light, alone])
    return together.take(np.argsort(together.pulse, kind="stable"))


def _records(
    clicks: Clicks, sent: Counts, pulses: int, after_pulses: int, blind: int, generator: np.random.Generator
) -> Transmission:
    double = clicks.mask == 3
    bit = clicks.mask >> np.uint8(1)
    bit[double] = generator.integers(0, 2, int(double.sum()), dtype=np.uint8)
    return Transmission(
        pulses,
        AliceRecord(clicks.pulse, clicks.alice_basis, clicks.alice_bit, clicks.intensity, sent),
        BobRecord(clicks.pulse, clicks.bob_basis, bit),
        Truth(clicks.photons, clicks.guess, clicks.certainty, double, after_pulses, blind),
    )


def _bernoulli(size: int, chance: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Return `size` independent truths of probability `chance`; none are drawn where it is zero."""
    return generator.random(size) < chance if chance else np.zeros(size, dtype=bool)
