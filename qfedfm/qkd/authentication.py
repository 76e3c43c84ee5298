"""Authentication of the classical channel by Wegman-Carter tags with one-time keys.

Without it Eve sits between the parties and makes a key with each. Here both parties hash all that they said and heard
with Poly1305 (Bernstein 2005, doi:10.1007/11502760_3) under 256 secret bits each way, used once: whatever Eve's power,
a transcript of L bytes that differs from the other party's passes with probability at most 8 ceil(L / 16) / 2^106,
1.3e-25 for 20 MB. So a session needs 512 secret bits before it begins and pays them back from the key that it makes:
QKD grows keys, it does not make the first one (Wegman and Carter 1981, doi:10.1016/0022-0000(81)90033-7).

The tags come last, when all else was said, and cover both directions. As with any last message, the party that sends
the last tag cannot know that it arrived: if it is lost, that party holds a key that the other has thrown away.
"""

import struct
import threading
from typing import Literal

from cryptography.hazmat.primitives.constant_time import bytes_eq
from cryptography.hazmat.primitives.poly1305 import Poly1305

from ..errors import ConfigurationError, KeyExhausted, ProtocolAbort
from .channel import Party, receive_exactly
from .preshared import HKDF_LIMIT, hkdf_sha256

Security = Literal["information-theoretic", "computational"]

KEY_BYTES = 32
TAG_BYTES = 16
SESSION_BITS = 2 * 8 * KEY_BYTES
"""Secret bits that one session takes: a key for Alice's tag and one for Bob's."""


class AuthenticationPool:
    """Secret bits that two parties share for tags: taken once each, in order, and replenished from new key.

    secret: uniformly random bytes that nobody else knows. security: what a proof about a session rests on. A pool that
    began with a computational secret says "computational" for good. (Keys made from then on are nevertheless safe for
    ever if that secret was unbroken while the first session ran.) In a simulation one pool stands for both parties'
    copies. Safe to use from several threads.
    """

    def __init__(self, secret: bytes, security: Security = "information-theoretic") -> None:
        self.security: Security = security
        self.taken = 0
        self._left = bytearray(secret)
        self._lock = threading.Lock()

    @classmethod
    def derived(cls, secret: bytes, info: bytes, bits: int = 2 * SESSION_BITS) -> "AuthenticationPool":
        """Return a computational pool of `bits` bits, HKDF-SHA256 of `secret`: a stored key, or what ML-KEM agreed on.

        info: names the use, such as the two nodes and a date; the same secret and info never serve two pools. ML-KEM
        alone does not say with whom one agreed: its public key needs a signature or another way to be trusted.
        """
        length, rest = divmod(bits, 8)
        if rest or not 0 < length <= HKDF_LIMIT or len(secret) < KEY_BYTES:
            raise ConfigurationError(
                f"a derived pool takes a secret of {KEY_BYTES} bytes or more and has 8 to {8 * HKDF_LIMIT} bits in "
                f"whole bytes; got {len(secret)} bytes and {bits} bits"
            )
        return cls(hkdf_sha256(secret, b"qfedfm authentication pool" + info, length), "computational")

    @property
    def bits(self) -> int:
        """How many secret bits are left."""
        return 8 * len(self._left)

    def take(self, bits: int) -> bytes:
        """Return the next `bits` bits (a multiple of 8), which are gone then; too few left raises `KeyExhausted`."""
        length, rest = divmod(bits, 8)
        if rest or length < 0:
            raise ConfigurationError(f"a pool gives whole bytes, got {bits} bits")
        with self._lock:
            if length > len(self._left):
                raise KeyExhausted(
                    f"the authentication pool has {8 * len(self._left)} bits left, {bits} were asked for: sessions "
                    "consumed more than they paid back; give the two parties a new shared secret"
                )
            taken = bytes(self._left[:length])
            del self._left[:length]
            self.taken += bits
        return taken

    def put_back(self, material: bytes) -> None:
        """Return what was taken last and never used, to be the next that is taken."""
        with self._lock:
            self._left[:0] = material
            self.taken -= 8 * len(material)

    def replenish(self, material: bytes) -> None:
        """Add new secret key behind what is left."""
        with self._lock:
            self._left += material


def authenticate_alice(said: bytearray, heard: bytearray, keys: bytes) -> Party[None]:
    """Check Bob's tag and send Alice's; said, heard: her side's record in the channel; keys: 64 secret bytes.

    Raises `ProtocolAbort` if Bob's tag does not fit, which means that he heard or said something else.
    """
    length = len(said)
    message = yield from receive_exactly(TAG_BYTES, "Bob's tag")
    text = transcript(said[:length], _before(heard, message))
    _check(_bob_key(keys), text, message, "Bob")
    yield tag(_alice_key(keys), text)


def authenticate_bob(said: bytearray, heard: bytearray, keys: bytes) -> Party[None]:
    """Send Bob's tag and check Alice's, as `authenticate_alice` does; he has heard all that she says before."""
    text = transcript(heard, said)
    yield tag(_bob_key(keys), text)
    message = yield from receive_exactly(TAG_BYTES, "Alice's tag")
    _check(_alice_key(keys), text, message, "Alice")


def transcript(alice: bytes | bytearray, bob: bytes | bytearray) -> bytes:
    """Return both directions as one string that no other two directions make: lengths go first."""
    return b"qfedfm transcript 1" + struct.pack("<QQ", len(alice), len(bob)) + alice + bob


def tag(key: bytes, text: bytes) -> bytes:
    """Return the 16 bytes of Poly1305 of `text`; key: 32 secret bytes that are used for this alone."""
    return Poly1305.generate_tag(key, text)


def _check(key: bytes, text: bytes, received: bytes, sender: str) -> None:
    if not bytes_eq(tag(key, text), received):
        raise ProtocolAbort(
            f"{sender}'s tag does not fit: a message of the classical channel was altered on its way, or the two ends "
            "hold different secrets; the session yields no key"
        )


def _before(heard: bytearray, message: bytes) -> bytearray:
    """Return what was heard before `message`, which came last."""
    note = struct.pack("<Q", len(message)) + message
    if not heard.endswith(note):
        raise ProtocolAbort("something was said after the tag: there is no key")
    return heard[: -len(note)]


def _alice_key(keys: bytes) -> bytes:
    return keys[:KEY_BYTES]


def _bob_key(keys: bytes) -> bytes:
    return keys[KEY_BYTES : 2 * KEY_BYTES]
