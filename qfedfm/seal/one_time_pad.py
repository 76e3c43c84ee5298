"""The one-time pad with a Wegman-Carter tag: security that rests on the key alone, one bit of it for each of message.

Ciphertext = payload xor pad (Vernam 1926; Shannon 1949, doi:10.1002/j.1538-7305.1949.tb00928.x). The tag is Poly1305
under a one-time key (r, s) (Bernstein 2005, doi:10.1007/11502760_3; Wegman and Carter 1981): whoever has no key forges
a message of L bytes with probability at most 8 ceil(L / 16) / 2^106, whatever he can compute. Both hold for true random
keys only: with keys that were stretched (a pre-shared secret, a simulated link) the suite is no better than they are.
"""

import struct
from typing import ClassVar

import numpy as np
from cryptography.hazmat.primitives.poly1305 import Poly1305
from numpy.typing import NDArray

from ..declaration import declared
from ..errors import ConfigurationError
from ..qkd import Keys, KeySource
from .envelope import TAG_BYTES, Expected, Header, ReplayGuard
from .suite import Bytes, seal_with, unseal_with

TAG_KEY_BYTES = 32


class Pad:
    """Vernam's cipher and Poly1305 as a `Cipher`: the first 32 bytes of the key are the tag's, the rest is the pad.

    The nonce has no part in the pad and is authenticated with the rest.
    """

    overhead = TAG_BYTES

    def key_bits(self, payload_length: int) -> int:
        """Return 8 bits for every byte and 256 for the tag."""
        return 8 * (payload_length + TAG_KEY_BYTES)

    def encrypt(self, key: bytes, nonce: bytes, payload: bytes, associated: Bytes, body: memoryview) -> None:
        """Write ciphertext and tag."""
        ciphertext = body[:-TAG_BYTES]
        np.bitwise_xor(_bytes(payload), _pad(key), out=_bytes(ciphertext))
        body[-TAG_BYTES:] = _tag(key, associated, nonce, ciphertext).finalize()

    def decrypt(self, key: bytes, nonce: Bytes, body: Bytes, associated: Bytes) -> bytes:
        """Return the payload."""
        ciphertext, tag = body[:-TAG_BYTES], bytes(body[-TAG_BYTES:])
        _tag(key, associated, nonce, ciphertext).verify(tag)
        return np.bitwise_xor(_bytes(ciphertext), _pad(key)).tobytes()


@declared
class OneTimePad:
    """A one-time pad and a Wegman-Carter tag: 8 bits of key for each byte of payload, and 256 for the tag.

    For small updates: a million float32 parameters take 32 megabits a message. A source that cannot give so much
    refuses with `KeyExhausted` or `KeySourceError`; key is never stretched, and so pre-shared keys, which are, are
    refused with `ConfigurationError`.
    """

    keys: Keys
    suite: ClassVar[str] = "one-time-pad-poly1305"

    def __post_init__(self) -> None:
        if self.keys.source == "preshared":
            raise ConfigurationError(
                "OneTimePad.keys: pre-shared keys are stretched from 32 bytes, which is no one-time pad: use a source "
                "of quantum keys, or Aead"
            )

    def connect(self) -> KeySource:
        """Return the live key source."""
        return self.keys.connect()

    def key_bits(self, payload_length: int) -> int:
        """Return 8 bits for every byte of payload and 256 for the tag."""
        return Pad().key_bits(payload_length)

    def seal(self, header: Header, payload: bytes, source: KeySource) -> bytes:
        """Return the envelope; see `suite.seal_with`."""
        return seal_with(Pad(), self.suite, header, payload, source)

    def unseal(
        self, data: bytes, expected: Expected, source: KeySource, seen: ReplayGuard, max_bytes: int
    ) -> tuple[Header, bytes]:
        """Return header and payload; see `suite.unseal_with`."""
        return unseal_with(Pad(), self.suite, data, expected, source, seen, max_bytes)


def _bytes(data: Bytes) -> NDArray[np.uint8]:
    return np.frombuffer(data, np.uint8)


def _pad(key: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(key, np.uint8, offset=TAG_KEY_BYTES)


def _tag(key: bytes, associated: Bytes, nonce: Bytes, ciphertext: Bytes) -> Poly1305:
    """Return the tag's state at its end; the lengths there make it impossible to read what it covers in two ways."""
    tag = Poly1305(key[:TAG_KEY_BYTES])
    for part in (associated, nonce, ciphertext, struct.pack(">QQ", len(associated), len(ciphertext))):
        tag.update(part)
    return tag
