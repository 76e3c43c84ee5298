"""Sifting: Bob says which pulses clicked and in which basis he measured; Alice says where hers was the same.

Positions travel as Elias and Fano coded them (Elias 1974, doi:10.1145/321812.321820): n rising numbers below U as their
low k = floor(log2(U / n)) bits, and the rest in unary, 2 + log2(U / n) bits a click or less, half a bit above what any
code needs. Bases are packed. Nothing is said of intensities, and of bits only those of the test basis, in `estimation`.

Bits where both chose basis 0 become the key, those where both chose 1 the test; the others are dropped.
"""

import struct
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError, ProtocolAbort
from .channel import Party, receive, receive_exactly
from .pulses import AliceRecord, BobRecord

Bits = NDArray[np.uint8]
Positions = NDArray[np.int64]

COUNT = struct.Struct("<Q")


@dataclass(frozen=True, eq=False)
class SiftedAlice:
    """Her bits of the key basis and of the test basis, and the intensity of each."""

    key: Bits
    key_intensity: Bits
    test: Bits
    test_intensity: Bits


@dataclass(frozen=True, eq=False)
class SiftedBob:
    """His bits of the key basis and of the test basis."""

    key: Bits
    test: Bits


def sift_alice(record: AliceRecord, pulses: int) -> Party[SiftedAlice]:
    """Hear of Bob's clicks among `pulses` pulses and tell him which bases agree.

    Her record holds the pulses that clicked, no others and all of them; a list that differs raises `ProtocolAbort`.
    """
    positions = decode_positions((yield from receive()), pulses)
    theirs = yield from _receive_bits(len(positions), "Bob's bases")
    if not len(positions):
        raise ProtocolAbort(
            "no pulse clicked: the link is cut or too long, or too few pulses were sent; there is no key"
        )
    if not np.array_equal(positions, record.pulse):
        raise ProtocolAbort("Bob named other pulses than those that clicked: the message was altered; there is no key")
    same = record.basis == theirs
    yield _packed(same)
    key, test = same & (theirs == 0), same & (theirs == 1)
    return SiftedAlice(record.bit[key], record.intensity[key], record.bit[test], record.intensity[test])


def sift_bob(record: BobRecord, pulses: int) -> Party[SiftedBob]:
    """Tell Alice of the clicks among `pulses` pulses and hear which bases agree."""
    yield encode_positions(record.pulse, pulses)
    yield _packed(record.basis)
    same = (yield from _receive_bits(len(record.pulse), "the list of bases that agree")).astype(np.bool_)
    return SiftedBob(record.bit[same & (record.basis == 0)], record.bit[same & (record.basis == 1)])


def encode_positions(positions: Positions, limit: int) -> bytes:
    """Return the code of rising `positions`, 0 <= position < limit: count, low bits place by place, unary part."""
    count = len(positions)
    if count and (positions[0] < 0 or positions[-1] >= limit or (np.diff(positions) <= 0).any()):
        raise ConfigurationError(f"positions to be sent should rise strictly and lie in 0 ... {limit - 1}")
    low, slots = _shape(count, limit)
    unary = np.zeros(slots, np.bool_)
    unary[(positions >> low) + np.arange(count)] = True
    digits = (_packed(positions >> place & 1 != 0) for place in range(low))
    return COUNT.pack(count) + b"".join(digits) + _packed(unary)


def decode_positions(message: bytes, limit: int) -> Positions:
    """Return the positions that `message` codes; anything that no sender would have made raises `ProtocolAbort`."""
    count = COUNT.unpack(message[: COUNT.size])[0] if len(message) >= COUNT.size else limit + 1
    low, slots = _shape(min(count, limit), limit)
    plane = -(-count // 8)
    split = COUNT.size + plane * low
    if count > limit or len(message) != split + -(-slots // 8):
        raise ProtocolAbort(
            "the list of clicks has another length than its count says: it was altered; there is no key"
        )
    unary = _unpacked(message[split:], slots)
    positions = np.flatnonzero(unary)
    if len(positions) != count:
        raise ProtocolAbort(
            "the list of clicks holds another number than its count says: it was altered; there is no key"
        )
    positions -= np.arange(count)
    positions <<= low
    for place in range(low):
        start = COUNT.size + plane * place
        positions |= _unpacked(message[start : start + plane], count).astype(np.int64) << place
    if count and (positions[-1] >= limit or (np.diff(positions) <= 0).any()):
        raise ProtocolAbort("the list of clicks does not rise within the pulses sent: it was altered; there is no key")
    return positions


def _shape(count: int, limit: int) -> tuple[int, int]:
    """Return (low bits of each position, length of the unary part)."""
    low = max((limit // max(count, 1)).bit_length() - 1, 0)
    return low, count + (limit >> low) + 1


def _receive_bits(count: int, what: str) -> Generator[None, bytes | None, Bits]:
    return _unpacked((yield from receive_exactly(-(-count // 8), what)), count)


def _packed(bits: Bits | NDArray[np.bool_]) -> bytes:
    return np.packbits(bits).tobytes()


def _unpacked(data: bytes, count: int) -> Bits:
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count)
