"""A quantum link: channel, source, detectors and basis choice, and what they make Bob count.

Everything that theory and simulation share about the hardware is here, so that neither has a channel model of its own.
The model is that of Lim et al. 2014 (doi:10.1103/PhysRevA.89.022307, section IV), which is Ma et al. 2005
(doi:10.1103/PhysRevA.72.012326) with after-pulses: of n photons each arrives with probability eta, a click of light is
wrong with probability e_mis, one of darkness or of an after-pulse with probability 1/2. Darkness adds p_dc to the
errors whether or not light came too, which is too many by p_dc times the signal: on the safe side, and far below any
statistics. Bob has two detectors a basis, gated once a pulse; a click blinds both of them for the dead time.

Bases: 0 makes the key (Lim's X) and 1 tests it (Lim's Z). All numbers describe simulated hardware.
"""

from dataclasses import replace
from itertools import pairwise
from math import floor
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from ..declaration import declared
from ..errors import ConfigurationError

Real = NDArray[np.float64]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]


@declared
class PulsedSource:
    """Phase-randomised weak coherent pulses: intensity k is sent with probability p_k and has Poisson(k) photons.

    intensities: mean photon numbers, strictly falling; the first is the signal, the others are decoys. One alone is a
    source without decoys. probabilities: as many, above zero, with sum 1.
    """

    intensities: tuple[NotNegative, ...] = (0.5, 0.15, 0.0)
    probabilities: tuple[Positive, ...] = (0.6, 0.25, 0.15)
    repetition_hz: Positive = 1e9

    def __post_init__(self) -> None:
        mu, p = self.intensities, self.probabilities
        if not mu or mu[0] == 0 or any(low >= high for high, low in pairwise(mu)):
            raise ConfigurationError(
                f"PulsedSource.intensities: expected mean photon numbers that fall strictly from a signal above zero; "
                f"got {mu}"
            )
        if len(p) != len(mu) or abs(sum(p) - 1) > 1e-9:
            raise ConfigurationError(
                f"PulsedSource.probabilities: expected {len(mu)} numbers with sum 1, one for each intensity; got {p}"
            )


@declared
class SinglePhotons:
    """An ideal source: exactly one photon in every pulse."""

    repetition_hz: Positive = 1e9


@declared
class Detectors:
    """Bob's two threshold detectors.

    efficiency: detected share of the photons that reach Bob, his optics included. dark_count: probability per gate and
    detector (so Y0 is twice it). dead_time: seconds after a click in which neither detector clicks. after_pulsing:
    probability that a click causes another. misalignment: probability that light clicks in the wrong detector (e_det).
    """

    efficiency: Annotated[float, Field(gt=0, le=1)]
    dark_count: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    dead_time: NotNegative = 0.0
    after_pulsing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    misalignment: Annotated[float, Field(ge=0, le=0.5)] = 0.0

    def __post_init__(self) -> None:
        if self.misalignment + self.dark_count > 0.5:
            raise ConfigurationError(
                "Detectors: misalignment + dark_count is the error of detectors that always click, at most 0.5; "
                f"got {self.misalignment} + {self.dark_count}"
            )


@declared
class Fibre:
    """A fibre of fixed length: loss = db_per_km km + fixed_db, in dB."""

    km: NotNegative
    db_per_km: NotNegative = 0.2
    fixed_db: NotNegative = 0.0

    def transmittance(self) -> float:
        """Return 10^(-loss / 10)."""
        return float(10 ** (-(self.db_per_km * self.km + self.fixed_db) / 10))


@declared
class SatellitePass:
    """A loss that changes with time: profile holds (seconds, dB) for one stretch of the pass after another."""

    profile: tuple[tuple[Positive, NotNegative], ...]

    def __post_init__(self) -> None:
        if not self.profile:
            raise ConfigurationError("SatellitePass.profile: expected at least one (seconds, dB); got none")

    @property
    def seconds(self) -> float:
        """The length of the pass."""
        return sum(seconds for seconds, _ in self.profile)

    def transmittance(self) -> float:
        """Return the mean over time; rates are not linear in it and average over `Link.moments` instead."""
        return float(sum(seconds * 10 ** (-db / 10) for seconds, db in self.profile) / self.seconds)


@declared
class Link:
    """Everything between Alice's random bits and Bob's clicks.

    basis_probability: of choosing basis 0, the key basis; both parties choose it alike.
    """

    channel: Fibre | SatellitePass
    detectors: Detectors
    source: PulsedSource | SinglePhotons = PulsedSource()
    basis_probability: Annotated[float, Field(gt=0, lt=1)] = 0.5

    def transmittance(self) -> float:
        """Return eta, channel times detector efficiency; over a pass, its mean."""
        return self.channel.transmittance() * self.detectors.efficiency

    def at(self, km: float) -> "Link":
        """Return this link over `km` of the same fibre; a pass has no length to change: `ConfigurationError`."""
        if isinstance(self.channel, SatellitePass):
            raise ConfigurationError("a satellite pass has no fibre length to change: give a profile of another loss")
        return replace(self, channel=replace(self.channel, km=km))

    def moments(self) -> tuple[tuple[float, "Link"], ...]:
        """Return (share of the time, link of constant loss) for each stretch; a fibre is one stretch."""
        if isinstance(self.channel, Fibre):
            return ((1.0, self),)
        total = self.channel.seconds
        return tuple(
            (seconds / total, replace(self, channel=Fibre(km=0.0, fixed_db=db))) for seconds, db in self.channel.profile
        )

    def gain(self, intensity: ArrayLike) -> Real:
        """Return the click probability per gate, R_k = D_k (1 + p_ap) with D_k = 1 - (1 - 2 p_dc) exp(-eta k).

        intensity: mean photon numbers k, any shape; the result has the same. Dead time is not in it.
        """
        return self._clicks(np.exp(-self._eta() * np.asarray(intensity, dtype=float)))

    def error_gain(self, intensity: ArrayLike) -> Real:
        """Return the probability of a wrong click, p_dc + e_mis (1 - exp(-eta k)) + p_ap D_k / 2; bases agree."""
        return self._errors(np.exp(-self._eta() * np.asarray(intensity, dtype=float)))

    def photon_yield(self, photons: ArrayLike) -> Real:
        """Return Y_n, the click probability given n photons; its Poisson mean over n is `gain`."""
        return self._clicks((1 - self._eta()) ** np.asarray(photons, dtype=float))

    def photon_error(self, photons: ArrayLike) -> Real:
        """Return e_n Y_n, the probability of a wrong click given n photons; its Poisson mean over n is `error_gain`."""
        return self._errors((1 - self._eta()) ** np.asarray(photons, dtype=float))

    @property
    def dead_gates(self) -> int:
        """How many gates after a click are blind: those that open within the dead time."""
        return floor(round(self.detectors.dead_time * self.source.repetition_hz, 6))

    def live(self, clicks: float) -> float:
        """Return the share of gates that are not blind, 1 / (1 + clicks dead_gates); clicks: probability per gate."""
        return 1 / (1 + clicks * self.dead_gates)

    def _eta(self) -> float:
        if isinstance(self.channel, SatellitePass):
            raise ConfigurationError("clicks over a satellite pass: ask each link of moments(), whose loss is constant")
        return self.transmittance()

    def _clicks(self, lost: Real) -> Real:
        """Return the click probability from that of losing all photons."""
        return np.asarray((1 - (1 - 2 * self.detectors.dark_count) * lost) * (1 + self.detectors.after_pulsing))

    def _errors(self, lost: Real) -> Real:
        d = self.detectors
        dark_or_light = 1 - (1 - 2 * d.dark_count) * lost
        return np.asarray(d.dark_count + d.misalignment * (1 - lost) + d.after_pulsing * dark_or_light / 2)


def gys(km: float) -> Link:
    """Return the link of Gobby, Yuan and Shields 2004 (doi:10.1063/1.1738173), as Ma et al. 2005 read it.

    .21 dB/km, Bob's efficiency .045 with his optics, Y0 1.7e-6, e_det .033, 2 MHz; signal .48 and decoys .05 and 0 are
    the theory's, as is the even choice of bases; after-pulsing and dead time are not given and taken as none.
    """
    return Link(
        channel=Fibre(km=km, db_per_km=0.21),
        detectors=Detectors(efficiency=0.045, dark_count=0.85e-6, misalignment=0.033),
        source=PulsedSource(intensities=(0.48, 0.05, 0.0), probabilities=(0.8, 0.1, 0.1), repetition_hz=2e6),
    )


def lim(km: float) -> Link:
    """Return the link that Lim et al. 2014 (doi:10.1103/PhysRevA.89.022307) compute with: InGaAs diodes, .2 dB/km."""
    return Link(
        channel=Fibre(km=km),
        detectors=Detectors(efficiency=0.1, dark_count=6e-7, after_pulsing=0.04, misalignment=0.005),
        source=PulsedSource(intensities=(0.5, 0.15, 2e-4), probabilities=(0.6, 0.25, 0.15)),
        basis_probability=0.85,
    )


def metro(km: float) -> Link:
    """Return a modern city link with superconducting detectors, after Grunenfelder et al. 2023
    (doi:10.1038/s41566-023-01168-2), who reached 64 Mbit/s over 10.0 km and 3.0 Mbit/s over 102.4 km at 2.5 GHz.

    Round numbers, not a fit: only the 2.5 GHz are theirs, and the asymptotic rate is 63 and 2.2 Mbit/s. .2 dB/km, Bob's
    efficiency .6 with his optics, 1e-7 dark counts a gate, 1 % misalignment, key basis 90 %. Their many-pixel detector
    is blind in parts; here a click blinds all for 4 ns.
    """
    return Link(
        channel=Fibre(km=km),
        detectors=Detectors(efficiency=0.6, dark_count=1e-7, dead_time=4e-9, misalignment=0.01),
        source=PulsedSource(intensities=(0.5, 0.2, 0.0), probabilities=(0.7, 0.2, 0.1), repetition_hz=2.5e9),
        basis_probability=0.9,
    )


def satellite() -> Link:
    """Return a pass of a low satellite over one ground station, after Liao et al. 2017 (doi:10.1038/nature23655).

    Theirs: 273 s from 1200 km to 645 km and back, about 36 to 29 dB, 100 MHz, intensities .8, .1 and 0 with 1/2, 1/4
    and 1/4, detectors of 50 %, even bases; they sifted 1.67 Mbit at 1.1 % errors and kept 301 kbit. Approximate here:
    the range is that of a straight line flown at constant speed, the loss in dB runs with the logarithm of the range
    between the two ends, in 13 steps of 21 s, and 250 Hz of darkness and background in a 2 ns gate and .8 %
    misalignment are round numbers. Bob's optics are in the loss. The model sifts 1.98 Mbit of signal at .97 % errors,
    of which the key basis, half of it, gives a finite key of 185 kbit at f_EC 1.4.
    """
    nearest, farthest, steps, duration = 645.0, 1200.0, 13, 273.0
    along = np.linspace(-1, 1, 2 * steps + 1)[1::2]  # the middle of each step, the ends of the pass being at -1 and 1
    distance = np.sqrt(nearest**2 + along**2 * (farthest**2 - nearest**2))
    loss = 29 + 7 * np.log(distance / nearest) / np.log(farthest / nearest)
    return Link(
        channel=SatellitePass(tuple((duration / steps, float(db)) for db in loss)),
        detectors=Detectors(efficiency=0.5, dark_count=5e-7, misalignment=0.008),
        source=PulsedSource(intensities=(0.8, 0.1, 0.0), probabilities=(0.5, 0.25, 0.25), repetition_hz=1e8),
    )


def textbook() -> Link:
    """Return a lossless, noiseless link with exactly one photon a pulse and even bases: BB84 as taught."""
    return Link(channel=Fibre(km=0.0), detectors=Detectors(efficiency=1.0), source=SinglePhotons())
