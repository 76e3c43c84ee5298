"""Cascade: two parties make their sifted bits equal by comparing parities of blocks (Brassard & Salvail 1994).

Each pass puts the bits of a frame in another order and compares the parities of blocks. Blocks that differ are halved
until a wrong bit of Bob's is found; its correction changes the parities of the blocks around it in all other passes,
some of which differ now and are halved in turn: the cascade. `near_optimal` follows Martinez-Mateo et al. 2015
("Demystifying the information reconciliation protocol Cascade", variant 8): blocks are powers of two, there are 14
passes, and the halves of halved blocks are used again, smallest first. It needs 4 to 6 % more than the n h(Q) bits
that any protocol must leak.

Many frames run side by side, each at its own pace: in a round Bob asks at most one parity of each frame. The two are
generators that share nothing but the channel. Alice sends the seed of the orders, the parities of all top blocks, and
the answers; Bob sends which blocks he asks for. What leaks is the parities, counted by each side from what was sent.
Bob's questions tell where the errors were, and nothing about Alice's bits beyond the parities. Bits may still differ
afterwards (about one frame in some thousands): verification is a must, and not done here.

Departures from the papers: the first pass keeps the order of the bits; all frames of a batch share their orders; the
last top parity of each later pass is not sent, as it follows from the first pass; the blocks of `original` are rounded
to powers of two (Brassard & Salvail: about .73/Q bits); for those of `near_optimal` see there.
"""

import math
import struct
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import ConfigurationError, ProtocolAbort
from .cascade_blocks import LARGEST_FRAME, Bits, BlockTables, Integers, Orders, Parities, packed, unpacked
from .cascade_search import Searches
from .channel import Party, receive, receive_exactly

FRAME = 1 << 14
"""Bits of a frame, unless told otherwise: the size for which the near-optimal block sizes were found."""
BATCH = 1 << 25
"""Bits that run side by side at most (2048 frames of 2^14). More are worked off in batches, so that memory is bounded
and frame, pass and block fit in the 32 bits of a question."""

HEADER = struct.Struct("<8sIIBB16s16s")
MAGIC = b"cascade1"
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Schedule:
    """The size of the blocks of each pass, powers of two in rising order, and whether halves are used again."""

    length: int
    sizes: tuple[int, ...]
    reuse: bool

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if not _is_power_of_two(self.length) or not 4 <= self.length <= LARGEST_FRAME:
            raise ConfigurationError(f"a frame has 4, 8, ... or {LARGEST_FRAME} bits, got {self.length}")
        sound = all(_is_power_of_two(size) and 2 <= size <= self.length // 2 for size in self.sizes)
        if not sound or list(self.sizes) != sorted(self.sizes) or not 2 <= len(self.sizes) <= 16:
            raise ConfigurationError(
                f"Cascade has 2 to 16 passes with blocks of 2 to {self.length // 2} bits, powers of two in rising "
                f"order, got {self.sizes}"
            )


def near_optimal(qber: float, length: int = FRAME) -> Schedule:
    """Return 14 passes of blocks of 2^[a], 2^[(a + 12)/2], 4096, then N/2 bits, where a = log2(1/Q) - 1/2.

    qber: the rate of wrong bits that is expected, 0 to 1/2; an estimate will do. length: bits of a frame, N.
    Martinez-Mateo et al. round both exponents up; here they are rounded to the nearest, which leaks less (measured
    f_EC 1.036 for 1.038 at 1 %, 1.054 for 1.059 at 8 %, 1.062 for 1.064 at 11 %) and takes fewer rounds.
    """
    a = math.log2(1 / _error_rate(qber, length)) - 0.5
    sizes = [2 ** round(a), 2 ** round((a + 12) / 2), 4096] + 11 * [length // 2]
    return Schedule(length, tuple(sorted(min(max(size, 2), length // 2) for size in sizes)), reuse=True)


def original(qber: float, length: int = FRAME) -> Schedule:
    """Return 4 passes of Brassard & Salvail 1994: .73/Q bits, rounded to a power of two, doubled from pass to pass."""
    first = 2 ** max(round(math.log2(0.73 / _error_rate(qber, length))), 1)
    return Schedule(length, tuple(min(first << i, length // 2) for i in range(4)), reuse=False)


def frames_of(bits: Bits, length: int = FRAME) -> tuple[Bits, Bits]:
    """Return the whole frames (frames, length) of `bits` (n,) and the bits that are left, fewer than `length`.

    A session puts the rest in front of its next block of sifted bits, or reconciles it in shorter frames.
    """
    whole = len(bits) // length * length
    return bits[:whole].reshape(-1, length), bits[whole:]


@dataclass(frozen=True)
class Disclosed:
    """What Alice knows afterwards. leaked: (frames,) bits; done: (frames,), False where Bob gave a frame up."""

    leaked: Integers
    done: Flags


@dataclass(frozen=True)
class Corrected:
    """What Bob knows afterwards.

    frames: (frames, length) his bits, corrected. leaked, done: as Alice's. errors: (frames,) bits that he corrected.
    """

    frames: Bits
    leaked: Integers
    done: Flags
    errors: Integers


def cascade_alice(frames: Bits, schedule: Schedule, generator: np.random.Generator) -> Party[Disclosed]:
    """Answer Bob's questions about `frames`, (frames, length) of 0 and 1; the generator draws the public seeds."""
    _check_frames(frames, schedule)
    tables = BlockTables(schedule.length)
    leaked, done = np.zeros(len(frames), np.int64), np.zeros(len(frames), np.bool_)
    for batch in _batches(len(frames), schedule):
        seed = generator.bytes(16)
        yield _header(batch, schedule, seed)
        orders = Orders(seed, len(schedule.sizes), schedule.length)
        parities = Parities(packed(frames[batch]), orders, tables)
        leaked[batch], done[batch] = yield from _answer_batch(parities, schedule)
    return Disclosed(leaked, done)


def cascade_bob(frames: Bits, schedule: Schedule) -> Party[Corrected]:
    """Correct `frames`, (frames, length) of 0 and 1, until they equal Alice's, or very nearly always so.

    Raises `ProtocolAbort` if a message is malformed, of other settings, or contradicts what was said before.
    """
    _check_frames(frames, schedule)
    tables = BlockTables(schedule.length)
    leaked, done = np.zeros(len(frames), np.int64), np.zeros(len(frames), np.bool_)
    corrected = np.empty_like(frames)
    for batch in _batches(len(frames), schedule):
        expected = _header(batch, schedule, bytes(16))
        header = yield from receive_exactly(HEADER.size, "the opening of Cascade")
        if header[:-16] != expected[:-16]:
            raise ProtocolAbort(
                f"the opening of Cascade should be {expected[:-16]!r}, got {header[:-16]!r}: give both parties the "
                "same schedule and number of frames; the session yields no key"
            )
        orders = Orders(header[-16:], len(schedule.sizes), schedule.length)
        parities = Parities(packed(frames[batch]), orders, tables)
        leaked[batch], done[batch] = yield from _correct_batch(parities, schedule)
        corrected[batch] = unpacked(parities.frames, schedule.length)
    errors = np.count_nonzero(corrected != frames, axis=1).astype(np.int64)
    return Corrected(corrected, leaked, done, errors)


def _answer_batch(alice: Parities, schedule: Schedule) -> Party[tuple[Integers, Flags]]:
    count, tables = len(alice.arranged), alice.tables
    tops = [alice.tops(order, size) for order, size in enumerate(schedule.sizes)]
    yield b"".join(_bits(top if order == 0 else top[:, :-1]) for order, top in enumerate(tops))

    blocks, levels = tops[0].shape[1], _log2(schedule.sizes[0])
    differs = yield from _receive_bits(count * blocks, "the list of blocks that differ")
    frame, block = np.divmod(np.flatnonzero(differs), blocks)
    node = blocks + block
    for level in range(levels if len(node) else 0):
        yield _bits(alice.of(frame * tables.row, 2 * node))
        if level < levels - 1:
            right = yield from _receive_bits(len(node), "the choice of halves")
            node = 2 * node + right
    leaked = _top_parities(schedule) + levels * np.bincount(frame, minlength=count)

    for _ in range(_most_rounds(schedule)):
        message = yield from receive()
        if not message:
            done = yield from _receive_bits(count, "the list of frames that are done")
            return leaked, done == 1
        frame, order, node = _read_question(message, count, schedule)
        if order.max() > 1:
            alice.arrange_all(order, frame)
        leaked += np.bincount(frame, minlength=count)
        yield _bits(alice.of((order * count + frame) * tables.row, node))
    raise _too_long()


def _read_question(message: bytes, count: int, schedule: Schedule) -> tuple[Integers, Integers, Integers]:
    """Return frame, pass and node of each block that is asked for: four bytes each, at most one block a frame."""
    if len(message) % 4 or len(message) > 4 * count:
        raise ProtocolAbort(
            f"a question of Cascade should have 4 bytes for each of at most {count} frames, got {len(message)}: the "
            "message was altered on its way; the session yields no key"
        )
    question = np.frombuffer(message, np.dtype("<u4")).astype(np.int64)
    order, block = question & 15, question >> 4
    frame, node = block >> _log2(2 * schedule.length), block & (2 * schedule.length - 1)
    if frame.max() >= count or order.max() >= len(schedule.sizes):
        raise ProtocolAbort("a question of Cascade names no block: the message was altered; there is no key")
    return frame, order, node


def _most_rounds(schedule: Schedule) -> int:
    """Return the number of questions that no honest Bob needs to ask about a frame."""
    return 4 * schedule.length + 256


def _too_long() -> ProtocolAbort:
    return ProtocolAbort(
        "Cascade asked for more parities than there are bits: the error rate is far from the expected one, or messages "
        "were altered; there is no key"
    )


def _correct_batch(bob: Parities, schedule: Schedule) -> Party[tuple[Integers, Flags]]:
    count, tables, length = len(bob.arranged), bob.tables, schedule.length
    tops = yield from _receive_tops(count, schedule)

    blocks, levels = tops[0].shape[1], _log2(schedule.sizes[0])
    differs = tops[0] ^ bob.tops(0, schedule.sizes[0])
    yield _bits(differs)
    frame, block = np.divmod(np.flatnonzero(differs), blocks)
    node = blocks + block
    for level in range(levels if len(node) else 0):
        answer = yield from _receive_bits(len(node), "the parities of halves")
        right = 1 ^ answer ^ bob.of(frame * tables.row, 2 * node)
        node = 2 * node + right
        if level < levels - 1:
            yield _bits(right)
    leaked = _top_parities(schedule) + levels * np.bincount(frame, minlength=count)
    errors = np.zeros((count, length), np.uint8)
    errors[frame, node - length] = 1
    bob.correct(packed(errors))

    odd = [top ^ bob.tops(order, size) for order, (top, size) in enumerate(zip(tops, schedule.sizes, strict=True))]
    searches = Searches(bob, schedule.sizes, schedule.reuse, packed(errors), odd)
    for _ in range(_most_rounds(schedule) - 1):
        if not len(searches.node):
            break
        yield searches.question()
        answer = yield from _receive_bits(len(searches.asked), "the parities of halves")
        searches.proceed(answer)
    else:
        raise _too_long()
    yield b""
    yield _bits((~searches.given_up).view(np.uint8))
    return leaked + searches.leaked, ~searches.given_up


def _receive_tops(count: int, schedule: Schedule) -> Party[list[Bits]]:
    """Return Alice's parities of the top blocks of each pass: (frames, blocks), the last of a pass inferred."""
    blocks = [schedule.length // size - (order > 0) for order, size in enumerate(schedule.sizes)]
    octets = [-(-count * each // 8) for each in blocks]
    message = yield from receive_exactly(sum(octets), "the parities of the top blocks")
    tops, start = list[Bits](), 0
    for each, used in zip(blocks, octets, strict=True):
        part = np.frombuffer(message, np.uint8, count=used, offset=start)
        tops.append(np.unpackbits(part, count=count * each, bitorder="little").reshape(count, each))
        start += used
    whole = np.bitwise_xor.reduce(tops[0], axis=1, keepdims=True)
    rest = [np.hstack([top, whole ^ np.bitwise_xor.reduce(top, axis=1, keepdims=True)]) for top in tops[1:]]
    return [tops[0], *rest]


def _top_parities(schedule: Schedule) -> int:
    sent = [schedule.length // size for size in schedule.sizes]
    return sum(sent) - len(sent) + 1


def _batches(frames: int, schedule: Schedule) -> list[slice]:
    size = max(BATCH // schedule.length, 1)
    return [slice(start, min(start + size, frames)) for start in range(0, frames, size)]


def _header(batch: slice, schedule: Schedule, seed: bytes) -> bytes:
    sizes = bytes(_log2(size) for size in schedule.sizes)
    count = batch.stop - batch.start
    return HEADER.pack(MAGIC, count, schedule.length, schedule.reuse, len(sizes), sizes.ljust(16, b"\0"), seed)


def _bits(bits: npt.NDArray[np.integer]) -> bytes:
    return np.packbits(bits.astype(np.uint8, copy=False).reshape(-1), bitorder="little").tobytes()


def _receive_bits(count: int, what: str) -> Generator[None, bytes | None, Bits]:
    message = yield from receive_exactly(-(-count // 8), what)
    return np.unpackbits(np.frombuffer(message, np.uint8), count=count, bitorder="little")


def _check_frames(frames: Bits, schedule: Schedule) -> None:
    if frames.ndim != 2 or frames.shape[1] != schedule.length or frames.dtype != np.uint8 or frames.max(initial=0) > 1:
        raise ConfigurationError(
            f"Cascade takes uint8 frames of 0 and 1 of shape (frames, {schedule.length}), got {frames.dtype} of shape "
            f"{frames.shape}: see frames_of"
        )


def _error_rate(qber: float, length: int) -> float:
    if not 0 <= qber < 0.5:
        raise ConfigurationError(f"the expected error rate is 0 or more and below 1/2, got {qber}")
    return max(qber, 1 / length)


def _log2(size: int) -> int:
    return size.bit_length() - 1


def _is_power_of_two(size: int) -> bool:
    return size > 0 and size & (size - 1) == 0
