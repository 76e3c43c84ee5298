"""What a QKD session came to: its key, if any, and a ledger of all its bits."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .authentication import SESSION_BITS, Security
from .channel import Traffic
from .entropy import binary_entropy
from .estimation import ErrorRate
from .finite_key import FiniteKey

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Bits = NDArray[np.uint8]


@dataclass(frozen=True)
class Ledger:
    """Where the bits went; all in bits but `pulses`, and nothing in it is an estimate.

    raw: clicks. sifted: those with equal bases, of which sample were the test basis, made public. dropped: key-basis
    bits of frames that failed. reconciled: the rest, sifted - sample - dropped. leaked: parities told of the reconciled
    bits. verification: tags told of them. secret: what privacy amplification left of them, 0 in a session that was
    given up. tags: secret bits that authentication took, in any case.
    """

    pulses: int
    raw: int = 0
    sifted: int = 0
    sample: int = 0
    dropped: int = 0
    reconciled: int = 0
    leaked: int = 0
    verification: int = 0
    secret: int = 0
    tags: int = SESSION_BITS

    @property
    def amplification(self) -> int:
        """The bits that privacy amplification took away: reconciled - secret; 0 where it was not reached."""
        return self.reconciled - self.secret if self.secret else 0

    @property
    def net(self) -> int:
        """What the session gained, secret - tags: below zero where it took more key than it made."""
        return self.secret - self.tags

    @property
    def delivered(self) -> int:
        """Key bits to use, once the pool has what it lent: max(0, net)."""
        return max(0, self.net)


@dataclass(frozen=True, eq=False)
class Session:
    """What a session came to.

    key_alice, key_bob: (delivered,) bits as either party holds them, in 0 and 1; they differ with probability eps_cor.
    aborted: why the session was given up, or None. finite: how the secret length follows from the counts (None if it
    did not come to that). qber_key: of the reconciled bits, exactly, as Bob corrected them; qber_test: of the test
    basis, where it came to that. frames, frames_failed: of reconciliation. messages, rounds (round trips), bits_alice,
    bits_bob: what was said over the public channel and by whom; traffic: the same by stage. seconds: of sending
    pulses. security: what authentication rests on.
    """

    ledger: Ledger
    key_alice: Bits = field(repr=False)
    key_bob: Bits = field(repr=False)
    aborted: str | None
    finite: FiniteKey | None
    qber_key: ErrorRate | None
    qber_test: ErrorRate | None
    frames: int
    frames_failed: int
    messages: int
    rounds: int
    bits_alice: int
    bits_bob: int
    traffic: tuple[Traffic, ...] = field(repr=False)
    seconds: float
    security: Security

    @property
    def f_ec(self) -> float | None:
        """Parities told over n h(QBER) of the reconciled bits, with the QBER that was seen; None without errors."""
        if self.qber_key is None or not self.qber_key.errors:
            return None
        return self.ledger.leaked / (self.qber_key.bits * float(binary_entropy(self.qber_key.value)))

    def to_frame(self) -> "pd.DataFrame":
        """Return the ledger as one row a quantity, in the order in which bits came and went."""
        import pandas as pd

        names = {
            "pulses": "pulses sent", "raw": "clicks", "sifted": "sifted", "sample": "spent on estimation",
            "dropped": "dropped with failed frames", "reconciled": "reconciled", "leaked": "leaked in reconciliation",
            "verification": "leaked in verification", "amplification": "taken by amplification", "secret": "secret",
            "tags": "spent on authentication", "net": "net", "delivered": "delivered",
        }  # fmt: skip
        rows = [(what, getattr(self.ledger, name)) for name, what in names.items()]
        return pd.DataFrame(rows, columns=["what", "bits"])

    def plot_ledger(self, ax: "Axes | None" = None) -> "Axes":
        """Draw where the bits went, from clicks to delivered key, as a waterfall; return the axes."""
        from .session_plots import plot_ledger

        return plot_ledger(self, ax)

    def plot_sequence(self, ax: "Axes | None" = None) -> "Axes":
        """Draw who said how much in which stage, Alice's line on the left and Bob's on the right; return the axes."""
        from .session_plots import plot_sequence

        return plot_sequence(self, ax)

    def latency(self, round_trip_seconds: float) -> float:
        """Return the seconds that messages spend on their way if each round trip takes `round_trip_seconds`."""
        return self.rounds * round_trip_seconds

    def __str__(self) -> str:
        ledger = self.ledger
        if self.aborted is not None:
            return f"given up, no key, {ledger.tags} bits of the pool spent: {self.aborted}"
        if ledger.net <= 0:
            return (
                f"no key to use: the session made {ledger.secret} secret bits and authentication took {ledger.tags}, "
                f"a net of {ledger.net}; send more pulses a session"
            )
        return f"{ledger.delivered} bits of key from {ledger.pulses} pulses in {self.seconds:.3g} s of sending"
