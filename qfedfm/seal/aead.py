"""Authenticated encryption: AES-256-GCM (NIST SP 800-38D) with a key of its own for every message.

Confidentiality and authenticity are computational, even under a key from quantum key distribution: what the key's
origin buys is that nobody can have recorded how it was agreed on and break that later.
"""

from typing import ClassVar

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..declaration import declared
from ..qkd import Keys, KeySource, PresharedKeys
from .envelope import TAG_BYTES, Expected, Header, ReplayGuard
from .suite import Bytes, seal_with, unseal_with

KEY_BITS = 256


class AesGcm:
    """AES-256-GCM as a `Cipher`: the nonce is 12 bytes, the tag 16."""

    overhead = TAG_BYTES

    def key_bits(self, payload_length: int) -> int:  # noqa: ARG002  (a one-time pad's cost depends on it, this one's not)
        """Return 256: a message of any length takes one key."""
        return KEY_BITS

    def encrypt(self, key: bytes, nonce: bytes, payload: bytes, associated: Bytes, body: memoryview) -> None:
        """Write ciphertext and tag."""
        AESGCM(key).encrypt_into(nonce, payload, associated, body)

    def decrypt(self, key: bytes, nonce: Bytes, body: Bytes, associated: Bytes) -> bytes:
        """Return the payload."""
        return AESGCM(key).decrypt(nonce, body, associated)


@declared
class Aead:
    """AES-256-GCM under one fresh 256-bit key per message, drawn from `keys` with the message's kind as purpose."""

    keys: Keys = PresharedKeys()
    suite: ClassVar[str] = "aes-256-gcm"

    def connect(self) -> KeySource:
        """Return the live key source."""
        return self.keys.connect()

    def key_bits(self, payload_length: int) -> int:
        """Return 256: a message of any length takes one key."""
        return AesGcm().key_bits(payload_length)

    def seal(self, header: Header, payload: bytes, source: KeySource) -> bytes:
        """Return the envelope; see `suite.seal_with`."""
        return seal_with(AesGcm(), self.suite, header, payload, source)

    def unseal(
        self, data: bytes, expected: Expected, source: KeySource, seen: ReplayGuard, max_bytes: int
    ) -> tuple[Header, bytes]:
        """Return header and payload; see `suite.unseal_with`."""
        return unseal_with(AesGcm(), self.suite, data, expected, source, seen, max_bytes)
