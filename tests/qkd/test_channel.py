"""The classical channel: what is said arrives and is counted; parties that cannot go on are closed."""

import struct
from collections.abc import Callable

import pytest

from qfedfm.errors import ProtocolAbort
from qfedfm.qkd.channel import ClassicalChannel, Party, Traffic, converse, receive, receive_exactly


def asks(closed: list[str]) -> Party[bytes]:
    try:
        yield b"one"
        yield b"three"
        return (yield from receive())
    finally:
        closed.append("asks")


def answers(closed: list[str]) -> Party[int]:
    try:
        first = yield from receive_exactly(3, "a word")
        second = yield from receive()
        yield first + second
        return len(second)
    finally:
        closed.append("answers")


def test_messages_arrive_in_order_and_every_bit_is_counted() -> None:
    channel, closed = ClassicalChannel(), list[str]()

    assert converse(channel, asks(closed), answers(closed)) == (b"onethree", 5)
    assert channel.bits == {"alice": 64, "bob": 64}
    assert (channel.messages, channel.turns, channel.rounds) == (3, 2, 1)
    said = struct.pack("<Q", 3) + b"one" + struct.pack("<Q", 5) + b"three"
    assert channel.said["alice"] == channel.heard["bob"] == said
    assert channel.said["bob"] == channel.heard["alice"] == struct.pack("<Q", 8) + b"onethree"


def test_what_is_said_is_counted_by_stage() -> None:
    channel = ClassicalChannel()
    channel.carry("bob", b"before any stage")

    def alice() -> Party[None]:
        channel.begin("greeting")
        yield b"one"
        yield b"three"
        channel.begin("silence")
        channel.begin("parting")
        assert (yield from receive()) == b""

    def bob() -> Party[None]:
        yield from receive()
        yield from receive()
        yield b""

    converse(channel, alice(), bob())
    assert channel.traffic() == (
        Traffic("greeting", 2, 0, 64, 0),
        Traffic("silence", 0, 0, 0, 0),
        Traffic("parting", 0, 1, 0, 0),
    )
    assert channel.sent == {"alice": 2, "bob": 2}
    assert ClassicalChannel().traffic() == ()


def test_what_was_altered_is_heard_and_not_said() -> None:
    channel = ClassicalChannel(lambda sender, index, message: b"five!" if index == 1 else message)

    assert converse(channel, asks([]), answers([]))[0] == b"onefive!"
    assert channel.said["alice"] != channel.heard["bob"]
    assert channel.said["bob"] == channel.heard["alice"]


def silent() -> Party[None]:
    return
    yield


def waits() -> Party[bytes]:
    return (yield from receive())


def talks() -> Party[None]:
    yield b"unheard"


@pytest.mark.parametrize(
    ("alice", "bob", "reason"),
    [(waits, silent, "alice waits"), (waits, waits, "alice waits"), (silent, talks, "unread"), (talks, waits, None)],
)
def test_a_talk_that_cannot_end_well_is_aborted(
    alice: Callable[[], Party[object]], bob: Callable[[], Party[object]], reason: str | None
) -> None:
    if reason is None:
        assert converse(ClassicalChannel(), alice(), bob()) == (None, b"unheard")
        return
    with pytest.raises(ProtocolAbort, match=reason):
        converse(ClassicalChannel(), alice(), bob())


def test_a_message_of_another_length_aborts_and_both_parties_are_closed() -> None:
    closed = list[str]()
    channel = ClassicalChannel(lambda sender, index, message: message + b"?")

    with pytest.raises(ProtocolAbort, match="a word should have 3 bytes, got 4"):
        converse(channel, asks(closed), answers(closed))
    assert sorted(closed) == ["answers", "asks"]


def test_a_party_that_is_not_run_over_a_channel_says_so() -> None:
    party = waits()
    assert next(party) is None
    with pytest.raises(ProtocolAbort, match="converse"):
        party.send(None)
