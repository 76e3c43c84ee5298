"""What every QKD protocol offers as a value: its key rate, and itself at another distance.

A protocol is a declaration. Those that send light through a `Link` derive from `LinkProtocol` and say only what their
rate is over a link of constant loss; a satellite pass is averaged over time here, once for all of them.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Annotated, Protocol, Self

from pydantic import Field

from ..declaration import declared
from ..errors import ConfigurationError
from .entropy import binary_entropy
from .link import Link, PulsedSource

Inefficiency = Annotated[float, Field(ge=1, le=10)]
"""f_EC, bits told per bit of h(QBER) in reconciliation; 1 is Shannon's limit."""


@dataclass(frozen=True)
class Rate:
    """A key rate and what it was computed from.

    bits_per_pulse: secret bits per pulse sent, sifting and dead time counted, never below 0. gain: clicks per pulse
    sent. qber: of the sifted key. single_yield, single_error: the single photon's Y1 and e1 that went into the rate
    (bounds, where the protocol bounds them; None where they have no meaning, as over a pass of changing loss).
    """

    bits_per_pulse: float
    repetition_hz: float
    gain: float
    qber: float
    single_yield: float | None = None
    single_error: float | None = None

    @property
    def bits_per_second(self) -> float:
        """Secret bits per second of sending."""
        return self.bits_per_pulse * self.repetition_hz


class QkdProtocol(Protocol):
    """What rate curves and key budgets ask of a protocol."""

    def rate(self) -> Rate:
        """Return the key rate."""
        ...

    def at(self, km: float) -> Self:
        """Return the same protocol over `km` of the same fibre."""
        ...

    def transmittance(self) -> float:
        """Return that of the channel alone, without detectors: what the PLOB bound is of."""
        ...


@declared
class LinkProtocol(ABC):
    """A protocol over a `Link`."""

    link: Link

    def rate(self) -> Rate:
        """Return the key rate; over a satellite pass, its mean over time with the QBER of all clicks together."""
        stretches = [(share, self.steady(link)) for share, link in self.link.moments()]
        if len(stretches) == 1:
            return stretches[0][1]
        gain = sum(share * rate.gain for share, rate in stretches)
        errors = sum(share * rate.gain * rate.qber for share, rate in stretches)
        bits = sum(share * rate.bits_per_pulse for share, rate in stretches)
        return Rate(bits, self.link.source.repetition_hz, gain, errors / gain if gain else 0.5)

    def at(self, km: float) -> Self:
        """Return the same protocol over `km` of the same fibre."""
        return replace(self, link=self.link.at(km))

    def transmittance(self) -> float:
        """Return that of the channel alone, without detectors; over a pass, its mean."""
        return self.link.channel.transmittance()

    @abstractmethod
    def steady(self, link: Link) -> Rate:
        """Return the rate over `link`, whose loss is constant."""


def make_rate(
    link: Link, clicks: float, sifting: float, gain: float, qber: float, bits: float, single: tuple[float, float]
) -> Rate:
    """Return `sifting` x `bits` as a `Rate` of `link` in which dead time takes its share and nothing is below zero.

    clicks: per live gate over all that is sent, which is what blinds the detectors. gain: per live gate of the pulses
    that make the key. bits: secret bits per pulse of a live gate and before sifting. single: Y1 and e1.
    """
    live = link.live(clicks)
    return Rate(max(0.0, live * sifting * bits), link.source.repetition_hz, live * gain, qber, *single)


def sifted(link: Link) -> float:
    """Return the share of pulses in which both parties chose the same of two bases, p^2 + (1 - p)^2.

    Without limit on the block, both bases make key: each is estimated from a vanishing part of the other.
    """
    p = link.basis_probability
    return p**2 + (1 - p) ** 2


def secret_fraction(qber: float, phase_error: float, f_ec: float) -> float:
    """Return 1 - h(phase_error) - f_ec h(qber), bits per sifted bit of single photons (Shor and Preskill 2000,
    doi:10.1103/PhysRevLett.85.441); may be negative.
    """
    return float(1 - binary_entropy(min(phase_error, 0.5)) - f_ec * binary_entropy(min(qber, 0.5)))


def pulsed(link: Link, protocol: str) -> PulsedSource:
    """Return the link's source if it is pulsed; else raise `ConfigurationError` that names the protocol."""
    if not isinstance(link.source, PulsedSource):
        raise ConfigurationError(
            f"{protocol} is for weak coherent pulses: expected a link with source=PulsedSource(...), "
            f"got {type(link.source).__name__}"
        )
    return link.source
