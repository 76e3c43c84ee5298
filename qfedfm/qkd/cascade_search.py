"""Bob's side of Cascade after the first pass: which block he halves next in each frame, and what a found error changes.

A frame has one search at a time: a block known to hold an odd number of errors is halved until one wrong bit is left.
Then the bit is flipped in the orders of all passes, and the parity of one known block of each other pass changes. The
next search takes the smallest odd block around; if only whole top blocks are odd, that of the lowest pass; if none is,
the frame is done. As long as a frame has halved blocks of its first two passes only (`early`), at most one odd block is
not a whole top block, namely the one just changed, so nothing need be stored; later ones wait in short lists. The later
passes begin when nearly all frames are ready for them.

A frame whose search ended waits until a good part of the others are there too, since the work for a found error costs
little more for many frames than for one.
"""

import numpy as np

from ..errors import ProtocolAbort
from .cascade_blocks import Bits, Halvings, Integers, Parities, Words, packed

WAITING = 32
"""Odd blocks of one pass that may wait in one frame; a frame with more is given up. About 16 are seen at Q = .11."""
SHARE = 4
"""Found errors are worked off as soon as they wait in one of so many frames."""
FEW = 8
"""The later passes begin when all but one of so many frames are through with the second."""


class Searches:
    """The searches that are not done. For each: frame, pass (order), the block that is halved now (node), row of words.

    leaked: (frames,) parities that were asked for here. given_up: (frames,) where too many blocks waited.
    """

    def __init__(self, bob: Parities, sizes: tuple[int, ...], reuse: bool, errors: Words, odd: list[Bits]) -> None:
        """Start after the first pass: errors (frames, words) corrected there; odd (frames, blocks) of each pass."""
        self.bob, self.tables, self.reuse = bob, bob.tables, reuse
        self.count, self.passes = bob.arranged.shape
        self.log_sizes = np.array([size.bit_length() - 1 for size in sizes], np.uint8)
        self.early_levels = (max(int(self.log_sizes[1]), 1) + 5) // 6
        self.halved = Halvings(sizes, self.count, self.tables)
        self.halved.halve_around(0, errors, sizes[0])
        self.waiting = np.zeros((self.count, self.passes, WAITING), np.int32)
        self.leaked = np.zeros(self.count, np.int64)
        self.given_up = np.zeros(self.count, np.bool_)

        first = 1 if reuse else 0  # with reuse an odd block of the first pass is searched at once
        tops = [self.tables.length // size if order >= first else 0 for order, size in enumerate(sizes)]
        self.top_order = np.repeat(np.arange(self.passes), tops)
        self.top_node = np.concatenate([np.arange(n, 2 * n) for n in tops])
        self.second_pass = packed((self.top_order == 1).astype(np.uint8)[None])
        start = np.cumsum([0, *tops])
        bit = np.arange(self.tables.length)
        around = np.zeros((len(bit), start[-1]), np.uint8)
        for order in range(first, self.passes):
            around[bit, start[order] + bob.orders.back[order] // sizes[order]] = 1
        self.tops_around = packed(around)
        self.odd_tops = packed(np.concatenate(odd[first:], axis=1))
        self.unhalved = np.full(self.odd_tops.shape, ~np.uint64(0))

        self.early = reuse
        self.frame, self.order, self.node, self.row = (np.zeros(0, np.int64) for _ in range(4))
        self._start(np.arange(self.count))

    def _start(self, frame: Integers) -> None:
        """Add a search in the first odd whole block of each `frame` that has one."""
        index = np.arange(len(self.node), len(self.node) + len(frame))
        nothing = np.zeros(len(frame), np.int64)
        self.frame = np.concatenate([self.frame, frame])
        self.order, self.node, self.row = (np.concatenate([x, nothing]) for x in (self.order, self.node, self.row))
        self._search_tops(index, frame)
        self._drop_done()

    def _drop_done(self) -> None:
        if not self.node.all():
            on = np.flatnonzero(self.node)
            self.frame, self.order = self.frame.take(on), self.order.take(on)
            self.node, self.row = self.node.take(on), self.row.take(on)
        if self.early and FEW * len(self.node) <= self.count:
            self.early = False
            self._start(np.setdiff1d(np.arange(self.count), self.frame))

    def question(self) -> bytes:
        """Return the blocks to ask for now, the left half of each, as Alice reads them."""
        self.asked = np.flatnonzero(self.node < self.tables.length)
        self.left = self.node.take(self.asked) << 1
        frame = self.frame.take(self.asked)
        self.leaked += np.bincount(frame, minlength=self.count)
        block = frame * (2 * self.tables.length) + self.left
        return (block << 4 | self.order.take(self.asked)).astype(np.dtype("<u4")).tobytes()

    def proceed(self, answer: Bits) -> None:
        """Take Alice's parities, and go on to the halves that hold the errors."""
        own = self.bob.of(self.row.take(self.asked), self.left)
        self.node[self.asked] = self.left + (1 ^ answer ^ own)
        found = np.flatnonzero(self.node >= self.tables.length)
        if SHARE * len(found) < len(self.node):
            return
        if self.early:
            self._correct_early(found)
        else:
            self._correct(found)
        self._drop_done()

    def _bits(self, found: Integers) -> tuple[Integers, Integers]:
        """Return the places of the found errors in their passes, and which bits of the frames they are."""
        place = self.node.take(found) - self.tables.length
        return place, self.bob.orders.forward.take(self.order.take(found) * self.tables.length + place)

    def _correct_early(self, found: Integers) -> None:
        """Correct the wrong bits in the first two passes, and search what changed in the other one of the two."""
        tables, flat, marks = self.tables, self.bob.flat, self.halved.flat
        places, bits = tables.places[: self.early_levels], tables.bits[: self.early_levels]
        place, bit = self._bits(found)
        order, row = self.order.take(found), self.row.take(found)
        other = 1 - order
        other_place = self.bob.orders.back.take(other * tables.length + bit)
        other_row = row + (other - order) * (self.count * tables.row)
        words = places.take(place, axis=1) + row
        other_words = places.take(other_place, axis=1) + other_row
        flat[words] = flat.take(words) ^ bits.take(place, axis=1)
        flat[other_words] = flat.take(other_words) ^ bits.take(other_place, axis=1)
        marks[words] = marks.take(words) | tables.ancestors[: self.early_levels].take(place, axis=1)
        node, log_size = self.halved.smallest_known(other_words, other_place)
        if not log_size.all():
            raise contradiction()
        self.order[found], self.node[found], self.row[found] = other, node, other_row

        frame = self.frame.take(found)
        self.odd_tops[frame] = self.odd_tops.take(frame, axis=0) ^ self.tops_around.take(bit, axis=0)
        whole = np.flatnonzero((log_size == self.log_sizes[1]) & (order == 0))
        if len(whole):
            self._search_tops(found.take(whole), frame.take(whole))

    def _correct(self, found: Integers) -> None:
        """Correct the wrong bits in every pass that the frames have reached, and search the smallest odd block."""
        tables, flat = self.tables, self.bob.flat
        _, bit = self._bits(found)
        frame = self.frame.take(found)
        self.odd_tops[frame] = self.odd_tops.take(frame, axis=0) ^ self.tops_around.take(bit, axis=0)
        index, each = np.nonzero(self.bob.arranged.take(frame, axis=0))  # every pass of every frame
        place = self.bob.orders.back.take(each * tables.length + bit.take(index))
        words = tables.places.take(place, axis=1) + (each * self.count + frame.take(index)) * tables.row
        flat[words] = flat.take(words) ^ tables.bits.take(place, axis=1)
        if not self.reuse:
            self._search_tops(found, frame)
            return

        own = self.order.take(found.take(index)) == each
        mine = words[:, own]
        self.halved.flat[mine] |= tables.ancestors.take(place[own], axis=1)
        node, log_size = self.halved.smallest_known(words, place)
        changed = np.flatnonzero(~own & ((log_size < self.log_sizes.take(each)) | (each == 0)))
        if not log_size.take(changed).all():
            raise contradiction()
        each = each.take(changed)
        self._toggle(frame.take(index.take(changed)), each, node.take(changed) << 4 | each)
        rows = self.waiting.reshape(self.count, -1)
        at = rows.take(frame, axis=0).argmax(axis=1)
        key = rows[frame, at].astype(np.int64)
        rows[frame, at] = 0
        key[self.given_up.take(frame)] = 0
        self.order[found], self.node[found] = key & 15, key >> 4
        self.row[found] = ((key & 15) * self.count + frame) * tables.row
        rest = np.flatnonzero((key == 0) & ~self.given_up.take(frame))
        if len(rest):
            self._search_tops(found.take(rest), frame.take(rest))

    def _toggle(self, frame: Integers, order: Integers, key: Integers) -> None:
        """Put each block on the list of odd ones of its frame and pass, or take it off; no pair comes twice."""
        lists = self.waiting.reshape(-1, WAITING)
        line, each = frame * self.passes + order, np.arange(len(frame))
        blocks = lists.take(line, axis=0)
        wanted = (blocks == key[:, None]) * np.int8(2) + (blocks == 0)
        at = wanted.argmax(axis=1)
        self.given_up[frame[wanted[each, at] == 0]] = True
        lists[line, at] = blocks[each, at] ^ key

    def _search_tops(self, index: Integers, frame: Integers) -> None:
        """Search the first odd whole block of each `frame`; `index` says where it is kept. Node 0 if there is none."""
        odd = self.odd_tops.take(frame, axis=0) & self.unhalved.take(frame, axis=0)
        if self.early:
            odd &= self.second_pass
        word = (odd != 0).argmax(axis=1)
        chosen = odd[np.arange(len(frame)), word]
        lowest = chosen & (~chosen + np.uint64(1))
        top = np.minimum(64 * word + np.bitwise_count(lowest - np.uint64(1)), len(self.top_node) - 1)
        none = chosen == 0
        order, node = self.top_order.take(top), self.top_node.take(top)
        order[none], node[none] = 0, 0
        if self.reuse:
            self.unhalved[frame, word] &= ~lowest
        if not self.early:
            self.bob.arrange_all(order, frame)
        self.order[index], self.node[index] = order, node
        self.row[index] = (order * self.count + frame) * self.tables.row


def contradiction() -> ProtocolAbort:
    """Return the error for a bit that is said to be wrong although its own parity is known."""
    return ProtocolAbort("the parities of Cascade contradict each other: a message was altered; there is no key")
