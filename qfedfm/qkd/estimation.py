"""Parameter estimation: the test basis is made public, and Alice counts clicks and errors of each intensity.

All bits of the test basis are spent on it. None of the key basis are: what reconciliation finds there is the error rate
of the key, exactly, and how much it had to tell is known by count. Alice alone needs the counts by intensity, since she
computes the length of the key.
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from ..errors import ProtocolAbort
from .channel import Party, receive_exactly
from .sifting import SiftedAlice, SiftedBob

Counts = NDArray[np.int64]

ERRORS = struct.Struct("<Q")


@dataclass(frozen=True)
class ErrorRate:
    """A share of wrong bits with the exact interval of Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404.

    The interval covers the rate with which such bits are wrong with probability `confidence` or more.
    """

    errors: int
    bits: int
    confidence: float = 0.95

    @property
    def value(self) -> float:
        """The share, errors / bits; NaN without bits."""
        return self.errors / self.bits if self.bits else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """The quantiles of Beta(errors, bits - errors + 1) and Beta(errors + 1, bits - errors)."""
        tail, right = (1 - self.confidence) / 2, self.bits - self.errors
        low = float(betaincinv(self.errors, right + 1, tail)) if self.errors else 0.0
        high = float(betaincinv(self.errors + 1, right, 1 - tail)) if right else 1.0
        return low, high


@dataclass(frozen=True, eq=False)
class Estimate:
    """What Alice counted, (K,) each: clicks of the key basis, clicks and errors of the test basis."""

    n_key: Counts
    n_test: Counts
    m_test: Counts


def estimate_alice(sifted: SiftedAlice, intensities: int) -> Party[Estimate]:
    """Compare Bob's bits of the test basis with hers and tell him the number of errors."""
    message = yield from receive_exactly(-(-len(sifted.test) // 8), "Bob's bits of the test basis")
    wrong = np.unpackbits(np.frombuffer(message, np.uint8), count=len(sifted.test)) != sifted.test
    yield ERRORS.pack(np.count_nonzero(wrong))
    return Estimate(
        np.bincount(sifted.key_intensity, minlength=intensities),
        np.bincount(sifted.test_intensity, minlength=intensities),
        np.bincount(sifted.test_intensity[wrong], minlength=intensities),
    )


def estimate_bob(sifted: SiftedBob) -> Party[ErrorRate]:
    """Make the bits of the test basis public and hear how many of them are wrong."""
    yield np.packbits(sifted.test).tobytes()
    (errors,) = ERRORS.unpack((yield from receive_exactly(ERRORS.size, "the number of errors in the test basis")))
    if errors > len(sifted.test):
        raise ProtocolAbort(
            f"Alice names {errors} errors among {len(sifted.test)} test bits: the message was altered; there is no key"
        )
    return ErrorRate(errors, len(sifted.test))
