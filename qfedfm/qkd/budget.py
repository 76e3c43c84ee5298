"""The key budget: how many federated rounds an hour a quantum link can protect, and what would change that.

A round costs each client's link one key for the model and one for the update: 256 bits each under authenticated
encryption, eight times the payload's bytes and 256 more under a one-time pad. The link makes key in blocks: the finite
length of a block (Lim et al. 2014, see `finite_key`) less the 512 bits that authentication takes, over the time that
sending it takes. Post-processing and round-trip times are not in it. All of it is computed from the model of the link,
nothing is simulated; every client has a link of its own, so the number of clients does not matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ConfigurationError
from .authentication import SESSION_BITS
from .decoy_bb84 import DecoyBB84
from .link import Fibre, Link

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

AEAD_BITS = 256
TAG_BITS = 256
SIZES = {"24 angles": 4 * 24, "MiniLM head, 384 features": 4 * 2 * 385, "22 million parameters": 4 * 22_000_000}
"""Updates to compare with, in bytes: a quantum head's angles, a linear head, a whole small language model; float32."""


class _Suite(Protocol):
    suite: ClassVar[str]

    def key_bits(self, payload_length: int) -> int: ...


class NeedsKeys(Protocol):
    """What the budget asks of an experiment."""

    @property
    def seal(self) -> _Suite:
        """The suite, which knows what a message takes."""
        ...

    def payload_bytes(self) -> dict[str, int]:
        """Return the bytes of one client's messages of one round, by purpose."""
        ...


@dataclass(frozen=True)
class KeyBudget:
    """What one client's link has to give in a round, and gives in an hour.

    suite: of the seal. payload: bytes by purpose. key_bits: per round by purpose. rate: secret bits per second, all
    costs of a block counted. first_key: seconds until the first block is sent. alternatives: what could be changed,
    with the rounds an hour that would then be possible.
    """

    suite: str
    payload: dict[str, int]
    key_bits: dict[str, int]
    rate: float
    first_key: float
    alternatives: dict[str, float]
    protocol: DecoyBB84

    @property
    def bits_per_round(self) -> int:
        """Key bits that a round takes from one client's link."""
        return sum(self.key_bits.values())

    @property
    def rounds_per_hour(self) -> float:
        """Rounds that the link can protect in an hour, in the long run."""
        return 3600 * self.rate / self.bits_per_round

    def to_frame(self) -> "pd.DataFrame":
        """Return one row for what is, and one for each alternative: what, rounds an hour."""
        import pandas as pd

        rows = {"as declared": self.rounds_per_hour, **self.alternatives}
        return pd.DataFrame({"what": list(rows), "rounds per hour": list(rows.values())})

    def plot(self, km: ArrayLike | None = None, ax: "Axes | None" = None) -> "Axes":
        """Plot rounds an hour against distance for this experiment's messages and for `SIZES`; return the axes."""
        down, up = self.payload["model"], self.payload["update"]
        own = {f"this experiment, {down} + {up} bytes": (down, up)}
        others = {name: (size, size) for name, size in SIZES.items()}
        return plot_rounds(self.protocol, own | others, np.linspace(0, 200, 81) if km is None else km, ax)

    def __str__(self) -> str:
        purposes = ", ".join(f"{bits} for the {purpose}" for purpose, bits in self.key_bits.items())
        lines = [
            f"{self.bits_per_round} key bits a round and client ({purposes}) under {self.suite}",
            f"{self.rate:.4g} secret bits a second; the first key after {self.first_key:.3g} s of sending",
            f"{self.rounds_per_hour:.4g} rounds an hour",
            *(f"  {what}: {rounds:.4g} rounds an hour" for what, rounds in self.alternatives.items()),
            "computed from a model of the link; simulated keys protect nothing in the real world",
        ]
        return "\n".join(lines)


def budget(experiment: NeedsKeys, link: Link | DecoyBB84) -> KeyBudget:
    """Return the key budget of an experiment whose clients each have `link`, or run this protocol, to the server.

    Raises `ConfigurationError` for a link that the protocol cannot run on.
    """
    protocol = link if isinstance(link, DecoyBB84) else DecoyBB84(link)
    payload = experiment.payload_bytes()
    bits = {purpose: experiment.seal.key_bits(size) for purpose, size in payload.items()}
    rate, total = key_rate(protocol), sum(bits.values())

    def rounds(key_bits: float, bits_per_second: float = rate) -> float:
        return 3600 * bits_per_second / key_bits

    alternatives = {}
    if total > AEAD_BITS * len(bits):
        alternatives["authenticated encryption in place of the pad"] = rounds(AEAD_BITS * len(bits))
        for factor in (4, 16):
            smaller = sum(experiment.seal.key_bits(size // factor) for size in payload.values())
            alternatives[f"updates {factor} times smaller, by a codec or a smaller head"] = rounds(smaller)
    if isinstance(protocol.link.channel, Fibre) and protocol.link.channel.km > 0:
        half = protocol.link.channel.km / 2
        alternatives[f"{half:g} km of fibre"] = rounds(total, key_rate(protocol.at(half)))
    return KeyBudget(experiment.seal.suite, payload, bits, rate, seconds(protocol), alternatives, protocol)


def seconds(protocol: DecoyBB84) -> float:
    """Return how long it takes to send one block."""
    return protocol.pulses() / protocol.link.source.repetition_hz


def key_rate(protocol: DecoyBB84) -> float:
    """Return secret bits per second in the long run: a block's finite length less authentication, over its time."""
    return max(0, protocol.finite().length - SESSION_BITS) / seconds(protocol)


def plot_rounds(
    protocol: DecoyBB84, messages: Mapping[str, tuple[int, int]], km: ArrayLike, ax: "Axes | None" = None
) -> "Axes":
    """Plot secure rounds an hour against fibre length; messages: name to payload bytes (down, up) of a round.

    A one-time pad is drawn solid, one line a name; authenticated encryption dashed and once, for size is nothing to it.
    """
    if not isinstance(protocol.link.channel, Fibre):
        raise ConfigurationError("rounds against distance need a link over a Fibre; a satellite pass has no length")
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(6.4, 4.0), layout="constrained")[1]
    distance = np.asarray(km, dtype=float)
    rates = np.array([key_rate(protocol.at(float(d))) for d in distance])
    rates[rates == 0] = np.nan
    ax.plot(distance, 3600 * rates / (2 * AEAD_BITS), "--", color="#555555", label="AES-256-GCM, messages of any size")
    for name, (down, up) in messages.items():
        ax.plot(distance, 3600 * rates / (8 * (down + up) + 2 * TAG_BITS), label=f"one-time pad, {name}")
    ax.set_yscale("log")
    ax.set_xlabel("fibre, km")
    ax.set_ylabel("rounds an hour and client")
    ax.legend(frameon=False, fontsize=8)
    return ax
