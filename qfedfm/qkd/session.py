"""A session of decoy-state BB84 from pulses to key, with every bit accounted for.

Pulses are sent; then two parties, each with its own record and nothing else, talk over the public channel: sifting,
estimation, Cascade, verification; Alice computes the secret length from what really happened (`finite_key`, with the
parities and tags that were really told) and sends a Toeplitz seed; both authenticate all that was said; both amplify.
Anything that goes wrong on the way, by noise, by Eve or by an altered message, ends the session with no key at all.

Departures from Lim et al. 2014: a frame that fails is dropped and charged in full, as if Eve had been told all of it,
because which frames fail is not independent of the errors; the counts stay those of all sifted bits. The last frame is
filled up with zeros that both parties know. A session is one block, whatever its size.

All of this is simulated: the keys protect nothing.
"""

import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigurationError, ProtocolAbort
from .authentication import SESSION_BITS, AuthenticationPool, authenticate_alice, authenticate_bob
from .cascade import FRAME, cascade_alice, cascade_bob, near_optimal
from .channel import ClassicalChannel, Party, Tamper, converse, receive
from .decoy_bb84 import DecoyBB84
from .eavesdroppers import Eavesdropper
from .entropy import binary_entropy
from .estimation import ErrorRate, Estimate, estimate_alice, estimate_bob
from .finite_key import FiniteKey, finite_length
from .link import PulsedSource
from .protocol import pulsed
from .pulses import AliceRecord, BobRecord, transmit
from .session_result import Ledger, Session
from .sifting import sift_alice, sift_bob
from .toeplitz import amplify
from .verification import Verified, final_tag_bits, verify_alice, verify_bob

Bits = NDArray[np.uint8]
Progress = Callable[[str, int, int], None]
"""(stage that begins now, stages done, stages in all)."""

STAGES = "transmission", "sifting", "estimation", "reconciliation", "verification", "authentication", "amplification"
SMALLEST_FRAME = 64
LENGTH = struct.Struct("<Q")


def run_session(
    protocol: DecoyBB84,
    pulses: int,
    generator: np.random.Generator,
    secret: AuthenticationPool,
    eve: Eavesdropper | None = None,
    tamper: Tamper | None = None,
    progress: Progress | None = None,
) -> Session:
    """Run one session over `protocol.link` and return what it came to; `protocol.block` and `f_ec` are not used.

    pulses: how many are sent. secret: the pool both parties share; 512 bits are set aside at once, given back if it
    does not come to tags, and as many of the new key, if it has them, go into it. eve: acts on the light. tamper: acts
    on the messages. progress: called when a stage begins. Raises `KeyExhausted` if the pool is too small to begin, and
    nothing for what Eve does: a session that was given up says so in `aborted`.
    """
    channel = ClassicalChannel(tamper)

    def begins(stage: str) -> None:
        channel.begin(stage)
        if progress is not None:
            progress(stage, STAGES.index(stage), len(STAGES))

    if int(pulses) != pulses or pulses < 1:
        raise ConfigurationError(f"a session sends a whole number of pulses, at least one; got {pulses}")
    pulses = int(pulses)
    final_tag_bits(protocol.eps_cor, pulses)  # refuses what no tag can promise
    keys = secret.take(SESSION_BITS)
    begins("transmission")
    sent = transmit(protocol.link, pulses, generator, eve)
    alice = _Alice(protocol, pulses, generator, keys, begins)
    bob = _Bob(protocol, pulses, keys)
    key_alice = key_bob = np.zeros(0, np.uint8)
    aborted = None
    try:
        key_alice, key_bob = converse(
            channel,
            alice.party(sent.alice, channel.said["alice"], channel.heard["alice"]),
            bob.party(sent.bob, channel.said["bob"], channel.heard["bob"]),
        )
    except ProtocolAbort as reason:
        aborted = str(reason)
    tagged = alice.tagged or bob.tagged
    if not tagged:
        secret.put_back(keys)
    if progress is not None:
        progress("aborted" if aborted else "done", len(STAGES), len(STAGES))
    ledger = Ledger(
        pulses=pulses,
        raw=len(sent.bob.pulse),
        secret=len(key_alice),
        tags=SESSION_BITS if tagged else 0,
        **alice.counted,
    )
    whole_bytes = min(ledger.secret, ledger.tags) // 8 * 8
    secret.replenish(np.packbits(key_alice[:whole_bytes]).tobytes())
    return Session(
        ledger,
        key_alice[ledger.tags :],
        key_bob[ledger.tags :],
        aborted,
        alice.finite,
        bob.qber_key,
        alice.qber_test,
        alice.frames,
        alice.failed,
        channel.messages,
        channel.rounds,
        channel.bits["alice"],
        channel.bits["bob"],
        channel.traffic(),
        pulses / protocol.link.source.repetition_hz,
        secret.security,
    )


class _Alice:
    """Alice's side of a session, and what she noted of it."""

    def __init__(
        self,
        protocol: DecoyBB84,
        pulses: int,
        generator: np.random.Generator,
        keys: bytes,
        begins: Callable[[str], None],
    ) -> None:
        self.protocol, self.pulses, self.generator, self.keys, self.begins = protocol, pulses, generator, keys, begins
        self.tagged = False
        self.counted: dict[str, int] = {}
        self.finite: FiniteKey | None = None
        self.qber_test: ErrorRate | None = None
        self.frames = self.failed = 0

    def party(self, record: AliceRecord, said: bytearray, heard: bytearray) -> Party[Bits]:
        """Talk to Bob and return the key."""
        self.begins("sifting")
        sifted = yield from sift_alice(record, self.pulses)
        self.counted |= {"sifted": len(sifted.key) + len(sifted.test), "sample": len(sifted.test)}

        self.begins("estimation")
        estimate = yield from estimate_alice(sifted, len(self._source().intensities))
        self.qber_test = tested = ErrorRate(int(estimate.m_test.sum()), int(estimate.n_test.sum()))
        hopeful = self._length(estimate, len(sifted.key) * _shannon(tested))
        if not hopeful.length:
            raise ProtocolAbort(
                f"no key can come of this, however well it is reconciled: {hopeful.reason}; without Eve, a larger "
                "block or the intensities of DecoyBB84.tuned() may do"
            )

        self.begins("reconciliation")
        frames = _frames(sifted.key)
        told = yield from cascade_alice(frames, near_optimal(tested.value, frames.shape[1]), self.generator)

        self.begins("verification")
        parts = _parts(frames, len(sifted.key))
        verified = yield from verify_alice(parts, told.done, self.protocol.eps_cor, self.generator)
        charged = self._count(parts, verified, told.leaked)
        self.finite = self._length(estimate, charged)
        length = self.finite.length
        if not length:
            raise ProtocolAbort(f"no key is left: {self.finite.reason}")

        self.begins("authentication")
        bits = _joined(parts, verified)
        seed = self.generator.bytes(-(-(len(bits) + length - 1) // 8))
        yield LENGTH.pack(length) + seed
        self.tagged = True
        yield from authenticate_alice(said, heard, self.keys)

        self.begins("amplification")
        return _amplified(bits, length, seed)

    def _source(self) -> PulsedSource:
        return pulsed(self.protocol.link, "a session")

    def _length(self, estimate: Estimate, leaked: float) -> FiniteKey:
        source = self._source()
        return finite_length(
            estimate.n_key,
            np.zeros_like(estimate.n_key),
            estimate.n_test,
            estimate.m_test,
            source.intensities,
            source.probabilities,
            leaked,
            self.protocol.eps_sec,
            self.protocol.eps_cor,
        )

    def _count(self, parts: list[Bits], verified: Verified, leaked: NDArray[np.int64]) -> int:
        """Note what reconciliation came to, and return the bits that it costs the key."""
        lengths = np.array([len(part) for part in parts])
        dropped = int(lengths[~verified.kept].sum())
        tags = verified.frame_tag * int(verified.kept.sum())
        self.frames, self.failed = len(parts), int((~verified.kept).sum())
        self.counted |= {
            "dropped": dropped,
            "reconciled": int(lengths.sum()) - dropped,
            "leaked": int(leaked[verified.kept].sum()),
            "verification": tags + verified.final_tag,
        }
        return self.counted["leaked"] + tags + dropped


class _Bob:
    """Bob's side of a session, and what he noted of it."""

    def __init__(self, protocol: DecoyBB84, pulses: int, keys: bytes) -> None:
        self.protocol, self.pulses, self.keys = protocol, pulses, keys
        self.tagged = False
        self.qber_key: ErrorRate | None = None

    def party(self, record: BobRecord, said: bytearray, heard: bytearray) -> Party[Bits]:
        """Talk to Alice and return the key."""
        sifted = yield from sift_bob(record, self.pulses)
        tested = yield from estimate_bob(sifted)
        if not sifted.key.size or not tested.bits or 2 * tested.errors >= tested.bits:
            raise ProtocolAbort(f"{tested.errors} of {tested.bits} test bits are wrong: no key can come of this")

        frames = _frames(sifted.key)
        corrected = yield from cascade_bob(frames, near_optimal(tested.value, frames.shape[1]))
        parts = _parts(corrected.frames, len(sifted.key))
        verified = yield from verify_bob(parts, corrected.done, self.protocol.eps_cor)
        bits = _joined(parts, verified)
        before = _joined(_parts(frames, len(sifted.key)), verified)
        self.qber_key = ErrorRate(int(np.count_nonzero(bits != before)), len(bits))

        message = yield from receive()
        length = LENGTH.unpack(message[: LENGTH.size])[0] if len(message) > LENGTH.size else 0
        seed = message[LENGTH.size :]
        if not 1 <= length <= len(bits) or len(seed) != -(-(len(bits) + length - 1) // 8):
            raise ProtocolAbort("the seed of privacy amplification has a wrong length: the message was altered")
        self.tagged = True
        yield from authenticate_bob(said, heard, self.keys)
        return _amplified(bits, length, seed)


def _shannon(rate: ErrorRate) -> float:
    """Return h(rate), what reconciliation tells of each bit at least; 1 where half are wrong or none was tested."""
    return float(binary_entropy(rate.value)) if 2 * rate.errors < rate.bits else 1.0


def _frames(bits: Bits) -> Bits:
    """Return `bits` in frames of 2^14, or in one shorter frame, the last filled up with zeros: (frames, length)."""
    length = min(FRAME, max(SMALLEST_FRAME, 1 << (len(bits) - 1).bit_length()))
    frames = np.zeros((-(-len(bits) // length), length), np.uint8)
    frames.reshape(-1)[: len(bits)] = bits
    return frames


def _parts(frames: Bits, count: int) -> list[Bits]:
    """Return the frames without what filled up the last; count: the bits in them."""
    return np.split(frames.reshape(-1)[:count], np.arange(frames.shape[1], count, frames.shape[1]))


def _joined(parts: list[Bits], verified: Verified) -> Bits:
    return np.concatenate([part for part, kept in zip(parts, verified.kept, strict=True) if kept] or [parts[0][:0]])


def _amplified(bits: Bits, length: int, seed: bytes) -> Bits:
    return amplify(bits, length, np.unpackbits(np.frombuffer(seed, np.uint8), count=len(bits) + length - 1))
