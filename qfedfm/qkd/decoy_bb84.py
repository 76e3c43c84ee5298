"""Decoy-state BB84 with weak coherent pulses: asymptotic key rates, and the finite key from the channel model.

Some pulses hold several photons, and Eve may split one off unseen; only single photons are safe. Sending several
intensities shows how many of the clicks were theirs (Lo, Ma and Chen 2005, doi:10.1103/PhysRevLett.94.230504):
R = q {-Q f h(E) + Y1 mu exp(-mu) [1 - h(e1)]} with Y1 and e1 bounded from the gains alone by `single_photon_bounds`
(Ma et al. 2005, doi:10.1103/PhysRevA.72.012326). `InfiniteDecoyBB84` knows Y1 and e1 exactly, the ceiling for any
number of decoys; `NoDecoyBB84` blames Eve for every multi-photon pulse (Gottesman et al. 2004).
"""

from dataclasses import replace
from math import exp
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field
from scipy.optimize import brentq, minimize, minimize_scalar

from ..declaration import declared
from ..errors import ConfigurationError
from .entropy import Real, binary_entropy
from .finite_key import FiniteKey, finite_length, lim_intensities
from .keys import Source
from .link import Link, PulsedSource
from .protocol import Inefficiency, LinkProtocol, Rate, make_rate, pulsed, secret_fraction, sifted

if TYPE_CHECKING:
    from .simulated import SimulatedSource

Pulsed = TypeVar("Pulsed", bound=LinkProtocol)
Failure = Annotated[float, Field(gt=1e-100, lt=1)]


@declared
class DecoyBB84(LinkProtocol):
    """Decoy-state BB84 with a signal and two decoys; with the second decoy at 0 it is vacuum + weak.

    f_ec: inefficiency of reconciliation. block: sifted bits of the key basis that one finite key is made of. eps_sec,
    eps_cor: with what probability the finite key may be insecure, or differ between the ends.
    """

    f_ec: Inefficiency = 1.16
    block: Annotated[int, Field(ge=1, le=10**12)] = 10**7
    eps_sec: Failure = 1e-10
    eps_cor: Annotated[float, Field(ge=1e-20, lt=1)] = 1e-15
    source: ClassVar[Source] = "qkd-simulated"

    def connect(self) -> "SimulatedSource":
        """Return a source of keys in which every pair of nodes has this link, simulated: see `simulated`."""
        from .simulated import SimulatedSource

        return SimulatedSource(self)

    def __post_init__(self) -> None:
        source = pulsed(self.link, "DecoyBB84")
        if not lim_intensities(source.intensities):
            raise ConfigurationError(
                "DecoyBB84: expected three intensities, the signal above the sum of the two decoys, such as "
                f"PulsedSource(intensities=(0.5, 0.1, 0.0), ...); got {source.intensities}"
            )

    def check(self) -> None:
        """Raise `ConfigurationError` if a block of this protocol cannot be expected to give any key."""
        key = self.finite()
        if not key.length:
            raise ConfigurationError(
                f"DecoyBB84: a block of {self.block} sifted bits gives no key on this link ({key.reason}): take a "
                "larger block, a shorter link, or intensities for the block, as DecoyBB84(...).tuned() finds them"
            )

    def steady(self, link: Link) -> Rate:
        """Return q {-Q f h(E) + Y1 mu exp(-mu) [1 - h(e1)]} of the signal pulses, as if all were signal.

        That is the limit of an endless session in which decoys are needed for a vanishing share of the pulses.
        """
        source = pulsed(link, "DecoyBB84")
        gains, errors = link.gain(source.intensities), link.error_gain(source.intensities)
        _, *single = single_photon_bounds(source.intensities, gains, errors)
        return signal_rate(link, self.f_ec, (single[0], single[1]))

    def optimised(self) -> "DecoyBB84":
        """Return this protocol with the signal intensity of the highest asymptotic rate, decoys as they are."""
        decoys = pulsed(self.link, "DecoyBB84").intensities[1:]
        return with_best_signal(self, decoys, sum(decoys) + 1e-6)

    def tuned(self) -> "DecoyBB84":
        """Return this protocol with the intensities, probabilities and basis choice that make most of one block.

        A small block needs more test bits and decoys than a large one: see `FiniteDecoyBB84.optimised`.
        """
        return FiniteDecoyBB84(self).optimised().protocol

    def pulses(self) -> float:
        """Return how many pulses it takes on average to sift one `block`, N = n_X / (p_x^2 sum p_k R_k)."""
        return self.block / float(self.expected()[0].sum())

    def finite(self) -> FiniteKey:
        """Return the finite key of one block with the counts that the channel model expects; over a pass, of its mean.

        The leak is f h(E) n_X with E over all intensities.
        """
        n_key, m_key, n_test, m_test = self.expected() * self.pulses()
        source = pulsed(self.link, "DecoyBB84")
        leak = self.f_ec * float(binary_entropy(m_key.sum() / n_key.sum())) * float(n_key.sum())
        return finite_length(
            n_key,
            m_key,
            n_test,
            m_test,
            source.intensities,
            source.probabilities,
            leak,
            self.eps_sec,
            self.eps_cor,
        )

    def expected(self) -> Real:
        """Return (4, 3): sifted clicks and errors in the key basis, and both in the test basis, per pulse sent."""
        stretches = [share * _counts_per_pulse(link) for share, link in self.link.moments()]
        return np.asarray(np.sum(stretches, axis=0))


@declared
class FiniteDecoyBB84:
    """The finite key of a `DecoyBB84` as a protocol: secret bits of one block over the pulses that the block takes."""

    protocol: DecoyBB84

    def rate(self) -> Rate:
        """Return length / pulses; gain and QBER are those of all intensities in the key basis."""
        if not self.protocol.expected()[0].sum():
            return Rate(0.0, self.protocol.link.source.repetition_hz, 0.0, 0.5)
        key, pulses = self.protocol.finite(), self.protocol.pulses()
        n, m, *_ = self.protocol.expected()
        p = self.protocol.link.basis_probability
        qber = float(m.sum() / n.sum())
        return Rate(key.length / pulses, self.protocol.link.source.repetition_hz, float(n.sum()) / p**2, qber)

    def at(self, km: float) -> "FiniteDecoyBB84":
        """Return the same over `km` of the same fibre."""
        return FiniteDecoyBB84(self.protocol.at(km))

    def transmittance(self) -> float:
        """Return that of the channel alone."""
        return self.protocol.transmittance()

    def optimised(self) -> "FiniteDecoyBB84":
        """Return the protocol with intensities, probabilities and basis probability that give the most bits per pulse.

        The lowest intensity stays as it is, being what the modulator's extinction allows. Nelder-Mead from where the
        protocol stands, so the maximum is a local one, and never worse than the start.
        """
        protocol = self.protocol
        source = pulsed(protocol.link, "DecoyBB84")
        lowest = source.intensities[2]

        def candidate(x: Real) -> DecoyBB84:
            signal, weak, first, second, basis = 1 / (1 + np.exp(-x))
            weak_mu = lowest + weak * (1 - lowest)
            mu = (weak_mu + lowest + signal * (1.5 - weak_mu), weak_mu, lowest)
            p = (first, (1 - first) * second, (1 - first) * (1 - second))
            light = PulsedSource(tuple(map(float, mu)), tuple(map(float, p)), source.repetition_hz)
            return replace(protocol, link=replace(protocol.link, source=light, basis_probability=float(basis)))

        def loss(x: Real) -> float:
            tried = candidate(np.clip(x, -12, 12))
            return -tried.finite().surplus / tried.pulses()

        mu, p = source.intensities, source.probabilities
        start = np.array(
            [
                (mu[0] - mu[1] - lowest) / (1.5 - mu[1]),
                (mu[1] - lowest) / (1 - lowest),
                p[0],
                p[1] / (1 - p[0]),
                protocol.link.basis_probability,
            ]
        )
        start = np.clip(start, 1e-4, 1 - 1e-4)
        found = minimize(loss, np.log(start / (1 - start)), method="Nelder-Mead", options={"maxiter": 2000})
        best = candidate(np.clip(found.x, -12, 12))
        better = FiniteDecoyBB84(best)
        return better if better.rate().bits_per_pulse > self.rate().bits_per_pulse else self


@declared
class InfiniteDecoyBB84(LinkProtocol):
    """The limit of infinitely many decoys, which reveal Y1 and e1 exactly; of the source only the signal is used."""

    f_ec: Inefficiency = 1.16

    def __post_init__(self) -> None:
        pulsed(self.link, "InfiniteDecoyBB84")

    def steady(self, link: Link) -> Rate:
        """Return the rate with the link's own Y1 and e1."""
        y1 = float(link.photon_yield(1))
        return signal_rate(link, self.f_ec, (y1, float(link.photon_error(1)) / y1 if y1 else 0.5))

    def optimised(self) -> "InfiniteDecoyBB84":
        """Return this protocol with the best signal intensity."""
        return with_best_signal(self, (), 1e-6)


@declared
class NoDecoyBB84(LinkProtocol):
    """Weak coherent pulses without decoys (Gottesman et al. 2004, arXiv:quant-ph/0212066): all the errors and as many
    of the clicks as there are multi-photon pulses are laid to the pulses that Eve could split.

    R = q {-Q f h(E) + (Q - P) [1 - h(E Q / (Q - P))]} with P = 1 - exp(-mu) (1 + mu).
    """

    f_ec: Inefficiency = 1.16

    def __post_init__(self) -> None:
        pulsed(self.link, "NoDecoyBB84")

    def steady(self, link: Link) -> Rate:
        """Return the rate; nothing where multi-photon pulses alone could have made all the clicks."""
        mu = pulsed(link, "NoDecoyBB84").intensities[0]
        tagged = 1 - exp(-mu) * (1 + mu)
        safe = float(link.gain(mu)) - tagged
        y1 = max(0.0, safe / (mu * exp(-mu)))
        return signal_rate(link, self.f_ec, (y1, min(0.5, float(link.error_gain(mu)) / safe) if safe > 0 else 0.5))

    def optimised(self) -> "NoDecoyBB84":
        """Return this protocol with the best signal intensity."""
        return with_best_signal(self, (), 1e-6)


def single_photon_bounds(
    intensities: ArrayLike, gains: ArrayLike, error_gains: ArrayLike
) -> tuple[float, float, float]:
    """Return (Y0 at least, Y1 at least, e1 at most) from the gains of a signal and two decoys, each (3,).

    Ma et al. 2005, equations 18, 21 and 25, with mu > nu1 + nu2 and nu1 > nu2 >= 0:
    Y0 >= (nu1 Q2 e^nu2 - nu2 Q1 e^nu1) / (nu1 - nu2),
    Y1 >= mu / (mu nu1 - mu nu2 - nu1^2 + nu2^2) [Q1 e^nu1 - Q2 e^nu2 - (nu1^2 - nu2^2) / mu^2 (Q_mu e^mu - Y0)],
    e1 <= (E1 Q1 e^nu1 - E2 Q2 e^nu2) / ((nu1 - nu2) Y1).
    Y0 and Y1 are clipped to 0 from below; e1 is 1/2 at most, and where nothing is known of Y1.
    """
    mu, nu1, nu2 = np.asarray(intensities, dtype=float)
    q, q1, q2 = np.asarray(gains, dtype=float) * np.exp([mu, nu1, nu2])
    _, wrong1, wrong2 = np.asarray(error_gains, dtype=float) * np.exp([mu, nu1, nu2])
    y0 = max(0.0, float((nu1 * q2 - nu2 * q1) / (nu1 - nu2)))
    several = (nu1**2 - nu2**2) / mu**2 * (q - y0)
    y1 = max(0.0, float(mu / (mu * (nu1 - nu2) - nu1**2 + nu2**2) * (q1 - q2 - several)))
    if y1 == 0:
        return y0, 0.0, 0.5
    return y0, y1, min(0.5, max(0.0, float((wrong1 - wrong2) / ((nu1 - nu2) * y1))))


def signal_rate(link: Link, f_ec: float, single: tuple[float, float]) -> Rate:
    """Return q {-Q f h(E) + Y1 mu exp(-mu) [1 - h(e1)]} for the signal of the link; single: Y1 and e1."""
    mu = pulsed(link, "decoy-state BB84").intensities[0]
    gain, y1 = float(link.gain(mu)), single[0]
    qber = float(link.error_gain(mu)) / gain if gain else 0.5
    bits = y1 * mu * exp(-mu) * secret_fraction(0, single[1], 1) - gain * f_ec * float(binary_entropy(qber))
    return make_rate(link, gain, sifted(link), gain, qber, bits, single)


def best_signal(f_ec: float, misalignment: float) -> float:
    """Return the mu of the highest rate where loss is large and darkness is not: (1 - mu) e^-mu = f h(e) / (1 - h(e)).

    Ma et al. 2005, equation 12; 0 where the misalignment e leaves no key.
    """
    h = float(binary_entropy(misalignment))
    target = f_ec * h / (1 - h) if h < 1 else 1.0
    if target >= 1:
        return 0.0
    return float(brentq(lambda mu: (1 - mu) * exp(-mu) - target, 0, 1))


def with_best_signal(protocol: Pulsed, decoys: tuple[float, ...], lowest: float) -> Pulsed:
    """Return `protocol` with `decoys` and the best signal in (lowest, 2); as it is where none gives key."""
    source = pulsed(protocol.link, "decoy-state BB84")
    probabilities = source.probabilities if decoys else (1.0,)

    def candidate(mu: float) -> Pulsed:
        light = PulsedSource((mu, *decoys), probabilities, source.repetition_hz)
        return replace(protocol, link=replace(protocol.link, source=light))

    def loss(mu: float) -> float:
        return -candidate(float(mu)).rate().bits_per_pulse

    grid = np.geomspace(lowest, 2, 60)[1:]
    best = int(np.argmin([loss(mu) for mu in grid]))
    around = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, len(grid) - 1)])
    mu = float(minimize_scalar(loss, bounds=around, method="bounded", options={"xatol": 1e-7}).x)
    better = candidate(mu)
    return better if better.rate().bits_per_pulse > protocol.rate().bits_per_pulse else protocol


def _counts_per_pulse(link: Link) -> Real:
    """Return (4, 3): probabilities per pulse sent of a sifted click and of an error, by intensity, in either basis."""
    source, p = pulsed(link, "DecoyBB84"), link.basis_probability
    share = np.array(source.probabilities)
    clicks, errors = share * link.gain(source.intensities), share * link.error_gain(source.intensities)
    live = link.live(float(clicks.sum()))
    return live * np.stack([p**2 * clicks, p**2 * errors, (1 - p) ** 2 * clicks, (1 - p) ** 2 * errors])
