"""The public classical channel between the two parties, and how two parties talk over it.

A party is a generator that holds its own data and nothing else: it yields bytes to send a message and None to receive
one. Whatever one party learns of the other has therefore passed through the channel, which counts every bit, keeps what
each side said and heard (for Wegman-Carter authentication), and can alter any message (`tamper`), as an adversary could
before the tags are checked. A stage of a protocol is a party as well; stages join with `yield from`::

    def alice_party(bits: Bits) -> Party[int]:
        yield parities(bits).tobytes()      # send
        answer = yield from receive()       # wait for a message
        return len(answer)

    a, b = converse(ClassicalChannel(), alice_party(...), bob_party(...))

The channel is simulated and in-process; latency is not simulated, but `rounds` times the round-trip time gives it.
"""

import struct
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias, TypeVar

from ..errors import ProtocolAbort

A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R")

Side: TypeAlias = Literal["alice", "bob"]
Party: TypeAlias = Generator[bytes | None, bytes | None, R]
"""Yields bytes to send them (the yield gives None), or None to receive (the yield gives bytes); returns its result."""

Tamper: TypeAlias = Callable[[Side, int, bytes], bytes]
"""(sender, number of the message in the channel from 0, what was sent) -> what arrives."""

OTHER: dict[Side, Side] = {"alice": "bob", "bob": "alice"}


@dataclass(frozen=True)
class Traffic:
    """What either side said in one stage of a protocol: how many messages, and their bits of payload."""

    stage: str
    messages_alice: int
    messages_bob: int
    bits_alice: int
    bits_bob: int


class ClassicalChannel:
    """Carries messages, counts them and remembers them.

    bits, sent: what each side sent, in bits of payload and in messages. turns: how often the sender changed, the first
    message included. said, heard: all that a side sent or received, each message after its length as eight
    little-endian bytes; `said["alice"]` and `heard["bob"]` are equal exactly if nobody tampered, so these are what the
    two sides authenticate. They are kept whole: a session needs memory for its traffic.
    """

    def __init__(self, tamper: Tamper | None = None) -> None:
        self.bits: dict[Side, int] = {"alice": 0, "bob": 0}
        self.sent: dict[Side, int] = {"alice": 0, "bob": 0}
        self.turns = 0
        self.said: dict[Side, bytearray] = {"alice": bytearray(), "bob": bytearray()}
        self.heard: dict[Side, bytearray] = {"alice": bytearray(), "bob": bytearray()}
        self._tamper = tamper
        self._last: Side | None = None
        self._begun: list[tuple[str, tuple[int, int, int, int]]] = []

    @property
    def messages(self) -> int:
        """Return how many messages there were, both sides together."""
        return self.sent["alice"] + self.sent["bob"]

    def begin(self, stage: str) -> None:
        """Count what is said from now on under `stage`, whoever says it; nothing else changes."""
        self._begun.append((stage, self._counts()))

    def traffic(self) -> tuple[Traffic, ...]:
        """Return what was said in each stage begun, in order; what was said before the first is in none."""
        marks = [*self._begun, ("now", self._counts())]
        return tuple(
            Traffic(stage, *(after - before for before, after in zip(start, end, strict=True)))
            for (stage, start), (_, end) in pairwise(marks)
        )

    @property
    def rounds(self) -> int:
        """Return the round trips: two turns each, a half one counted as whole."""
        return (self.turns + 1) // 2

    def carry(self, sender: Side, message: bytes) -> bytes:
        """Return what arrives of `message`."""
        arrived = message if self._tamper is None else self._tamper(sender, self.messages, message)
        self.bits[sender] += 8 * len(message)
        self.sent[sender] += 1
        self.turns += sender != self._last
        self._last = sender
        _note(self.said[sender], message)
        _note(self.heard[OTHER[sender]], arrived)
        return arrived

    def _counts(self) -> tuple[int, int, int, int]:
        return self.sent["alice"], self.sent["bob"], self.bits["alice"], self.bits["bob"]


def converse(channel: ClassicalChannel, alice: Party[A], bob: Party[B]) -> tuple[A, B]:
    """Run both parties to their ends over `channel` and return their results.

    Each runs until it waits for a message that is not there yet. Raises `ProtocolAbort` if a party gives up, if one
    waits for a message that cannot come any more, or if messages are left unread. Both generators are closed, always.
    """
    inbox: dict[Side, deque[bytes]] = {"alice": deque(), "bob": deque()}
    try:
        return _alternate(channel, inbox, alice, bob)
    finally:
        alice.close()
        bob.close()


def receive() -> Generator[None, bytes | None, bytes]:
    """Wait for the next message of the other side and return it."""
    message = yield None
    if message is None:
        raise ProtocolAbort("a message was expected and none came: run the party with qfedfm.qkd.channel.converse")
    return message


def receive_exactly(length: int, what: str) -> Generator[None, bytes | None, bytes]:
    """Wait for a message of `length` bytes; another length raises `ProtocolAbort`, which names `what` it should be."""
    message = yield from receive()
    if len(message) != length:
        raise ProtocolAbort(
            f"{what} should have {length} bytes, got {len(message)}: the message was altered on its way, or the two "
            "parties run with different settings; the session yields no key"
        )
    return message


class _Speaker:
    """One party on its way: runs it until it waits in vain or ends."""

    def __init__(self, side: Side, party: Party[object]) -> None:
        self.side, self.party = side, party
        self.ended = False
        self.result: object = None
        self._request = self._step(None)

    def run(self, channel: ClassicalChannel, inbox: dict[Side, deque[bytes]]) -> bool:
        """Run on, and say whether anything happened."""
        moved = False
        while not self.ended and (self._request is not None or inbox[self.side]):
            moved = True
            if self._request is None:
                self._request = self._step(inbox[self.side].popleft())
            else:
                inbox[OTHER[self.side]].append(channel.carry(self.side, self._request))
                self._request = self._step(None)
        return moved

    def _step(self, message: bytes | None) -> bytes | None:
        try:
            return self.party.send(message)
        except StopIteration as stop:
            self.ended, self.result = True, stop.value
            return None


def _alternate(
    channel: ClassicalChannel, inbox: dict[Side, deque[bytes]], alice: Party[A], bob: Party[B]
) -> tuple[A, B]:
    speakers = _Speaker("alice", alice), _Speaker("bob", bob)
    while any(speaker.run(channel, inbox) for speaker in speakers):
        pass
    for speaker in speakers:
        if not speaker.ended:
            raise ProtocolAbort(
                f"{speaker.side} waits for a message that cannot come any more: the other side ended or waits as well, "
                "because a message was altered or the two run different protocols; the session yields no key"
            )
        if inbox[speaker.side]:
            raise ProtocolAbort(
                f"{speaker.side} ended with {len(inbox[speaker.side])} messages unread: the two parties did not run "
                "the same protocol; the session yields no key"
            )
    return speakers[0].result, speakers[1].result  # type: ignore[return-value]  # a speaker's result is its party's


def _note(record: bytearray, message: bytes) -> None:
    record += struct.pack("<Q", len(message))
    record += message
