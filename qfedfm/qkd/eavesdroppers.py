"""Eavesdroppers: what Eve does with a pulse between Alice and Bob, as values.

Eve sees a pulse's photon number but not its intensity, so an attack is a tuple of branches: what she may do, with a
chance that depends on that number alone. `outcomes.py` works out what each branch leads to. She cannot touch Bob's
detectors, and she is free to replace the fibre by a lossless one. Attacks: intercept-resend (Bennett and Brassard
1984), the same in the basis halfway between the two (Breidbart; Bennett et al. 1992, doi:10.1007/BF00191318),
photon-number splitting (Brassard et al. 2000, doi:10.1103/PhysRevLett.85.1330; Lutkenhaus 2000,
doi:10.1103/PhysRevA.61.052304) and beam splitting (Bennett et al. 1992).
"""

from dataclasses import dataclass
from math import pi
from typing import Annotated, Literal, Protocol, runtime_checkable

import numpy as np
from pydantic import Field
from scipy.stats import binom

from ..declaration import declared
from .link import Link, Real
from .photons import photon_numbers, pulse_probabilities

ANGLES = (0.0, pi / 2)
"""The two bases as angles on the Bloch sphere: a photon of angle t goes to the right detector of basis s with
probability (1 + cos(t - s)) / 2."""


@dataclass(frozen=True)
class Branch:
    """One thing that may happen to a pulse on its way.

    passing: (N+1, N+1); [n, r] is the probability, given n photons from Alice, that this happens and r photons go on.
    transmittance: of each of the r, from there to a click. angle: of the basis in which Eve measured one photon and in
    which all r leave her with its outcome; None leaves the state as Alice made it. keeps: she holds a photon back until
    the bases are announced, and then knows the bit.
    """

    passing: Real
    transmittance: float
    angle: float | None = None
    keeps: bool = False


@runtime_checkable
class Eavesdropper(Protocol):
    """The declaration of an attack."""

    @property
    def summary(self) -> str:
        """One line for records and reports."""
        ...

    def branches(self, link: Link, photons: int) -> tuple[Branch, ...]:
        """Return all that may happen on `link`, of constant loss, to pulses of up to `photons` photons."""
        ...


def nobody(link: Link, photons: int) -> tuple[Branch, ...]:
    """Return the one branch of a link without Eve: every photon goes on as Alice made it."""
    return (Branch(np.eye(photons + 1), link.transmittance()),)


@declared
class InterceptResend:
    """Eve measures a fraction of the pulses and sends on what she found, with as many photons as she counted.

    So no count changes at any intensity, and only errors betray her: fraction / 4 of the sifted bits without noise.
    basis: "random" measures in either basis with probability 1/2 and knows the bits of those she guessed right;
    "breidbart" measures halfway and is right on every bit with probability cos^2(pi/8) = .854, sure of none. She reads
    one photon of a pulse; a vote among several would serve her better, and photon-number splitting better still.
    """

    fraction: Annotated[float, Field(ge=0, le=1)] = 1.0
    basis: Literal["random", "breidbart"] = "random"

    @property
    def summary(self) -> str:
        """One line for records."""
        how = "random bases" if self.basis == "random" else "the Breidbart basis"
        return f"intercept-resend on {100 * self.fraction:.3g} % of the pulses in {how}"

    def branches(self, link: Link, photons: int) -> tuple[Branch, ...]:
        """Return the pulses left alone, and the measured ones by Eve's basis."""
        angles = ANGLES if self.basis == "random" else (pi / 4,)
        alone, eta = np.eye(photons + 1), link.transmittance()
        measured = (Branch(self.fraction / len(angles) * alone, eta, angle=angle) for angle in angles)
        return (Branch((1 - self.fraction) * alone, eta), *measured)


@declared
class BeamSplitting:
    """Eve replaces the fibre by a beam splitter of the same loss and a lossless fibre, and stores what is split off.

    Bob's counts are exactly those of the undisturbed link, so no test finds her; she knows a bit if a photon came her
    way, with probability 1 - exp(-k (1 - t)) at intensity k and channel transmittance t.
    """

    @property
    def summary(self) -> str:
        """One line for records."""
        return "beam splitting of all that the fibre would have lost"

    def branches(self, link: Link, photons: int) -> tuple[Branch, ...]:
        """Return the pulses of which Eve got none, and those of which she got some."""
        n = np.arange(photons + 1)
        split = binom.pmf(n[None, :], n[:, None], link.channel.transmittance())
        none, efficiency = np.diag(np.diag(split)), link.detectors.efficiency
        return Branch(none, efficiency), Branch(split - none, efficiency, keeps=True)


@declared
class PhotonNumberSplitting:
    """Eve keeps one photon of every pulse of several, and stops those of one so that Bob clicks as often as ever.

    She measures the number without disturbing the state and has a lossless fibre to Bob. On a link with much loss she
    stops all single photons and, if that is not enough, some of the others; on a link with little loss she lets all
    single photons through and splits only some of the rest. Bob's click rate, averaged over the intensities, and his
    error rate stay what they were; only the counts of each intensity do not, which is what decoys are for.
    """

    @property
    def summary(self) -> str:
        """One line for records."""
        return "photon-number splitting at an unchanged click rate"

    def branches(self, link: Link, photons: int) -> tuple[Branch, ...]:
        """Return the pulses stopped, split, and let through on Eve's lossless fibre."""
        stop = np.zeros((photons + 1, photons + 1))
        stop[:, 0] = 1
        single = np.diag((np.arange(photons + 1) <= 1).astype(float))
        several = np.eye(photons + 1) - single
        take_one = np.eye(photons + 1, k=-1) * (np.arange(photons + 1) >= 2)[:, None]
        few = np.arange(photons + 1)[:, None] <= 1

        wanted = _lit(link, np.eye(photons + 1), link.transmittance())
        eta = link.detectors.efficiency
        of_split, of_single, of_several = (_lit(link, passing, eta) for passing in (take_one, single, several))
        if wanted < of_split:  # even the split pulses are too many
            split, through, whole = wanted / of_split, 0.0, 0.0
        elif wanted <= of_split + of_single or of_several == of_split:
            split, through, whole = 1.0, min(1.0, (wanted - of_split) / of_single), 0.0
        else:  # so little loss that some pulses must keep all their photons
            whole = min(1.0, (wanted - of_split - of_single) / (of_several - of_split))
            split, through = 1 - whole, 1.0
        stopped = np.where(few, 1 - through, 1 - split - whole)
        return (
            Branch(stopped * stop, eta),
            Branch(split * take_one, eta, keeps=True),
            Branch(through * single + whole * several, eta),
        )


def _lit(link: Link, passing: Real, transmittance: float) -> float:
    """Return the probability that a pulse brings light to a click, over all intensities."""
    r = np.arange(passing.shape[1])
    seen = passing @ (1 - (1 - transmittance) ** r)
    return float(pulse_probabilities(link.source) @ photon_numbers(link.source, len(r) - 1) @ seen)
