"""What every suite does around its cipher: draw a key, seal, and open again, each message under a key of its own.

A key that seals one message makes nonce reuse impossible by construction, across resumed runs too. The receiver asks
for a key only after everything else about the envelope was found right. A tag that fails after that costs the key: it
is spent, and the sender has to seal the message anew. So an attacker on the line can make a genuine message fail, as he
can by cutting the line, but learns nothing and cannot have a key used twice; and as the replay guard moves only after a
good tag, a forged header does not lock later messages out.
"""

import io
import os
from dataclasses import replace
from typing import Protocol, TypeAlias

from cryptography.exceptions import InvalidSignature, InvalidTag

from ..errors import KeySourceError, SealError
from ..qkd import Key, KeySource
from .envelope import NONCE_BYTES, Expected, Header, ReplayGuard, admit, prefix

Bytes: TypeAlias = bytes | memoryview


class Cipher(Protocol):
    """Payload to body and back, under one key that serves once.

    overhead: bytes by which a body is longer than its payload. `associated` is authenticated and not encrypted.
    """

    overhead: int

    def key_bits(self, payload_length: int) -> int:
        """Return how many bits of key a payload of so many bytes takes."""
        ...

    def encrypt(self, key: bytes, nonce: bytes, payload: bytes, associated: Bytes, body: memoryview) -> None:
        """Write the body, so that it lies in the envelope at once; `body` has its length."""
        ...

    def decrypt(self, key: bytes, nonce: Bytes, body: Bytes, associated: Bytes) -> bytes:
        """Return the payload; raise `InvalidTag` or `InvalidSignature` if anything was altered."""
        ...


def seal_with(cipher: Cipher, suite: str, header: Header, payload: bytes, source: KeySource) -> bytes:
    """Return the envelope of `payload`; `suite` and `key_ids` of `header` are filled in.

    payload: tensors as `header.tensors` says, then anything. Raises `KeySourceError` if no key can be had.
    """
    if header.tensor_bytes > len(payload):
        raise SealError(f"the header counts {header.tensor_bytes} bytes of tensors, the payload has {len(payload)}")
    bits = cipher.key_bits(len(payload))
    key = _checked(source.draw(header.sender, header.receiver, bits, header.kind), bits)
    associated = prefix(replace(header, suite=suite, key_ids=key.ids))
    start = associated + os.urandom(NONCE_BYTES)
    envelope = io.BytesIO(bytes(len(start) + len(payload) + cipher.overhead))
    with envelope.getbuffer() as view:
        view[: len(start)] = start
        cipher.encrypt(key.material, start[len(associated) :], payload, associated, view[len(start) :])
    return envelope.getvalue()  # not a copy


def unseal_with(
    cipher: Cipher, suite: str, data: bytes, expected: Expected, source: KeySource, seen: ReplayGuard, max_bytes: int
) -> tuple[Header, bytes]:
    """Return header and payload of an envelope of at most `max_bytes` bytes; `seen` then remembers it.

    Raises `SealError` if the envelope is malformed, not the expected one, not new or not authentic, and
    `KeySourceError` if its key cannot be had, having been spent for example.
    """
    envelope = admit(data, suite, expected, seen, max_bytes)
    header, length = envelope.header, len(envelope.body) - cipher.overhead
    if length < header.tensor_bytes:
        raise SealError(
            f"envelope refused: the payload should hold {header.tensor_bytes} bytes of tensors, got {max(0, length)}"
        )
    bits = cipher.key_bits(length)
    key = _checked(source.fetch(header.sender, header.receiver, header.key_ids, bits, header.kind), bits)
    try:
        payload = cipher.decrypt(key.material, envelope.nonce, envelope.body, envelope.associated)
    except (InvalidTag, InvalidSignature):
        raise SealError(
            f"envelope refused: the tag of {header.kind} {header.seq} from '{header.sender}' to "
            f"'{header.receiver}' does not fit: it was altered on its way, or the two ends hold different secrets; "
            f"key {', '.join(header.key_ids)} is spent, so seal the message anew"
        ) from None
    seen.accept(header)
    return header, payload


def _checked(key: Key, bits: int) -> Key:
    if len(key.material) * 8 != bits:  # 128 or 192 bits would quietly select a weaker AES
        raise KeySourceError(f"the key source should give {bits} bits, got {len(key.material) * 8}")
    return key
