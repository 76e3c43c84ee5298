"""Authenticated encryption: AES-256-GCM (NIST SP 800-38D) with a key of its own for every message.

A key that seals one message makes nonce reuse impossible by construction, across resumed runs too. The receiver asks
for a key only after everything else about the envelope was found right. A tag that fails after that costs the key: it
is spent, and the sender has to seal the message anew. So an attacker on the line can make a genuine message fail, as he
can by cutting the line, but learns nothing and cannot have a key used twice; and as the replay guard moves only after a
good tag, a forged header does not lock later messages out.
"""

import os
from dataclasses import replace
from typing import ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..declaration import declared
from ..errors import KeySourceError, SealError
from ..qkd import Key, Keys, KeySource, PresharedKeys
from .envelope import NONCE_BYTES, Expected, Header, ReplayGuard, admit, prefix

KEY_BITS = 256


@declared
class Aead:
    """AES-256-GCM under one fresh 256-bit key per message, drawn from `keys` with the message's kind as purpose."""

    keys: Keys = PresharedKeys()
    suite: ClassVar[str] = "aes-256-gcm"

    def key_bits(self, payload_length: int) -> int:  # noqa: ARG002  (a one-time pad's cost depends on it, this one's not)
        """Return 256: a message of any length takes one key."""
        return KEY_BITS

    def seal(self, header: Header, payload: bytes, source: KeySource) -> bytes:
        """Return the envelope of `payload`; `suite` and `key_ids` of `header` are filled in.

        payload: tensors as `header.tensors` says, then anything. Raises `KeySourceError` if no key can be had.
        """
        if header.tensor_bytes > len(payload):
            raise SealError(f"the header counts {header.tensor_bytes} bytes of tensors, the payload has {len(payload)}")
        key = source.draw(header.sender, header.receiver, KEY_BITS, header.kind)
        associated = prefix(replace(header, suite=self.suite, key_ids=key.ids))
        nonce = os.urandom(NONCE_BYTES)
        return associated + nonce + _cipher(key).encrypt(nonce, payload, associated)

    def unseal(
        self, data: bytes, expected: Expected, source: KeySource, seen: ReplayGuard, max_bytes: int
    ) -> tuple[Header, bytes]:
        """Return header and payload of an envelope of at most `max_bytes` bytes; `seen` then remembers it.

        Raises `SealError` if the envelope is malformed, not the expected one, not new or not authentic, and
        `KeySourceError` if its key cannot be had, having been spent for example.
        """
        envelope = admit(data, self.suite, expected, seen, max_bytes)
        header = envelope.header
        key = source.fetch(header.sender, header.receiver, header.key_ids, KEY_BITS, header.kind)
        try:
            payload = _cipher(key).decrypt(envelope.nonce, envelope.body, envelope.associated)
        except InvalidTag:
            raise SealError(
                f"envelope refused: the tag of {header.kind} {header.seq} from '{header.sender}' to "
                f"'{header.receiver}' does not fit: it was altered on its way, or the two ends hold different secrets; "
                f"key {', '.join(header.key_ids)} is spent, so seal the message anew"
            ) from None
        seen.accept(header)
        return header, payload


def _cipher(key: Key) -> AESGCM:
    if len(key.material) * 8 != KEY_BITS:  # 128 or 192 bits would quietly select a weaker AES
        raise KeySourceError(f"the key source should give {KEY_BITS} bits, got {len(key.material) * 8}")
    return AESGCM(key.material)
