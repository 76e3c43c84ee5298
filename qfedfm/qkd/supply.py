"""A quantum link that makes key as it is needed, in whole sessions: what stands behind simulated keys of every kind."""

import threading
from collections.abc import Callable

import numpy as np

from ..errors import KeyExhausted
from .authentication import SESSION_BITS, AuthenticationPool
from .decoy_bb84 import DecoyBB84
from .eavesdroppers import Eavesdropper
from .session import run_session
from .session_result import Session

POOL_BITS = 4 * SESSION_BITS
"""Secret bits for authentication that both ends hold when a link is installed, and keep by them where they can."""


class SessionSupply:
    """A link that runs sessions of decoy-state BB84 and keeps what they deliver; a `KeySupply`.

    generator: of the simulation; None is seeded by the operating system. seen: is told of every session. Simulated keys
    protect nothing in the real world. Safe to use from several threads.
    """

    def __init__(
        self,
        protocol: DecoyBB84,
        generator: np.random.Generator | None = None,
        seen: Callable[[Session], None] | None = None,
    ) -> None:
        self.protocol = protocol
        self.delivered = self.taken = self.authentication = 0
        self._generator = np.random.default_rng() if generator is None else generator
        self._seen = seen
        self._pool = AuthenticationPool(self._generator.bytes(POOL_BITS // 8))
        self._alice, self._bob = bytearray(), bytearray()
        self._lock = threading.RLock()

    @property
    def bits(self) -> int:
        """Bits of key in store: delivered less taken and less what went to authentication."""
        return 8 * len(self._alice)

    def produce(self, bits: int) -> tuple[bytes, bytes]:
        """Return `bits` bits (a multiple of 8) as Alice and as Bob hold them, running as many sessions as that takes.

        Raises `KeyExhausted` if a session gives no key; what earlier ones gave stays in store.
        """
        with self._lock:
            while self.bits < bits:
                done = self.run()
                if not done.ledger.delivered:
                    raise KeyExhausted(f"the simulated link gives no key: {done}")
            return self.take(bits)

    def take(self, bits: int) -> tuple[bytes, bytes]:
        """Return `bits` bits that are in store, as Alice and as Bob hold them, for the only time."""
        with self._lock:
            if bits > self.bits:
                raise KeyExhausted(f"the simulated link has {self.bits} bits of key in store, {bits} were asked for")
            self.taken += bits
            return _cut(self._alice, bits // 8), _cut(self._bob, bits // 8)

    def run(self, eve: Eavesdropper | None = None) -> Session:
        """Run a session, keep what it delivers, and return it.

        Sessions that were given up after their tags paid nothing back: the pool is filled up from key in store first.
        """
        with self._lock:
            missing = min(max(0, POOL_BITS - self._pool.bits), self.bits) // 8
            self._pool.replenish(_cut(self._alice, missing))
            _cut(self._bob, missing)
            self.authentication += 8 * missing
            done = run_session(self.protocol, round(self.protocol.pulses()), self._generator, self._pool, eve)
            whole = done.ledger.delivered // 8 * 8
            self._alice += np.packbits(done.key_alice[:whole]).tobytes()
            self._bob += np.packbits(done.key_bob[:whole]).tobytes()
            self.delivered += whole
        if self._seen is not None:
            self._seen(done)
        return done


def _cut(store: bytearray, length: int) -> bytes:
    """Return the first `length` bytes of a store, which are gone from it then."""
    cut = bytes(store[:length])
    del store[:length]
    return cut
