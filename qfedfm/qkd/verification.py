"""Verification: do the reconciled frames of both parties agree? Universal hashing, with the seed told after the bits.

A frame is hashed in two steps. Poly1305 (Bernstein 2005, doi:10.1007/11502760_3) with a random r maps it to 128 bits;
two different frames of L bytes meet there with probability at most 8 ceil(L / 16) / 2^106. A random matrix over GF(2)
then folds the 128 bits into a tag of t bits, in which two different values meet with probability exactly 2^-t.

Two stages. First every frame has a short tag (`FRAME_TAG` bits): frames whose tags differ are dropped, and counted.
What is left is hashed once more as a whole, to ceil(log2(1 / eps_cor)) bits, 50 at 1e-15: if these tags differ the
session is given up, so that the two keys differ undetected with probability at most eps_cor, however many frames there
were. A tag of full strength for each frame would need 50 + log2(frames) bits a frame for the same promise.

All tags sent are told to Eve. The frames' tags count as leaked; the last one is the term log2(2 / eps_cor) of Lim's key
length (`finite_key`). The seeds are public, uniform and independent of the bits, and drawn after these are fixed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log2

import numpy as np
from cryptography.hazmat.primitives.poly1305 import Poly1305
from numpy.typing import NDArray

from ..errors import ConfigurationError, ProtocolAbort
from .channel import Party, receive_exactly

Bits = NDArray[np.uint8]
Flags = NDArray[np.bool_]

FRAME_TAG = 24
"""Bits of each frame's tag: a wrong frame slips through once in 17 million, and then the last tag stops the session."""
HASH = 128
R_BYTES = 16
S = bytes(16)
"""Poly1305's pad, which hides a tag that is sent as it is; ours are folded and public."""


@dataclass(frozen=True)
class Verified:
    """What a party knows afterwards: frames kept, (frames,); bits of tag told for each frame, and for the whole."""

    kept: Flags
    frame_tag: int
    final_tag: int


def verify_alice(
    frames: Sequence[Bits], done: Flags, eps_cor: float, generator: np.random.Generator
) -> Party[Verified]:
    """Send tags of `frames` and learn from Bob which of them he keeps; the generator draws the public seeds.

    frames: bit arrays. done: (frames,), False where reconciliation gave up and the frame is dropped in any case.
    """
    seed = generator.bytes(seed_bytes(FRAME_TAG))
    yield seed + _pack(tags([_pack(frame) for frame in frames], seed, FRAME_TAG))
    answer = yield from receive_exactly(-(-len(frames) // 8), "the list of frames that agree")
    kept = _unpack(answer, len(frames)).astype(np.bool_) & done
    whole = _whole(frames, kept)
    bits = final_tag_bits(eps_cor, len(whole))
    seed = generator.bytes(seed_bytes(bits))
    yield seed + _pack(tags([whole], seed, bits))
    return Verified(kept, FRAME_TAG, bits)


def verify_bob(frames: Sequence[Bits], done: Flags, eps_cor: float) -> Party[Verified]:
    """Compare Alice's tags with those of `frames`, tell her which to keep, and compare the tag of all of these.

    Raises `ProtocolAbort` if no frame is left, or if frames that are left differ after all.
    """
    size = seed_bytes(FRAME_TAG)
    message = yield from receive_exactly(size + -(-len(frames) * FRAME_TAG // 8), "the tags of the frames")
    theirs = _unpack(message[size:], len(frames) * FRAME_TAG).reshape(len(frames), FRAME_TAG)
    ours = tags([_pack(frame) for frame in frames], message[:size], FRAME_TAG)
    kept = (ours == theirs).all(axis=1) & done
    if not kept.any():
        raise ProtocolAbort("no frame agreed after reconciliation: the error rate is too high, or Eve altered messages")
    yield _pack(kept.astype(np.uint8))
    whole = _whole(frames, kept)
    bits = final_tag_bits(eps_cor, len(whole))
    size = seed_bytes(bits)
    message = yield from receive_exactly(size + -(-bits // 8), "the tag of all frames")
    if message[size:] != _pack(tags([whole], message[:size], bits)):
        raise ProtocolAbort("the reconciled bits of the two parties differ although the tags of their frames agree")
    return Verified(kept, FRAME_TAG, bits)


def tags(frames: Sequence[bytes], seed: bytes, bits: int) -> Bits:
    """Return the tags (frames, bits) of byte strings; seed: `seed_bytes(bits)` bytes, r and then the rows."""
    if len(seed) != seed_bytes(bits):
        raise ConfigurationError(f"a tag of {bits} bits takes a seed of {seed_bytes(bits)} bytes, got {len(seed)}")
    key = seed[:R_BYTES] + S
    hashes = b"".join(Poly1305.generate_tag(key, frame) for frame in frames)
    rows = _unpack(seed[R_BYTES:], bits * HASH).reshape(bits, HASH)
    sums = _unpack(hashes, len(frames) * HASH).reshape(-1, HASH).astype(np.float32) @ rows.T.astype(np.float32)
    return np.asarray(sums.astype(np.uint8) & 1)  # sums of at most 128 ones are exact


def seed_bytes(bits: int) -> int:
    """Return how many bytes of seed a tag of `bits` bits takes."""
    return R_BYTES + bits * HASH // 8


def final_tag_bits(eps_cor: float, length: int) -> int:
    """Return the bits of tag with which two different strings of `length` bytes agree with probability <= eps_cor."""
    left = eps_cor - 8 * -(-length // 16) / 2**106
    if not 2**-HASH <= left < 1:
        raise ConfigurationError(f"a tag on {length} bytes cannot have eps_cor {eps_cor:g}: ask for 1e-20 or more")
    return max(1, ceil(-log2(left)))


def _whole(frames: Sequence[Bits], kept: Flags) -> bytes:
    """Return the kept frames one after the other, with which they are."""
    return _pack(kept.astype(np.uint8)) + b"".join(_pack(frames[index]) for index in np.flatnonzero(kept).tolist())


def _pack(bits: Bits) -> bytes:
    return np.packbits(bits).tobytes()


def _unpack(data: bytes, count: int) -> Bits:
    return np.unpackbits(np.frombuffer(data, np.uint8), count=count)
