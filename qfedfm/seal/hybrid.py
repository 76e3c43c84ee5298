"""QKD and post-quantum cryptography together: a message stays secret while either of the two holds.

The key of each message is HKDF-SHA256 of a key from the key source followed by the shared secret of an ML-KEM-768
encapsulation (NIST FIPS 203) to the receiver, with the hash of the whole transcript (header, key ids, KEM ciphertext)
in `info`: the concatenation combiner of ETSI TS 103 744, whose output is unpredictable while one of its inputs is. It
seals with AES-256-GCM. The KEM ciphertext, 1,088 bytes, travels at the head of the body.

Decapsulation keys are made for each node when the source connects, and live as long as the process: an experiment in
one process needs no more. Nodes on several machines would have to exchange encapsulation keys over an authenticated
path, which this release does not do.
"""

import hashlib
import threading
from typing import Any, ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

from ..declaration import declared
from ..errors import KeySourceError
from ..qkd import FollowsRounds, KeepsAccount, Key, Keys, KeySource, PresharedKeys
from ..qkd.preshared import hkdf_sha256
from .aead import KEY_BITS, AesGcm
from .envelope import TAG_BYTES, Expected, Header, ReplayGuard
from .suite import Bytes, seal_with, unseal_with

KEM_BYTES = 1088


class HybridSource:
    """A key source, and the ML-KEM-768 key pairs of the nodes in this process."""

    def __init__(self, source: KeySource) -> None:
        self._source = source
        self._pairs: dict[str, MLKEM768PrivateKey] = {}
        self._lock = threading.Lock()

    def draw(self, sender: str, receiver: str, bits: int, purpose: str) -> Key:
        """Return the inner source's key."""
        return self._source.draw(sender, receiver, bits, purpose)

    def fetch(self, sender: str, receiver: str, ids: tuple[str, ...], bits: int, purpose: str) -> Key:
        """Return the inner source's key."""
        return self._source.fetch(sender, receiver, ids, bits, purpose)

    def begin_round(self, round: int) -> None:
        """Tell the inner source."""
        if isinstance(self._source, FollowsRounds):
            self._source.begin_round(round)

    def account(self) -> list[dict[str, Any]]:
        """Return the inner source's account."""
        return self._source.account() if isinstance(self._source, KeepsAccount) else []

    def encapsulate(self, node: str) -> tuple[bytes, bytes]:
        """Return a shared secret (32 bytes) for `node` and the ciphertext (1,088) that carries it."""
        return self._pair(node).public_key().encapsulate()

    def decapsulate(self, node: str, ciphertext: bytes) -> bytes:
        """Return the shared secret; an altered ciphertext gives another secret, as ML-KEM rejects implicitly."""
        return self._pair(node).decapsulate(ciphertext)

    def _pair(self, node: str) -> MLKEM768PrivateKey:
        with self._lock:
            if node not in self._pairs:
                self._pairs[node] = MLKEM768PrivateKey.generate()
            return self._pairs[node]


class _Combined:
    """AES-256-GCM under the combined key, to one receiver, as a `Cipher`."""

    overhead = KEM_BYTES + TAG_BYTES

    def __init__(self, source: KeySource, receiver: str) -> None:
        if not isinstance(source, HybridSource):
            raise KeySourceError("HybridAead needs the source that its own connect() returns, which holds the KEM keys")
        self._source, self._receiver = source, receiver

    def key_bits(self, payload_length: int) -> int:
        return AesGcm().key_bits(payload_length)

    def encrypt(self, key: bytes, nonce: bytes, payload: bytes, associated: Bytes, body: memoryview) -> None:
        secret, ciphertext = self._source.encapsulate(self._receiver)
        combined = combine(key, secret, associated, ciphertext)
        body[:KEM_BYTES] = ciphertext
        AesGcm().encrypt(combined, nonce, payload, associated, body[KEM_BYTES:])

    def decrypt(self, key: bytes, nonce: Bytes, body: Bytes, associated: Bytes) -> bytes:
        if len(body) < self.overhead:
            raise InvalidTag
        ciphertext = bytes(body[:KEM_BYTES])
        secret = self._source.decapsulate(self._receiver, ciphertext)
        combined = combine(key, secret, associated, ciphertext)
        return AesGcm().decrypt(combined, nonce, body[KEM_BYTES:], associated)


@declared
class HybridAead:
    """AES-256-GCM under a key combined of one from `keys` (256 bits a message) and an ML-KEM-768 shared secret."""

    keys: Keys = PresharedKeys()
    suite: ClassVar[str] = "hybrid-mlkem768-aes-256-gcm"

    def connect(self) -> KeySource:
        """Return the live key source, with fresh ML-KEM key pairs for the nodes that will use it."""
        return HybridSource(self.keys.connect())

    def key_bits(self, payload_length: int) -> int:
        """Return 256: a message of any length takes one key from the source."""
        return AesGcm().key_bits(payload_length)

    def seal(self, header: Header, payload: bytes, source: KeySource) -> bytes:
        """Return the envelope; see `suite.seal_with`."""
        return seal_with(_Combined(source, header.receiver), self.suite, header, payload, source)

    def unseal(
        self, data: bytes, expected: Expected, source: KeySource, seen: ReplayGuard, max_bytes: int
    ) -> tuple[Header, bytes]:
        """Return header and payload; see `suite.unseal_with`."""
        cipher = _Combined(source, expected.receiver)
        return unseal_with(cipher, self.suite, data, expected, source, seen, max_bytes)


def combine(key: bytes, secret: bytes, associated: Bytes, ciphertext: Bytes) -> bytes:
    """Return 32 bytes: HKDF-SHA256 of key || secret; info: "qfedfm hybrid" and SHA-256(associated || ciphertext)."""
    transcript = hashlib.sha256(associated)
    transcript.update(ciphertext)
    info = b"qfedfm hybrid" + transcript.digest()
    return hkdf_sha256(key + secret, info, KEY_BITS // 8)
