"""The blocks of Cascade: bits of many frames in many orders, and the parity of any block by one look-up.

A frame has N = 2^m bits. Each pass of Cascade puts them in an order of its own and halves blocks of that order, so
every block is dyadic: node h of a heap, whose root 1 is the whole frame, whose children are 2h and 2h+1, and whose leaf
N + i is the bit at place i. For each pass and frame a row of 64-bit words holds three levels: the N bits, the parities
of each 64 of them, and the parities of each 64 of those. A block of any size is then some bits of a single word, and
its parity is gather, mask, popcount. A row of the same shape holds which blocks have been halved, block [s, s + 2^j) at
place s + 2^(j-1) of its level: the smallest known block around a bit is found by three popcounts.

All of it is one party's own business: both parties have an object of each class, built from what that party knows.
"""

import numpy as np
import numpy.typing as npt

Bits = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]
Integers = npt.NDArray[np.int64]

LEVELS = 3  # of 64 each: 2^18 bits at most
LARGEST_FRAME = 1 << 16
MANY_TOPS = 16
"""With more top blocks than this, it is faster to put all frames in order than to mask each block out."""


class BlockTables:
    """Where each block of a frame of `length` bits lies in its row; the same for every frame, pass and party.

    word, mask: (2 length,) of each node. places, bits, ancestors: (3, length) of each bit: the words of its row that
    depend on it, its bit in them, and the halving marks of all blocks around it.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        self.units = [max(length >> 6 * level, 1) for level in range(LEVELS)]
        sizes = [-(-units // 64) for units in self.units]
        self.starts = [0, sizes[0], sizes[0] + sizes[1]]
        self.row = sum(sizes)
        self.word, self.mask = self._nodes()
        place = np.arange(length)
        units = np.stack([place >> 6 * level for level in range(LEVELS)])
        self.places = (units >> 6) + np.array(self.starts)[:, None]
        self.bits = np.uint64(1) << (units & 63).astype(np.uint64)
        self.ancestors = _ancestors()[units & 63]

    def _nodes(self) -> tuple[Integers, Words]:
        word, mask = np.zeros(2 * self.length, np.int64), np.zeros(2 * self.length, np.uint64)
        size, first = self.length, 1
        while size:
            level = min((max(size.bit_length() - 2, 0)) // 6, LEVELS - 1)  # 64 bits are a word of level 0
            width = size >> 6 * level
            unit = (np.arange(first) * size) >> 6 * level
            word[first : 2 * first] = self.starts[level] + (unit >> 6)
            mask[first : 2 * first] = np.uint64((1 << width) - 1) << (unit & 63).astype(np.uint64)
            size, first = size >> 1, 2 * first
        return word, mask

    def halved_above(self, size: int) -> Words:
        """Return the row (row,) in which every block larger than `size` is marked as halved."""
        marks = np.empty(self.row, np.uint64)
        for level, start in enumerate(self.starts):
            end = self.starts[level + 1] if level + 1 < LEVELS else self.row
            large = [j for j in range(1, 7) if 1 << (6 * level + j) > size]
            marks[start:end] = sum(1 << i for i in range(64) if any(i % (1 << j) == 1 << (j - 1) for j in large))
        return marks


def _ancestors() -> Words:
    """Return (64,): for each bit of a word the marks of the six blocks of 2 to 64 bits around it."""
    return np.array([sum(1 << ((i >> j << j) | 1 << (j - 1)) for j in range(1, 7)) for i in range(64)], np.uint64)


class Orders:
    """The order of the bits in each pass, drawn from a public seed: the first pass keeps them as they are.

    forward[p, i]: which bit of the frame is at place i in pass p; back[p, b]: the place of bit b. All frames of a batch
    share the orders. Drawn as the sort of raw Philox output with the place in the low bits, so that they are the same
    under every version of NumPy.
    """

    def __init__(self, seed: bytes, passes: int, length: int) -> None:
        philox = np.random.Philox(key=int.from_bytes(seed, "little"))
        place = np.arange(length, dtype=np.uint64)
        low = np.uint64(length - 1)
        self.forward = np.empty((passes, length), np.int64)
        self.back = np.empty((passes, length), np.int64)
        self.forward[0] = self.back[0] = place
        for order, back in zip(self.forward[1:], self.back[1:], strict=True):
            order[:] = np.sort((philox.random_raw(length) & ~low) | place) & low
            back[order] = np.arange(length)


class Parities:
    """One party's bits in the order of each pass, with the parity of every block in reach.

    words: (passes, frames, row). The first pass is always there; another one is put in order, frame by frame, when
    somebody asks (`arrange`); `arranged` (passes, frames) says where that was done.
    """

    def __init__(self, frames: Words, orders: Orders, tables: BlockTables) -> None:
        passes = len(orders.forward)
        self.tables, self.orders = tables, orders
        self.words = np.empty((passes, len(frames), tables.row), np.uint64)
        self.flat = self.words.reshape(-1)
        self.arranged = np.zeros((len(frames), passes), np.bool_)
        self.arranged[:, 0] = True
        self._fill(0, np.arange(len(frames)), frames)

    @property
    def frames(self) -> Words:
        """Return the bits in the order of the frame, packed: (frames, words)."""
        return self.words[0, :, : self.tables.starts[1]]

    def arrange(self, order: int, frames: Integers) -> None:
        """Put the bits of `frames` in the order of pass `order`."""
        shuffle = self.orders.forward[order]
        for start in range(0, len(frames), 64):
            some = frames[start : start + 64]
            self._fill(order, some, shuffled(self.frames[some], shuffle))
        self.arranged[frames, order] = True

    def arrange_all(self, orders: Integers, frames: Integers) -> None:
        """Put the bits of `frames[i]` in the order of pass `orders[i]`, unless they are in it."""
        new = ~self.arranged[frames, orders]
        if new.any():
            for order in np.unique(orders[new]):
                self.arrange(int(order), frames[new & (orders == order)])

    def correct(self, errors: Words) -> None:
        """Flip the bits at `errors` (frames, words), before any other pass than the first is arranged."""
        self._fill(0, np.arange(len(errors)), self.frames ^ errors)

    def _fill(self, order: int, frames: Integers, words: Words) -> None:
        row = [words]
        for _ in range(LEVELS - 1):
            row.append(packed(parity(row[-1])))
        self.words[order, frames] = np.concatenate(row, axis=1)

    def of(self, rows: Integers, nodes: Integers) -> Bits:
        """Return the parity of each block: node `nodes[i]` of the row that starts at `flat[rows[i]]`."""
        words = self.flat.take(rows + self.tables.word.take(nodes))
        return parity(words & self.tables.mask.take(nodes))

    def tops(self, order: int, size: int) -> Bits:
        """Return (frames, length/size): the parities of all blocks of `size` bits in pass `order`, of every frame."""
        if order == 1 or (order and self.tables.length // size > MANY_TOPS):
            self.arrange(order, np.arange(len(self.frames)))
        if self.arranged[:, order].all():
            return block_parities(self.words[order, :, : self.tables.starts[1]], size, self.tables.length)
        place = self.orders.back[order] // size
        masks = packed((place == np.arange(self.tables.length // size - 1)[:, None]).astype(np.uint8))
        tops = [np.bitwise_xor.reduce(self.frames & mask, axis=1) for mask in masks]
        tops.append(np.bitwise_xor.reduce(tops, axis=0) ^ np.bitwise_xor.reduce(self.frames, axis=1))
        return parity(np.stack(tops, axis=1))


class Halvings:
    """Which blocks of one pass and frame have been halved: (passes, frames, row) marks.

    A block that was halved on the way to a wrong bit leaves two known halves, so the known blocks of a pass always
    divide the frame.
    """

    def __init__(self, sizes: tuple[int, ...], frames: int, tables: BlockTables) -> None:
        self.tables = tables
        self.marks = np.empty((len(sizes), frames, tables.row), np.uint64)
        self.flat = self.marks.reshape(-1)
        for marks, size in zip(self.marks, sizes, strict=True):
            marks[:] = tables.halved_above(size)

    def halve_around(self, order: int, errors: Words, size: int) -> None:
        """Mark every block of at most `size` bits around an error: errors (frames, words), packed like the frames."""
        for level, start in enumerate(self.tables.starts):
            around = errors
            for j in range(1, 7):
                if 1 << (6 * level + j) > size:
                    return
                half = np.uint64(1 << (j - 1))
                around = (around | around >> half) & np.uint64(sum(1 << i for i in range(0, 64, 1 << j)))
                self.marks[order, :, start : start + errors.shape[1]] |= around << half
            errors = packed((errors != 0).astype(np.uint8))

    def smallest_known(self, words: Integers, places: Integers) -> tuple[Integers, Bits]:
        """Return node and log2 size of the smallest known block around each bit.

        words: (3, n) the indices of the words that depend on it; places: (n,) its place in its pass.
        """
        around = self.flat.take(words) & self.tables.ancestors[: len(words)].take(places, axis=1)
        log_size = 6 * len(words) - np.bitwise_count(around).sum(0, dtype=np.uint8)
        return (self.tables.length + places) >> log_size, log_size


def block_parities(words: Words, size: int, length: int) -> Bits:
    """Return (frames, length/size): the parity of each `size` bits of (frames, words), packed frames of `length`."""
    if size >= 64:
        return parity(np.bitwise_xor.reduce(words.reshape(len(words), -1, size // 64), axis=2))
    if size >= 8 and length >= 64:
        return parity(np.ascontiguousarray(words).view(np.dtype(f"<u{size // 8}")))
    parities: Bits = np.bitwise_xor.reduce(unpacked(words, length).reshape(len(words), -1, size), axis=2)
    return parities


def parity(words: npt.NDArray[np.unsignedinteger]) -> Bits:
    """Return 1 for each word with an odd number of ones, else 0."""
    counts: Bits = np.bitwise_count(words)
    return counts & np.uint8(1)


def packed(bits: Bits) -> Words:
    """Return (frames, words): each 64 bits of (frames, length) in a word, the first one lowest; zeros fill the last."""
    octets = np.packbits(bits, axis=1, bitorder="little")
    spare = -octets.shape[1] % 8
    if spare:
        octets = np.pad(octets, ((0, 0), (0, spare)))
    return octets.view(np.dtype("<u8")).astype(np.uint64, copy=False)


def unpacked(words: Words, length: int) -> Bits:
    """Return (frames, length) bits of (frames, words)."""
    octets = np.ascontiguousarray(words, dtype=np.dtype("<u8")).view(np.uint8)
    return np.unpackbits(octets, axis=1, count=length, bitorder="little")


def shuffled(words: Words, order: Integers) -> Words:
    """Return packed frames whose bit i is bit `order[i]` of (frames, words): eight frames are moved at once."""
    length = len(order)
    if length < 64:
        return packed(unpacked(words, length).take(order, axis=1))
    octets = np.zeros((-(-len(words) // 8), 8, length // 8), np.uint8)
    octets.reshape(-1, length // 8)[: len(words)] = words.view(np.uint8)
    squares = np.ascontiguousarray(octets.transpose(0, 2, 1)).view(np.uint64)
    columns = _transposed(squares).view(np.uint8).reshape(len(octets), length).take(order, axis=1)
    rows = _transposed(columns.view(np.uint64)).view(np.uint8).reshape(len(octets), length // 8, 8)
    moved = np.ascontiguousarray(rows.transpose(0, 2, 1)).reshape(-1, length // 8)
    return moved[: len(words)].view(np.uint64)


def _transposed(squares: Words) -> Words:
    """Transpose each word as 8 x 8 bits (Warren, Hacker's Delight, section 7-3): bit 8i + j goes to 8j + i."""
    for shift, mask in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0)):
        moved = squares >> np.uint64(shift)
        moved ^= squares
        moved &= np.uint64(mask)
        squares = squares ^ moved
        moved <<= np.uint64(shift)
        squares ^= moved
    return squares
