import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qfedfm.errors import ConfigurationError, ProtocolAbort
from qfedfm.qkd import verification
from qfedfm.qkd.channel import ClassicalChannel, converse
from qfedfm.qkd.verification import final_tag_bits, seed_bytes, tags, verify_alice, verify_bob

EPS_COR = 1e-15


def frames_of(count, length, seed=0):
    return list(np.random.default_rng(seed).integers(0, 2, (count, length), dtype=np.uint8))


def verified(ours, theirs, tamper=None, done=None, eps_cor=EPS_COR):
    channel = ClassicalChannel(tamper)
    done = np.ones(len(ours), bool) if done is None else done
    alice = verify_alice(ours, done, eps_cor, np.random.default_rng(1))
    return *converse(channel, alice, verify_bob(theirs, done, eps_cor)), channel


def naive_tag(frame, seed, bits):
    """Poly1305 without its pad, by RFC 8439 section 2.5.1, folded by rows of a matrix."""
    r = int.from_bytes(seed[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for start in range(0, len(frame), 16):
        total = (total + int.from_bytes(frame[start : start + 16] + b"\1", "little")) * r % (2**130 - 5)
    value = (total % 2**128).to_bytes(16, "little")
    rows = [seed[16 * i : 16 * i + 16] for i in range(1, bits + 1)]
    return [sum((a & b).bit_count() for a, b in zip(row, value, strict=True)) % 2 for row in rows]


@given(st.lists(st.binary(max_size=70), min_size=1, max_size=5), st.integers(1, 60), st.randoms(use_true_random=False))
def test_tags_equal_a_slow_poly1305_and_matrix(frames, bits, random):
    seed = random.randbytes(seed_bytes(bits))
    assert tags(frames, seed, bits).tolist() == [naive_tag(frame, seed, bits) for frame in frames]


def test_a_tag_has_50_bits_at_1e_15_as_lim_2014_counts_it():
    assert final_tag_bits(1e-15, 1 << 20) == 50
    assert final_tag_bits(1e-10, 1 << 20) == 34
    with pytest.raises(ConfigurationError, match="ask for 1e-20 or more"):
        final_tag_bits(1e-30, 1 << 20)


def test_different_frames_collide_as_often_as_a_universal_hash_may():
    # 6,000 seeds, 8 bits: 23.4 +- 4.8 collisions expected; five sigma allowed
    one, other = b"a" * 2048, b"a" * 2047 + b"b"
    generator = np.random.default_rng(2)
    pairs = (tags([one, other], generator.bytes(seed_bytes(8)), 8) for _ in range(6_000))
    hits = sum(bool((pair[0] == pair[1]).all()) for pair in pairs)
    assert abs(hits - 6_000 / 256) < 5 * 4.8


def test_equal_frames_are_all_kept_and_tags_are_counted():
    frames = frames_of(9, 1000)
    alice, bob, channel = verified(frames, frames)
    assert alice.kept.all()
    assert bob.kept.all()
    assert (alice.frame_tag, alice.final_tag) == (24, 50)
    assert channel.bits["alice"] == 8 * (seed_bytes(24) + 9 * 3 + seed_bytes(50) + 7)
    assert channel.bits["bob"] == 16


@given(st.sets(st.integers(0, 11), max_size=11), st.integers(0, 776), st.sets(st.integers(0, 11), max_size=3))
def test_a_frame_with_one_wrong_bit_or_given_up_is_dropped_and_no_other(wrong, place, given_up):
    ours, theirs = frames_of(12, 777), frames_of(12, 777)
    for index in wrong:
        theirs[index][place] ^= 1
    done = ~np.isin(np.arange(12), list(given_up))
    expected = done & ~np.isin(np.arange(12), list(wrong))
    if not expected.any():
        with pytest.raises(ProtocolAbort, match="no frame agreed"):
            verified(ours, theirs, done=done)
        return
    alice, bob, _ = verified(ours, theirs, done=done)
    assert (alice.kept == expected).all()
    assert (bob.kept == expected).all()


def test_frames_that_slip_through_are_stopped_by_the_last_tag(monkeypatch):
    monkeypatch.setattr(verification, "FRAME_TAG", 1)  # half of the wrong ones do
    with pytest.raises(ProtocolAbort, match="differ although the tags of their frames agree"):
        verified(frames_of(64, 100, seed=3), frames_of(64, 100, seed=4))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_message_of_another_length_is_refused(index):
    frames = frames_of(20, 300)
    for change in (lambda m: b"", lambda m: m[:-1], lambda m: m + b"\0"):
        with pytest.raises(ProtocolAbort):
            verified(frames, frames, lambda side, number, m, change=change: change(m) if number == index else m)


def test_a_flipped_list_of_frames_is_caught_by_the_last_tag():
    frames = frames_of(8, 300)
    with pytest.raises(ProtocolAbort, match="differ although"):
        verified(frames, frames, lambda side, number, m: bytes([m[0] ^ 8]) if number == 1 else m)
